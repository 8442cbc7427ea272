"""The single step: noise the image part of the way and take the denoiser at its word, the row beside every chain.

x_L = alpha_L y + sigma_L eps,        r_k = E[x0 | x_L],        restored = mean_k r_k                (1)
"""

import jax
import jax.numpy as jnp

from jaxdiff.noise import Noise, gaussian
from jaxdiff.paths import GaussianPath, perturb
from jaxdiff.tasks.anomaly.finding import Finding, finding
from jaxdiff.types import Array, Denoiser, Key, Time


def restore(
    key: Key, image: Array, denoise: Denoiser, *, path: GaussianPath, time: Time, repeats: int = 4, noise: Noise = gaussian
) -> Finding:
    """One image (*spatial, channels) by (1), the mean of `repeats` draws (static); `time` is L."""

    def once(k):
        return denoise(perturb(path, image, noise(jax.random.fold_in(key, k), image.shape), time), time)

    return finding(image, jax.lax.map(once, jnp.arange(repeats)))
