"""Runge-Kutta methods for the probability flow, in any of the clocks of `flow`, 'angle' by default.

With h = tau(s) - tau(t), y = x / c(t) and the slope k of the flow, a method of n stages is

    y_i = y + h sum_{j < i} a_ij k_j,    k_i = k(y_i, tau(t) + h sum_j a_ij),    y <- y + h sum_i b_i k_i.            (1)

The step to data is one evaluation whatever the method: it returns x0_hat, as Euler's method does in the clock 'sigma', where it is DDIM.

Song et al., ICLR 2021 (the flow); Karras et al., NeurIPS 2022 (Heun).
"""

from collections.abc import Sequence

import jax

from jaxdiff.paths import GaussianPath
from jaxdiff.solvers.flow import flow_of
from jaxdiff.solvers.loop import Solver, one_step


def euler(path: GaussianPath, *, clock: str = 'angle') -> Solver:
    """Euler's method, of first order; one evaluation a step."""
    return runge_kutta(path, (), (1,), clock=clock)


def heun(path: GaussianPath, *, clock: str = 'angle') -> Solver:
    """Heun's method, of second order: the slopes at both ends, averaged. 2N - 1 evaluations in N steps that end at data."""
    return runge_kutta(path, ((1,),), (1 / 2, 1 / 2), clock=clock)


def midpoint(path: GaussianPath, *, clock: str = 'angle') -> Solver:
    """The midpoint method, of second order: the slope halfway. 2N - 1 evaluations in N steps that end at data."""
    return runge_kutta(path, ((1 / 2,),), (0, 1), clock=clock)


def rk4(path: GaussianPath, *, clock: str = 'angle') -> Solver:
    """The classical method of Runge and Kutta, of fourth order. 4N - 3 evaluations in N steps that end at data."""
    return runge_kutta(path, ((1 / 2,), (0, 1 / 2), (0, 0, 1)), (1 / 6, 1 / 3, 1 / 3, 1 / 6), clock=clock)


def runge_kutta(path: GaussianPath, rows: Sequence[Sequence[float]], weights: Sequence[float], *, clock: str = 'angle') -> Solver:
    """The explicit method (1) of any tableau, such as ((a,),), (1 - 1/2a, 1/2a), the generalised Heun of Karras et al.

    Args:
        rows: a_ij of the stages after the first; their sum, in (0, 1], is where on the way from t to s the stage lies.
        weights: b_i, one for each stage.
    """
    flow = flow_of(path, clock)

    def step(key, denoise, x, t, s):
        x0 = denoise(x, t)

        def staged():
            slopes = [flow.slope(x, x0, t)]
            for row in rows:
                node = sum(row)
                at = s if node == 1 else flow.time(flow.tau(t) + node * (flow.tau(s) - flow.tau(t)))
                stage = flow.move(x, _combine(row, slopes) / node, t, at)
                slopes.append(flow.slope(stage, denoise(stage, at), at))
            return flow.move(x, _combine(weights, slopes), t, s)

        return jax.lax.cond(path.sigma(s) > 0, staged, lambda: x0), x0

    return one_step(step)


def _combine(weights, slopes):
    return sum(weight * slope for weight, slope in zip(weights, slopes, strict=True) if weight)
