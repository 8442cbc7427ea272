"""Images to be reconstructed from part of their k-space: whom from, by which masks, and the networks that several systems share.

Phantoms and virtual brains get a smooth phase and noise (`data.simulated`); files of fastMRI and folders of .npy bring their own. Networks see
complex images as two real channels, and learn from images of largest magnitude 1. What is measured is divided by the largest magnitude of its own
zero-filled image, since nobody knows that of the complete one. The mask and noise of an image depend on its part of the split and its place there.
"""

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdiff import model, operators, plans
from jaxdiff.data import brains, coils, datasets, fastmri, layouts, loader, patients, phantoms, simulated, undersampling
from jaxdiff.data.datasets import TEST, VALIDATION, Dataset
from jaxdiff.data.patients import Patient
from jaxdiff.data.preprocess import Preprocess, to_json
from jaxdiff.data.source import Source
from jaxdiff.experiment import option
from jaxdiff.model import Model
from jaxdiff.operators import Operator
from jaxdiff.plans import Plan
from jaxdiff.studies import flags
from jaxdiff.studies.flags import Training, network_of, schedule_of
from jaxdiff.types import Array, Key, UserError

MASKS = {  # names of flags -> kind, acceleration, share of the centre
    'random4': ('random', 4, 0.08), 'random8': ('random', 8, 0.04),
    'gaussian4': ('gaussian1d', 4, 0.08), 'gaussian8': ('gaussian1d', 8, 0.04),
    'equispaced4': ('equispaced_fraction', 4, 0.08), 'equispaced8': ('equispaced_fraction', 8, 0.04),
}  # fmt: skip
BANK = 512  # masks of each kind that networks are trained with


@dataclass(frozen=True, kw_only=True)
class Config(Training):
    """The flags of every reconstruction."""

    data: str = option(
        'phantom', "'phantom', 'brain', 'fastmri:<folder>' of .h5 files, 'arrays:<folder>' of .npy slices or 'nifti:<folder>' of magnitudes"
    )
    subjects: int = option(1500, 'to train on, where they are made', low=1)
    tuning: int = option(16, 'slices to choose on', low=1)
    patients: int = option(24, 'slices to judge by, anew for each seed', low=1)
    masks: tuple = option(('random4', 'gaussian4'), f'which part of k-space is measured: {", ".join(MASKS)}')
    noise: float = option(0.005, 'standard deviation of the complex noise of k-space, where the largest magnitude is 1', low=0)
    coils: int = option(1, 'that measure, where the data are made', low=1)
    steps: int = option(3000, 'training steps of each network', low=1)
    rate: float = option(2e-3, 'learning rate after warm-up, before its decay to 0', low=0)
    count: int = option(4, 'samples of each image', low=1)
    walk: int = option(50, 'steps of a sampler', low=1)


def presets(**own: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Those of every reconstruction, with what a script says of its own flags: smoke=..., gpu=..., paper=..."""
    common = {
        'smoke': {**flags.PRESETS['smoke'], 'patients': 3, 'tuning': 2, 'count': 2, 'walk': 2, 'masks': ('random4',)},
        'cpu': {},
        'gpu': {**flags.PRESETS['gpu'], 'patients': 50},
        'paper': {**flags.PRESETS['paper'], 'size': 320, 'batch': 16},
    }
    for fields in common.values():
        fields.pop('held_out', None)
    return {name: {**fields, **own.get(name, {})} for name, fields in common.items()}


class Measured(NamedTuple):
    """What is known of n images, and the truth.

    Attributes:
        y: k-space (n, X, Y, 2 coils) float32, real and imaginary parts in turn, 0 where it was not measured.
        mask: (n, X, Y, 1) bool.
        sensitivities: (n, X, Y, coils) complex64, or None of one coil.
        truth: (n, X, Y, 2) float32.
        scale: (n,) float32, what both were divided by: the largest magnitude of the zero-filled image.
    """

    y: np.ndarray
    mask: np.ndarray
    sensitivities: np.ndarray | None
    truth: np.ndarray
    scale: np.ndarray

    def first(self, count: int) -> 'Measured':
        """The first images."""
        return Measured(*(None if each is None else each[:count] for each in self))


def coils_of(config: Config) -> int:
    """How many coils measure. Raises `UserError` as files of fastMRI do."""
    name, _, where = config.data.partition(':')
    return fastmri.coils_of(where) if name == 'fastmri' and where else config.coils


def open_data(config: Config) -> Dataset:
    """Sources of examples as `simulated.example` makes them; as many test sets as seeds lie behind one another. Raises `UserError` as the data do."""
    for name in config.masks:
        if name not in MASKS:
            raise UserError(f'--masks={name}: choose among {", ".join(MASKS)}')
    name, _, where = config.data.partition(':')
    if name == 'fastmri' and where:
        return _files(config, fastmri.sources(where, (0.7, 0.15, 0.15), config.seed))
    if name == 'arrays' and where:
        return _files(config, simulated.folders(where, (0.7, 0.15, 0.15), config.seed, variance=config.noise**2, number=config.coils))
    measured = lambda images, part: simulated.of_images(images, seed=part, number=config.coils, variance=config.noise**2)
    if name == 'nifti' and where:
        parts, pre = _scans(config)
        return _files(config, tuple(measured(patients.slices(each, pre), part) for part, each in enumerate(parts)))
    if config.data not in ('phantom', 'brain'):
        raise UserError(f"--data={config.data}: choose 'phantom', 'brain', 'fastmri:<folder>', 'arrays:<folder>' or 'nifti:<folder>'")
    whole = _phantoms(config) if config.data == 'phantom' else _brains(config)
    counts = ((0, config.subjects), (VALIDATION, config.tuning), (TEST, config.evaluations * config.patients))
    return Dataset(*(measured(whole(*each), part) for part, each in enumerate(counts)), _complex(config.size, config.size))


def _phantoms(config: Config) -> Callable[[int, int], Source]:
    recipe = phantoms.Recipe(size=config.size, aligned=True)
    return lambda first, count: phantoms.slices(recipe, first, count)


def _brains(config: Config) -> Callable[[int, int], Source]:
    """The middle slice of each brain."""
    spacing = 192 / config.size
    recipe = brains.Recipe(shape=(config.size, config.size, 1), spacing=(spacing, spacing, 3.0))
    return lambda first, count: brains.slices(recipe, first, count)


def _complex(height: int, width: int):
    """The record of slices of two channels, real and imaginary parts from -1 to 1."""
    one = datasets.made(2, (height, width, 1), (1.0, 1.0, 1.0))
    return one._replace(channels=2, low=(-1.0, -1.0), high=(1.0, 1.0))


def _files(config: Config, sources: tuple[Source, Source, Source]) -> Dataset:
    height, width = sources[0].example(0)['image'].shape[:2]
    return Dataset(*sources, _complex(height, width))


def _scans(config: Config) -> tuple[tuple[tuple[Patient, ...], ...], Preprocess]:
    """Magnitudes in three parts, each file in one, and how slices are made of them."""
    files = layouts.nifti(config.data.partition(':')[2])
    if files[0].channels > 1:
        raise UserError(f'{files[0].name}: has {files[0].channels} channels: give magnitudes of one')
    index = [Patient(name, (frame.name,), None, 0) for name, frame in zip(layouts.subjects(files), files, strict=True)]
    parts = patients.split(index, (0.7, 0.15, 0.15), config.seed)
    return parts, patients.fit(parts[0], size=config.size)


def first_scan(config: Config) -> tuple[Patient, Preprocess, patients.Scan, Source, np.ndarray]:
    """Of NIfTI files the first to test on: its slices with signal as k-space, and which of all they are (n,) of bool."""
    parts, pre = _scans(config)
    scan = patients.examine(parts[2][0], pre)
    signal = scan.heads.any((1, 2, 3))
    chosen = scan.images[signal]
    source = Source(len(chosen), lambda n: {'image': chosen[n]}, {'scan': parts[2][0].name})
    return parts[2][0], pre, scan, simulated.of_images(source, seed=2, number=config.coils, variance=config.noise**2), signal


def sketch(config: Config) -> Dataset:
    """Zeros in the shape of the data, where they are made."""
    if ':' in config.data:
        return open_data(config)
    zeros = {'image': np.zeros((config.size, config.size, 2), np.float32)}
    source = Source(config.batch, lambda index: zeros, {})
    return Dataset(source, source, source, _complex(config.size, config.size))


def measure(source: Source, places: np.ndarray, mask: str, *, seed: int = 0) -> Measured:
    """The examples at these places, measured by the mask of that name; columns that a scanner left out stay out."""
    kind, nominal, centre = MASKS[mask]
    found = []
    for place in map(int, places):
        each = source.example(place)
        shape = each['kspace'].shape[:2]
        rng = np.random.RandomState([seed, place, zlib.crc32(mask.encode())])
        kept = undersampling.drawn(kind, rng, shape, nominal, centre) & each['columns'].astype(bool)
        y = np.where(kept[..., None], each['kspace'], 0)
        several = y.shape[-1] > 1
        sensitivities = each.get('sensitivities')
        if several and sensitivities is None:
            sensitivities = coils.estimated(y, max(2, int(centre * shape[1])))  # both kinds of centre hold as many columns
        scale = coils.root_sum_of_squares(coils.inverse_transform(y)).max().astype(np.float32)
        found.append((_channels(y) / scale, kept[..., None], sensitivities, each['image'] / scale, scale))
    y, kept, sensitivities, *rest = zip(*found, strict=True)
    return Measured(np.stack(y), np.stack(kept), None if sensitivities[0] is None else np.stack(sensitivities), *map(np.stack, rest))


def _channels(z: np.ndarray) -> np.ndarray:
    """(X, Y, C) complex -> (X, Y, 2 C) float32, as `operators.to_channels`."""
    return np.stack([z.real, z.imag], -1).reshape(*z.shape[:-1], -1).astype(np.float32)


def operator_of(mask: Array, sensitivities: Array | None) -> Operator:
    """A of one image, on real channels."""
    whole = operators.fourier(mask) if sensitivities is None else operators.coils(sensitivities, mask)
    return operators.on_channels(whole)


# ---- networks


def blank(config: Config, data: Dataset, *, kind: str = 'v', path: dict[str, Any] | None = None, channels: int = 2) -> Model:
    """A network of images of two channels, or of parts of them, before training."""
    network = {**network_of(config), 'channels': channels}
    card = {'shape': [*data.shape[:-1], channels]}
    return Model(network, path or {'name': config.path}, kind, None, to_json(data.preprocess), card)


def prior(config: Config, data: Dataset) -> Plan:
    """The denoiser of complex images, which is told of no mask."""
    return plans.denoiser('prior', blank(config, data), images(data.train), augment=mirror(config), **schedule_of(config))


def mirror(config: Config) -> loader.Augment:
    """A patient's sides: the first axis of what comes as NIfTI or is made, the columns of slices that are stored as pictures are."""
    return loader.flip_columns if config.data.partition(':')[0] in ('fastmri', 'arrays') else loader.flip


def unet(config: Config, data: Dataset) -> Plan:
    """The network that makes images of zero-filled ones, taught with the masks of the flags and no others: the learned baseline.

    Several coils are taught as a birdcage of as many.
    """

    def spoil(key: Key, x0: Array) -> tuple[Array, Array, Array]:
        pick, drawn = jax.random.split(key)
        mask = pick_mask(pick, bank)
        operator = operator_of(mask, maps)
        y = operator.forward(x0)
        y = y + config.noise / np.sqrt(2) * jax.random.normal(drawn, y.shape)  # the adjoint masks it
        return operator.adjoint(y), jnp.zeros(()), jnp.ones((1, 1, 1))

    bank, number = banked(config, data), coils_of(config)
    maps = None if number == 1 else coils.birdcage(data.shape[:2], number)
    told = {'what': 'zero-filled', 'masks': config.masks, 'noise': config.noise, **({'coils': number} if number > 1 else {})}
    options = dict(told=told, power=1.0, augment=mirror(config), **schedule_of(config))
    return plans.restorer('unet', blank(config, data, kind='x0'), images(data.train), spoil, **options)


def banked(config: Config, data: Dataset) -> np.ndarray:
    """Masks to train with, (n, 1, W, 1) or (n, X, W, 1) bool, of every kind of the flags alike."""
    rng, shape = np.random.RandomState(config.seed), data.shape[:2]
    made = [undersampling.drawn(kind, rng, shape, *rest) for kind, *rest in (MASKS[name] for name in config.masks) for _ in range(BANK)]
    return by_columns(config, np.stack(made)[..., None])


def by_columns(config: Config, masks: np.ndarray) -> np.ndarray:
    """Masks (n, X, W, 1) as (n, 1, W, 1) where all that the flags name are of whole columns, so that a column stays one thing."""
    return masks[:, :1] if all(MASKS[name][0] in undersampling.COLUMNS for name in config.masks) else masks


def pick_mask(key: Key, bank: np.ndarray) -> Array:
    """One of them."""
    return jnp.asarray(bank)[jax.random.randint(key, (), 0, len(bank))]


def images(source: Source) -> Source:
    """Only the images."""
    return Source(source.size, lambda index: {'image': source.example(index)['image']}, source.manifest)


def parts(source: Source) -> Source:
    """The real and the imaginary part of each image as images of one channel, (X, Y, 1)."""

    def example(index: int) -> dict[str, np.ndarray]:
        whole = source.example(index // 2)['image']
        return {'image': whole[..., index % 2 : index % 2 + 1]}

    return Source(2 * source.size, example, {'parts of': source.manifest})


def denoiser_of(trained: Model, params: Any) -> Any:
    """With other parameters."""
    return model.denoiser(trained._replace(params=params))
