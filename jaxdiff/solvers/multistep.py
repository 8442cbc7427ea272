"""Linear multistep methods for the probability flow: one evaluation a step, with slopes remembered from earlier ones.

In sigma-bar = sigma / alpha the flow has the slope eps, and a step with any slope e in its place is that of DDIM,

    x_s = alpha_s (x / alpha_t + (sigma-bar_s - sigma-bar_t) e).                                                                  (1)

Adams and Bashforth extrapolate the slope from those at t and at the times before,

    e = e_0,    (3 e_0 - e_1) / 2,    (23 e_0 - 16 e_1 + 5 e_2) / 12,    (55 e_0 - 59 e_1 + 37 e_2 - 9 e_3) / 24,                (2)

with coefficients for equal steps in sigma-bar; steps are not, and all of these methods are of second order. They differ in how they begin:

    PNDM      three steps of Runge and Kutta's fourth-order method, with (1) as the way between times, then the fourth of (2)
    S-PNDM    one step of Heun's, then the second of (2)
    PLMS      one step of Heun's, then the second, the third and the fourth of (2)

A step to data returns x0_hat. A step from where no signal is left (log-SNR under -12, sigma-bar above 400, where differences of eps are those
of rounding and sigma-bar has no equal steps) is DDIM's from x0_hat, and is not remembered.

Liu, Ren, Lin, Zhao, "Pseudo numerical methods for diffusion models on manifolds", ICLR 2022; PLMS: Rombach et al., CVPR 2022.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxdiff.paths import GaussianPath
from jaxdiff.predict import convert
from jaxdiff.solvers.flow import flow_of
from jaxdiff.solvers.loop import Solver
from jaxdiff.types import Array, Time

ADAMS = ((1, 0, 0, 0), (3 / 2, -1 / 2, 0, 0), (23 / 12, -16 / 12, 5 / 12, 0), (55 / 24, -59 / 24, 37 / 24, -9 / 24))
FAINT = -12.0


def halfway(t: Time, s: Time) -> Time:
    """The middle of two times."""
    return (t + s) / 2


def pndm(path: GaussianPath, *, middle: Callable[[Time, Time], Time] = halfway) -> Solver:
    """PNDM; N + 9 evaluations in N > 3 steps that end at data.

    Args:
        middle: (t, s) -> the time between at which the first steps are evaluated twice. On tables it may fall between integers.
    """

    def warm_up(slope, move, x, e, t, s):
        m = middle(t, s)
        second = slope(move(x, e, t, m), m)
        third = slope(move(x, second, t, m), m)
        fourth = slope(move(x, third, t, s), s)
        return (e + 2 * second + 2 * third + fourth) / 6

    return _adams(path, warm_up, 3, 4)


def s_pndm(path: GaussianPath) -> Solver:
    """S-PNDM; N + 1 evaluations in N > 1 steps that end at data."""
    return _adams(path, _heun, 1, 2)


def plms(path: GaussianPath) -> Solver:
    """PLMS; N + 1 evaluations in N > 1 steps that end at data."""
    return _adams(path, _heun, 1, 4)


def _heun(slope, move, x, e, t, s):
    return (e + slope(move(x, e, t, s), s)) / 2


def _adams(path: GaussianPath, warm_up: Callable[..., Array], count: int, order: int) -> Solver:
    """(2) up to `order`, after `count` steps by `warm_up`. Remembers how many steps were taken and the slopes of the last `order` - 1."""
    move = flow_of(path, 'sigma').move

    def init(x):
        return jnp.int32(0), (jnp.zeros_like(x),) * (order - 1)

    def step(key, denoise, memory, x, t, s):
        taken, past = memory
        slope_of = lambda x, x0, t: convert(path, x0, x, t, source='x0', target='eps')
        x0 = denoise(x, t)
        e = slope_of(x, x0, t)

        def first():
            return path.alpha(s) * x0 + path.sigma(s) * e

        def early():
            return move(x, warm_up(lambda x, t: slope_of(x, denoise(x, t), t), move, x, e, t, s), t, s)

        def late():
            weights = jnp.array(ADAMS)[jnp.minimum(taken, order - 1)]
            return move(x, sum(weight * slope for weight, slope in zip(weights, (e, *past), strict=False)), t, s)

        faint = path.log_snr(t) < FAINT
        way = jnp.where(faint | (path.sigma(s) == 0), 0, jnp.where(taken < count, 1, 2))
        shifted = tuple(new.astype(old.dtype) for new, old in zip((e, *past), past, strict=False))
        return jax.lax.switch(way, (first, early, late)), x0, (jnp.where(faint, 0, taken + 1), shifted)

    return Solver(init, step)
