"""Euler and Heun on the probability flow of the exact mixture."""

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest

from jaxdiff import grids, paths
from jaxdiff.paths import GaussianPath
from jaxdiff.solvers.loop import sample
from jaxdiff.solvers.runge_kutta import euler, heun

MIXTURE = oracles.TEST_BED
VP, COSINE = paths.vp(), paths.cosine()
STEPS = np.array([10, 20, 40, 80, 160, 320])


def errors(path, solver, grid):
    """RMSE at STEPS of the walk from the path's end to a thousandth of it, in one compilation, float64."""
    denoise = oracles.denoiser(path, MIXTURE)
    x = path.sigma(path.end) * jax.random.normal(jax.random.key(0), (2000,))
    exact = jax.jit(lambda x: oracles.flow(path, denoise, x, path.end, 1e-3 * path.end))(x)
    times = jnp.array([np.pad(grid(path, n), (0, 320 - n), mode='edge') for n in STEPS])  # a step from a time to itself does nothing
    rmse = lambda times: jnp.sqrt(jnp.mean((sample(jax.random.key(0), x, denoise, solver, times).x - exact) ** 2))
    return np.asarray(jax.jit(jax.vmap(rmse))(times))


def uniform(path, n):
    return grids.uniform(path, n, last=1e-3 * path.end)


def karras(path, n):
    return grids.karras(path, n, last=1e-3 * path.end, zero=False)


def test_heun_in_sigma_over_alpha_has_the_measured_errors():
    with jax.enable_x64(True):
        rmse = errors(VP, heun(VP, clock='sigma'), karras)
    np.testing.assert_allclose(rmse, [8.1e-2, 1.8e-2, 4.4e-3, 1.1e-3, 2.7e-4, 6.6e-5], rtol=0.1)
    np.testing.assert_allclose(np.log2(rmse[3:-1] / rmse[4:]), 2, atol=0.1)


@pytest.mark.parametrize(
    ('path', 'solver', 'grid', 'order'),
    [(VP, heun(VP), karras, 2), (COSINE, heun(COSINE), uniform, 2), (VP, heun(VP, clock='time'), karras, 2), (VP, euler(VP), uniform, 1)],
    ids=['heun', 'heun, cosine', 'heun, time', 'euler'],
)
def test_orders_of_convergence(path, solver, grid, order):
    with jax.enable_x64(True):
        rmse = errors(path, solver, grid)
    np.testing.assert_allclose(np.log2(rmse[3:-1] / rmse[4:]), order, atol=0.1)


def test_the_angle_sees_no_difference_between_paths():
    """The flow in the angle depends on the signal-to-noise ratio alone: VP and variance-exploding paths give one answer."""
    sigma = lambda t: VP.sigma(t) / VP.alpha(t)
    exploding = GaussianPath(jnp.ones_like, sigma, VP.log_snr, 1.0, VP.embed)
    x, times = jax.random.normal(jax.random.key(0), (200,)), grids.uniform(VP, 12, last=0.01)
    walk = lambda path, x: sample(jax.random.key(0), x, oracles.denoiser(path, MIXTURE), heun(path), times).x
    np.testing.assert_allclose(walk(exploding, x / VP.alpha(1.0)), walk(VP, x) / VP.alpha(0.01), atol=1e-3)


def test_heun_saves_the_second_evaluation_of_the_last_step():
    calls = []

    def denoise(x, t):
        jax.debug.callback(lambda: calls.append(0))
        return 0.5 * x

    jax.block_until_ready(jax.jit(lambda x: sample(jax.random.key(0), x, denoise, heun(VP), grids.uniform(VP, 5)).x)(jnp.ones(3)))
    jax.effects_barrier()
    assert len(calls) == 9


def test_unknown_clocks_are_refused():
    with pytest.raises(ValueError, match='moon'):
        heun(VP, clock='moon')
