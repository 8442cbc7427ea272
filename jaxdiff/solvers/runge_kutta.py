"""Runge-Kutta methods for the probability flow.

In y = x / alpha and tau = sigma / alpha every Gaussian path has the same flow, dy/dtau = eps_hat = (y - x0_hat) / tau. With
q = tau_s / tau_t < 1, Euler's step from t to s is, back in x,

    x_s = sigma_s / sigma_t x + alpha_s (1 - q) x0_hat,                                                  (1)

and Heun's, which averages the slopes at both ends and evaluates x0_hat' at the point (1), is (1) with

    x0_hat + (x0_hat' - x0_hat) / (2 q)    in place of    x0_hat.                                        (2)

Neither divides by alpha. The step to data has q = 0 and is Euler's in both, which returns x0_hat.

Karras, Aittala, Aila, Laine, "Elucidating the design space of diffusion-based generative models", NeurIPS 2022, algorithm 1.
"""

import jax.numpy as jnp

from jaxdiff.paths import GaussianPath
from jaxdiff.solvers.loop import Solver, one_step
from jaxdiff.types import Array, Time


def euler(path: GaussianPath) -> Solver:
    """Euler's method (1), of first order; one evaluation a step. The same numbers as `ancestral.ddim` without noise."""

    def step(key, denoise, x, t, s):
        x0 = denoise(x, t)
        return _forward(path, x, x0, t, s), x0

    return one_step(step)


def heun(path: GaussianPath) -> Solver:
    """Heun's method (2), of second order; two evaluations a step."""

    def step(key, denoise, x, t, s):
        x0 = denoise(x, t)
        middle = _forward(path, x, x0, t, s)
        last = path.sigma(s) == 0
        q = _ratio(path, t, s)
        slope = (denoise(middle, jnp.where(last, t, s)) - x0) / jnp.where(last, 1.0, 2 * q)
        return _forward(path, x, x0 + jnp.where(last, 0.0, slope), t, s), x0

    return one_step(step)


def _ratio(path: GaussianPath, t: Time, s: Time) -> Array:
    return jnp.exp((path.log_snr(t) - path.log_snr(s)) / 2)


def _forward(path: GaussianPath, x: Array, x0: Array, t: Time, s: Time) -> Array:
    lost = -jnp.expm1((path.log_snr(t) - path.log_snr(s)) / 2)  # 1 - q
    return path.sigma(s) / path.sigma(t) * x + path.alpha(s) * lost * x0
