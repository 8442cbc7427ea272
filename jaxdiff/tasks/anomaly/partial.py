"""Averaged partial diffusion.

An image y is noised part of the way and brought back by a denoiser trained on healthy images (AnoDDPM, Wyatt et al., CVPR workshops 2022):

    x_L = alpha_L y + sigma_L eps,        r_k = solve(x_L -> x_0)                                        (1)

What the noise erased returns as the denoiser knows it, so a lesion is replaced and the rest returns. One r_k also re-invents texture, which
|y - r_k| cannot tell from a lesion; averaging K restorations before the absolute value removes what the noise invented:

    map = |y - mean_k r_k|                                                                               (2)

With `noise.simplex` (AnoDDPM) or `noise.coarse` (Kascenas et al., MedIA 2023) in place of white noise the denoiser must have learnt that
noise, and a stochastic solver draw it too: `ddpm(path, noise=noise)`.
"""

import jax
import jax.numpy as jnp

from jaxdiff.inversion import image_to_image
from jaxdiff.noise import Noise, gaussian
from jaxdiff.paths import GaussianPath
from jaxdiff.solvers.loop import Solver
from jaxdiff.tasks.anomaly.finding import Finding, finding
from jaxdiff.types import Array, Denoiser, Key


def restore(
    key: Key,
    image: Array,
    denoise: Denoiser,
    *,
    path: GaussianPath,
    solver: Solver,
    times: Array,
    repeats: int = 6,
    noise: Noise = gaussian,
) -> Finding:
    """Restore one image (*spatial, channels) in [-1, 1] `repeats` times and average, equations (1) and (2).

    `times` (steps + 1,) fall from the noising depth to 0; `repeats` is static; `noise` is eps of (1).
    """
    once = lambda key: image_to_image(key, image, denoise, path, solver, times, noise=noise)
    return finding(image, jax.vmap(once)(jax.vmap(lambda k: jax.random.fold_in(key, k))(jnp.arange(repeats))))
