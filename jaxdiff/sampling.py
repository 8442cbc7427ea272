"""From a trained model to many images: what `vmap`, devices and a progress bar add to `solvers.loop.sample`."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from jaxdiff import model, parallel, predict
from jaxdiff.export.kept import kept
from jaxdiff.guidance import classifier_free
from jaxdiff.model import Model
from jaxdiff.solvers.loop import Solver, sample
from jaxdiff.solvers.named import usual
from jaxdiff.training.log import Progress
from jaxdiff.types import Array, Denoiser, Key


def drawer(
    trained: Model,
    *,
    solver: Solver | None = None,
    times: Array | None = None,
    guided: bool | Sequence[str] = False,
    wrap: Callable[[Denoiser], Denoiser] = lambda denoise: denoise,
    size: int = 60,
    name: str = 'sampling',
) -> Callable[..., np.ndarray]:
    """`draw(params, key, count, **told)` -> images (count, *shape) in [-1, 1]; image i depends on fold_in(key, i), not on how many there are.

    Args:
        solver, times: by default those of `solvers.named.usual`.
        guided: by classifier-free guidance, with the keyword `weight` of `draw`: 0 ignores what is told, 1 is plain, above 1 exaggerates it. Names
            of conditions stand for those alone: the others are told on both sides, and not exaggerated.
        wrap: makes of the network's denoiser the one that is walked with, such as a consistency function.
        size: images under way at once.

    `told` is conditioning as the network takes it, with a leading axis of `count`. Other parameters of the same network compile nothing.
    """
    path = model.make_path(trained.path)
    solver, times = usual(path, solver, times)
    std = path.sigma(times[0])

    def null_of(told: dict[str, Array]) -> dict[str, Array]:
        led = told if guided is True else {name: told[name] for name in guided}
        return {**told, **model.make_network(trained.network).null(**led)}

    def one(shared: tuple[Any, Array], key: Key, told: dict[str, Array]) -> Array:
        params, weight = shared
        conditioned = lambda told: model.denoiser(trained._replace(params=params), **told)
        denoise = classifier_free(conditioned, told, null_of(told), weight) if guided else conditioned(told)
        start, walk = jax.random.split(key)
        return sample(walk, std * jax.random.normal(start, trained.card['shape']), wrap(denoise), solver, times).x

    mapped = mapper(one, size=size, name=name)

    def draw(params: Any, key: Key, count: int, *, weight: float = 1.0, **told: np.ndarray) -> np.ndarray:
        return np.clip(mapped((params, np.float32(weight)), keys(key, count), told), -1, 1)

    return draw


def answers(trained: Model, *, size: int = 60, name: str = 'judging') -> Callable[[Any, np.ndarray], np.ndarray]:
    """`answer(params, images)` -> what the network answers to each of images (n, *shape) as they are, at time 0."""
    network, path = model.make_network(trained.network), model.make_path(trained.path)
    one = lambda params, image: predict.evaluate(functools.partial(network.apply, params), path, image, np.float32(0), {})
    return mapper(one, size=size, name=name)


def keys(key: Key, count: int) -> Key:
    """(count,) keys, the i-th fold_in(key, i)."""
    return _fold_in(key, np.arange(count))


_fold_in = jax.jit(jax.vmap(jax.random.fold_in, in_axes=(None, 0)))


def mapper(fn: Callable, *, size: int = 60, name: str = 'evaluation', recipe: Mapping[str, Any] | None = None) -> Callable:
    """`fn(shared, *example)`, written for one example, as `run(shared, *examples)` over every example, `size` at a time on all devices.

    Leaves of `examples` have a leading axis; results are numpy with the same one. Compiles once, whatever the number of examples; shows progress.
    With a `recipe`, JSON that tells all that `fn` closes over, a second run with the same compilation cache does not trace it again (`export.kept`).
    """
    mapped = parallel.shard(fn, parallel.make_mesh(), size=size, wrap=functools.partial(kept, recipe=recipe) if recipe else None)

    def run(shared: Any, *examples: Any) -> Any:
        with Progress(jax.tree.leaves(examples)[0].shape[0], name=name) as progress:
            return mapped(shared, *examples, told=progress.update)

    return run
