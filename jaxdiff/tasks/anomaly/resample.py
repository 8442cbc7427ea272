"""Mask, stitch, re-sample (AutoDDPM, Bercea et al., ICML workshop on interpretable machine learning in healthcare, 2023).

Averaged partial diffusion finds, at a great depth, what is unlike health; the rest of the image need not change:

    c = P(y, r) clip(|y - r| / q95, 0, 1),            m = dilate(c > threshold)                          (1)
    stitched = (1 - m) y + m r                                                                           (2)
    x_t = stitched noised to a small depth;  x_s ~ p(x_s | x_t) inside m,  y noised to s outside         (3)
    map = |y - x_0| c                                                                                    (4)

with r the restoration, q95 the 95th percentile of |y - r| over the image, and P a perceptual distance per pixel. Every step of (3) is
taken U times, going back up in between (RePaint with jumps of one step), so that the seam heals; with U = 1 it is inpainting by
replacement. Outside m the image returns exactly.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxdiff.constraints import inpaint
from jaxdiff.grids import repaint
from jaxdiff.inversion import image_to_image
from jaxdiff.noise import Noise, gaussian
from jaxdiff.paths import GaussianPath
from jaxdiff.solvers.loop import Solver
from jaxdiff.solvers.resampling import resampling
from jaxdiff.tasks.anomaly.finding import Finding, dilate, finding
from jaxdiff.types import Array, Denoiser, Key

Perceptual = Callable[[Array, Array], Array]


def everywhere(image: Array, restored: Array) -> Array:
    """P = 1: only the difference counts."""
    return jnp.ones(image.shape[:-1], image.dtype)


def dissimilar(image: Array, restored: Array, window: int = 7) -> Array:
    """P = 1 - SSIM of each pixel's surroundings (Wang et al. 2004), in place of a trained perceptual network: 0 to 1, the mean over channels.

    Images (*spatial, C) in [-1, 1]; what differs by noise alone counts little, what is shaped otherwise much.
    """
    spatial = image.ndim - 1

    def mean(x):
        size, strides = (*[window] * spatial, 1), (1,) * (spatial + 1)
        sums = jax.lax.reduce_window(jnp.stack([x, jnp.ones_like(x)]), 0.0, jax.lax.add, (1, *size), (1, *strides), 'SAME')
        return sums[0] / sums[1]

    a, b = mean(image), mean(restored)
    var_a, var_b = mean(image**2) - a**2, mean(restored**2) - b**2
    cov = mean(image * restored) - a * b
    c1, c2 = 0.02**2, 0.06**2
    ssim = (2 * a * b + c1) * (2 * cov + c2) / ((a**2 + b**2 + c1) * (var_a + var_b + c2))
    return jnp.clip(1 - ssim, 0, 1).mean(-1)


def likely(first: Finding, perceptual: Perceptual = everywhere) -> Array:
    """c of (1) from the first stage, (*spatial,), within [0, 1] where P is."""
    largest = jnp.percentile(first.map, 95)
    return perceptual(first.image, first.restored) * jnp.clip(first.map / jnp.where(largest > 0, largest, 1.0), 0, 1)


def restore(
    key: Key,
    first: Finding,
    denoise: Denoiser,
    *,
    path: GaussianPath,
    solver: Solver,
    times: Array,
    threshold: float | Array,
    perceptual: Perceptual = everywhere,
    resamplings: int = 5,
    noise: Noise = gaussian,
) -> Finding:
    """The second stage, (1) to (4), after `first`, what `partial.restore` found; its mask is m.

    Args:
        times: of (3), falling from the small depth to 0.
        threshold: of (1), chosen on validation images.
        perceptual: P, (image, restored) -> (*spatial,), at least 0.
        resamplings: U, static.
    """
    weight = likely(first, perceptual)
    mask = dilate(weight > threshold)
    stitched = jnp.where(mask[..., None], first.restored, first.image)
    hold = inpaint(path, first.image, ~mask[..., None], noise=noise)
    walk = repaint(times, 1, resamplings)
    healed = image_to_image(key, stitched, denoise, path, resampling(path, solver, noise=noise), walk, constrain=hold, noise=noise)
    return finding(first.image, healed[None], weight=weight, mask=mask)
