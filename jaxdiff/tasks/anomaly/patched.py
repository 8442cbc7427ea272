"""Boxes noised one at a time (Behrendt et al., "Patched diffusion models for unsupervised anomaly detection", MIDL 2023).

Boxes b cover the image. Each is noised while its surroundings stay as they are, restored by one call, and pasted; where boxes overlap the
mean is taken:

    x_b = y outside b, alpha_t y + sigma_t eps inside,        r = mean over b of E[x0 | x_b] inside b    (1)

The denoiser must have learnt images noised in one box (`spoil`). eps is one field for the image, of which every box has its part.
"""

import itertools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from jaxdiff.noise import Noise, gaussian
from jaxdiff.paths import GaussianPath, perturb
from jaxdiff.tasks.anomaly.finding import Finding, finding
from jaxdiff.types import Array, Denoiser, Key, Time


def boxes(spatial: tuple[int, ...], size: int, stride: int | None = None) -> np.ndarray:
    """Boxes of `size` pixels a side every `stride` pixels, (boxes, *spatial, 1) of bool; without a stride they lie side by side.

    Raises ValueError unless 1 <= stride <= size and the last box along every axis ends where the axis does.
    """
    stride = size if stride is None else stride
    if not 1 <= stride <= size or any(n < size or (n - size) % stride for n in spatial):
        raise ValueError(f'boxes of {size} pixels every {stride} do not fill an image of {spatial}')
    corners = list(itertools.product(*(range(0, n - size + 1, stride) for n in spatial)))
    grid = np.zeros((len(corners), *spatial, 1), bool)
    for box, corner in zip(grid, corners, strict=True):
        box[tuple(slice(start, start + size) for start in corner)] = True
    return grid


def restore(
    key: Key,
    image: Array,
    denoise: Denoiser,
    *,
    path: GaussianPath,
    time: Time,
    size: int,
    stride: int | None = None,
    repeats: int = 1,
    noise: Noise = gaussian,
) -> Finding:
    """One image (*spatial, channels) by (1), the mean of `repeats` draws (static); `time` is t, the boxes those of `boxes`, which may raise."""
    grid = jnp.asarray(boxes(image.shape[:-1], size, stride))

    def once(k):
        noised = perturb(path, image, noise(jax.random.fold_in(key, k), image.shape), time)

        def paste(total, box):
            return total + jnp.where(box, denoise(jnp.where(box, noised, image), time), 0.0), None

        return jax.lax.scan(paste, jnp.zeros_like(image), grid)[0] / grid.sum(0)

    return finding(image, jax.lax.map(once, jnp.arange(repeats)))


def spoil(path: GaussianPath, size: int, noise: Noise = gaussian) -> Callable[[Key, Array], tuple[Array, Time, Array]]:
    """What the denoiser learns from: an image (*spatial, C) noised in one of its `boxes`, t even among all, and that box (*spatial, 1)."""

    def spoilt(key: Key, x0: Array) -> tuple[Array, Time, Array]:
        where, when, what = jax.random.split(key, 3)
        grid = jnp.asarray(boxes(x0.shape[:-1], size))
        box = grid[jax.random.randint(where, (), 0, len(grid))]
        t = path.end * (1 - jax.random.uniform(when))
        return jnp.where(box, perturb(path, x0, noise(what, x0.shape), t), x0), t, box.astype(x0.dtype)

    return spoilt
