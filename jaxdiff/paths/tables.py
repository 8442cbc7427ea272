"""Paths of a table of betas, the forward process of DDPM cut into T steps: abar = alpha^2 falls by the factor 1 - beta at each.

Ho, Jain, Abbeel, "Denoising diffusion probabilistic models", NeurIPS 2020 (linear); Nichol and Dhariwal, "Improved DDPM", ICML 2021 (cosine,
respacing); Rombach et al., "High-resolution image synthesis with latent diffusion models", CVPR 2022 (scaled linear); Lin et al., "Common
diffusion noise schedules and sample steps are flawed", WACV 2024 (zero terminal SNR).
"""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxdiff.paths.gaussian import GaussianPath, variance_preserving
from jaxdiff.types import Array


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


def sigmoid_betas(steps: int, start: float = 1e-4, end: float = 0.02, reach: float = 6.0) -> np.ndarray:
    """Betas (steps,) rising as a sigmoid between -reach and reach, float64 (as in MONAI and diffusers)."""
    return start + (end - start) / (1 + np.exp(-np.linspace(-reach, reach, steps)))


def rescale_zero_snr(betas: np.ndarray) -> np.ndarray:
    """Betas of the same first step whose last is 1, so that no data are left: alpha shifted and stretched (Lin et al. 2024)."""
    alpha = np.exp(_log_alphas(betas))
    alpha = (alpha - alpha[-1]) * alpha[0] / (alpha[0] - alpha[-1])
    return 1 - np.square(alpha / np.append(1.0, alpha[:-1]))


def respace(betas: np.ndarray, indices: Sequence[int]) -> np.ndarray:
    """Betas (len(indices),) of the process that takes only the steps `indices`, rising from 0 to T - 1: abar stays as it was at each.

    The steps of a sampler need none of this: any grid over the path of the whole table will do.
    """
    indices = np.asarray(indices)
    if indices.size == 0 or np.any(np.diff(indices) <= 0) or indices[0] < 0 or indices[-1] >= len(betas):
        raise ValueError(f'indices of a table of {len(betas)} rise from 0 to {len(betas) - 1}, none twice')
    kept = _log_alphas(betas)[indices]
    return -np.expm1(2 * np.diff(kept, prepend=0.0))


def discrete(betas: np.ndarray | Array) -> GaussianPath:
    """The path of a table of T betas in (0, 1]: t = 0 is data, t = i + 1 is index i of the table.

    Between integers log alpha is linear (beta constant), so any real time in [0, T] is allowed. A last beta of 1 (zero terminal
    SNR) is kept at log_snr = -40: nothing is infinite, and the signal is below what float32 resolves. Concrete betas are checked, and
    their table is computed in float64; traced ones, inside `jit`, are neither: other betas of the same number compile nothing.
    """
    traced = isinstance(betas, jax.core.Tracer)
    if not traced:
        betas = np.asarray(betas, np.float64)
        if betas.ndim != 1 or not (np.all(betas > 0) and np.all(betas <= 1)):
            raise ValueError('betas must be one row of numbers in (0, 1]')
    steps, math_of = len(betas), jnp if traced else np
    table = math_of.append(0.0, _log_alphas(betas, math_of)).clip(-20.0)

    def log_alpha(t):
        t = jnp.asarray(t, float)
        index = jnp.clip(jnp.ceil(t) - 1, 0, steps - 1).astype(int)  # the step that leads up to t, so that slopes at integers are its own
        part, values = t - index, jnp.asarray(table)
        return (1 - part) * values[index] + part * values[index + 1]

    return variance_preserving(log_alpha, float(steps), lambda t: jnp.asarray(t, float) - 1, steps)


def _log_alphas(betas, numpy=np):
    """log alpha after each step; -inf after a beta of 1."""
    with np.errstate(divide='ignore'):
        return numpy.cumsum(numpy.log1p(-betas)) / 2
