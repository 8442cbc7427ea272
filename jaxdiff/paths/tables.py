"""Paths of a table of betas, the forward process of DDPM cut into T steps.

Ho, Jain, Abbeel, "Denoising diffusion probabilistic models", NeurIPS 2020 (linear); Nichol and Dhariwal, "Improved DDPM", ICML 2021 (cosine);
Rombach et al., "High-resolution image synthesis with latent diffusion models", CVPR 2022 (scaled linear).
"""

import math

import jax.numpy as jnp
import numpy as np

from jaxdiff.paths.gaussian import GaussianPath, variance_preserving


def linear_betas(steps: int, start: float = 1e-4, end: float = 0.02) -> np.ndarray:
    """Betas (steps,) rising linearly, float64 (Ho et al. 2020); for steps other than 1000 scale both ends by 1000 / steps."""
    return np.linspace(start, end, steps)


def scaled_linear_betas(steps: int, start: float = 8.5e-4, end: float = 0.012) -> np.ndarray:
    """Betas (steps,) whose square roots rise linearly, float64 (Rombach et al. 2022)."""
    return np.square(np.linspace(math.sqrt(start), math.sqrt(end), steps))


def cosine_betas(steps: int, s: float = 0.008, cap: float = 0.999) -> np.ndarray:
    """Betas (steps,) of cos^2((u + s) / (1 + s) pi / 2), none above `cap`, float64 (Nichol and Dhariwal 2021)."""
    u = np.arange(steps + 1) / steps
    alpha_squared = np.square(np.cos((u + s) / (1 + s) * np.pi / 2))
    return np.minimum(1 - alpha_squared[1:] / alpha_squared[:-1], cap)


def discrete(betas: np.ndarray) -> GaussianPath:
    """The path of a table of T betas in (0, 1]: t = 0 is data, t = i + 1 is index i of the table.

    Between integers log alpha is linear (beta constant), so any real time in [0, T] is allowed. A last beta of 1 (zero terminal
    SNR) is kept at log_snr = -40: nothing is infinite, and the signal is below what float32 resolves.
    """
    betas = np.asarray(betas, np.float64)
    if betas.ndim != 1 or not (np.all(betas > 0) and np.all(betas <= 1)):
        raise ValueError('betas must be one row of numbers in (0, 1]')
    with np.errstate(divide='ignore'):
        table = np.concatenate([[0.0], np.cumsum(np.log1p(-betas)) / 2]).clip(-20.0)
    steps = len(betas)

    def log_alpha(t):
        t = jnp.asarray(t, float)
        index = jnp.clip(jnp.ceil(t) - 1, 0, steps - 1).astype(int)  # the step that leads up to t, so that slopes at integers are its own
        part, values = t - index, jnp.asarray(table)
        return (1 - part) * values[index] + part * values[index + 1]

    return variance_preserving(log_alpha, float(steps), lambda t: jnp.asarray(t, float) - 1, steps)
