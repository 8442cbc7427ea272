"""Gaussian paths: how data turn into noise.

A path is a pair of coefficients over time, from data at t = 0 to noise at t = end,

    x_t = alpha(t) x0 + sigma(t) eps,                 eps ~ N(0, I)                                   (1)
    log_snr(t) = log(alpha^2 / sigma^2),              strictly decreasing, +inf at t = 0.             (2)

Between two times s < t, with r = SNR(t) / SNR(s) = exp(log_snr(t) - log_snr(s)),

    q(x_t | x_s)     = N(alpha_t / alpha_s x_s,  sigma_t^2 (1 - r) I)                                  (3)
    q(x_s | x_t, x0) = N(sqrt(r) sigma_s / sigma_t x_t + alpha_s (1 - r) x0,  sigma_s^2 (1 - r) I)     (4)

and in the limit of short steps (3) is the stochastic differential equation dx = f x dt + g dw,

    f = alpha' / alpha,                               g^2 = 2 sigma (sigma' - f sigma).               (5)

(4) divides by neither alpha nor sigma_s, so it is finite at both ends of time, and at s = 0 its mean is x0 exactly and its variance 0.

Ho, Jain, Abbeel, "Denoising diffusion probabilistic models", NeurIPS 2020; Song et al., "Score-based generative modeling through SDEs",
ICLR 2021 (5); Kingma et al., "Variational diffusion models", NeurIPS 2021 (4).
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxdiff.types import Array, Time


class GaussianPath(NamedTuple):
    """The coefficients of (1); every function is elementwise in t.

    Attributes:
        alpha: t -> scale of the data, 1 at t = 0 for the makers below.
        sigma: t -> standard deviation of the noise, 0 at t = 0.
        log_snr: t -> log(alpha^2 / sigma^2) in nats, computed without cancellation; +inf at t = 0.
        end: the largest time: T for tables of T steps, sigma_max where time is the noise itself (`edm`), 1 for other continuous paths.
        embed: t -> what the network is told: the index t - 1 in {0..T-1} for tables, the logarithm of the noise where it spans decades,
            1000 t for other continuous paths; finite at t = 0.
        steps: T for tables, whose times of training are the integers 1..T; None where time is continuous.
        data_std: where given, the network sees x / sqrt(alpha^2 data_std^2 + sigma^2), of variance 1 for data of this standard deviation,
            and predictions of kind 'edm' are made for such data.
    """

    alpha: Callable[[Time], Array]
    sigma: Callable[[Time], Array]
    log_snr: Callable[[Time], Array]
    end: float
    embed: Callable[[Time], Array]
    steps: int | None = None
    data_std: float | None = None


class SDE(NamedTuple):
    """dx = drift(x, t) dt + diffusion(t) dw, forward in time (5)."""

    drift: Callable[[Array, Time], Array]
    diffusion: Callable[[Time], Array]


def perturb(path: GaussianPath, x0: Array, noise: Array, t: Time) -> Array:
    """x_t of (1) from data and noise of one shape. Draws nothing: the caller chooses the noise."""
    return path.alpha(t) * x0 + path.sigma(t) * noise


def transition(path: GaussianPath, s: Time, t: Time) -> tuple[Array, Array]:
    """(scale, std) of q(x_t | x_s), s < t, as in (3)."""
    return path.alpha(t) / path.alpha(s), path.sigma(t) * jnp.sqrt(_lost(path, s, t))


def bridge(path: GaussianPath, x0: Array, x: Array, t: Time, s: Time) -> tuple[Array, Array]:
    """(mean, std) of q(x_s | x_t = x, x0), s < t, as in (4): the mean has the shape of x, the std is a scalar."""
    lost, root = _lost(path, s, t), jnp.exp((path.log_snr(t) - path.log_snr(s)) / 2)
    return root * path.sigma(s) / path.sigma(t) * x + path.alpha(s) * lost * x0, path.sigma(s) * jnp.sqrt(lost)


def rates(path: GaussianPath, t: Time) -> tuple[Array, Array]:
    """(alpha', sigma'), the derivatives in time; at t = 0, where sigma' may be infinite, those of a millionth of the way on."""
    t = jnp.maximum(t, 1e-6 * path.end)
    derivative = lambda f: jax.jvp(f, (t,), (jnp.ones_like(t),))[1]
    return derivative(path.alpha), derivative(path.sigma)


def sde(path: GaussianPath) -> SDE:
    """The stochastic differential equation (5) whose marginals are those of the path, by automatic differentiation."""

    def drift(x, t):
        return rates(path, t)[0] / path.alpha(t) * x

    def diffusion(t):
        t = jnp.maximum(t, 1e-6 * path.end)  # where sigma' is infinite, g is finite
        d_alpha, d_sigma = rates(path, t)
        sigma = path.sigma(t)
        return jnp.sqrt(2 * sigma * (d_sigma - d_alpha / path.alpha(t) * sigma))

    return SDE(drift, diffusion)


def time_of(path: GaussianPath, log_snr: Array) -> Time:
    """The times at which the path has these log-SNRs (nats, any shape), by bisection; those out of range go to the nearest end."""
    log_snr = jnp.asarray(log_snr, float)

    def halve(_, bounds):
        low, high = bounds
        middle = (low + high) / 2
        cleaner = path.log_snr(middle) > log_snr
        return jnp.where(cleaner, middle, low), jnp.where(cleaner, high, middle)

    bounds = jnp.zeros_like(log_snr), jnp.full_like(log_snr, path.end)
    return jax.lax.fori_loop(0, 80, halve, bounds)[1]


def prior_std(path: GaussianPath) -> Array:
    """Standard deviation of the noise from which sampling starts, sigma(end)."""
    return path.sigma(path.end)


def variance_preserving(log_alpha, end, embed, steps=None) -> GaussianPath:
    """The path with alpha^2 + sigma^2 = 1; expm1 keeps the digits of sigma near t = 0."""
    sigma = lambda t: jnp.sqrt(-jnp.expm1(2 * log_alpha(t)))
    log_snr = lambda t: 2 * log_alpha(t) - jnp.log(-jnp.expm1(2 * log_alpha(t)))
    return GaussianPath(lambda t: jnp.exp(log_alpha(t)), sigma, log_snr, end, embed, steps)


def _lost(path: GaussianPath, s: Time, t: Time) -> Array:
    """1 - SNR(t) / SNR(s): the share of the signal-to-noise ratio lost between s and t."""
    return -jnp.expm1(path.log_snr(t) - path.log_snr(s))
