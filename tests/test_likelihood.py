"""Densities along the probability flow, against exact ones."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest

from jaxdiff import exact, grids, paths
from jaxdiff.divergence import hutchinson
from jaxdiff.likelihood import bits_per_dim, dequantise, log_density

VP = paths.vp()
COVARIANCES = [[[0.04, 0.02], [0.02, 0.03]], [[0.02, -0.01], [-0.01, 0.05]], [[0.01, 0.0], [0.0, 0.02]]]
PLANE = exact.mixture([0.3, 0.5, 0.2], [[-0.6, 0.3], [0.1, -0.4], [0.7, 0.5]], COVARIANCES)
PATHS = {'vp': VP, 'flow': paths.flow()}


def points(law, count, key=0):
    return jax.vmap(lambda key: exact.draw(key, law))(jax.random.split(jax.random.key(key), count))


@partial(jax.jit, static_argnums=0)
def flowed(path, law, x, start):
    """log p at `start` of each point, the law at the end of the path being known."""
    prior = lambda x: exact.log_density(path, law, x, path.end)
    return jax.vmap(lambda x: log_density(x, exact.denoiser(path, law), path, start=start, prior=prior))(x)


@pytest.mark.parametrize('path', PATHS.values(), ids=PATHS)
def test_a_mixture_in_the_plane(path):
    x = points(PLANE, 32)
    for start in (1e-3, 1e-5):
        out = flowed(path, PLANE, x, start)
        known = jax.vmap(lambda x, start=start: exact.log_density(path, PLANE, x, start))(x)
        np.testing.assert_allclose(out.value / 2, known / 2, atol=1e-3)
        np.testing.assert_array_equal(out.error, 0)
        assert jnp.all(out.evaluations < 200) and len(set(out.evaluations.tolist())) > 1  # each point has steps of its own


def test_a_gaussian_in_64_dimensions_with_a_full_covariance():
    basis = np.linalg.qr(np.random.default_rng(0).normal(size=(64, 64)))[0]
    law = exact.mixture([1.0], np.linspace(-0.5, 0.5, 64)[None], (basis * np.geomspace(0.01, 1, 64) @ basis.T)[None])
    x = points(law, 3).reshape(3, 8, 8, 1)
    out = jax.jit(jax.vmap(lambda x: log_density(x, exact.denoiser(VP, law), VP)))(x)
    known = jax.vmap(lambda x: exact.log_density(VP, law, x, 1e-5))(x)
    np.testing.assert_allclose(out.value / 64, known / 64, atol=1e-3)
    assert out.latent.shape == x.shape and 0.7 < jnp.std(out.latent) < 1.3


def test_a_fixed_grid_has_the_measured_errors():
    """Of Runge-Kutta on the test-bed; what is left with many steps is N(0, I) not being the law of x at t = 1."""
    denoise, x = oracles.denoiser(VP, oracles.TEST_BED), np.asarray(oracles.draw(jax.random.key(0), oracles.TEST_BED, (4000, 1)))
    unit = lambda z: jnp.sum(jax.scipy.stats.norm.logpdf(z))
    true = lambda z: jnp.sum(oracles.log_density(VP, oracles.TEST_BED, z, 1.0))

    @jax.jit
    def errors(x, times, near):
        out = jax.vmap(lambda x: log_density(x, denoise, VP, times=times, prior=true))(x)
        differ = jax.vmap(lambda z: unit(z) - true(z))(out.latent)
        return jnp.max(jnp.abs(out.value + differ - near)), jnp.max(jnp.abs(out.value - near))

    with jax.enable_x64(True):
        x = jnp.asarray(x, float)
        near = oracles.log_density(VP, oracles.TEST_BED, x, 1e-3)[:, 0]
        times = lambda n: jnp.asarray(np.pad(grids.log_snr(VP, n, last=1e-3, zero=False)[::-1], (0, 200 - n), mode='edge'))
        rough, with_true = np.array([errors(x, times(n), near) for n in (25, 50, 200)]).T
    np.testing.assert_allclose(rough, [1.2e-3, 4.8e-4, 4.4e-4], rtol=0.15)
    np.testing.assert_allclose(with_true[1:], [4.5e-5, 1.6e-7], rtol=0.6)  # depends on the farthest point drawn
    np.testing.assert_allclose(np.log2(with_true[1] / with_true[2]), 2 * 4, atol=0.2)


def test_hutchinson_is_unbiased_within_its_error():
    x = points(PLANE, 1)[0]
    denoise = exact.denoiser(VP, PLANE)
    estimate = jax.jit(jax.vmap(lambda key: log_density(x, denoise, VP, start=1e-3, divergence=hutchinson(key, 16))))
    out = estimate(jax.random.split(jax.random.key(0), 200))
    known = jax.jit(lambda: log_density(x, denoise, VP, start=1e-3).value)()
    spread = np.std(out.value)
    assert spread > 0.01
    assert abs(np.mean(out.value) - known) < 3 * spread / math.sqrt(200)
    assert 0.9 < np.sqrt(np.mean(np.square(out.error))) / spread < 1.1
    assert 0.9 < np.mean(np.abs(out.value - known) < 2 * out.error) <= 1


def test_the_gradient_on_a_fixed_grid_is_the_score():
    times = grids.log_snr(VP, 60, last=1e-2, zero=False)[::-1]
    x = points(PLANE, 1)[0]
    prior = lambda z: exact.log_density(VP, PLANE, z, 1.0)
    score = jax.jit(jax.grad(lambda x: log_density(x, exact.denoiser(VP, PLANE), VP, times=times, prior=prior).value))(x)
    np.testing.assert_allclose(score, jax.grad(lambda x: exact.log_density(VP, PLANE, x, 1e-2))(x), rtol=1e-2)


def test_bits_do_not_depend_on_the_range_of_the_data():
    """A law on [-1, 1] and the same on [0, 1]."""
    halved = exact.mixture(PLANE.weights, (PLANE.means + 1) / 2, np.array(COVARIANCES) / 4)
    x = points(PLANE, 32)
    wide = bits_per_dim(flowed(VP, PLANE, x, 1e-5).value, 2)
    narrow = bits_per_dim(flowed(VP, halved, (x + 1) / 2, 1e-5).value, 2, low=0.0)
    np.testing.assert_allclose(wide, narrow, atol=2e-3)
    assert jnp.allclose(bits_per_dim(0.0, 10), 7) and jnp.allclose(bits_per_dim(0.0, 10, low=0.0), 8)
    assert jnp.allclose(bits_per_dim(-30 * jnp.log(2.0), 10), 10)  # nats of a cube of side 2: 8 bits of 256 levels, and 2 lost


def test_dequantised_data_fill_the_bins_of_their_levels():
    levels = jnp.repeat(jnp.linspace(-1, 1, 256), 40)
    x = dequantise(jax.random.key(0), levels)
    np.testing.assert_array_equal(jnp.floor((x + 1) * 128), jnp.repeat(jnp.arange(256), 40))
    offsets = (x + 1) * 128 % 1
    assert abs(offsets.mean() - 0.5) < 0.01 and abs(offsets.var() - 1 / 12) < 0.003
