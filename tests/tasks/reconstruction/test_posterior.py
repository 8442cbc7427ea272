"""Posterior samples beside the closed-form posterior of a Gaussian, whose denoiser is exact."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff import exact, grids, operators, paths
from jaxdiff.tasks.reconstruction.posterior import ddnm, dds, dps

PATH = paths.cosine()
SHAPE = (4, 2, 2)
KEY = jax.random.key(0)
MASK = np.array([1, 0, 1, 0], np.float32)[:, None, None]
FOURIER = operators.on_channels(operators.fourier(MASK))
jit = partial(jax.jit, compiler_options={'xla_backend_optimization_level': 0})


def related(strength, seed=0):
    """A Gaussian of 16 elements: of mean .2, and of variance 1 when they are independent."""
    rng = np.random.default_rng(seed)
    mixed = np.eye(16) + strength * rng.standard_normal((16, 16)) / 4
    return exact.mixture([1.0], np.full((1, 16), 0.2), (mixed @ mixed.T)[None])


def measure(prior, operator, seed=3):
    truth = np.asarray(exact.draw(jax.random.key(seed), prior)).reshape(SHAPE)
    return jnp.asarray(truth, jnp.float32), operator.forward(jnp.asarray(truth, jnp.float32))


def drawn(way, prior, operator, y, *, count, steps=60, **how):
    times = grids.default(PATH, steps)
    return jit(lambda key: way(key, y, operator, exact.denoiser(PATH, prior), path=PATH, times=times, shape=SHAPE, count=count, **how))(KEY)


@pytest.mark.parametrize('way', [ddnm, dds])
def test_every_sample_explains_what_was_measured(way):
    _, y = measure(related(1.0), FOURIER)
    found = drawn(way, related(1.0), FOURIER, y, count=3)
    for each in found.samples:
        assert jnp.linalg.norm(FOURIER.forward(each) - y) <= 1e-5 * jnp.linalg.norm(y)


def test_independent_elements_are_drawn_exactly_where_nothing_was_measured():
    """Elements that tell nothing of each other: the posterior is the prior where y says nothing, and the answer elsewhere."""
    prior, known = related(0.0), operators.pixels(MASK)
    truth, y = measure(prior, known)
    found = drawn(ddnm, prior, known, y, count=2000, eta=1.0, ancestral=True)
    np.testing.assert_allclose(np.asarray(found.mean)[MASK[:, 0, 0] > 0], np.asarray(truth)[MASK[:, 0, 0] > 0], atol=1e-5)
    np.testing.assert_allclose(np.asarray(found.mean)[MASK[:, 0, 0] == 0], 0.2, atol=0.1)
    np.testing.assert_allclose(np.asarray(found.deviation)[MASK[:, 0, 0] == 0], 1.0, atol=0.1)


@pytest.mark.parametrize(
    ('way', 'share'), [(ddnm, 0.6), (dds, 0.6), (partial(dds, eta=1.0, ancestral=True), 0.6), (partial(dps, zeta=0.3), 0.25)]
)
def test_what_was_not_measured_follows_what_was(way, share):
    """All three are approximations: x0_hat stands for x0. Of the way from the prior's mean to the posterior's they leave this share at most."""
    prior, known = related(1.0), operators.pixels(MASK)
    truth, y = measure(prior, known)
    measured = np.repeat(MASK[:, 0, 0] > 0, 4)
    matrix = np.eye(16)[measured]
    mean = np.asarray(exact.measured(prior, matrix, matrix @ np.asarray(truth, np.float64).ravel(), 1e-3).means[0])
    found = np.asarray(drawn(way, prior, known, y, count=300, steps=100).mean).ravel()
    assert np.linalg.norm((found - mean)[~measured]) <= share * np.linalg.norm((0.2 - mean)[~measured])


@pytest.mark.parametrize('eta', [0.0, 0.85, 1.0])
def test_as_published_the_variance_of_independent_elements_follows_its_law(eta):
    """What is not measured has x0_hat = alpha x and eps_hat = sigma x, so that each step multiplies and adds: the variance is a recursion."""
    prior, times = exact.mixture([1.0], np.zeros((1, 16)), np.eye(16)[None]), grids.default(PATH, 60)
    alpha, sigma = np.asarray(PATH.alpha(times), np.float64), np.asarray(PATH.sigma(times), np.float64)
    variance = 1.0
    for t, s in zip(range(60), range(1, 61), strict=True):
        variance *= (alpha[s] * alpha[t] + np.sqrt(1 - eta**2) * sigma[s] * sigma[t]) ** 2
        variance += (eta * sigma[s]) ** 2
    known = operators.pixels(MASK)
    found = drawn(ddnm, prior, known, known.forward(jnp.zeros(SHAPE)), count=2000, eta=eta)
    unseen = np.asarray(found.samples)[:, MASK[:, 0, 0] == 0]
    np.testing.assert_allclose(np.square(unseen).mean(), variance, rtol=0.03)


def test_noise_leaves_measured_elements_in_doubt():
    prior, known = related(0.0), operators.pixels(MASK)
    _, y = measure(prior, known)
    noisy, clean = (drawn(dds, prior, known, y, count=500, noise=noise, eta=1.0, ancestral=True) for noise in (0.5, 0.0))
    seen = MASK[:, 0, 0] > 0
    assert np.asarray(clean.deviation)[seen].max() < 1e-3 < 0.1 < np.asarray(noisy.deviation)[seen].min()
    assert np.asarray(noisy.deviation)[seen].max() < np.asarray(noisy.deviation)[~seen].min()


def test_a_sample_does_not_depend_on_how_many_there_are():
    _, y = measure(related(1.0), FOURIER)
    few, many = (drawn(dds, related(1.0), FOURIER, y, count=count, steps=5) for count in (2, 5))
    np.testing.assert_allclose(few.samples, many.samples[:2], atol=1e-5)
    np.testing.assert_allclose(many.mean, many.samples.mean(0), atol=1e-6)
    assert many.deviation.max() > 0.1
