"""Runge-Kutta methods for the probability flow, the noiseless way from noise to data with the marginals of the path.

With y = x / c(t) and a clock tau(t) every Gaussian path has the same flow, whose slope is a prediction of the denoiser:

    'angle'    tau = atan(sigma / alpha),    c = sqrt(alpha^2 + sigma^2),    dy/dtau = v / c                        (1)
    'sigma'    tau = sigma / alpha,          c = alpha,                      dy/dtau = eps                          (2)
    'time'     tau = t,                      c = 1,                          dy/dtau = velocity                     (3)

The angle runs from 0 to pi/2, and the slope is bounded, so (1) is finite at both ends of time, and for any grid. (2) is that of
Karras et al. and stops short of alpha = 0: it suits their grid, and Euler's method in it is DDIM. (3) is that of flow matching. The step to
data is taken by Euler's method for (2) whatever the clock: it returns x0_hat.

Song et al., ICLR 2021 (the flow); Salimans and Ho, ICLR 2022 (1); Karras et al., NeurIPS 2022 (2); Lipman et al., ICLR 2023 (3).
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxdiff.paths import GaussianPath
from jaxdiff.predict import convert
from jaxdiff.solvers.loop import Solver, one_step
from jaxdiff.types import Array, Time


class _Flow(NamedTuple):
    """x = scale(t) y with dy/dtau = slope(x, x0_hat, t)."""

    tau: Callable[[Time], Array]
    scale: Callable[[Time], Array]
    slope: Callable[[Array, Array, Time], Array]

    def move(self, x, slope, t, s):
        return self.scale(s) * (x / self.scale(t) + (self.tau(s) - self.tau(t)) * slope)


def euler(path: GaussianPath, *, clock: str = 'angle') -> Solver:
    """Euler's method, of first order; one evaluation a step."""
    flow = _flow(path, clock)

    def step(key, denoise, x, t, s):
        x0 = denoise(x, t)
        return jnp.where(path.sigma(s) > 0, flow.move(x, flow.slope(x, x0, t), t, s), x0), x0

    return one_step(step)


def heun(path: GaussianPath, *, clock: str = 'angle') -> Solver:
    """Heun's method, of second order: the slopes at both ends, averaged. 2N - 1 evaluations in N steps that end at data."""
    flow = _flow(path, clock)

    def step(key, denoise, x, t, s):
        x0 = denoise(x, t)

        def corrected():
            here = flow.slope(x, x0, t)
            middle = flow.move(x, here, t, s)
            there = flow.slope(middle, denoise(middle, s), s)
            return flow.move(x, (here + there) / 2, t, s)

        return jax.lax.cond(path.sigma(s) > 0, corrected, lambda: x0), x0

    return one_step(step)


def _flow(path: GaussianPath, clock: str) -> _Flow:
    def prediction(kind):
        return lambda x, x0, t: convert(path, x0, x, t, source='x0', target=kind)

    size = lambda t: jnp.hypot(path.alpha(t), path.sigma(t))
    flows = {
        'angle': _Flow(lambda t: jnp.arctan2(path.sigma(t), path.alpha(t)), size, lambda x, x0, t: prediction('v')(x, x0, t) / size(t)),
        'sigma': _Flow(lambda t: path.sigma(t) / path.alpha(t), path.alpha, prediction('eps')),
        'time': _Flow(lambda t: t, jnp.ones_like, prediction('velocity')),
    }
    if clock not in flows:
        raise ValueError(f'unknown clock {clock!r}: one of {", ".join(flows)}')
    return flows[clock]
