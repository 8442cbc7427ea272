"""Exact answers: denoisers, densities and flows of Gaussians and Gaussian mixtures under any Gaussian path.

For p0 = sum_k w_k N(m_k, c_k^2), x = alpha x0 + sigma eps has density sum_k w_k N(alpha m_k, v_k), v_k = alpha^2 c_k^2 + sigma^2, and

    E[x0 | x] = sum_k r_k (m_k + alpha c_k^2 / v_k (x - alpha m_k)),    r = softmax of the log densities.

A mixture is one-dimensional and holds for every element of x alike: one example of 10000 elements is 10000 independent draws.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdiff import paths
from jaxdiff.paths import time_of

# one of every kind of path
PATHS = {
    'linear': paths.discrete(paths.linear_betas(1000)),
    'zero terminal': paths.discrete(paths.rescale_zero_snr(paths.linear_betas(1000))),
    'vp': paths.vp(),
    'cosine': paths.cosine(),
    'subvp': paths.subvp(),
    've': paths.ve(),
    'edm': paths.edm(),
    'flow': paths.flow(),
}


class Mixture(NamedTuple):
    weights: tuple[float, ...]
    means: tuple[float, ...]
    stds: tuple[float, ...]

    @property
    def mean(self):
        return np.dot(self.weights, self.means)

    @property
    def std(self):
        return np.sqrt(np.dot(self.weights, np.square(self.means) + np.square(self.stds)) - self.mean**2)


TEST_BED = Mixture((0.3, 0.5, 0.2), (-0.6, 0.1, 0.7), (0.15, 0.2, 0.1))


def _components(path, mixture, x, t):
    """(log density, E[x0 | x], Var[x0 | x]) of each component, stacked on a first axis."""
    alpha, sigma = path.alpha(t), path.sigma(t)

    def component(weight, mean, std):
        variance, away = (alpha * std) ** 2 + sigma**2, x - alpha * mean
        log_density = jnp.log(weight) - (away**2 / variance + jnp.log(2 * jnp.pi * variance)) / 2
        return log_density, mean + alpha * std**2 / variance * away, jnp.full_like(x, (std * sigma) ** 2 / variance)

    return [jnp.stack(each) for each in zip(*(component(*one) for one in zip(*mixture, strict=True)), strict=True)]


def log_density(path, mixture, x, t):
    """log p_t of every element, nats."""
    return jax.nn.logsumexp(_components(path, mixture, x, t)[0], axis=0)


def denoiser(path, mixture):
    def denoise(x, t):
        logs, means, _ = _components(path, mixture, x, t)
        return jnp.sum(jax.nn.softmax(logs, axis=0) * means, axis=0)

    return denoise


def posterior_variance(path, mixture, x, t):
    """Var[x0 | x] of every element."""
    logs, means, variances = _components(path, mixture, x, t)
    shares = jax.nn.softmax(logs, axis=0)
    mean = jnp.sum(shares * means, axis=0)
    return jnp.sum(shares * (variances + means**2), axis=0) - mean**2


def draw(key, mixture, shape):
    which, noise = jax.random.split(key)
    component = jax.random.choice(which, len(mixture.weights), shape, p=jnp.array(mixture.weights))
    return jnp.array(mixture.means)[component] + jnp.array(mixture.stds)[component] * jax.random.normal(noise, shape)


def gaussian_denoiser(path, mean, covariance):
    """E[x0 | x] for p0 = N(mean (D,), covariance (D, D)), x of shape (D,)."""

    def denoise(x, t):
        alpha, sigma = path.alpha(t), path.sigma(t)
        marginal = alpha**2 * covariance + sigma**2 * jnp.eye(len(mean))
        return mean + alpha * covariance @ jnp.linalg.solve(marginal, x - alpha * mean)

    return denoise


def flow(path, denoise, x, start, end, steps=400):
    """x carried from `start` to `end` by the probability flow: RK4 in lambda = log_snr / 2, d(x / alpha)/dlambda = x0_hat - x / alpha."""
    log_snrs = jnp.linspace(path.log_snr(start), path.log_snr(end), 2 * steps + 1)
    times = time_of(path, log_snrs).at[0].set(start).at[-1].set(end)
    h = (log_snrs[2] - log_snrs[0]) / 2
    slope = lambda y, t: denoise(path.alpha(t) * y, t) - y

    def step(y, three):
        start, middle, end = three
        a = slope(y, start)
        b = slope(y + h / 2 * a, middle)
        c = slope(y + h / 2 * b, middle)
        d = slope(y + h * c, end)
        return y + h / 6 * (a + 2 * b + 2 * c + d), None

    y, _ = jax.lax.scan(step, x / path.alpha(start), (times[:-1:2], times[1::2], times[2::2]))
    return path.alpha(end) * y
