"""Langevin dynamics: x drawn from p_t by steps along its score that stay at t.

    x <- x + e s(x, t) + sqrt(2 e) z,                 e = k sigma_t^2,                                                    (1)

leaves p_t as it is, but for an error that vanishes with k: a normal law of variance v comes out with v / (1 - e / (2 v)).

    annealed_langevin     k constant                                                                                     (2)
    langevin_corrector    k = 2 a (snr |z| / |eps_hat|)^2,    a = (alpha_t / alpha_{t - 1})^2                              (3)

Both are solvers that take one step (1) at t, whatever s is, so how often a level is visited is a matter of the grid, `repeat(times, n)`,
and constraints act after every step. Between levels x is handed on as it is. (2) on ten levels of a variance-exploding path, a hundred
visits each, is the sampler of NCSN. A solver that moves from t to s, with a Langevin solver wherever s = t, is the predictor-corrector
method of Song et al., which corrects first:

    sample(key, x, denoise, predictor_corrector(reverse_diffusion(path), langevin_corrector(path)), repeat(times, 1))

In (3) t - 1 is the time a step of the path's table earlier, a thousandth of a continuous path, so a = 1 where alpha is constant and
1 - beta_i on tables. Song et al. take the means of |z| and |eps_hat| over the batch; here they are the example's own, so that no
example depends on the others. As k depends on x, (3) is exact only where these norms vary little, in many dimensions; (2) is exact
for small k in any. The step to data returns x0_hat: end the grid at its lowest level, visited once more, to keep the last noise.

Song and Ermon, "Generative modeling by estimating gradients of the data distribution", NeurIPS 2019 (2), their final denoising from
"Improved techniques for training score-based generative models", NeurIPS 2020; Song et al., ICLR 2021 (3).
"""

import jax
import jax.numpy as jnp

from jaxdiff.noise import gaussian
from jaxdiff.paths import GaussianPath
from jaxdiff.predict import convert
from jaxdiff.solvers.loop import Solver, one_step
from jaxdiff.types import Array


def repeat(times: Array, n: int) -> Array:
    """The grid (N + 1,) with n further visits to every time but the last, n steps from the time to itself before the one that leaves it:
    ((n + 1) N + 1,)."""
    return jnp.append(jnp.repeat(times[:-1], n + 1), times[-1])


def annealed_langevin(path: GaussianPath, *, step: float | Array = 0.2) -> Solver:
    """Langevin steps (2) of length k = `step` in units of sigma_t^2. The default is NCSN's 2e-5 at its last level, sigma = 0.01."""
    return _langevin(path, lambda noise, eps, t: step)


def langevin_corrector(path: GaussianPath, *, snr: float | Array = 0.16) -> Solver:
    """Langevin steps (3) of a given signal-to-noise ratio: |e s| / |sqrt(2 e) z| is snr, with a = 1. Steps above k = 1 are cut to it."""
    unit = path.end / (path.steps or 1000)

    def size(noise, eps, t):
        kept = path.alpha(t) / path.alpha(jnp.maximum(t - unit, 0.0))
        return jnp.minimum(2 * jnp.square(kept * snr * jnp.linalg.norm(noise) / jnp.linalg.norm(eps)), 1.0)

    return _langevin(path, size)


def predictor_corrector(predictor: Solver, corrector: Solver) -> Solver:
    """The corrector where a step goes from a time to itself, the predictor elsewhere; only one of the two is evaluated.

    On `repeat(times, n)` that is n corrections and a prediction at each time: n + 1 evaluations with a predictor of one.
    """

    def step(key, denoise, memory, x, t, s):
        def correct(first, second):
            moved, x0, second = corrector.step(key, denoise, second, x, t, s)
            return moved.astype(x.dtype), x0.astype(x.dtype), (first, second)

        def predict(first, second):
            moved, x0, first = predictor.step(key, denoise, first, x, t, s)
            return moved.astype(x.dtype), x0.astype(x.dtype), (first, second)

        return jax.lax.cond(s == t, correct, predict, *memory)

    return Solver(lambda x: (predictor.init(x), corrector.init(x)), step)


def _langevin(path, size) -> Solver:
    """Steps (1) with k = size(noise, eps_hat, t)."""

    def step(key, denoise, x, t, s):
        x0 = denoise(x, t)
        noise, eps, sigma = gaussian(key, x.shape), convert(path, x0, x, t, source='x0', target='eps'), path.sigma(t)
        k = size(noise, eps, t)
        return jnp.where(path.sigma(s) > 0, x - k * sigma * eps + jnp.sqrt(2 * k) * sigma * noise, x0), x0

    return one_step(step)
