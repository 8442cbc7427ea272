"""Paths in continuous time.

Song et al., "Score-based generative modeling through SDEs", ICLR 2021 (VP); Salimans and Ho, "Progressive distillation", ICLR 2022 (cosine).
"""

import math

import jax.numpy as jnp

from jaxdiff.paths.gaussian import GaussianPath, variance_preserving
from jaxdiff.types import Array, Time


def vp(beta_min: float = 0.1, beta_max: float = 20.0) -> GaussianPath:
    """The continuous DDPM of Song et al. (2021), t in [0, 1]: beta(t) = beta_min + t (beta_max - beta_min), log alpha = -1/2 int beta."""

    def log_alpha(t):
        t = jnp.asarray(t, float)
        return -t * (beta_min + t * (beta_max - beta_min) / 2) / 2

    return variance_preserving(log_alpha, 1.0, _thousand)


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


def _thousand(t: Time) -> Array:
    return 1000 * jnp.asarray(t, float)
