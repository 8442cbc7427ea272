"""From a trained model to an artifact: the whole walk traced once, lowered for every platform."""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdiff import model
from jaxdiff.export import artifact
from jaxdiff.guidance import classifier_free
from jaxdiff.model import Model
from jaxdiff.solvers.loop import Solver, sample
from jaxdiff.solvers.named import usual
from jaxdiff.types import Array, Denoiser, Params

PLATFORMS = ('cpu', 'cuda', 'tpu')


def save(
    folder: str | os.PathLike,
    trained: Model,
    *,
    solver: Solver | None = None,
    times: Array | None = None,
    guided: bool = False,
    platforms: Sequence[str] = PLATFORMS,
    about: Mapping[str, Any] | None = None,
) -> None:
    """Write the sampler of a trained model as an artifact; `artifact.load(folder).draw` draws what `sampling.drawer` draws from the same key.

    Args:
        solver, times: by default those of `solvers.named.usual`. The grid may be another at every draw.
        guided: whether the sampler takes a weight of classifier-free guidance, and every step costs two examples.
        platforms: of jax.export; none of them need be here.
        about: more for the manifest, JSON, such as the solver's name.

    Raises `UserError` where the folder is taken, ValueError for operations that jax.export gives no guarantee for, such as fused attention kernels.
    """
    export = artifact.export_module()
    path = model.make_path(trained.path)
    solver, times = usual(path, solver, times)
    times = np.asarray(times, np.float32)
    conditions = conditioning(trained)
    if guided and not conditions:
        raise ValueError('a model that is told nothing cannot be guided')
    named, restore = by_name(trained.params)
    batch, steps = export.symbolic_shape('images, steps')
    shared = {
        'params': jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), named),
        'key': jax.eval_shape(lambda: jax.random.key(0)),
        'times': jax.ShapeDtypeStruct((steps + 1,), jnp.float32),
        **({'weight': jax.ShapeDtypeStruct((), jnp.float32)} if guided else {}),
    }
    examples = (
        jax.ShapeDtypeStruct((batch,), jnp.int32),
        {name: jax.ShapeDtypeStruct((batch, *each['shape']), each['dtype']) for name, each in conditions.items()},
    )
    walk = jax.jit(jax.vmap(walker(trained, solver, restore, guided), in_axes=(None, 0, 0)))
    programs = {each: export.export(walk, platforms=(each,))(shared, *examples) for each in platforms}
    manifest = {
        'calling_convention': max(each.calling_convention_version for each in programs.values()),
        'shape': list(trained.card['shape']),
        'dtype': 'float32',
        'times': times.tolist(),
        'guided': guided,
        'conditioning': conditions,
        **(about or {}),
        'preprocess': trained.preprocess,
        'model': {'network': trained.network, 'path': trained.path, 'kind': trained.kind, 'card': trained.card},
    }
    artifact.write(folder, {each: bytes(program.serialize()) for each, program in programs.items()}, named, manifest)


def walker(trained: Model, solver: Solver, restore: Callable, guided: bool) -> Callable[..., Array]:
    """(shared, number, told) -> one image (*shape,): what is exported, for one example."""
    path = model.make_path(trained.path)
    network = model.make_network(trained.network)

    def denoiser(shared: dict[str, Any], told: dict[str, Array]) -> Denoiser:
        restored = trained._replace(params=restore(shared['params']))
        conditioned = lambda told: model.denoiser(restored, **told)
        return classifier_free(conditioned, told, network.null(**told), shared['weight']) if guided and told else conditioned(told)

    def walk(shared: dict[str, Any], number: Array, told: dict[str, Array]) -> Array:
        start, rest = jax.random.split(jax.random.fold_in(shared['key'], number))
        times = shared['times']
        x = path.sigma(times[0]) * jax.random.normal(start, trained.card['shape'])
        return sample(rest, x, denoiser(shared, told), solver, times).x

    return walk


def conditioning(trained: Model) -> dict[str, dict[str, Any]]:
    """What the network is told: shape and dtype of each condition, and what stands for a missing one, None for NaN."""
    labels = trained.network.get('labels', 0)
    floats = {
        name: {'shape': list(shape), 'dtype': 'float32', 'missing': None} for name, shape in trained.card.get('conditioning', {}).items()
    }
    return floats | ({'label': {'shape': [], 'dtype': 'int32', 'missing': labels}} if 'label' in floats else {})


def by_name(params: Params) -> tuple[dict[str, np.ndarray], Callable[[Mapping[str, Array]], Params]]:
    """Parameters by the path that leads to them, and how the tree is made of them again."""
    leaves, structure = jax.tree_util.tree_flatten_with_path(params)
    named = {jax.tree_util.keystr(path, simple=True, separator='/'): np.asarray(leaf) for path, leaf in leaves}
    return named, lambda found: jax.tree.unflatten(structure, [found[name] for name in named])
