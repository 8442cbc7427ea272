"""Weights of the denoising loss over time, and the times it is trained at.

A weight multiplies the mean squared error of the prediction the network makes. Errors of different kinds differ by a factor,

    |x0 error|^2 : |eps error|^2 : |v error|^2 : |score error|^2 = 1 : SNR : SNR + 1 : SNR (SNR + 1)       (1)
    |x0 error|^2 : |velocity error|^2 : |edm error|^2            = 1 : (sqrt(SNR) + 1)^2 : SNR + 1 / d^2

(v and score as on variance-preserving paths, alpha^2 + sigma^2 = 1; velocity as on rectified flows, alpha + sigma = 1; d the `data_std` of
edm), so a weight stated for x0 is divided by (1) for the kind at hand. All is computed in logarithms, and finite for any finite log-SNR. No
weight at all is also a choice: each kind's own plain error.

Since g^2 = -sigma^2 dlog_snr/dt, the bound on the likelihood is on every path an integral over the log-SNR, in nats per element

    1/2 int g^2 |score error|^2 dt = 1/2 int |eps error|^2 (-dlog_snr/dt) dt = 1/2 int |eps error|^2 dlog_snr,     (2)

of which the second form is weighted for times uniform in t, and the third asks for no weight but for times uniform in log_snr.

(2) Song, Durkan, Murray, Ermon, NeurIPS 2021, and Kingma et al., NeurIPS 2021.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxdiff.paths import GaussianPath, time_of
from jaxdiff.types import Array, Key, Time

Weight = Callable[[Array], Array]  # log_snr -> weight
Times = Callable[[Key], Time]


def simple(kind: str, *, data_std: float | None = None) -> Weight:
    """The loss of Ho et al. (2020), the plain error of eps, whatever the network predicts; `data_std` is asked for by kind 'edm'."""
    return _for_kind(kind, lambda log_snr: log_snr, data_std)


def min_snr(kind: str, gamma: float = 5.0, *, data_std: float | None = None) -> Weight:
    """min(SNR, gamma) on the error of x0 (Hang et al., ICCV 2023)."""
    return _for_kind(kind, lambda log_snr: jnp.minimum(log_snr, jnp.log(gamma)), data_std)


def snr_trunc(kind: str, *, data_std: float | None = None) -> Weight:
    """max(SNR, 1) on the error of x0 (Salimans and Ho, ICLR 2022)."""
    return _for_kind(kind, lambda log_snr: jnp.maximum(log_snr, 0.0), data_std)


def edm(kind: str, *, data_std: float = 0.5) -> Weight:
    """SNR + 1 / data_std^2 on the error of x0, the plain error of edm (Karras et al., NeurIPS 2022); made for times from `log_normal`."""
    return _for_kind(kind, _LOG_FACTOR['edm'](data_std), data_std)


def vlb(path: GaussianPath, kind: str, *, data_std: float | None = None) -> Weight:
    """The variational bound, the second form of (2): its mean over times from `uniform`, with the mean squared error, is the bound.

    The same as the likelihood weighting g^2 of Song et al. (2021) but for a constant. The estimate varies much less with times from
    `importance`, which need no weight but `simple`: the bound is that mean times half the log-SNR that the times span.
    """
    return _for_kind(kind, lambda log_snr: log_snr + jnp.log(path.end / 2 * _rate(path, log_snr)), data_std)


def uniform(path: GaussianPath, *, low: float = 1e-5) -> Times:
    """Times of training, key -> t: the integers 1..T of a table alike, or uniform on (low, 1] of the length of a continuous path."""
    if path.steps is not None:
        return lambda key: jax.random.randint(key, (), 1, path.steps + 1).astype(float)
    return lambda key: path.end * (1 - (1 - low) * jax.random.uniform(key))


def importance(path: GaussianPath, *, low: float = 1e-5) -> Times:
    """Times alike in the log-SNR, of density g^2 / sigma^2, over the same range: with `simple` they train the bound, third form of (2)."""
    first, last = path.log_snr(low * path.end if path.steps is None else 1.0), path.log_snr(path.end)
    return lambda key: _visited(path, first + (last - first) * jax.random.uniform(key))


def log_normal(path: GaussianPath, mean: float | Array = -1.2, std: float | Array = 1.2) -> Times:
    """Times at which ln(sigma / alpha) is normal (Karras et al. 2022); 0 and 1 are the logit-normal times of rectified flows.

    Karras et al. give the mean for data of standard deviation 1/2; ln(2 data_std) is to be added for others.
    """
    return lambda key: _visited(path, -2 * (mean + std * jax.random.normal(key)))


def _visited(path, log_snr) -> Time:
    """The time of this log-SNR, of those at which the path is trained."""
    t = time_of(path, log_snr)
    return t if path.steps is None else jnp.clip(jnp.round(t), 1, path.steps)


def _rate(path, log_snr) -> Array:
    """-dlog_snr/dt where the path has this log-SNR."""
    t = time_of(path, log_snr)
    return -jax.jvp(path.log_snr, (t,), (jnp.ones_like(t),))[1]


_LOG_FACTOR = {
    'x0': lambda d: jnp.zeros_like,
    'eps': lambda d: lambda log_snr: log_snr,
    'v': lambda d: jax.nn.softplus,
    'score': lambda d: lambda log_snr: log_snr + jax.nn.softplus(log_snr),
    'velocity': lambda d: lambda log_snr: 2 * jax.nn.softplus(log_snr / 2),
    'edm': lambda d: lambda log_snr: jnp.logaddexp(log_snr, -2 * jnp.log(d)),
}


def _for_kind(kind: str, log_weight: Weight, data_std: float | None) -> Weight:
    """A weight from its logarithm for x0."""
    if kind not in _LOG_FACTOR:
        raise ValueError(f'no weight for predictions of kind {kind!r}: one of {", ".join(_LOG_FACTOR)}')
    if kind == 'edm' and data_std is None:
        raise ValueError("weights of kind 'edm' depend on data_std, the path's")
    log_factor = _LOG_FACTOR[kind](data_std)
    return lambda log_snr: jnp.exp(log_weight(log_snr) - log_factor(log_snr))
