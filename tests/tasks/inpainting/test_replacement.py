"""Inpainting by replacement: the known is kept, the hole follows the prior and its surroundings."""

from functools import partial
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest

from jaxdiff import grids, paths
from jaxdiff.solvers.ancestral import ddpm
from jaxdiff.solvers.runge_kutta import heun
from jaxdiff.tasks.inpainting.replacement import fill

PATH = paths.vp()
IMAGE = jnp.sin(jnp.arange(10000.0)).reshape(100, 100, 1)
KNOWN = jnp.ones((100, 100, 1)).at[20:90, 5:85].set(0.0)
HOLE = np.asarray(KNOWN == 0)


@pytest.fixture(scope='module')
def filled():
    """The hole filled from independent draws of a mixture."""
    denoise = oracles.denoiser(PATH, oracles.TEST_BED)
    return jax.jit(partial(fill, denoise=denoise, path=PATH, solver=heun(PATH), times=grids.uniform(PATH, 30)))


@pytest.fixture(scope='module')
def first(filled):
    return filled(jax.random.key(0), IMAGE, KNOWN)


def test_the_known_is_kept_exactly_and_the_hole_shown_as_background(first):
    np.testing.assert_array_equal(first.filled[~HOLE], IMAGE[~HOLE])
    np.testing.assert_array_equal(first.image, np.where(HOLE, -1, IMAGE))
    np.testing.assert_array_equal(first.known, KNOWN)


def test_the_hole_has_the_law_of_the_prior(first):
    """Mean, standard deviation and the share of each component, apart from the known voxels, which are others."""
    hole, true = first.filled[HOLE], oracles.draw(jax.random.key(9), oracles.TEST_BED, (20_000,))
    n = HOLE.sum()
    assert abs(hole.mean() - oracles.TEST_BED.mean) < 4 * oracles.TEST_BED.std / np.sqrt(n) + 0.005
    assert hole.std() == pytest.approx(oracles.TEST_BED.std, rel=0.04)
    np.testing.assert_allclose(np.quantile(hole, (0.1, 0.5, 0.9)), np.quantile(true, (0.1, 0.5, 0.9)), atol=0.03)


def test_what_lies_in_the_hole_is_not_read(filled, first):
    again = filled(jax.random.key(0), jnp.where(HOLE, 7.0, IMAGE), KNOWN)
    np.testing.assert_array_equal(again.filled, first.filled)


def test_another_key_gives_another_filling_of_the_same_hole(filled, first):
    other = filled(jax.random.key(1), IMAGE, KNOWN)
    np.testing.assert_array_equal(other.filled[~HOLE], first.filled[~HOLE])
    assert abs(np.corrcoef(other.filled[HOLE], first.filled[HOLE])[0, 1]) < 4 / np.sqrt(HOLE.sum())


def test_the_hole_grows_towards_its_surroundings():
    """Two voxels of one sign (correlation .9), the first known: on average each step moves a linear denoiser's mean along the bridge.

    Replacement is not the exact posterior, whose mean is .9 y: the known voxel is noised anew at every step.
    """
    y, sums, turn = 0.8, 0.25 * np.array([1.9, 0.1]), np.array([[1, 1], [1, -1]]) / np.sqrt(2)  # variances of x + y and x - y
    times = grids.uniform(PATH, 60)
    wiener = lambda alpha, sigma: alpha * sums / (alpha**2 * sums + sigma**2)
    denoise = lambda x, t: turn @ (wiener(PATH.alpha(t), PATH.sigma(t)) * (turn @ x))
    one = lambda key: fill(key, jnp.array([y, 0.0]), jnp.array([1.0, 0.0]), denoise, path=PATH, solver=ddpm(PATH), times=times).filled
    found = jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(2), 4000))
    mean = np.zeros(2)
    for (alpha, beta), (sigma, tau) in zip(pairwise(np.asarray(PATH.alpha(times))), pairwise(np.asarray(PATH.sigma(times))), strict=True):
        kept = (alpha * tau / (beta * sigma)) ** 2  # SNR(t) / SNR(s)
        mean = np.sqrt(kept) * tau / max(sigma, 1e-9) * mean + beta * (1 - kept) * (turn @ (wiener(alpha, sigma) * (turn @ mean)))
        mean[0] = beta * y
    np.testing.assert_array_equal(found[:, 0], np.float32(y))
    assert abs(found[:, 1].mean() - mean[1]) < 4 * found[:, 1].std() / np.sqrt(4000)
    assert 0.6 * 0.9 * y < mean[1] < 0.9 * y
