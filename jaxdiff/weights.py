"""Weights of the denoising loss over time, and the times it is trained at.

A weight multiplies the mean squared error of the prediction the network makes. Errors of different kinds differ by a factor,

    |x0 error|^2 : |eps error|^2 : |v error|^2 : |score error|^2 = 1 : SNR : SNR + 1 : SNR (SNR + 1)       (1)

(v and score as on variance-preserving paths, alpha^2 + sigma^2 = 1), so a weight stated for x0 is divided by (1) for the kind at hand.
All is computed in logarithms, and finite for any finite log-SNR. No weight at all is also a choice: each kind's own plain error.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxdiff.paths import GaussianPath
from jaxdiff.types import Array, Key, Time

Weight = Callable[[Array], Array]  # log_snr -> weight

_LOG_FACTOR = {
    'x0': jnp.zeros_like,
    'eps': lambda log_snr: log_snr,
    'v': jax.nn.softplus,
    'score': lambda log_snr: log_snr + jax.nn.softplus(log_snr),
}


def simple(kind: str) -> Weight:
    """The loss of Ho et al. (2020), the plain error of eps, whatever the network predicts."""
    return _for_kind(kind, lambda log_snr: log_snr)


def min_snr(kind: str, gamma: float = 5.0) -> Weight:
    """min(SNR, gamma) on the error of x0 (Hang et al., ICCV 2023)."""
    return _for_kind(kind, lambda log_snr: jnp.minimum(log_snr, math.log(gamma)))


def snr_trunc(kind: str) -> Weight:
    """max(SNR, 1) on the error of x0 (Salimans and Ho, ICLR 2022)."""
    return _for_kind(kind, lambda log_snr: jnp.maximum(log_snr, 0.0))


def uniform(path: GaussianPath, *, low: float = 1e-5) -> Callable[[Key], Time]:
    """Times of training, key -> t: the integers 1..T of a table alike, or uniform on (low, 1] of the length of a continuous path."""
    if path.steps is not None:
        return lambda key: jax.random.randint(key, (), 1, path.steps + 1).astype(float)
    return lambda key: path.end * (1 - (1 - low) * jax.random.uniform(key))


def _for_kind(kind: str, log_weight: Weight) -> Weight:
    """A weight from its logarithm for x0."""
    if kind not in _LOG_FACTOR:
        raise ValueError(f'no weight for predictions of kind {kind!r}: one of {", ".join(_LOG_FACTOR)}')
    return lambda log_snr: jnp.exp(log_weight(log_snr) - _LOG_FACTOR[kind](log_snr))
