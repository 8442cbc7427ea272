"""Exact mixtures against automatic differentiation, quadrature and the law of large numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest

from jaxdiff import exact, paths

PATH = paths.vp()
TILTED = np.array([[0.3, 0.1], [0.1, 0.2]])
MIXTURE = exact.mixture([0.3, 0.7], [[-1.0, 0.5], [1.0, 0.0]], np.stack([TILTED, 0.1 * np.eye(2)]))
X, T = jnp.array([0.4, -0.3]), jnp.float32(0.3)


def test_the_denoiser_is_tweedies_formula():
    """E[x0 | x] = (x + sigma^2 grad log p_t) / alpha."""
    score = jax.grad(lambda x: exact.log_density(PATH, MIXTURE, x, T))(X)
    np.testing.assert_allclose(exact.denoiser(PATH, MIXTURE)(X, T), (X + PATH.sigma(T) ** 2 * score) / PATH.alpha(T), atol=1e-5)


def test_the_covariance_is_the_slope_of_the_denoiser():
    """Cov[x0 | x] = sigma^2 / alpha d E[x0 | x] / dx."""
    slope = jax.jacfwd(exact.denoiser(PATH, MIXTURE))(X, T)
    np.testing.assert_allclose(exact.covariance(PATH, MIXTURE, X, T), PATH.sigma(T) ** 2 / PATH.alpha(T) * slope, atol=1e-5)


def test_the_density_integrates_to_one_and_has_the_moments():
    axis = jnp.linspace(-6, 6, 241)
    grid = jnp.stack(jnp.meshgrid(axis, axis, indexing='ij'), -1).reshape(-1, 2)
    mass = jnp.exp(jax.vmap(lambda x: exact.log_density(PATH, MIXTURE, x, jnp.float32(0)))(grid)) * (axis[1] - axis[0]) ** 2
    mean, covariance = exact.moments(MIXTURE)
    assert abs(mass.sum() - 1) < 1e-4
    np.testing.assert_allclose(mass @ grid, mean, atol=1e-3)
    np.testing.assert_allclose((mass[:, None] * grid).T @ grid - jnp.outer(mean, mean), covariance, atol=1e-3)


def test_draws_have_the_moments():
    draws = jax.vmap(lambda key: exact.draw(key, MIXTURE))(jax.random.split(jax.random.key(0), 20000))
    mean, covariance = exact.moments(MIXTURE)
    np.testing.assert_allclose(draws.mean(0), mean, atol=4 * np.sqrt(np.diag(covariance).max() / 20000))
    np.testing.assert_allclose(jnp.cov(draws.T), covariance, atol=0.04)


def test_the_classifier_is_bayes_rule():
    parts = jnp.array([exact.log_density(PATH, exact.component(MIXTURE, k), X, T) for k in range(2)])
    np.testing.assert_allclose(exact.posterior(PATH, MIXTURE, X, T), jax.nn.softmax(jnp.log(MIXTURE.weights) + parts), rtol=1e-5)


def test_conditioning_on_a_measurement_is_bayes_rule():
    matrix, y, noise = np.array([[1.0, -0.5]]), np.array([0.2]), 0.3
    given = exact.measured(MIXTURE, matrix, y, noise)
    log_posterior = lambda x: exact.log_density(PATH, given, x, jnp.float32(0))
    log_joint = lambda x: exact.log_density(PATH, MIXTURE, x, jnp.float32(0)) - ((y - matrix @ x)[0] / noise) ** 2 / 2
    points = jnp.array([[0.4, -0.3], [-1.0, 0.5], [0.0, 0.0]])
    gaps = jax.vmap(lambda x: log_posterior(x) - log_joint(x))(points)
    np.testing.assert_allclose(gaps, gaps[0], atol=1e-4)


def test_one_dimension_agrees_with_the_elementwise_oracle():
    one = exact.mixture(oracles.TEST_BED.weights, np.array(oracles.TEST_BED.means)[:, None], np.square(oracles.TEST_BED.stds))
    x = jnp.linspace(-2, 2, 9)
    ours = jax.vmap(lambda x: exact.denoiser(PATH, one)(x, T))(x[:, None])[:, 0]
    np.testing.assert_allclose(ours, oracles.denoiser(PATH, oracles.TEST_BED)(x, T), atol=1e-5)


@pytest.mark.parametrize('time', [0.0, 1e-6, 1.0])
def test_finite_at_both_ends(time):
    for path in (PATH, paths.cosine()):
        assert jnp.all(jnp.isfinite(exact.denoiser(path, MIXTURE)(X, jnp.float32(time))))
    np.testing.assert_allclose(exact.denoiser(PATH, MIXTURE)(X, jnp.float32(0)), X, atol=1e-6)


def test_what_is_no_mixture_is_refused():
    for weights, covariances in (([0.5, 0.6], [1.0, 1.0]), ([0.5, 0.5], [1.0, -1.0]), ([1.0], [1.0, 1.0])):
        with pytest.raises(ValueError):
            exact.mixture(weights, [[0.0], [1.0]], covariances)
