"""Ancestral samplers: draw x_s given x_t and the denoiser's x0_hat.

With r = SNR_t / SNR_s, DDPM draws from the bridge with x0_hat in place of x0, which has the right mean but, x0 being uncertain, at least
the variance beta~,

    x_s = mean(x0_hat, x) + std z,    std^2 from  beta~ = sigma_s^2 (1 - r)  to  beta = sigma_t^2 (1 - r).         (1)

DDIM keeps the marginals of every time and chooses how much of the noise is fresh,

    x_s = alpha_s x0_hat + sqrt(sigma_s^2 - std^2) eps_hat + std z,    std = eta sqrt(beta~),                      (2)

so that eta = 1 is (1) with beta~ and eta = 0 is deterministic: Euler's method for the probability flow in sigma / alpha. What the DDIM
paper calls sigma-hat, the mean of eta = 1 with more noise than keeps the marginals, is (1) with beta.
Nothing is drawn in the step to data, which returns x0_hat.

Ho, Jain, Abbeel, NeurIPS 2020; Song, Meng, Ermon, "Denoising diffusion implicit models", ICLR 2021. Any pairs of times will do, so
respacing is a choice of grid.
"""

from collections.abc import Callable

import jax.numpy as jnp

from jaxdiff.noise import Noise, gaussian
from jaxdiff.paths import GaussianPath, bridge, transition
from jaxdiff.predict import convert
from jaxdiff.solvers.loop import Solver, one_step
from jaxdiff.types import Array, Time


def ddpm(path: GaussianPath, *, variance: str | Callable[[Array, Time, Time], Array] = 'small', noise: Noise = gaussian) -> Solver:
    """Ancestral sampling (1).

    Args:
        variance: 'small' is beta~, exact for data of one point; 'large' is beta, exact for data N(0, I) on a variance-preserving path;
            or a function (x, t, s) -> variance, such as `predict.learned_variance` and `variance.optimal`. With few steps 'small' loses
            rare modes. Another word raises ValueError.
        noise: z, such as `noise.simplex()` for a denoiser that learnt that noise.
    """
    if variance not in ('small', 'large') and not callable(variance):
        raise ValueError(f"variance is 'small', 'large' or a function of x, t and s, not {variance!r}")

    def step(key, denoise, x, t, s):
        x0 = denoise(x, t)
        mean, std = bridge(path, x0, x, t, s)
        if variance == 'large':
            std = transition(path, s, t)[1]
        elif callable(variance):
            std = jnp.sqrt(variance(x, t, s))
        std = jnp.where(path.sigma(s) > 0, std, 0.0)
        return mean + std * noise(key, x.shape), x0

    return one_step(step)


def ddim(path: GaussianPath, *, eta: float | Array = 0.0) -> Solver:
    """DDIM (2) with eta times the ancestral noise; above 1 too, as long as eta^2 (1 - r) is at most 1."""

    def step(key, denoise, x, t, s):
        x0 = denoise(x, t)
        std = eta * bridge(path, x0, x, t, s)[1]
        eps = convert(path, x0, x, t, source='x0', target='eps')
        kept = jnp.sqrt(jnp.maximum(jnp.square(path.sigma(s)) - jnp.square(std), 0.0))
        moved = path.alpha(s) * x0 + kept * eps
        if isinstance(eta, int | float) and eta == 0:  # noise that is drawn and multiplied by 0 costs as much as noise that is not
            return moved, x0
        return moved + std * gaussian(key, x.shape), x0

    return one_step(step)
