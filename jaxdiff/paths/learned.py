"""A path whose schedule is trained with the network (Kingma et al., "Variational diffusion models", NeurIPS 2021).

The log-SNR falls from `high` by softplus(drop), by the shares softmax(shape) of it over equal intervals of t in [0, 1],

    log_snr(t) = high - softplus(drop) F(t),      F piecewise linear,  F(0) = 0,  F(1) = 1,             (1)
    alpha^2 = sigmoid(log_snr),                   sigma^2 = sigmoid(-log_snr).                          (2)

In continuous time the variational bound depends on the two ends alone; the shape F between them changes only the variance of its estimate
at random t. So the ends are to be trained to lower the loss, and the shape, with the gradient of its square, to lower the variance:
`weights.vlb` with times from `weights.uniform`, since times that are looked up by log-SNR carry no gradient. As t = 0 is not quite data,
`bound.score_bound` is the bound to evaluate; those that end in a step to data are none here.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxdiff.paths.gaussian import GaussianPath
from jaxdiff.types import Array


class Schedule(NamedTuple):
    """What is trained: log_snr at t = 0, the inverse softplus of its fall, and the logarithms (K,) of the shares over K intervals."""

    high: Array
    drop: Array
    shape: Array


def learned_params(knots: int = 32, *, high: float = 13.3, low: float = -5.0) -> Schedule:
    """The schedule to begin with: a log-SNR that falls linearly from `high` to `low` nats, over `knots` intervals (ends of Kingma et al.)."""
    if not low < high or knots < 1:
        raise ValueError(f'a log-SNR falls from high to low over at least one interval, not from {high} to {low} over {knots}')
    fall = jnp.asarray(high - low, float)
    return Schedule(jnp.asarray(high, float), fall + jnp.log(-jnp.expm1(-fall)), jnp.zeros(knots))


def learned(params: Schedule) -> GaussianPath:
    """The variance-preserving path of these parameters, differentiable in them, to be made inside `jit` and `grad`.

    t = 0 is not quite data: the log-SNR is `high` there, and sigma 1.3e-3 by default. Networks are told 1000 F, the share of the log-SNR
    that is spent, so that another shape asks nothing new of them.
    """
    passed = jnp.append(0.0, jnp.cumsum(jax.nn.softmax(params.shape)))
    knots = jnp.linspace(0.0, 1.0, len(passed))
    spent = lambda t: jnp.interp(jnp.asarray(t, float), knots, passed)
    log_snr = lambda t: params.high - jax.nn.softplus(params.drop) * spent(t)
    alpha = lambda t: jnp.exp(jax.nn.log_sigmoid(log_snr(t)) / 2)
    sigma = lambda t: jnp.exp(jax.nn.log_sigmoid(-log_snr(t)) / 2)
    return GaussianPath(alpha, sigma, log_snr, 1.0, lambda t: 1000 * spent(t))
