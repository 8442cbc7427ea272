"""Averaged partial diffusion against its closed form: E[restored | image] is E[x0 | x_L] averaged over the noise of x_L."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest

from jaxdiff import paths
from jaxdiff.solvers.ancestral import ddim, ddpm
from jaxdiff.tasks.anomaly.partial import restore

PATH = paths.vp()
HEALTHY = oracles.Mixture((1.0,), (-0.2,), (0.3,))
SPOT = np.zeros((100, 100, 1), bool)
SPOT[10:60, 20:80] = True
IMAGE = np.where(SPOT, 0.9, -0.2).astype(np.float32)  # far from the prior in the spot, its mean elsewhere
DEPTH = 0.15
ALPHA, SIGMA = float(PATH.alpha(DEPTH)), float(PATH.sigma(DEPTH))


@cache
def compiled(solver, prior, repeats):
    return jax.jit(partial(restore, denoise=oracles.denoiser(PATH, prior), path=PATH, solver=solver(PATH), repeats=repeats))


def restored(key, *, solver=ddpm, prior=HEALTHY, depth=DEPTH, steps=3, repeats=2):
    times = np.linspace(depth, 0, steps + 1, dtype=np.float32)
    return jax.device_get(compiled(solver, prior, repeats)(jax.random.key(key), IMAGE, times=times))


@pytest.fixture(scope='module')
def twice():
    return restored(0)


@pytest.fixture(scope='module')
def once():
    return restored(0, repeats=1)


def standard_error(found, region):
    return found.restored[region].std() / np.sqrt(region.sum())


@pytest.mark.parametrize(('region', 'value'), [(SPOT, 0.9), (~SPOT, -0.2)])
def test_a_gaussian_prior_shrinks_the_image_by_the_linear_denoiser(twice, region, value):
    """Exact in any number of ancestral steps, for then the denoiser is linear."""
    shrinkage = (ALPHA * 0.3) ** 2 / ((ALPHA * 0.3) ** 2 + SIGMA**2)
    assert abs(twice.restored[region].mean() - (-0.2 + shrinkage * (value + 0.2))) < 4 * standard_error(twice, region)


def test_a_mixture_prior_restores_to_its_posterior_mean():
    """The average over eps by Gauss-Hermite quadrature."""
    found = restored(1, prior=oracles.TEST_BED, steps=200, repeats=1)
    nodes, weights = np.polynomial.hermite_e.hermegauss(101)
    for region, value in ((SPOT, 0.9), (~SPOT, -0.2)):
        x = jnp.asarray(ALPHA * value + SIGMA * nodes)
        expected = np.dot(weights, oracles.denoiser(PATH, oracles.TEST_BED)(x, DEPTH)) / weights.sum()
        assert abs(found.restored[region].mean() - expected) < 4 * standard_error(found, region) + 0.005


def test_the_deterministic_flow_keeps_each_quantile():
    """x_L is N(alpha y, sigma^2), and the flow of a Gaussian is affine: m + c / sqrt(v) (x_L - alpha m)."""
    found = restored(2, solver=ddim, steps=200, repeats=1)
    slope = 0.3 / np.hypot(ALPHA * 0.3, SIGMA)
    assert abs(found.restored[SPOT].mean() - (-0.2 + slope * ALPHA * 1.1)) < 4 * standard_error(found, SPOT) + 0.002
    assert found.restored[SPOT].std() == pytest.approx(slope * SIGMA, rel=0.06)


def test_next_to_no_noise_returns_the_image():
    residual = restored(3, depth=1e-3).map
    assert 0 < residual.max() < 6 * PATH.sigma(1e-3)


def test_the_residual_is_the_distance_to_the_mean_and_marks_the_spot(twice):
    np.testing.assert_array_equal(twice.image, IMAGE)
    np.testing.assert_allclose(twice.map, np.abs(IMAGE - twice.restored)[..., 0], atol=1e-6)
    assert np.quantile(twice.map[SPOT[..., 0]], 0.05) > np.quantile(twice.map[~SPOT[..., 0]], 0.95)


def test_of_two_repeats_the_first_is_that_of_one(once, twice):
    """And lies one standard deviation from their mean."""
    assert not once.spread.any()
    np.testing.assert_allclose(np.abs(once.restored - twice.restored), twice.spread, atol=1e-6)


def test_averaging_removes_what_the_noise_invented(once, twice):
    noise = once.restored[~SPOT].std()
    assert noise > 0.02 and twice.restored[~SPOT].std() / noise == pytest.approx(np.sqrt(1 / 2), rel=0.05)
    assert np.sqrt(np.mean(twice.spread**2)) / noise == pytest.approx(np.sqrt(1 / 2), rel=0.05)
