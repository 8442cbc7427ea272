"""Where eps comes from. A noise is a function (key, shape) -> array of that shape, (*spatial, C), with mean 0 and variance 1 in every element.

Of structured noise that holds over draws: neighbours in one draw are alike, and the mean of one draw is not 0. Simplex noise sums octaves,

    n(p) = sum_o g^o S(2^o p / v + shift) / sqrt(sum_o g^2o),                                                           (1)

where S is Perlin's noise on a grid of simplices, of variance 1: it adds, over the four corners of the tetrahedron around a point, a slope
that a hash of the corner picks of twelve, weighted by (0.6 - d^2)^4, d being how far the corner is. Coarse noise is white noise of few
pixels made larger linearly and rolled round the image, so that no pixel is a grid point more often than others.

Perlin, "Noise hardware", SIGGRAPH 2001; Wyatt et al., "AnoDDPM", CVPR workshops 2022 (1, with a variance of about 1/4 there); Kascenas et
al., "The role of noise in denoising models for anomaly detection in medical images", MedIA 2023 (coarse).
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdiff.types import Array, Key

Noise = Callable[[Key, Sequence[int]], Array]

SLOPES = np.array([p for p in np.ndindex(3, 3, 3) if sorted(map(abs, np.subtract(p, 1))) == [0, 1, 1]], np.float32) - 1  # (12, 3)
SIMPLEX_STD = 0.4256  # of 32 times the sum over corners, measured over 5 10^7 points


def gaussian(key: Key, shape: Sequence[int]) -> Array:
    """White noise, N(0, I)."""
    return jax.random.normal(key, shape)


def rademacher(key: Key, shape: Sequence[int]) -> Array:
    """Signs, -1 or 1 with equal odds: of all probes of a trace those whose estimate varies least, and exact where the matrix is diagonal."""
    return jax.random.rademacher(key, shape, float)


def coarse(pixels: int) -> Noise:
    """Gaussian noise of `pixels` along every axis made as large as the image, every channel for itself."""

    def noise(key, shape):
        draw, roll = jax.random.split(key)
        *spatial, channels = shape
        few = jax.random.normal(draw, (*(min(pixels, size) for size in spatial), channels))
        shifts = [jax.random.randint(jax.random.fold_in(roll, axis), (), 0, size) for axis, size in enumerate(spatial)]
        large = jax.image.resize(few, shape, 'linear', antialias=False)
        std = math.prod(_spread(min(pixels, size), size) for size in spatial)
        return jnp.roll(large, shifts, tuple(range(len(spatial)))) / std

    return noise


def simplex(wavelength: float = 64.0, *, octaves: int = 6, persistence: float = 0.8) -> Noise:
    """The noise (1) of images of two or three spatial axes, every channel for itself.

    Args:
        wavelength: v, pixels between what is unlike, in the first octave; the published 64 is for 256 pixels.
        octaves, persistence: how many, and g.
    """
    size = math.sqrt(sum(persistence ** (2 * octave) for octave in range(octaves)))

    def channel(key, spatial):
        places = jnp.stack(jnp.meshgrid(*(jnp.arange(n) / wavelength for n in spatial), indexing='ij'), -1)
        places = jnp.pad(places, [(0, 0)] * len(spatial) + [(0, 3 - len(spatial))])

        def octave(total, o):
            order, shift = jax.random.split(jax.random.fold_in(key, o))
            hashes = jax.random.permutation(order, 256)
            at = places * 2.0**o + jax.random.uniform(shift, (*[1] * len(spatial), 3), maxval=256.0)
            return total + persistence**o * _simplex(hashes, at) / size, None

        return jax.lax.scan(octave, jnp.zeros(spatial), jnp.arange(octaves))[0]

    def noise(key, shape):
        *spatial, channels = shape
        if len(spatial) not in (2, 3):
            raise ValueError(f'simplex noise has 2 or 3 spatial axes, not the {len(spatial)} of {tuple(shape)}')
        each = jax.vmap(lambda c: channel(jax.random.fold_in(key, c), tuple(spatial)))(jnp.arange(channels))
        return jnp.moveaxis(each, 0, -1)

    return noise


def bank(fields: Array) -> Noise:
    """Crops of noise made before, mirrored at random: as many draws of noise that takes long to make, such as `simplex`, as training asks for.

    Args:
        fields: (n, *spatial, C), at least as large as what will be asked for along every axis, of as many channels.
    """

    def noise(key, shape):
        pick, place, mirror = jax.random.split(key, 3)
        field = jnp.asarray(fields)[jax.random.randint(pick, (), 0, len(fields))]
        room = [have - want for have, want in zip(field.shape, shape, strict=True)]
        if min(room) < 0 or room[-1]:
            raise ValueError(f'a bank of fields {fields.shape[1:]} cannot give noise of shape {tuple(shape)}')
        starts = [jax.random.randint(jax.random.fold_in(place, axis), (), 0, more + 1) for axis, more in enumerate(room)]
        crop = jax.lax.dynamic_slice(field, starts, shape)
        for axis, flip in enumerate(jax.random.bernoulli(mirror, shape=(len(shape) - 1,))):
            crop = jnp.where(flip, jnp.flip(crop, axis), crop)
        return crop

    return noise


def named(spec: Mapping[str, Any] | None, shape: Sequence[int]) -> Noise:
    """A noise from JSON, for images of `shape` (*spatial, C): {'name': 'coarse', 'pixels': 8}, None for white.

    With 'bank': n it is cropped from n fields, half as large again as the image, that are made once. Raises KeyError for another name.
    """
    if spec is None:
        return gaussian
    options = {name: value for name, value in spec.items() if name not in ('name', 'bank')}
    noise = {'gaussian': lambda: gaussian, 'coarse': coarse, 'simplex': simplex}[spec['name']](**options)
    if not spec.get('bank'):
        return noise
    size = (*(3 * n // 2 for n in shape[:-1]), shape[-1])
    make = jax.jit(lambda keys: jax.lax.map(lambda key: noise(key, size), keys))
    return bank(np.asarray(make(jax.random.split(jax.random.key(0), spec['bank']))))


def _spread(few: int, size: int) -> float:
    """The standard deviation, over places, of white noise made larger linearly along an axis."""
    place = np.clip((np.arange(size) + 0.5) * few / size - 0.5, 0, few - 1)
    return float(np.sqrt(np.mean(np.square(place % 1) + np.square(1 - place % 1))))


def _simplex(hashes: Array, places: Array) -> Array:
    """S of places (..., 3), by a permutation (256,)."""
    cell = jnp.floor(places + places.sum(-1, keepdims=True) / 3)
    first = places - (cell - cell.sum(-1, keepdims=True) / 6)
    rank = jnp.argsort(jnp.argsort(-first, axis=-1), axis=-1)  # 0 for the largest coordinate
    cell, total = cell.astype(int), 0.0
    for corner in range(4):
        step = (rank < corner).astype(first.dtype)
        away = first - step + corner / 6
        i, j, k = jnp.moveaxis(cell + step.astype(int), -1, 0)
        slope = jnp.asarray(SLOPES)[hashes[(i + hashes[(j + hashes[k & 255]) & 255]) & 255] % 12]
        total += jnp.maximum(0.6 - jnp.square(away).sum(-1), 0.0) ** 4 * (slope * away).sum(-1)
    return 32 * total / SIMPLEX_STD
