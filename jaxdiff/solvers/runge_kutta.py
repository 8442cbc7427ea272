"""Runge-Kutta methods for the probability flow, in any of the clocks of `flow`, 'angle' by default.

The step to data is taken by Euler's method for the clock 'sigma' whatever the clock: it returns x0_hat. Euler's method in the clock 'sigma' is DDIM.

Song et al., ICLR 2021 (the flow); Karras et al., NeurIPS 2022 (Heun).
"""

import jax
import jax.numpy as jnp

from jaxdiff.paths import GaussianPath
from jaxdiff.solvers.flow import flow_of
from jaxdiff.solvers.loop import Solver, one_step


def euler(path: GaussianPath, *, clock: str = 'angle') -> Solver:
    """Euler's method, of first order; one evaluation a step."""
    flow = flow_of(path, clock)

    def step(key, denoise, x, t, s):
        x0 = denoise(x, t)
        return jnp.where(path.sigma(s) > 0, flow.move(x, flow.slope(x, x0, t), t, s), x0), x0

    return one_step(step)


def heun(path: GaussianPath, *, clock: str = 'angle') -> Solver:
    """Heun's method, of second order: the slopes at both ends, averaged. 2N - 1 evaluations in N steps that end at data."""
    flow = flow_of(path, clock)

    def step(key, denoise, x, t, s):
        x0 = denoise(x, t)

        def corrected():
            here = flow.slope(x, x0, t)
            middle = flow.move(x, here, t, s)
            there = flow.slope(middle, denoise(middle, s), s)
            return flow.move(x, (here + there) / 2, t, s)

        return jax.lax.cond(path.sigma(s) > 0, corrected, lambda: x0), x0

    return one_step(step)
