"""Parametric brain-like slices of N x N pixels, with the truth known and measured baselines to compare with.

In the frame of a subject, turned by theta about its centre, with semi-axes a and b,

    r = (x/a)^2 + (y/b)^2,   brain: r < 1,   ring: r > (1 - w)^2,   w = .20 + .08 sin(k phi + phi_0),                     (1)

two tilted ellipses are ventricles, the rest is tissue. The image is the blurred map of their levels, times 1 + .08 bias, plus
.03 texture and .01 noise in the brain. A lesion has the level of the ring, so that no threshold separates it. Lengths are given
for N = 64 and scale with N.

What a detector has to beat, as average precision and best Dice over all pixels of 128 test brains with a lesion, learning from 1024
healthy ones, scores being zeroed outside the brain eroded twice with a cross and the last figures after a 5 x 5 median filter: chance
.045, .09; intensity .17, .28 and .25, .34; z-score per pixel .29, .43 and .40, .51; residual of 16 principal components .50, .51 and
.67, .64; residual of the linear denoiser mu + C (C + sigma^2)^-1 (x - mu) at sigma = .6 .55, .55 and .74, .70 (means of three test sets).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import ndimage
from scipy.ndimage import gaussian_filter

from jaxdiff.data.source import Source
from jaxdiff.data.store import stored
from jaxdiff.types import UserError

GENERATOR = 1  # to be raised when the same recipe gives other images
LABELS = ('background', 'tissue', 'ring', 'ventricle')
LEVELS = {'T1': (0.0, 0.55, 0.80, 0.15), 'T2': (0.0, 0.45, 0.65, 0.95), 'PD': (0.0, 0.70, 0.85, 0.80)}  # of LABELS


class Spread(NamedTuple):
    """How far subjects differ."""

    shift: float  # pixels of 64
    turn: float  # radians
    axes: tuple[float, float]  # factors
    ring: tuple[float, float]  # mean and amplitude of w in equation (1)


WIDE = Spread(4.0, 0.6, (0.85, 1.10), (0.20, 0.08))
ALIGNED = Spread(2.0, 0.17, (0.92, 1.08), (0.16, 0.05))  # for reconstruction; for anomaly detection it is too easy


class Recipe(NamedTuple):
    """What to make of every subject."""

    seed: int = 0  # of the population
    size: int = 64  # N, pixels
    contrasts: tuple[str, ...] = ('T1',)  # names of LEVELS, one channel each, with their own bias and noise
    lesion: bool = False
    aligned: bool = False
    ventricles: tuple[float, float] = (0.8, 1.25)  # range of the factors on their semi-axes
    paired: bool = False  # whether one factor is that of both
    lesions: tuple[float, float] = (3.0, 7.0)  # range of the semi-axis of a lesion, in pixels where N is 64
    lesion_level: float | None = None  # of a lesion; None is that of the ring, which no threshold separates


class Phantom(NamedTuple):
    """One subject."""

    image: np.ndarray  # (N, N, C) float32 in [0, 1]
    labels: np.ndarray  # (N, N) uint8, indices of LABELS, as before the lesion
    lesion: np.ndarray  # (N, N) bool
    ventricles: float  # their area, 1 where every factor is 1


def phantom(recipe: Recipe, index: int) -> Phantom:
    """Subject `index` of the recipe's population; with and without a lesion it is the same subject. Raises UserError for a bad recipe."""
    _check(recipe)
    build, injury, *streams = np.random.default_rng([recipe.seed, index]).spawn(2 + len(LEVELS))
    labels, radius, ventricles = _anatomy(build, recipe)
    lesion = _lesion(injury, labels, radius, recipe.lesions) if recipe.lesion else np.zeros(labels.shape, bool)
    generators = dict(zip(LEVELS, streams, strict=True))
    channels = [_image(generators[name], labels, lesion, LEVELS[name], recipe.lesion_level) for name in recipe.contrasts]
    return Phantom(np.stack(channels, -1), labels, lesion, ventricles)


def slices(recipe: Recipe, first: int, count: int) -> Source:
    """Subjects first to first + count - 1, in memory.

    Each has 'image' (N, N, C) in [-1, 1], 'labels' (N, N) uint8 and, when the recipe has lesions, 'mask' (N, N, 1), 1 in the lesion."""
    _check(recipe)
    if first < 0 or count < 1:
        raise UserError(f'phantoms: {count} subjects from number {first}: ask for at least one, from 0 or later')
    manifest = {'kind': 'phantoms', 'generator': GENERATOR, 'recipe': recipe._asdict(), 'first': first, 'count': count, 'labels': LABELS}

    def make(index: int) -> dict[str, np.ndarray]:
        person = phantom(recipe, index)
        mask = {'mask': person.lesion[None, ..., None]} if recipe.lesion else {}
        return {'image': 2 * person.image[None] - 1, 'labels': person.labels[None]} | mask

    return stored(manifest, range(first, first + count), make, title=f'phantoms {first} to {first + count - 1}', keep=False)


def cohort(recipes: Sequence[Recipe], first: int, count: int) -> Source:
    """Subjects first to first + count - 1, of each kind in turn: subject i is made by recipe i modulo their number.

    Each has 'image' (N, N, C) in [-1, 1], 'labels' (N, N) uint8, 'label' the number of its recipe, 'covariates' (1,) the area of its ventricles,
    1 where every factor is 1, and 'mask' (N, N, 1), 1 in the lesion if it has one. Raises UserError for recipes that differ in size or in the
    number of contrasts.
    """
    for recipe in recipes:
        _check(recipe)
    if len({(recipe.size, len(recipe.contrasts)) for recipe in recipes}) != 1:
        raise UserError('phantoms of one cohort need one size and one number of contrasts')
    manifest = {
        'kind': 'cohort of phantoms', 'generator': GENERATOR, 'recipes': [recipe._asdict() for recipe in recipes], 'first': first, 'count': count,
    }  # fmt: skip

    def make(index: int) -> dict[str, np.ndarray]:
        kind = index % len(recipes)
        person = phantom(recipes[kind], index)
        return {
            'image': 2 * person.image[None] - 1,
            'labels': person.labels[None],
            'label': np.array([kind], np.int32),
            'covariates': np.array([[person.ventricles]], np.float32),
            'mask': person.lesion[None, ..., None],
        }

    return stored(manifest, range(first, first + count), make, title=f'phantoms {first} to {first + count - 1}', keep=False)


def ventricles(image: np.ndarray, contrast: str, share: float = 0.5) -> np.ndarray:
    """Where an image (N, N), 0 to 1, is by more than `share` a ventricle and not tissue, and does not reach its border: (N, N) bool."""
    _, tissue, _, ventricle = LEVELS[contrast]
    found, _ = ndimage.label((image - tissue) / (ventricle - tissue) > share)
    outside = np.unique(np.concatenate([found[0], found[-1], found[:, 0], found[:, -1]]))
    return (found > 0) & ~np.isin(found, outside)


def _anatomy(rng: np.random.Generator, recipe: Recipe) -> tuple[np.ndarray, np.ndarray, float]:
    """Labels (N, N), the squared radius r of equation (1), and the area of the ventricles."""
    n, spread, uniform = recipe.size, ALIGNED if recipe.aligned else WIDE, rng.uniform
    centre = (n - 1) / 2 + uniform(-spread.shift, spread.shift, 2) * n / 64
    a, b = np.array([0.36, 0.43]) * n * uniform(*spread.axes, 2)
    theta = uniform(-spread.turn, spread.turn)
    x, y = _rotated(np.indices((n, n)) - centre[:, None, None], theta)
    radius = (x / a) ** 2 + (y / b) ** 2
    mean, amplitude = spread.ring
    width = mean + amplitude * np.sin(rng.integers(7, 12) * np.arctan2(y / b, x / a) + uniform(0, 2 * np.pi))
    labels = np.where(radius > (1 - width) ** 2, 2, 1)
    factors = uniform(*recipe.ventricles, 2)
    factors = factors[[0, 0]] if recipe.paired else factors
    for side, factor in zip((-1, 1), factors, strict=True):
        middle = centre + side * 0.11 * n * np.array([np.cos(theta), np.sin(theta)])
        x, y = _rotated(np.indices((n, n)) - middle[:, None, None], theta + side * 0.25)
        wide, long = np.array([0.055, 0.15]) * n * factor
        labels[(x / wide) ** 2 + (y / long) ** 2 < 1] = 3
    return np.where(radius < 1, labels, 0).astype(np.uint8), radius, float(np.mean(factors**2))


def _rotated(offsets: np.ndarray, angle: float) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates of offsets (2, N, N) in a frame turned by the angle."""
    x, y = offsets
    return np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x


def _lesion(rng: np.random.Generator, labels: np.ndarray, radius: np.ndarray, sizes: tuple[float, float]) -> np.ndarray:
    n = len(labels)
    candidates = np.argwhere((labels == 1) & (radius < 0.6))
    x, y = _rotated(np.indices((n, n)) - rng.choice(candidates)[:, None, None], rng.uniform(0, np.pi))
    size = rng.uniform(*sizes) * n / 64
    return ((x / size) ** 2 + (y / (size * rng.uniform(0.8, 1.25))) ** 2 < 1) & (labels > 0)


def _image(
    rng: np.random.Generator, labels: np.ndarray, lesion: np.ndarray, levels: tuple[float, ...], lesion_level: float | None
) -> np.ndarray:
    """(N, N) float32 in [0, 1]."""
    n = len(labels)
    blur = lambda values: gaussian_filter(values.astype(np.float64), 0.7 * n / 64)
    noise = lambda width: gaussian_filter(rng.standard_normal((n, n)), width)
    bias, texture, inside = noise(n / 4), noise(2 * n / 64), labels > 0
    clean = blur(np.array(levels)[labels])
    clean += blur(lesion) * ((levels[2] if lesion_level is None else lesion_level) - clean)
    grain = 0.03 * texture / texture.std() + 0.01 * rng.standard_normal((n, n))
    return np.clip(clean * (1 + 0.08 * bias / np.abs(bias).max()) + grain * inside, 0, 1).astype(np.float32)


def _check(recipe: Recipe) -> None:
    if recipe.size < 16 or recipe.seed < 0:
        raise UserError(f'phantoms of {recipe.size} pixels from seed {recipe.seed}: the size must be at least 16 and the seed at least 0')
    if not recipe.contrasts or set(recipe.contrasts) - set(LEVELS):
        raise UserError(f'phantom contrasts {recipe.contrasts}: choose from {", ".join(LEVELS)}')
