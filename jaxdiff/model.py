"""A trained model: what is needed to use it, and nothing else.

Two files beside each other: `<name>.json`, the card (network, path, prediction kind, preprocessing, and where it came from), and `<name>.npz`,
the averaged parameters. Neither can execute anything when read.
"""

import hashlib
import importlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdiff import paths, predict
from jaxdiff.types import Denoiser, Params, UserError

NETWORKS = {  # modules of nets and the classes they hold: none is imported before one is made
    'unet': 'unet.UNet',
    'dit': 'transformer.DiT',
    'captioned': 'captioned.Captioned',
    'controlled': 'control.Controlled',
    'control': 'control.ControlNet',
    'classifier': 'classifier.Classifier',
    'autoencoder': 'autoencoder.Autoencoder',
    'vqvae': 'vqvae.VQVAE',
    'text': 'text.TextEncoder',
}
TIMELESS = ('autoencoder', 'vqvae')  # networks that are told no time
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


def _make(makers: Mapping[str, Callable | str], spec: dict) -> Any:
    options = {name: tuple(value) if isinstance(value, list) else value for name, value in spec.items() if name != 'name'}
    if spec.get('name') not in makers:
        raise UserError(f'unknown name {spec.get("name")!r} in the model card; known: {", ".join(makers)}')
    maker = makers[spec['name']]
    if isinstance(maker, str):
        module, _, kind = maker.rpartition('.')
        maker = getattr(importlib.import_module(f'jaxdiff.nets.{module}'), kind)
    try:
        return maker(**options)
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
    # one random array after another: optimising that program takes longer than running it
    quick = {'xla_backend_optimization_level': 0} if jax.default_backend() == 'cpu' else {}
    return jax.jit(make_network(model.network).init, compiler_options=quick)(key, *first_call(model))


def first_call(model: Model) -> tuple[jax.Array, ...]:
    """Zeros for what the network takes: a batch of one image and, where it is told one, its time."""
    image = jnp.zeros((1, *model.card['shape']))
    return (image,) if model.network['name'] in TIMELESS else (image, jnp.zeros(1))


def denoiser(model: Model, **conditioning: jax.Array) -> Denoiser:
    """`(x, t) -> x0_hat` for one example; `conditioning` as the network takes it, without a batch axis."""
    network = make_network(model.network)
    return predict.as_denoiser(lambda x, t, **c: network.apply(model.params, x, t, **c), make_path(model.path), model.kind, **conditioning)


def save(model: Model, stem: str | os.PathLike, *, dtype: str = 'float32') -> None:
    """Write `<stem>.npz` and `<stem>.json`, each atomically; `dtype` 'float16' halves the file at a relative error of 5e-4."""
    stem = Path(stem)
    leaves = {name: np.asarray(leaf, dtype) for name, leaf in _named(model.params).items()}
    _save_card(model, stem, parameters=_fingerprint(model, leaves))  # first: parameters without a card would be no model
    partial = stem.with_suffix('.partial.npz')
    np.savez_compressed(partial, **leaves)
    os.replace(partial, stem.with_suffix('.npz'))


def save_card(model: Model, stem: str | os.PathLike) -> None:
    """Write `<stem>.json` alone: enough, with a checkpoint's parameters, to rebuild the model."""
    _save_card(model, stem)


def _save_card(model: Model, stem: str | os.PathLike, **more: str) -> None:
    card = {name: getattr(model, name) for name in ('network', 'path', 'kind', 'preprocess', 'card')} | more
    partial = Path(stem).with_suffix('.partial.json')
    partial.write_text(json.dumps(card, indent=1) + '\n')
    os.replace(partial, Path(stem).with_suffix('.json'))


def load(stem: str | os.PathLike) -> Model:
    """Read `<stem>.json` and `<stem>.npz`.

    Raises `UserError` where a file is missing, is not what `save` writes, or does not hold the parameters of the network that the card names.
    """
    model, fingerprint = _read_card(stem)
    file = Path(stem).with_suffix('.npz')
    try:
        with np.load(file, allow_pickle=False) as archive:
            leaves = {name: archive[name] for name in archive.files}
    except FileNotFoundError:
        raise UserError(f'{file}: no such file; train a model first or name the folder of one') from None
    except Exception as error:
        raise UserError(f'{file}: cannot be read as model parameters ({type(error).__name__}); copy it again or train again') from None
    if fingerprint == _fingerprint(model, leaves):  # what the network saved: to ask it again is to trace it
        return model._replace(params=_nested({name: jax.device_put(np.asarray(leaf, np.float32)) for name, leaf in leaves.items()}))
    return model._replace(params=_fill(model, leaves, file))


def load_card(stem: str | os.PathLike) -> Model:
    """Read `<stem>.json`: the model with `params=None`."""
    return _read_card(stem)[0]


def _read_card(stem: str | os.PathLike) -> tuple[Model, str | None]:
    """The model with `params=None`, and what its parameters are known by."""
    file = Path(stem).with_suffix('.json')
    try:
        card = json.loads(file.read_text())
        fingerprint = card.pop('parameters', None)
        return Model(params=None, **card), fingerprint
    except FileNotFoundError:
        raise UserError(f'{file}: no such file; name the workdir of a trained model') from None
    except (AttributeError, TypeError, ValueError, UnicodeDecodeError):
        raise UserError(f'{file}: not a model card; name the workdir of a trained model') from None


def shipped(name: str = 'brain') -> Model:
    """A model that comes with the package: 'brain' draws 64 x 64 axial T1 slices of 3 mm."""
    return load(SHIPPED / name)


def shapes(model: Model) -> Params:
    """Shapes and dtypes of the parameters, without making them."""
    network = make_network(model.network)
    return jax.eval_shape(lambda: network.init(jax.random.key(0), *first_call(model)))


def concrete(model: Model) -> bool:
    """Whether a model has parameters, and not their shapes alone, as plans that are only costed are given them."""
    return not isinstance(jax.tree.leaves(model.params)[0], jax.ShapeDtypeStruct)


def count(params: Params) -> int:
    """How many numbers the parameters hold."""
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(params))


def _named(tree: Params) -> dict[str, Any]:
    """Leaves by their place, such as 'params/stem/kernel'."""
    return {jax.tree_util.keystr(path, simple=True, separator='/'): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def _nested(leaves: Mapping[str, Any]) -> Params:
    """The inverse of `_named`, of dicts in dicts."""
    tree = {}
    for name, leaf in leaves.items():
        *above, last = name.split('/')
        room = tree
        for each in above:
            room = room.setdefault(each, {})
        room[last] = leaf
    return tree


def _fingerprint(model: Model, leaves: Mapping[str, np.ndarray]) -> str:
    """Of the network of a card, and of names and shapes of its parameters."""
    shapes = {name: list(leaf.shape) for name, leaf in leaves.items()}
    return hashlib.sha256(json.dumps([model.network, shapes], sort_keys=True).encode()).hexdigest()


def _fill(model: Model, leaves: dict[str, np.ndarray], file: Path) -> Params:
    expected = shapes(model)
    named = _named(expected)
    wrong = sorted(set(named) ^ set(leaves)) or [name for name, leaf in named.items() if leaf.shape != leaves[name].shape]
    if wrong:
        raise UserError(
            f'{file}: {len(wrong)} parameters do not belong to the network of its card, the first is {wrong[0]}; it is of another architecture'
        )
    return jax.tree.unflatten(
        jax.tree.structure(expected), [jax.device_put(leaves[name].astype(leaf.dtype)) for name, leaf in named.items()]
    )
