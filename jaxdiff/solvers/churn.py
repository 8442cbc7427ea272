"""Churn: before each step a little fresh noise, then any one-step solver from the noisier time.

With sigma-bar = sigma / alpha, a step t -> s first climbs to the time t^ of

    sigma-bar(t^) = (1 + gamma) sigma-bar(t),    gamma = min(amount, sqrt(2) - 1) where low <= sigma-bar(t) <= high, else 0,        (1)
    x^ = (alpha_t^ / alpha_t) x + inflate std z,    the transition t -> t^ of the path,                                             (2)

and the solver walks t^ -> s. Errors made so far are forgotten with the noise they sat in. The sampler of Karras et al. is
`churn(path, heun(path, clock='sigma'), ...)`, with amount = S_churn / N, low, high, inflate = S_min, S_max, S_noise.

Karras et al., "Elucidating the design space of diffusion-based generative models", NeurIPS 2022, algorithm 2.
"""

import math

import jax
import jax.numpy as jnp

from jaxdiff.noise import gaussian
from jaxdiff.paths import GaussianPath, time_of, transition
from jaxdiff.solvers.loop import Solver
from jaxdiff.types import Array, Time


def churn(
    path: GaussianPath,
    solver: Solver,
    *,
    amount: float | Array,
    low: float | Array = 0.0,
    high: float | Array = math.inf,
    inflate: float | Array = 1.0,
) -> Solver:
    """`solver`, a method without memory of earlier steps, with churn; the noise is never raised above that of the path's end.

    Args:
        amount: S_churn / N, how far sigma / alpha is raised in each of the N steps, at least 0; at 0 this is `solver` itself.
        low, high: the sigma / alpha between which noise is added.
        inflate: scale of the noise, 1.003 or so against the smoothing of networks; 1 keeps the marginals.
    """

    def step(key, denoise, memory, x, t, s):
        above = raised(path, t, amount, low, high)
        scale, std = transition(path, t, above)
        noise = gaussian(jax.random.fold_in(key, 1), x.shape)  # the solver keeps its own key, and so its noise
        x = jnp.where(above > t, scale * x + inflate * std * noise, x)
        return solver.step(key, denoise, memory, x, above, s)

    return Solver(solver.init, step)


def raised(path: GaussianPath, t: Time, amount: float | Array, low: float | Array = 0.0, high: float | Array = math.inf) -> Time:
    """The time t^ of (1); t itself where nothing is added."""
    log_snr = path.log_snr(t)
    inside = (jnp.exp(-log_snr / 2) >= low) & (jnp.exp(-log_snr / 2) <= high)
    gamma = jnp.where(inside, jnp.clip(amount, 0.0, math.sqrt(2) - 1), 0.0)
    return jnp.where(gamma > 0, jnp.maximum(t, time_of(path, log_snr - 2 * jnp.log1p(gamma))), t)
