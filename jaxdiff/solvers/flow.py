"""The probability flow: the noiseless way from noise to data with the marginals of the path.

With y = x / c(t) and a clock tau(t) every Gaussian path has the same flow, whose slope is a prediction of the denoiser:

    'angle'    tau = atan(sigma / alpha),    c = sqrt(alpha^2 + sigma^2),    dy/dtau = v / c                        (1)
    'sigma'    tau = sigma / alpha,          c = alpha,                      dy/dtau = eps                          (2)
    'time'     tau = t,                      c = 1,                          dy/dtau = velocity                     (3)

The angle runs from 0 to pi/2, and the slope is bounded, so (1) is finite at both ends of time, and for any grid. (2) is that of
Karras et al. and stops short of alpha = 0: it suits their grid. (3) is that of flow matching.

Each clock also tells the time from its reading, which is where stages between two times are evaluated: halfway on the clock, not in t.

Song et al., ICLR 2021 (the flow); Salimans and Ho, ICLR 2022 (1); Karras et al., NeurIPS 2022 (2); Lipman et al., ICLR 2023 (3).
"""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp

from jaxdiff.paths import GaussianPath, time_of
from jaxdiff.predict import convert
from jaxdiff.types import Array, Time


class Flow(NamedTuple):
    """x = scale(t) y with dy/dtau = slope(x, x0_hat, t); `time` is the inverse of `tau`."""

    tau: Callable[[Time], Array]
    time: Callable[[Array], Time]
    scale: Callable[[Time], Array]
    slope: Callable[[Array, Array, Time], Array]

    def move(self, x, slope, t, s):
        return self.scale(s) * (x / self.scale(t) + (self.tau(s) - self.tau(t)) * slope)


def flow_of(path: GaussianPath, clock: str) -> Flow:
    """The flow in one of the clocks 'angle' (1), 'sigma' (2) and 'time' (3); ValueError for another."""

    def prediction(kind):
        return lambda x, x0, t: convert(path, x0, x, t, source='x0', target=kind)

    size = lambda t: jnp.hypot(path.alpha(t), path.sigma(t))
    slant = lambda x, x0, t: prediction('v')(x, x0, t) / size(t)
    ratio_at = lambda ratio: time_of(path, -2 * jnp.log(ratio))  # the time at which sigma / alpha is this
    flows = {
        'angle': Flow(lambda t: jnp.arctan2(path.sigma(t), path.alpha(t)), lambda tau: ratio_at(jnp.abs(jnp.tan(tau))), size, slant),
        'sigma': Flow(lambda t: path.sigma(t) / path.alpha(t), ratio_at, path.alpha, prediction('eps')),
        'time': Flow(lambda t: t, lambda tau: tau, jnp.ones_like, prediction('velocity')),
    }
    if clock not in flows:
        raise ValueError(f'unknown clock {clock!r}: one of {", ".join(flows)}')
    return flows[clock]
