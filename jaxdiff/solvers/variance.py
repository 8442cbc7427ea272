"""The optimal variance of an ancestral step.

Of all Gaussians in place of q(x_s | x_t) the best has, besides the mean, its variance, which by the law of total variance is

    std^2 = beta~ + (alpha_s (1 - r))^2 Var[x0 | x_t],    r = SNR_t / SNR_s,                                           (1)

and the denoiser D(x, t) = E[x0 | x_t = x] tells that of the data by its slope,

    Cov[x0 | x_t] = (sigma^2 / alpha) dD/dx.                                                                           (2)

Only the diagonal of (2) is wanted: exact, at the cost of one derivative for each element, or unbiased from a few random signs v, as the
mean of v * (dD/dx v), which is exact where elements do not depend on one another.

Bao, Li, Zhu, Zhang, "Analytic-DPM", ICLR 2022 (1), its mean over elements; per element: Bao et al., "Estimating the optimal covariance
with imperfect mean", ICML 2022; (2) Efron, JASA 2011.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxdiff.noise import rademacher
from jaxdiff.paths import GaussianPath, bridge
from jaxdiff.types import Array, Denoiser, Key, Time

Diagonal = Callable[[Array, Time], Array]  # x, t -> the diagonal of dD/dx, the shape of x


def optimal(
    path: GaussianPath, diagonal: Diagonal, *, scalar: bool = False, most: float | Array = 1.0
) -> Callable[[Array, Time, Time], Array]:
    """(x, t, s) -> (1), for `ddpm(path, variance=...)`.

    Args:
        diagonal: of a denoiser, by `exact_diagonal` or `probed_diagonal`.
        scalar: the mean over elements, one number, in place of one per element.
        most: bound of Var[x0 | x_t]; data in [-1, 1] have at most 1. Taken where the log-SNR is under -30 and (2) is lost to rounding.
    """

    def variance(x, t, s):
        of_x0, std = bridge(path, 1.0, 0.0, t, s)
        spread = posterior_variance(path, diagonal, x, t, most=most)
        return std**2 + of_x0**2 * (jnp.mean(spread) if scalar else spread)

    return variance


def posterior_variance(path: GaussianPath, diagonal: Diagonal, x: Array, t: Time, *, most: float | Array = 1.0) -> Array:
    """Var[x0 | x_t = x] of every element (2), within 0 and `most`."""
    alpha, sigma = path.alpha(t), path.sigma(t)
    blind = path.log_snr(t) < -30
    return jnp.where(blind, most, jnp.clip(sigma**2 / jnp.where(blind, 1.0, alpha) * diagonal(x, t), 0.0, most))


def exact_diagonal(denoise: Denoiser) -> Diagonal:
    """By one forward derivative for each element: for tiny x."""

    def diagonal(x, t):
        flat = lambda x_flat: denoise(x_flat.reshape(x.shape), t).ravel()
        return jnp.diagonal(jax.jacfwd(flat)(x.ravel())).reshape(x.shape)

    return diagonal


def probed_diagonal(key: Key, denoise: Denoiser, probes: int = 1) -> Diagonal:
    """By `probes` random sign vectors, the same at every step; a forward derivative for each."""

    def diagonal(x, t):
        def probe(key):
            signs = rademacher(key, x.shape).astype(x.dtype)
            return signs * jax.jvp(lambda x: denoise(x, t), (x,), (signs,))[1]

        return jnp.mean(jax.lax.map(probe, jax.random.split(key, probes)), axis=0)

    return diagonal
