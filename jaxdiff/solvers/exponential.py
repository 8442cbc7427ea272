"""The probability flow in lambda = log(alpha / sigma), exact for x0_hat that is a polynomial of lambda between evaluations.

    x_s = (sigma_s / sigma_t) x + alpha_s int_0^h e^(u - h) D(lambda_t + u) du,    h = lambda_s - lambda_t > 0                    (1)

is linear in what is known of D = x0_hat: with the polynomial through the values D_i at offsets u_i from lambda_t,

    int_0^h e^(u - h) D du = sum_i w_i D_i,    sum_i w_i u_i^k = m_k,    m_0 = 1 - e^-h,    m_k = h^k - k m_(k-1).                (2)

The weights are numbers, found by Newton's divided differences: the first n of them are the interpolation through the first n nodes, so that
while a walk has fewer values to offer, differences that are not there yet are 0. lambda is kept within 20 of 0, where nothing is lost.

Lu et al., "DPM-Solver++", 2022 (1); Zhao et al., "UniPC", NeurIPS 2023 (2); Hochbruck and Ostermann, Acta Numerica 2010.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax.numpy as jnp

from jaxdiff.paths import GaussianPath
from jaxdiff.types import Array, Time

Slope = Callable[[Array, Array], Array]  # h, m_1 -> what the first difference is multiplied by where it is the only one

SLOPES: dict[str, Slope] = {
    'bh1': lambda h, moment: h**2 / 2,
    'bh2': lambda h, moment: -jnp.expm1(-h) * h / 2,  # D at the middle of the step, held constant
    'exact': lambda h, moment: moment,
}


class History(NamedTuple):
    """The last values of x0_hat, newest first: how many there are, their lambdas (scalars) and they themselves (arrays like x)."""

    count: Array
    nodes: tuple[Array, ...]
    values: tuple[Array, ...]


def blank(length: int, x: Array) -> History:
    """A history of so many values, all yet to come."""
    return History(jnp.int32(0), (jnp.zeros(()),) * length, (jnp.zeros_like(x),) * length)


def remember(history: History, node: Array, value: Array) -> History:
    """The history with one value more and its oldest forgotten."""
    shift = lambda new, old: tuple(a.astype(b.dtype) for a, b in zip((new, *old), old, strict=False))
    return History(history.count + 1, shift(node, history.nodes), shift(value, history.values))


def half_log_snr(path: GaussianPath, t: Time) -> Array:
    """lambda, within -20 and 20."""
    return jnp.clip(path.log_snr(t) / 2, -20.0, 20.0)


def weights(h: Array, offsets: Sequence[Array], known: int | Array, slope: Slope, *, half: bool = False) -> Array:
    """(n,) weights w_i of (2).

    Args:
        h: the length of the step, in lambda.
        offsets: u_i of n nodes; those equal to another are ignored.
        known: how many of them, from the first, have a value: at least 1; all, if more than n.
        slope: the weight of the first difference where two values are known.
        half: give second derivatives half their weight.
    """
    n = len(offsets)
    known = jnp.minimum(known, n)
    moments = [-jnp.expm1(-h)]
    for k in range(1, n):
        moments.append(h**k - k * moments[-1])
    if n > 1:
        moments[1] = jnp.where(known == 2, slope(h, moments[1]), moments[1])
    if half:
        moments[2:3] = [moments[2] / 2]
    differences = _divided_differences(offsets, jnp.eye(n, dtype=jnp.result_type(h)))
    polynomial = []
    for k in reversed(range(n)):  # Horner's rule: times (u - u_k), plus the difference of order k
        shifted = [0.0, *polynomial]
        lowered = [*(offsets[k] * c for c in polynomial), 0.0]
        polynomial = [a - b for a, b in zip(shifted, lowered, strict=True)]
        polynomial[0] += jnp.where(k < known, differences[k], 0.0)
    return sum(moment * coefficient for moment, coefficient in zip(moments, polynomial, strict=True))


def mix(weights: Array, values: Sequence[Array]) -> Array:
    """sum_i w_i D_i."""
    return sum(weight * value for weight, value in zip(weights, values, strict=True))


def advance(path: GaussianPath, x: Array, integral: Array, x0: Array, t: Time, s: Time) -> Array:
    """(1), given its integral; x0 where s is data."""
    last = path.sigma(s) == 0
    return jnp.where(last, x0, path.sigma(s) / path.sigma(t) * x + path.alpha(s) * integral)


def _divided_differences(nodes, values):
    """Of orders 0, 1, ..., each from the first node; 0 where two nodes coincide."""
    out, column = [values[0]], list(values)
    for order in range(1, len(nodes)):
        gaps = [nodes[i] - nodes[i + order] for i in range(len(nodes) - order)]
        column = [jnp.where(g == 0, 0.0, (a - b) / jnp.where(g == 0, 1.0, g)) for a, b, g in zip(column, column[1:], gaps, strict=False)]
        out.append(column[0])
    return out
