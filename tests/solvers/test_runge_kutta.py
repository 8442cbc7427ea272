"""Runge-Kutta methods on the probability flow of the exact mixture."""

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from convergence import errors, evaluations, karras, log_snr, orders, uniform

from jaxdiff import grids, paths
from jaxdiff.paths import GaussianPath
from jaxdiff.solvers.flow import flow_of
from jaxdiff.solvers.loop import sample
from jaxdiff.solvers.runge_kutta import euler, heun, midpoint, rk4

MIXTURE = oracles.TEST_BED
VP, COSINE = paths.vp(), paths.cosine()


def test_heun_in_sigma_over_alpha_has_the_measured_errors():
    with jax.enable_x64(True):
        rmse = errors(VP, heun(VP, clock='sigma'), karras)
    np.testing.assert_allclose(rmse, [8.1e-2, 1.8e-2, 4.4e-3, 1.1e-3, 2.7e-4, 6.6e-5], rtol=0.1)
    np.testing.assert_allclose(orders(rmse)[3:], 2, atol=0.1)


def test_rk4_in_time_has_the_measured_errors():
    with jax.enable_x64(True):
        rmse = errors(VP, rk4(VP, clock='time'), log_snr)
    np.testing.assert_allclose(rmse, [3.4e-4, 1.8e-5, 1.2e-6, 7.5e-8, 4.7e-9, 3e-10], rtol=0.1)
    np.testing.assert_allclose(orders(rmse)[2:], 3.98, atol=0.1)


@pytest.mark.parametrize(
    ('path', 'solver', 'grid', 'order'),
    [
        (VP, heun(VP), karras, 2),
        (COSINE, heun(COSINE), uniform, 2),
        (VP, heun(VP, clock='time'), karras, 2),
        (VP, euler(VP), uniform, 1),
        (VP, midpoint(VP), karras, 2),
        (VP, rk4(VP, clock='sigma'), karras, 4),
    ],
    ids=['heun', 'heun, cosine', 'heun, time', 'euler', 'midpoint', 'rk4, sigma'],
)
def test_orders_of_convergence(path, solver, grid, order):
    with jax.enable_x64(True):
        rmse = errors(path, solver, grid)
    np.testing.assert_allclose(orders(rmse)[3:], order, atol=0.1)


@pytest.mark.parametrize('clock', ['angle', 'sigma', 'time'])
def test_clocks_tell_the_time(clock):
    times = VP.end * jnp.array([1e-3, 0.1, 0.5, 0.99])
    flow = flow_of(VP, clock)
    np.testing.assert_allclose(flow.time(flow.tau(times)), times, rtol=1e-4)


def test_the_angle_sees_no_difference_between_paths():
    """The flow in the angle depends on the signal-to-noise ratio alone: VP and variance-exploding paths give one answer."""
    sigma = lambda t: VP.sigma(t) / VP.alpha(t)
    exploding = GaussianPath(jnp.ones_like, sigma, VP.log_snr, 1.0, VP.embed)
    x, times = jax.random.normal(jax.random.key(0), (200,)), grids.uniform(VP, 12, last=0.01)
    walk = lambda path, x: sample(jax.random.key(0), x, oracles.denoiser(path, MIXTURE), heun(path), times).x
    np.testing.assert_allclose(walk(exploding, x / VP.alpha(1.0)), walk(VP, x) / VP.alpha(0.01), atol=1e-3)


@pytest.mark.parametrize(('solver', 'count'), [(euler, 5), (heun, 9), (midpoint, 9), (rk4, 17)])
def test_the_step_to_data_is_one_evaluation(solver, count):
    assert evaluations(VP, solver(VP), 5) == count


def test_unknown_clocks_are_refused():
    with pytest.raises(ValueError, match='moon'):
        heun(VP, clock='moon')
