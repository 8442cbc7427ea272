"""Exact answers: what a perfect network would say when the data are a mixture of Gaussians.

For p0 = sum_k w_k N(m_k, S_k) with S_k = Q_k diag(e_k) Q_k^T, x = alpha x0 + sigma eps has the density sum_k w_k N(alpha m_k, V_k),
V_k = Q_k diag(v_k) Q_k^T, v_k = alpha^2 e_k + sigma^2, and with r_k(x) the posterior probability of component k,

    E[x0 | x, k]   = m_k + Q_k diag(alpha e_k / v_k) Q_k^T (x - alpha m_k)                                 (1)
    Cov[x0 | x, k] = Q_k diag(sigma^2 e_k / v_k) Q_k^T                                                     (2)
    E[x0 | x]      = sum_k r_k E[x0 | x, k].                                                               (3)

Nothing is learnt and nothing approximated, so a sampler that misses the mixture is wrong itself. One Gaussian is a mixture of one; its
conditional law given a linear measurement is again a mixture (4), and class k is `component(mixture, k)`.

    y = A x0 + n, n ~ N(0, s^2 I):    K_k = S_k A^T (A S_k A^T + s^2 I)^-1,    m_k + K_k (y - A m_k),    (I - K_k A) S_k       (4)

Points are examples of any shape; their elements, in row-major order, are the D coordinates.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdiff.paths import GaussianPath
from jaxdiff.types import Array, Denoiser, Key, Time


class Mixture(NamedTuple):
    """K Gaussians in D dimensions: weights (K,), means (K, D), principal axes (K, D, D) in columns, variances along them (K, D)."""

    weights: Array
    means: Array
    axes: Array
    variances: Array


def mixture(weights, means, covariances) -> Mixture:
    """A mixture from weights (K,) of sum 1, means (K, D), and covariances: (K,) variances of round Gaussians, (K, D) of upright ones, or
    (K, D, D). Raises ValueError where the shapes do not fit or a covariance is not positive."""
    weights, means, covariances = (np.asarray(each, np.float64) for each in (weights, means, covariances))
    size, dims = means.shape
    if covariances.ndim == 1:
        covariances = np.repeat(covariances[:, None], dims, axis=1)
    if covariances.ndim == 2:
        covariances = covariances[:, :, None] * np.eye(dims)
    if weights.shape != (size,) or covariances.shape != (size, dims, dims) or not np.isclose(weights.sum(), 1):
        raise ValueError(f'weights {weights.shape} of sum 1, means {means.shape} and covariances {covariances.shape} do not make a mixture')
    variances, axes = np.linalg.eigh(covariances)
    if not np.all(variances > 0):
        raise ValueError('covariances must be positive definite')
    return Mixture(*(jnp.asarray(each) for each in (weights, means, axes, variances)))


def component(mixture: Mixture, k: int) -> Mixture:
    """Component k alone: the law of the data of class k."""
    return Mixture(jnp.ones(1, mixture.weights.dtype), *(each[k][None] for each in mixture[1:]))


def moments(mixture: Mixture) -> tuple[Array, Array]:
    """Mean (D,) and covariance (D, D) of the mixture."""
    mean = mixture.weights @ mixture.means
    within = jnp.einsum('k,kde,ke,kfe->df', mixture.weights, mixture.axes, mixture.variances, mixture.axes)
    away = mixture.means - mean[None]
    return mean, within + jnp.einsum('k,kd,ke->de', mixture.weights, away, away)


def draw(key: Key, mixture: Mixture) -> Array:
    """One point (D,)."""
    which, noise = jax.random.split(key)
    k = jax.random.choice(which, len(mixture.weights), p=mixture.weights)
    return mixture.means[k] + mixture.axes[k] @ (jnp.sqrt(mixture.variances[k]) * jax.random.normal(noise, mixture.means.shape[1:]))


def denoiser(path: GaussianPath, mixture: Mixture) -> Denoiser:
    """E[x0 | x] as in (3)."""

    def denoise(x, t):
        logs, means, _ = _components(path, mixture, x, t)
        return (jax.nn.softmax(logs) @ means).reshape(x.shape).astype(x.dtype)

    return denoise


def log_density(path: GaussianPath, mixture: Mixture, x: Array, t: Time) -> Array:
    """log p_t(x), nats."""
    return jax.nn.logsumexp(_components(path, mixture, x, t)[0])


def posterior(path: GaussianPath, mixture: Mixture, x: Array, t: Time) -> Array:
    """(K,) probability of each component given x at time t: what a perfect classifier of noised data says."""
    return jax.nn.softmax(_components(path, mixture, x, t)[0])


def covariance(path: GaussianPath, mixture: Mixture, x: Array, t: Time) -> Array:
    """Cov[x0 | x] (D, D), by the law of total variance from (2) and (1)."""
    logs, means, variances = _components(path, mixture, x, t)
    shares = jax.nn.softmax(logs)
    away = means - (shares @ means)[None]
    within = jnp.einsum('k,kde,ke,kfe->df', shares, mixture.axes, variances, mixture.axes)
    return within + jnp.einsum('k,kd,ke->de', shares, away, away)


def measured(prior: Mixture, matrix: np.ndarray, y: np.ndarray, noise: float) -> Mixture:
    """The law of x0 given y = matrix x0 + n, matrix (M, D), y (M,), n of standard deviation `noise` > 0: the mixture (4), exactly."""
    weights, means, axes, variances = (np.asarray(each, np.float64) for each in prior)
    logs, centres, spreads = [], [], []
    for weight, mean, axis, variance in zip(weights, means, axes, variances, strict=True):
        spread = axis * variance @ axis.T
        marginal = matrix @ spread @ matrix.T + noise**2 * np.eye(len(y))
        gain, away = np.linalg.solve(marginal, matrix @ spread).T, y - matrix @ mean
        logs.append(np.log(weight) - (away @ np.linalg.solve(marginal, away) + np.linalg.slogdet(marginal)[1]) / 2)
        centres.append(mean + gain @ away)
        keep = np.eye(len(mean)) - gain @ matrix
        spreads.append(keep @ spread @ keep.T + noise**2 * gain @ gain.T)  # Joseph's form stays positive
    shares = np.exp(np.array(logs) - max(logs))
    return mixture(shares / shares.sum(), np.array(centres), np.array(spreads))


def _components(path, mixture, x, t):
    """Of each component: log of weight times density at x (K,), E[x0 | x, k] (K, D), variances of x0 along its axes (K, D)."""
    weights, means, axes, variances = (each.astype(x.dtype) for each in mixture)
    alpha, sigma = path.alpha(t), path.sigma(t)
    noisy = alpha**2 * variances + sigma**2
    along = jnp.einsum('kde,kd->ke', axes, x.reshape(-1)[None] - alpha * means)
    logs = jnp.log(weights) - jnp.sum(jnp.square(along) / noisy + jnp.log(2 * jnp.pi * noisy), axis=-1) / 2
    return logs, means + jnp.einsum('kde,ke->kd', axes, alpha * variances / noisy * along), sigma**2 * variances / noisy
