"""Averaged partial diffusion.

An image y is noised part of the way and brought back by a denoiser trained on healthy images (AnoDDPM, Wyatt et al., CVPR workshops 2022):

    x_L = alpha_L y + sigma_L eps,        r_k = solve(x_L -> x_0)                                        (1)

What the noise erased returns as the denoiser knows it, so a lesion is replaced and the rest returns. One r_k also re-invents texture, which
|y - r_k| cannot tell from a lesion; averaging K restorations before the absolute value removes what the noise invented:

    residual = |y - mean_k r_k|                                                                          (2)
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxdiff.inversion import image_to_image
from jaxdiff.paths import GaussianPath
from jaxdiff.solvers.loop import Solver
from jaxdiff.types import Array, Denoiser, Key


class Restoration(NamedTuple):
    """All of the image's shape: the image, the mean and the standard deviation of its restorations, and |image - mean|."""

    image: Array
    restored: Array
    spread: Array
    residual: Array


def restore(
    key: Key, image: Array, denoise: Denoiser, *, path: GaussianPath, solver: Solver, times: Array, repeats: int = 6
) -> Restoration:
    """Restore one image (*spatial, channels) in [-1, 1] `repeats` times and average, equations (1) and (2).

    `times` (steps + 1,) fall from the noising depth to 0; `repeats` is static.
    """

    once = lambda key: image_to_image(key, image, denoise, path, solver, times)
    restorations = jax.vmap(once)(jax.vmap(lambda k: jax.random.fold_in(key, k))(jnp.arange(repeats)))
    restored = restorations.mean(0)
    return Restoration(image, restored, restorations.std(0), jnp.abs(image - restored))
