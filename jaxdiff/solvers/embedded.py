"""The embedded pair of Dormand and Prince: integration whose steps are as long as the tolerance allows.

For dy/dtau = f(y, tau), with the coefficients a, b, c of the method and b* of its companion of fourth order,

    k_i = f(y + h sum_j a_ij k_j, tau + c_i h),    y' = y + h sum_j b_j k_j,    error = h sum_j (b_j - b*_j) k_j.        (1)

y' is of fifth order, and its slope k_7 opens the next step, so that a step costs six evaluations. It is taken where e <= 1, and the step
after it, or the next attempt, is longer by the factor given:

    e = RMS(error / (atol + rtol max(|y|, |y'|))),    factor = 0.9 e^(-1/5) within [0.2, 10].                            (2)

The number of steps is found as it runs, so these walks are differentiated forward only. Under `vmap` every example has steps of its own,
and the loop runs until the last arrives; with `shared` a batch takes the steps of whichever example needs the shortest.

Dormand and Prince, Journal of Computational and Applied Mathematics 6, 1980; the probability flow by an embedded pair: Song et al., ICLR 2021.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from jaxdiff.grids import last_time
from jaxdiff.paths import GaussianPath
from jaxdiff.solvers.flow import flow_of
from jaxdiff.types import Array, Denoiser, Time

NODES = np.array([0, 1 / 5, 3 / 10, 4 / 5, 8 / 9, 1, 1])
STAGES = np.array([
    [0, 0, 0, 0, 0, 0, 0],
    [1 / 5, 0, 0, 0, 0, 0, 0],
    [3 / 40, 9 / 40, 0, 0, 0, 0, 0],
    [44 / 45, -56 / 15, 32 / 9, 0, 0, 0, 0],
    [19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729, 0, 0, 0],
    [9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656, 0, 0],
    [35 / 384, 0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84, 0],
])  # fmt: skip
COMPANION = np.array([5179 / 57600, 0, 7571 / 16695, 393 / 640, -92097 / 339200, 187 / 2100, 1 / 40])


class Integral(NamedTuple):
    """Where an integration ended: y, how often the slope was evaluated, and how many steps were taken."""

    y: Any
    evaluations: Array
    steps: Array


class _State(NamedTuple):
    tau: Array
    h: Array
    y: Any
    slopes: Any  # k_1 to k_7, stacked; the first is that at y
    attempts: Array
    steps: Array


def integrate(
    slope: Callable[[Any, Array], Any],
    y: Any,
    start: float | Array,
    stop: float | Array,
    *,
    rtol: float | Array = 1e-5,
    atol: float | Array = 1e-5,
    first: float | Array = 0.01,
    max_attempts: int | Array = 1000,
    shared: str | None = None,
) -> Integral:
    """y carried from `start` to `stop`, which may lie below it, along dy/dtau = slope(y, tau).

    Args:
        slope: (y, tau) -> a tree like y.
        y: a tree of arrays, integrated in the default precision; the error of all its elements is one root mean square.
        first: the first step to try, as a share of the way.
        max_attempts: of steps, taken or not. Where they do not suffice, or the slope is not finite, the answer is NaN.
        shared: the name of a `vmap` axis whose examples take their steps together; start and stop must not differ along it.
    """
    start, stop = jnp.asarray(start, float), jnp.asarray(stop, float)

    def underway(state):
        return (state.tau != stop) & (state.attempts < max_attempts)

    def attempt(state):
        arrives = jnp.abs(state.h) >= jnp.abs(stop - state.tau)
        h = jnp.where(arrives, stop - state.tau, state.h)
        moved, slopes = _stages(slope, state.y, state.slopes, state.tau, h)
        error = _error(state.y, moved, slopes, h, rtol, atol)
        error = error if shared is None else jax.lax.pmax(error, shared)
        taken = error <= 1
        factor = jnp.where(jnp.isfinite(error), jnp.clip(0.9 * error**-0.2, 0.2, 10), 0.2)
        tau = jnp.where(taken, jnp.where(arrives, stop, state.tau + h), state.tau)
        y = jax.tree.map(lambda new, old: jnp.where(taken, new, old), moved, state.y)
        slopes = jax.tree.map(lambda k: k.at[0].set(jnp.where(taken, k[6], k[0])), slopes)
        return _State(tau, h * factor, y, slopes, state.attempts + 1, state.steps + taken)

    precise = jax.tree.map(lambda y: jnp.asarray(y, float), y)
    slopes = jax.tree.map(lambda y, k: jnp.zeros((7, *y.shape), y.dtype).at[0].set(k), precise, slope(precise, start))
    begin = _State(start, first * (stop - start), precise, slopes, jnp.int32(0), jnp.int32(0))
    end = jax.lax.while_loop(underway, attempt, begin)
    y = jax.tree.map(lambda y, old: jnp.where(end.tau == stop, y, jnp.nan).astype(old.dtype), end.y, y)
    return Integral(y, 1 + 6 * end.attempts, end.steps)


def transport(x: Array, denoise: Denoiser, path: GaussianPath, start: Time, stop: Time, *, clock: str = 'angle', **control) -> Integral:
    """x (*spatial, C) at time `start` carried to time `stop` by the probability flow: down to sample, up to encode.

    Args:
        clock: that of `flow` in which the steps are measured.
        **control: rtol, atol, first, max_attempts and shared of `integrate`.
    """
    flow = flow_of(path, clock)

    def slope(y, tau):
        t = flow.time(tau)
        x = flow.scale(t) * y
        return flow.slope(x, denoise(x, t), t)

    out = integrate(slope, x / flow.scale(start), flow.tau(start), flow.tau(stop), **control)
    return out._replace(y=(flow.scale(stop) * out.y).astype(x.dtype))


def adaptive(x: Array, denoise: Denoiser, path: GaussianPath, start: Time | None = None, last: Time | None = None, **options) -> Integral:
    """A sample: x carried from `start`, by default the path's end, down to `last`, and from there to data by one evaluation, x0_hat.

    `last` is by default `grids.last_time`; options are those of `transport`.
    """
    start = path.end if start is None else start
    last = last_time(path, last)
    out = transport(x, denoise, path, start, last, **options)
    return out._replace(y=denoise(out.y, jnp.asarray(last, float)).astype(x.dtype), evaluations=out.evaluations + 1)


def _stages(slope, y, slopes, tau, h) -> tuple[Any, Any]:
    """(y', k_1 to k_7) of (1), from k_1. A loop, so that a network is compiled once."""
    rows, nodes = jnp.asarray(STAGES, float), jnp.asarray(NODES, float)

    def stage(i, carry):
        _, slopes = carry
        point = jax.tree.map(lambda y, k: y + h * jnp.tensordot(rows[i], k, 1, precision='highest'), y, slopes)
        value = slope(point, tau + nodes[i] * h)
        return point, jax.tree.map(lambda slopes, k: slopes.at[i].set(k), slopes, value)

    return jax.lax.fori_loop(1, 7, stage, (y, slopes))


def _error(y, moved, slopes, h, rtol, atol) -> Array:
    """e of (2)."""
    weights = jnp.asarray(STAGES[-1] - COMPANION, float)
    error = lambda k: h * jnp.tensordot(weights, k, 1, precision='highest')
    scaled = lambda y, moved, k: error(k) / (atol + rtol * jnp.maximum(jnp.abs(y), jnp.abs(moved)))
    errors, _ = ravel_pytree(jax.tree.map(scaled, y, moved, slopes))
    return jnp.sqrt(jnp.mean(jnp.square(errors)))
