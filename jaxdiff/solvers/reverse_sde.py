"""The reverse-time stochastic differential equation: the noisy way from noise to data with the marginals of the path.

Of dx = f x dt + g dw, the forward equation of a path, the reverse is, with the score s,

    dx = (f x - g^2 s) dt + g dw,                     t falling.                                                          (1)

With y = x / c(t), and a clock tau(t) that rises as t falls, dy = drift dtau + diffusion dw(tau):

    'snr'      tau = SNR = alpha^2 / sigma^2,    c = sigma^2 / alpha,    drift = x0_hat,        diffusion = 1             (2)
    'time'     tau = -t,                         c = 1,                  drift = g^2 s - f x,   diffusion = g             (3)

(2) is the localization of x0 by observations tau x0 + w(tau). It starts from tau = 0 where alpha = 0, its drift is bounded and its noise
constant, and it is the same for every path, so it is finite at both ends of time and for any grid. Euler-Maruyama in (2) is DDPM with
the variance beta~. (3) is that of Song et al.: f grows without bound where alpha vanishes and g^2 s where sigma does, so it wants steps
with beta(t) (t - s) well below 1: the VP path in hundreds of steps, not cosine paths nor flows from their ends. Its coefficients are
evaluated no nearer to the ends of time than a millionth of it.

Noise is additive in both, so all orders are those of `stochastic` for it: 1, and 3/2 for `sra1`, with x0_hat smooth. The reverse
diffusion of Song et al. takes (1) apart by the transition x_t = a x_s + G z of the path instead, finite for any path and grid,

    x_s = (2 - a) x + G^2 s + G z,                    G^2 = sigma_t^2 (1 - SNR_t / SNR_s),                                 (4)

and their ancestral step, (x + G^2 s) / a + G z, is DDPM with the variance beta. The step to data returns x0_hat, without noise.

Anderson, "Reverse-time diffusion equation models", 1982 (1); Song et al., ICLR 2021 (3, 4); Montanari, "Sampling, diffusions, and
stochastic localization", 2023 (2).
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxdiff.noise import gaussian
from jaxdiff.paths import GaussianPath, sde, time_of, transition
from jaxdiff.predict import convert
from jaxdiff.solvers import stochastic
from jaxdiff.solvers.loop import Solver, one_step
from jaxdiff.types import Array, Time


class Reverse(NamedTuple):
    """x = scale(t) y with dy = drift(x, x0_hat, t) dtau + diffusion(t) dw(tau)."""

    tau: Callable[[Time], Array]
    time: Callable[[Array], Time]  # the inverse of tau
    scale: Callable[[Time], Array]
    drift: Callable[[Array, Array, Time], Array]
    diffusion: Callable[[Time], Array]


def reverse_of(path: GaussianPath, clock: str) -> Reverse:
    """The reverse equation in one of the clocks 'snr' (2) and 'time' (3); ValueError for another."""
    forward, inside = sde(path), lambda t: jnp.clip(t, 1e-6 * path.end, (1 - 1e-6) * path.end)

    def pull(x, x0, t):
        t = inside(t)
        return jnp.square(forward.diffusion(t)) * convert(path, x0, x, t, source='x0', target='score') - forward.drift(x, t)

    equations = {
        'snr': Reverse(
            lambda t: jnp.exp(path.log_snr(t)),
            lambda tau: time_of(path, jnp.log(tau)),
            lambda t: jnp.square(path.sigma(t)) / path.alpha(t),
            lambda x, x0, t: x0,
            jnp.ones_like,
        ),
        'time': Reverse(lambda t: -t, lambda tau: -tau, jnp.ones_like, pull, lambda t: forward.diffusion(inside(t))),
    }
    if clock not in equations:
        raise ValueError(f'unknown clock {clock!r}: one of {", ".join(equations)}')
    return equations[clock]


def euler_maruyama(path: GaussianPath, *, clock: str = 'snr') -> Solver:
    """Euler-Maruyama, of strong order 1; one evaluation a step."""
    return _solver(path, stochastic.euler_maruyama, clock)


def milstein(path: GaussianPath, *, clock: str = 'snr') -> Solver:
    """Milstein's method, here the same as Euler-Maruyama: no diffusion depends on x."""
    return _solver(path, stochastic.milstein, clock)


def heun(path: GaussianPath, *, clock: str = 'snr') -> Solver:
    """The stochastic Heun method, of strong order 1 and weak order 2; 2N - 1 evaluations in N steps that end at data."""
    return _solver(path, stochastic.heun, clock)


def sra1(path: GaussianPath, *, clock: str = 'snr') -> Solver:
    """The stochastic Runge-Kutta method SRA1, of strong order 3/2; 2N - 1 evaluations in N steps that end at data."""
    return _solver(path, stochastic.sra1, clock)


def reverse_diffusion(path: GaussianPath) -> Solver:
    """The reverse diffusion predictor (4) of Song et al.; one evaluation a step."""

    def step(key, denoise, x, t, s):
        x0 = denoise(x, t)
        scale, std = transition(path, s, t)
        lost = jnp.square(std / path.sigma(t))
        moved = (2 - scale) * x + lost * (path.alpha(t) * x0 - x) + std * gaussian(key, x.shape)
        return jnp.where(path.sigma(s) > 0, moved, x0), x0

    return one_step(step)


def _solver(path: GaussianPath, method: stochastic.Method, clock: str) -> Solver:
    equation = reverse_of(path, clock)

    def step(key, denoise, x, t, s):
        x0 = denoise(x, t)

        def drift(y, tau):
            now = equation.time(tau)
            x = equation.scale(now) * y
            return equation.drift(x, denoise(x, now), now)

        def diffusion(y, tau):
            return equation.diffusion(equation.time(tau))

        def moved():
            start, y = equation.tau(t), x / equation.scale(t)
            h = equation.tau(s) - start
            slope = equation.drift(x, x0, t)  # from x itself: where alpha = 0, y = 0 whatever x
            y = method(drift, diffusion, y, start, h, stochastic.brownian(key, x.shape, h), slope)
            return (equation.scale(s) * y).astype(x0.dtype)

        return jax.lax.cond(path.sigma(s) > 0, moved, lambda: x0), x0

    return one_step(step)
