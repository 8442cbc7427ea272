"""Integrators of stochastic differential equations, each a step that is a pure function of the Brownian motion it is given.

A step of length h of dx = f(x, t) dt + g(x, t) dw, in the sense of Ito and with noise of its own for every element, sees of w two integrals,

    dw = w(t + h) - w(t),    area = int_t^{t+h} (w(u) - w(t)) du,    variances h and h^3/3, covariance h^2/2,            (1)

and both of a long step are known from those of the short ones it is made of, so that methods and lengths can be compared on one path:

    dw = sum_j dw_j,    area = sum_j (area_j + (w_j - w_0) h_j).                                                         (2)

    method             x' - x                                                        strong order, additive noise / any noise
    euler_maruyama     f h + g dw                                                    1    1/2                            (3)
    milstein           f h + g dw + 1/2 g g_x (dw^2 - h)                             1    1                              (4)
    derivative_free    (4) with g g_x = (g(x + f h + g sqrt(h)) - g) / sqrt(h)       1    1                              (5)
    heun               means of f and of g at both ends, the far one by (3)          1    converges to Stratonovich's    (6)
    sra1               two slopes, the area                                          3/2  -                              (7)

Where noise is additive, g_x = 0, (4) is (3), and (6) is of second order for expectations.

Kloeden and Platen, "Numerical solution of stochastic differential equations", 1992 (1) to (6); Roessler, "Runge-Kutta methods for the strong
approximation of solutions of stochastic differential equations", SIAM J. Numer. Anal. 48, 2010 (7).
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxdiff.noise import gaussian
from jaxdiff.types import Array, Key, Time

Coefficient = Callable[[Array, Time], Array]  # x, t -> f or g, of the shape of x or broadcast to it


class Brownian(NamedTuple):
    """The integrals (1) of a Brownian motion over one step; with leading axes, over many."""

    dw: Array
    area: Array


# drift, diffusion, x, t, h > 0, noise, slope -> x at t + h. slope = drift(x, t), which a caller may know better, or need for itself.
Method = Callable[[Coefficient, Coefficient, Array, Time, Array, Brownian, Array], Array]


def brownian(key: Key, shape: Sequence[int], h: Array) -> Brownian:
    """Draw (1) for a step of length h, a scalar."""
    first, second = (gaussian(each, shape) for each in jax.random.split(key))
    dw = jnp.sqrt(h) * first
    return Brownian(dw, h / 2 * (dw + jnp.sqrt(h / 3) * second))


def join(fine: Brownian, h: Array) -> Brownian:
    """One step (2) of the consecutive steps of length h on the first axis."""
    before = jnp.cumsum(fine.dw, axis=0) - fine.dw
    return Brownian(jnp.sum(fine.dw, axis=0), jnp.sum(fine.area + before * h, axis=0))


def walk(method: Method, drift: Coefficient, diffusion: Coefficient, x: Array, times: Array, noise: Brownian) -> Array:
    """x carried along increasing times (n + 1,) by the noise (n, *shape) of each step."""

    def step(x, inputs):
        t, h, noise = inputs
        return method(drift, diffusion, x, t, h, noise, drift(x, t)), None

    return jax.lax.scan(step, x, (times[:-1], jnp.diff(times), noise))[0]


def euler_maruyama(drift: Coefficient, diffusion: Coefficient, x: Array, t: Time, h: Array, noise: Brownian, slope: Array) -> Array:
    """(3)"""
    return x + slope * h + diffusion(x, t) * noise.dw


def milstein(drift: Coefficient, diffusion: Coefficient, x: Array, t: Time, h: Array, noise: Brownian, slope: Array) -> Array:
    """(4), its derivative by automatic differentiation. Where noise is additive the term is 0, and the step that of (3), bit for bit."""
    here = jnp.broadcast_to(diffusion(x, t), x.shape).astype(x.dtype)
    growth = jax.jvp(lambda x: diffusion(x, t), (x,), (here,))[1]
    return x + slope * h + here * noise.dw + growth * (jnp.square(noise.dw) - h) / 2


def derivative_free(drift: Coefficient, diffusion: Coefficient, x: Array, t: Time, h: Array, noise: Brownian, slope: Array) -> Array:
    """(5), Platen's form of Milstein's method: a second diffusion in place of its derivative."""
    here = diffusion(x, t)
    growth = (diffusion(x + slope * h + here * jnp.sqrt(h), t) - here) / jnp.sqrt(h)
    return x + slope * h + here * noise.dw + growth * (jnp.square(noise.dw) - h) / 2


def heun(drift: Coefficient, diffusion: Coefficient, x: Array, t: Time, h: Array, noise: Brownian, slope: Array) -> Array:
    """(6), the trapezoid; two drifts a step. For additive noise."""
    here = diffusion(x, t)
    far = x + slope * h + here * noise.dw
    return x + (slope + drift(far, t + h)) / 2 * h + (here + diffusion(far, t + h)) / 2 * noise.dw


def sra1(drift: Coefficient, diffusion: Coefficient, x: Array, t: Time, h: Array, noise: Brownian, slope: Array) -> Array:
    """(7); two drifts a step. For additive noise: of the diffusion only its change with t is seen."""
    here, there, mean = diffusion(x, t), diffusion(x, t + h), noise.area / h
    stage = x + 3 / 4 * h * slope + 3 / 2 * there * mean
    return x + h * (slope + 2 * drift(stage, t + 3 / 4 * h)) / 3 + there * (noise.dw - mean) + here * mean
