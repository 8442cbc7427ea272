"""The density of an image under a denoiser, by the change of variables along the probability flow.

With y = x / c and the clock tau of `solvers.flow`, dy/dtau = f(y, tau), the density of y changes by the divergence of f, so that

    log p(x) = log prior(x_T) + d log(c_T / c_t) + int div f dtau,        d the number of elements,                     (1)

from the time t of x to the end T of the path. The divergence is either exact, at the price of d directional derivatives, or estimated from
probes z of mean 0 and covariance I, which are held fixed all along the way, so that the estimate of the integral is unbiased:

    div f = tr J = E z^T J z.                                                                                            (2)

Densities of quantised data become bits per dimension after uniform dequantisation, the measure in levels:

    bits = -log2 p(x) / d + log2(levels / (high - low)).                                                                 (3)

(1) Chen et al., "Neural ordinary differential equations", NeurIPS 2018; Song et al., ICLR 2021; (2) Hutchinson, 1990; Grathwohl et al.,
"FFJORD", ICLR 2019; (3) Theis, van den Oord, Bethge, "A note on the evaluation of generative models", ICLR 2016.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxdiff import losses
from jaxdiff.divergence import Divergence, exact_trace
from jaxdiff.paths import GaussianPath, prior_std
from jaxdiff.solvers.embedded import integrate
from jaxdiff.solvers.flow import flow_of
from jaxdiff.types import Array, Denoiser, Key, Time


class LogDensity(NamedTuple):
    """An answer of `log_density`.

    Attributes:
        value: log p(x), nats, of the whole example.
        error: standard error of `value` over the probes, nats: 0 where the divergence is exact, NaN for a single probe.
        latent: where the flow took x, at the end of the path; of the shape of x.
        evaluations: of the denoiser with its derivatives.
    """

    value: Array
    error: Array
    latent: Array
    evaluations: Array


def log_density(
    x: Array,
    denoise: Denoiser,
    path: GaussianPath,
    *,
    divergence: Divergence | None = None,
    start: Time | None = None,
    prior: Callable[[Array], Array] | None = None,
    times: Array | None = None,
    clock: str = 'angle',
    **control: Any,
) -> LogDensity:
    """log p of one example x (*spatial, C), taken to be at time `start`, with the steps of `solvers.embedded` or on a fixed grid.

    Args:
        divergence: `exact_trace` by default, or `hutchinson(key, probes)` where the elements are many.
        start: the time of x, by default index 0 of a table and else 1e-5 of the path; smaller times see rounding, larger ones noise.
        prior: x_T -> log density at the path's end, nats; N(0, sigma(end)^2 I) by default, from which samples start.
        times: (n + 1,), increasing from the time of x: a fourth-order Runge-Kutta step between each, in place of step control. To be
            differentiated backwards, such as for gradients of the density.
        clock: that of `flow` in which the steps are measured.
        **control: rtol, atol, first, max_attempts and shared of `integrate`.
    """
    divergence, prior, flow = divergence or exact_trace, prior or _noise_density(path), flow_of(path, clock)
    if times is None:
        start = (1e-5 * path.end if path.steps is None else 1.0) if start is None else start
        stop = path.end
    else:
        start, stop = times[0], times[-1]

    def slope(state, tau):
        t = flow.time(tau)
        c = flow.scale(t)
        return divergence(lambda y: flow.slope(c * y, denoise(c * y, t), t), state[0])

    y = x / flow.scale(start)
    traces = jax.eval_shape(slope, (y, None), flow.tau(start))[1]
    state = y, jnp.zeros(traces.shape, traces.dtype)
    if times is None:
        (y, nats), evaluations, _ = integrate(slope, state, flow.tau(start), flow.tau(stop), **control)
    else:
        (y, nats), evaluations = _runge_kutta(slope, state, flow.tau(times)), jnp.int32(4 * (len(times) - 1))
    latent = flow.scale(stop) * y
    volume = x.size * jnp.log(flow.scale(stop) / flow.scale(start))
    error = jnp.std(nats, ddof=1) / math.sqrt(nats.size) if nats.ndim else jnp.zeros_like(nats)
    return LogDensity(prior(latent) + volume + jnp.mean(nats), error, latent, evaluations)


def bits_per_dim(nats: Array, size: int, *, levels: int = 256, low: float = -1.0, high: float = 1.0) -> Array:
    """Bits per element (3) from a log density in nats of `size` elements whose `levels` lie from `low` to `high`."""
    return -nats / (size * math.log(2)) + math.log2(levels / (high - low))


def dequantise(key: Key, x: Array, *, levels: int = 256, low: float = -1.0, high: float = 1.0) -> Array:
    """Data of `levels` values from `low` to `high` spread evenly over the bins that these stand for, which fill the same range."""
    index = (x - low) / (high - low) * (levels - 1)
    return low + (high - low) * (index + jax.random.uniform(key, x.shape)) / levels


def _noise_density(path: GaussianPath) -> Callable[[Array], Array]:
    return lambda x: jnp.sum(losses.log_density(x, 0.0, jnp.log(prior_std(path))))


def _runge_kutta(slope, y, taus) -> Any:
    """y carried along `taus` by the classical Runge-Kutta method."""

    def step(y, two):
        tau, h = two
        ahead = lambda share, k: jax.tree.map(lambda y, k: y + share * h * k, y, k)
        a = slope(y, tau)
        b = slope(ahead(1 / 2, a), tau + h / 2)
        c = slope(ahead(1 / 2, b), tau + h / 2)
        d = slope(ahead(1, c), tau + h)
        return jax.tree.map(lambda y, a, b, c, d: y + h / 6 * (a + 2 * b + 2 * c + d), y, a, b, c, d), None

    return jax.lax.scan(step, y, (taus[:-1], jnp.diff(taus)))[0]
