"""Paths in continuous time.

With B(t) = int_0^t beta and beta linear in t,

    vp       alpha = exp(-B / 2),     sigma = sqrt(1 - exp(-B))                                       (1)
    subvp    alpha = exp(-B / 2),     sigma = 1 - exp(-B)                                             (2)
    ve       alpha = 1,               sigma = sigma_min (sigma_max / sigma_min)^t                     (3)
    edm      alpha = 1,               sigma = t                                                       (4)
    cosine   alpha = cos(phi),        sigma = sin(phi),        phi linear in t                        (5)
    flow     alpha = 1 - t,           sigma = t                                                       (6)

(1) to (3) Song et al., "Score-based generative modeling through SDEs", ICLR 2021; (4) Karras et al., NeurIPS 2022; (5) Salimans and Ho,
"Progressive distillation", ICLR 2022; (6) Liu, Gong, Liu, "Flow straight and fast", ICLR 2023, and Lipman et al., ICLR 2023.
"""

import math

import jax.numpy as jnp

from jaxdiff.paths.gaussian import GaussianPath, variance_preserving
from jaxdiff.types import Array, Time

_LEAST = math.exp(-10)  # sigma / alpha below which logarithms of the noise told to a network stop
_FAINT = math.exp(-20)  # the data left at the end of a path that ends in noise: below what float32 resolves


def vp(beta_min: float = 0.1, beta_max: float = 20.0) -> GaussianPath:
    """The continuous DDPM of Song et al. (2021), t in [0, 1]: beta(t) = beta_min + t (beta_max - beta_min), log alpha = -1/2 int beta."""
    return variance_preserving(_log_alpha(beta_min, beta_max), 1.0, _thousand)


def subvp(beta_min: float = 0.1, beta_max: float = 20.0) -> GaussianPath:
    """The sub-variance-preserving path (2) of Song et al. (2021), t in [0, 1]: alpha of `vp`, and its sigma squared."""
    log_alpha = _log_alpha(beta_min, beta_max)
    sigma = lambda t: -jnp.expm1(2 * log_alpha(t))
    return GaussianPath(lambda t: jnp.exp(log_alpha(t)), sigma, lambda t: 2 * (log_alpha(t) - jnp.log(sigma(t))), 1.0, _thousand)


def ve(sigma_min: float = 0.01, sigma_max: float = 50.0, data_std: float | None = 0.5) -> GaussianPath:
    """The variance-exploding path (3) of Song et al. (2021), t in [0, 1].

    Noise begins at sigma_min: t = 0 is data, with sigma(0) = 0 exactly, while sigma approaches sigma_min, not 0, as t approaches 0; what
    is cleaner than sigma_min has no time of its own. Networks are told ln sigma, and see inputs scaled for data of `data_std`: none can be
    trained on inputs of standard deviation 50; None leaves them as they are.
    """
    rising = lambda t: jnp.log(sigma_min) + jnp.asarray(t, float) * jnp.log(sigma_max / sigma_min)
    log_sigma = lambda t: jnp.where(jnp.asarray(t) > 0, rising(t), -jnp.inf)
    return GaussianPath(_one, lambda t: jnp.exp(log_sigma(t)), lambda t: -2 * log_sigma(t), 1.0, rising, data_std=data_std)


def edm(sigma_max: float = 80.0, data_std: float | None = 0.5) -> GaussianPath:
    """The path (4) of Karras et al. (2022): time is the noise itself, t in [0, sigma_max].

    Networks are told ln(t) / 4 and see inputs scaled for data of `data_std`. Published are times of training from `weights.log_normal`
    and the grid `grids.karras`.
    """
    embed = lambda t: jnp.log(jnp.maximum(jnp.asarray(t, float), _LEAST)) / 4
    return GaussianPath(
        _one, lambda t: jnp.asarray(t, float), lambda t: -2 * jnp.log(jnp.asarray(t, float)), sigma_max, embed, None, data_std
    )


def cosine(low: float = -20.0, high: float = math.inf) -> GaussianPath:
    """alpha = cos(phi), sigma = sin(phi), t in [0, 1], phi linear in t (Salimans and Ho 2022).

    phi runs from 0 not to pi/2 but to the angle at which log_snr = `low`, 4.5e-5 rad short, so that nothing is infinite at t = 1;
    a finite `high` cuts the other end likewise (their symmetric schedule is low = -20, high = 20), and then t = 0 is not quite data.
    """
    noisy, clean = math.atan(math.exp(low / 2)), math.atan(math.exp(-high / 2))  # angles left between phi and either axis
    sweep = math.pi / 2 - noisy - clean

    def alpha(t):
        return jnp.sin(noisy + sweep * (1 - jnp.asarray(t, float)))  # cos(phi) without its cancellation near pi/2

    def sigma(t):
        return jnp.sin(clean + sweep * jnp.asarray(t, float))

    return GaussianPath(alpha, sigma, lambda t: 2 * (jnp.log(alpha(t)) - jnp.log(sigma(t))), 1.0, _thousand)


def flow() -> GaussianPath:
    """Rectified flow (6), t in [0, 1]: the straight line from data to noise, whose velocity is eps - x0.

    At t = 1, where no data are left, alpha is 2e-9 and log_snr = -40, as in tables of zero terminal SNR, so that nothing is infinite.
    """

    def alpha(t):
        t = jnp.asarray(t, float)
        return 1 - t + _FAINT * t

    sigma = lambda t: jnp.asarray(t, float)
    return GaussianPath(alpha, sigma, lambda t: 2 * (jnp.log(alpha(t)) - jnp.log(sigma(t))), 1.0, _thousand)


def _log_alpha(beta_min, beta_max):
    """t -> -B(t) / 2."""

    def log_alpha(t):
        t = jnp.asarray(t, float)
        return -t * (beta_min + t * (beta_max - beta_min) / 2) / 2

    return log_alpha


def _one(t: Time) -> Array:
    return jnp.ones_like(jnp.asarray(t, float))


def _thousand(t: Time) -> Array:
    return 1000 * jnp.asarray(t, float)
