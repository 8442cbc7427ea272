"""A trained model: what is needed to use it, and nothing else.

Two files beside each other: `<name>.json`, the card (network, path, prediction kind, preprocessing, and where it came from), and `<name>.npz`,
the averaged parameters. Neither can execute anything when read.
"""

import json
import os
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdiff import paths, predict
from jaxdiff.nets.unet import UNet
from jaxdiff.types import Denoiser, Params, UserError

NETWORKS = {'unet': UNet}
PATHS = {
    'cosine': paths.cosine,
    'flow': paths.flow,
    'edm': paths.edm,
    'vp': paths.vp,
    'subvp': paths.subvp,
    've': paths.ve,
    'linear': lambda steps=1000, **ends: paths.discrete(paths.linear_betas(steps, **ends)),
    'scaled_linear': lambda steps=1000, **ends: paths.discrete(paths.scaled_linear_betas(steps, **ends)),
    'cosine_table': lambda steps=1000, **shape: paths.discrete(paths.cosine_betas(steps, **shape)),
    'sigmoid': lambda steps=1000, **shape: paths.discrete(paths.sigmoid_betas(steps, **shape)),
    'zero_snr': lambda steps=1000, **ends: paths.discrete(paths.rescale_zero_snr(paths.linear_betas(steps, **ends))),
}
SHIPPED = Path(__file__).parent / 'shipped'


class Model(NamedTuple):
    """Specifications are JSON: `network` and `path` name their maker under 'name' and give its arguments beside it."""

    network: dict[str, Any]
    path: dict[str, Any]
    kind: str  # what the network predicts, one of predict.KINDS
    params: Params
    preprocess: dict[str, Any]  # the recorded intensity and geometry contract of the data, see data/preprocess.py
    card: dict[str, Any]  # image shape, covariates, data digest, how it was trained


def _make(makers: dict, spec: dict) -> Any:
    options = {name: tuple(value) if isinstance(value, list) else value for name, value in spec.items() if name != 'name'}
    if spec.get('name') not in makers:
        raise UserError(f'unknown name {spec.get("name")!r} in the model card; known: {", ".join(makers)}')
    try:
        return makers[spec['name']](**options)
    except (TypeError, ValueError) as error:
        raise UserError(f'{spec["name"]} in the model card cannot be made: {str(error).splitlines()[0]}') from None


def make_network(spec: dict) -> Any:
    """A Flax module from `{'name': 'unet', **fields}`."""
    return _make(NETWORKS, spec)


def make_path(spec: dict) -> paths.GaussianPath:
    """A Gaussian path from `{'name': 'cosine', **arguments}`."""
    return _make(PATHS, spec)


def init(model: Model, key: jax.Array) -> Params:
    """Fresh parameters for the model's network, conditioning included."""
    image = jnp.zeros((1, *model.card['shape']))
    # one random array after another: optimising that program takes longer than running it
    quick = {'xla_backend_optimization_level': 0} if jax.default_backend() == 'cpu' else {}
    return jax.jit(make_network(model.network).init, compiler_options=quick)(key, image, jnp.zeros(1))


def denoiser(model: Model, **conditioning: jax.Array) -> Denoiser:
    """`(x, t) -> x0_hat` for one example; `conditioning` as the network takes it, without a batch axis."""
    network = make_network(model.network)
    return predict.as_denoiser(lambda x, t, **c: network.apply(model.params, x, t, **c), make_path(model.path), model.kind, **conditioning)


def save(model: Model, stem: str | os.PathLike, *, dtype: str = 'float32') -> None:
    """Write `<stem>.npz` and `<stem>.json`, each atomically; `dtype` 'float16' halves the file at a relative error of 5e-4."""
    stem = Path(stem)
    save_card(model, stem)  # first: parameters without a card would be no model
    leaves = {jax.tree_util.keystr(path, simple=True, separator='/'): np.asarray(leaf, dtype) for path, leaf in _leaves(model.params)}
    partial = stem.with_suffix('.partial.npz')
    np.savez_compressed(partial, **leaves)
    os.replace(partial, stem.with_suffix('.npz'))


def save_card(model: Model, stem: str | os.PathLike) -> None:
    """Write `<stem>.json` alone: enough, with a checkpoint's parameters, to rebuild the model."""
    card = {name: getattr(model, name) for name in ('network', 'path', 'kind', 'preprocess', 'card')}
    partial = Path(stem).with_suffix('.partial.json')
    partial.write_text(json.dumps(card, indent=1) + '\n')
    os.replace(partial, Path(stem).with_suffix('.json'))


def load(stem: str | os.PathLike) -> Model:
    """Read `<stem>.json` and `<stem>.npz`.

    Raises `UserError` where a file is missing, is not what `save` writes, or does not hold the parameters of the network that the card names.
    """
    model = load_card(stem)
    file = Path(stem).with_suffix('.npz')
    try:
        with np.load(file, allow_pickle=False) as archive:
            leaves = {name: archive[name] for name in archive.files}
    except FileNotFoundError:
        raise UserError(f'{file}: no such file; train a model first or name the folder of one') from None
    except Exception as error:
        raise UserError(f'{file}: cannot be read as model parameters ({type(error).__name__}); copy it again or train again') from None
    return model._replace(params=_fill(model, leaves, file))


def load_card(stem: str | os.PathLike) -> Model:
    """Read `<stem>.json`: the model with `params=None`."""
    file = Path(stem).with_suffix('.json')
    try:
        return Model(params=None, **json.loads(file.read_text()))
    except FileNotFoundError:
        raise UserError(f'{file}: no such file; name the workdir of a trained model') from None
    except (TypeError, ValueError, UnicodeDecodeError):
        raise UserError(f'{file}: not a model card; name the workdir of a trained model') from None


def shipped(name: str = 'brain') -> Model:
    """A model that comes with the package: 'brain' draws 64 x 64 axial T1 slices of 3 mm."""
    return load(SHIPPED / name)


def shapes(model: Model) -> Params:
    """Shapes and dtypes of the parameters, without making them."""
    network = make_network(model.network)
    return jax.eval_shape(lambda: network.init(jax.random.key(0), jnp.zeros((1, *model.card['shape'])), jnp.zeros(1)))


def count(params: Params) -> int:
    """How many numbers the parameters hold."""
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(params))


def _leaves(tree: Params):
    return jax.tree_util.tree_flatten_with_path(tree)[0]


def _fill(model: Model, leaves: dict[str, np.ndarray], file: Path) -> Params:
    expected = shapes(model)
    named = {jax.tree_util.keystr(path, simple=True, separator='/'): leaf for path, leaf in _leaves(expected)}
    wrong = sorted(set(named) ^ set(leaves)) or [name for name, leaf in named.items() if leaf.shape != leaves[name].shape]
    if wrong:
        raise UserError(
            f'{file}: {len(wrong)} parameters do not belong to the network of its card, the first is {wrong[0]}; it is of another architecture'
        )
    return jax.tree.unflatten(
        jax.tree.structure(expected), [jax.device_put(leaves[name].astype(leaf.dtype)) for name, leaf in named.items()]
    )
