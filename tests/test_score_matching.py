"""Score matching for a Gaussian and a linear score s = -A x, where every loss is quadratic in x, v and z.

Means are exact, not sampled: a few points with the mean and covariance of the law take the place of draws from it.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff import losses, paths, score_matching

C = np.array([[2.0, 0.6, 0.0], [0.6, 1.0, -0.3], [0.0, -0.3, 0.5]])
A = np.array([[0.7, -0.2, 0.1], [0.4, 1.5, 0.0], [-0.3, 0.2, 0.9]])  # not the answer, not symmetric
SIGNS = jnp.array(np.stack(np.meshgrid(*[[-1.0, 1.0]] * 3), -1).reshape(8, 3))


def points(covariance):
    """(6, 3) points with this covariance and mean 0."""
    root = math.sqrt(3) * np.linalg.cholesky(covariance).T
    return jnp.array(np.concatenate([root, -root]))


def linear(matrix):
    return lambda x: -matrix @ x


def every_sign(key, shape):
    """All eight directions of signs, whose mean outer product is exactly I."""
    return SIGNS


def mean(loss, covariance=C):
    """matrix -> the loss of s = -matrix x in mean over N(0, covariance), with its gradient."""
    return jax.jit(jax.value_and_grad(lambda matrix: jnp.mean(jax.vmap(lambda x: loss(linear(matrix), x))(points(covariance)))))


IMPLICIT = mean(score_matching.implicit)
EXPLICIT = mean(lambda score, x: score_matching.explicit(score, linear(np.linalg.inv(C)), x))


def test_the_implicit_loss_in_closed_form():
    value, gradient = IMPLICIT(A)
    np.testing.assert_allclose(value, np.trace(A @ C @ A.T) / 2 - np.trace(A), rtol=1e-5)
    np.testing.assert_allclose(gradient, A @ C - np.eye(3), atol=1e-5)
    np.testing.assert_allclose(IMPLICIT(np.linalg.inv(C))[1], 0, atol=1e-5)


def test_the_implicit_loss_is_the_explicit_one_less_a_constant():
    constant = np.trace(np.linalg.inv(C)) / 2
    np.testing.assert_allclose(EXPLICIT(A)[0] - IMPLICIT(A)[0], constant, rtol=1e-5)
    np.testing.assert_allclose(EXPLICIT(A)[1], IMPLICIT(A)[1], atol=1e-5)
    np.testing.assert_allclose(EXPLICIT(np.linalg.inv(C))[0], 0, atol=1e-6)


@pytest.mark.parametrize('reduced', [True, False])
def test_the_sliced_loss_is_the_implicit_one_in_mean_over_directions(reduced):
    options = {'probes': 8, 'noise': every_sign, 'variance_reduced': reduced}
    value, gradient = mean(lambda score, x: score_matching.sliced(jax.random.key(0), score, x, **options))(A)
    np.testing.assert_allclose(value, IMPLICIT(A)[0], rtol=1e-5)
    np.testing.assert_allclose(gradient, IMPLICIT(A)[1], atol=1e-5)


@pytest.mark.parametrize('noise', [score_matching.gaussian, score_matching.rademacher])
def test_directions_at_random(noise):
    x, count, keys = points(C)[1], 400, jax.random.split(jax.random.key(0), 200)

    @jax.jit
    def estimates():
        one = lambda reduced: lambda key: score_matching.sliced(key, linear(A), x, probes=count, noise=noise, variance_reduced=reduced)
        return jax.vmap(one(True))(keys), jax.vmap(one(False))(keys), score_matching.implicit(linear(A), x)

    reduced, plain, exact = map(np.asarray, estimates())
    symmetric, square = -(A + A.T) / 2, np.outer(A @ x, A @ x) / 2
    for each, form in ((reduced, symmetric), (plain, symmetric + square)):  # the variance of v M v, Isserlis
        variance = 2 * np.sum(form**2) - (2 * np.sum(np.diag(form) ** 2) if noise is score_matching.rademacher else 0)
        assert abs(each.mean() - exact) < 4 * math.sqrt(variance / count / len(each))
        np.testing.assert_allclose(each.std(), math.sqrt(variance / count), rtol=0.2)


def test_signs_are_exact_where_the_derivative_is_diagonal():
    """Of any shape: the trace of a score that acts on each element alone."""
    x = jnp.linspace(-1, 1, 12).reshape(2, 3, 2)
    score = lambda x: -jnp.tanh(2 * x)
    exact = score_matching.implicit(score, x)
    np.testing.assert_allclose(score_matching.sliced(jax.random.key(3), score, x), exact, rtol=1e-5)
    by_hand = np.sum(np.tanh(2 * x) ** 2 / 2 - 2 / np.cosh(2 * x) ** 2)
    np.testing.assert_allclose(exact, by_hand, rtol=1e-5)


def test_the_denoising_loss_matches_the_score_of_blurred_data():
    sigma, blurred = 0.7, C + 0.49 * np.eye(3)

    def denoising(score, x):
        one = lambda z: score_matching.denoising(jax.random.key(0), score, x, sigma, noise=lambda key, shape: z)
        return jnp.mean(jax.vmap(one)(points(np.eye(3))))

    loss = mean(denoising)
    implicit = mean(score_matching.implicit, blurred)
    np.testing.assert_allclose(loss(A)[1], implicit(A)[1], atol=1e-5)
    np.testing.assert_allclose(loss(A)[0] - implicit(A)[0], 3 / (2 * sigma**2), rtol=1e-5)
    np.testing.assert_allclose(loss(np.linalg.inv(blurred))[1], 0, atol=1e-5)


def test_the_best_slope_for_a_blurred_gaussian_and_the_price_of_little_blur():
    keys, x = jax.random.split(jax.random.key(0), 20000), 0.5

    @jax.jit
    def slopes(sigma):
        """The gradient at slope 0, and its change per unit of slope."""
        draws = x * jax.random.normal(jax.random.key(1), (20000,))
        slope = jax.grad(lambda a, key, x: score_matching.denoising(key, lambda x: a * x, x, sigma))
        return jax.vmap(slope, (None, 0, 0))(0.0, keys, draws), jax.vmap(slope, (None, 0, 0))(1.0, keys, draws)

    for sigma in (0.4, 1.0):
        at_zero, at_one = slopes(sigma)
        best = -at_zero.mean() / (at_one - at_zero).mean()
        np.testing.assert_allclose(best, -1 / (x**2 + sigma**2), rtol=0.05)
    np.testing.assert_allclose(slopes(0.01)[0].std() / slopes(0.02)[0].std(), 2, rtol=0.05)


@pytest.mark.parametrize('kind', ['eps', 'score'])
def test_ncsn_is_the_denoising_loss_where_time_is_the_noise(kind):
    sigmas, path = score_matching.geometric(1.0, 0.01, 10), paths.edm(data_std=None)
    score = lambda x, sigma: -(1.5 + sigma) * x
    image, keys = jnp.linspace(0, 1, 6).reshape(3, 2, 1), jax.random.split(jax.random.key(0), 32)

    def network(params, x, label):
        sigma = jnp.exp(4 * label)[:, None, None, None]
        return score(x, sigma) * (-sigma if kind == 'eps' else 1)

    weight = None if kind == 'eps' else lambda log_snr: jnp.exp(-log_snr)
    loss = losses.denoising(network, path, kind, weight=weight, times=lambda key: jax.random.choice(key, sigmas))

    @jax.vmap
    def multi_scale(key):
        """The mean over scales is over what the first key draws, z is what the second draws."""
        choice, noise, _ = jax.random.split(key, 3)
        sigma = jnp.asarray(sigmas)[jax.random.randint(choice, (), 0, 10)]
        return sigma**2 * score_matching.denoising(noise, lambda x: score(x, sigma), image, sigma)

    got = jax.jit(jax.vmap(lambda key: loss((), key, {'image': image})[0]))(keys)
    np.testing.assert_allclose(got, 2 / 6 * jax.jit(multi_scale)(keys), rtol=1e-4)


def test_scales_of_noise():
    sigmas = score_matching.geometric(1.0, 0.01, 10)
    np.testing.assert_allclose(sigmas, np.exp(np.linspace(0, np.log(0.01), 10)), rtol=1e-12)
    for wrong in ((0.01, 1.0, 10), (1.0, 0.0, 10), (1.0, 0.01, 1)):
        with pytest.raises(ValueError, match='levels'):
            score_matching.geometric(*wrong)
    cdf = jax.scipy.stats.norm.cdf
    for size in (5, 784, 3072):
        r = score_matching.ratio(size)
        a = math.sqrt(2 * size) * (r - 1)
        np.testing.assert_allclose(cdf(a + 3 * r) - cdf(a - 3 * r), 0.5, atol=1e-4)
    np.testing.assert_allclose(score_matching.ratio(3072), (50 / 0.01) ** (1 / 231), atol=3e-3)  # published: 232 scales from 50 to 0.01
    with pytest.raises(ValueError, match='4 elements'):
        score_matching.ratio(4)
