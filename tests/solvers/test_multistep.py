"""PNDM, S-PNDM and PLMS on the probability flow of the exact mixture."""

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from convergence import errors, evaluations, log_snr, orders, uniform

from jaxdiff import grids, paths
from jaxdiff.predict import convert
from jaxdiff.solvers.ancestral import ddim
from jaxdiff.solvers.flow import flow_of
from jaxdiff.solvers.loop import sample
from jaxdiff.solvers.multistep import ADAMS, _adams, _heun, plms, pndm, s_pndm
from jaxdiff.solvers.runge_kutta import heun, rk4

VP, COSINE = paths.vp(), paths.cosine()
SOLVERS = {'pndm': pndm, 's-pndm': s_pndm, 'plms': plms}


@pytest.mark.parametrize(
    ('solver', 'grid', 'measured'),
    [
        (pndm, log_snr, [1.8e-2, 4.9e-3, 1.1e-3, 2.7e-4, 6.6e-5, 1.6e-5]),
        (pndm, uniform, [3.8e-2, 2.6e-2, 8.0e-3, 1.0e-3, 2.0e-4, 6.9e-5]),
        (plms, log_snr, [1.8e-2, 4.9e-3, 1.1e-3, 2.7e-4, 6.6e-5, 1.6e-5]),
        (s_pndm, log_snr, [2.3e-2, 6.6e-3, 1.7e-3, 4.3e-4, 1.1e-4, 2.7e-5]),
    ],
    ids=['pndm', 'pndm, uniform', 'plms', 's-pndm'],
)
def test_measured_errors(solver, grid, measured):
    with jax.enable_x64(True):
        rmse = errors(VP, solver(VP), grid)
    np.testing.assert_allclose(rmse, measured, rtol=0.1)
    if grid is log_snr:  # in t the order is irregular
        np.testing.assert_allclose(orders(rmse)[3:], 2, atol=0.1)


@pytest.mark.parametrize('solver', SOLVERS.values(), ids=SOLVERS)
def test_constant_noise_is_followed_exactly(solver):
    """Where eps is the same everywhere, x = alpha x0 + sigma eps for ever."""
    eps, x0, times = 0.7, jnp.array([-0.4, 0.9]), grids.uniform(VP, 8, last=0.05)
    denoise = lambda x, t: convert(VP, jnp.full_like(x, eps), x, t, source='eps', target='x0')
    x = VP.alpha(1.0) * x0 + VP.sigma(1.0) * eps
    with jax.enable_x64(True):
        out = sample(jax.random.key(0), x.astype(float), denoise, solver(VP), times.astype(float))
    np.testing.assert_allclose(out.x, VP.alpha(0.05) * x0 + VP.sigma(0.05) * eps, atol=3e-5)


def test_coefficients_integrate_polynomials():
    for order, row in enumerate(ADAMS):
        for power in range(order + 1):
            np.testing.assert_allclose(np.dot(row, (-np.arange(4.0)) ** power), 1 / (power + 1))


def test_first_steps_are_those_of_runge_kutta():
    """In the clock sigma / alpha; PNDM's, if the step is also halved on that clock."""
    flow, denoise, (t, s) = flow_of(VP, 'sigma'), oracles.denoiser(VP, oracles.TEST_BED), jnp.array([0.5, 0.3])
    x = jnp.array([0.3, -0.8, 1.1])
    halved = pndm(VP, middle=lambda t, s: flow.time((flow.tau(t) + flow.tau(s)) / 2))
    for solver, other in ((halved, rk4), (plms(VP), heun), (s_pndm(VP), heun)):
        first = lambda solver: solver.step(jax.random.key(0), denoise, solver.init(x), x, t, s)[0]
        np.testing.assert_allclose(first(solver), first(other(VP, clock='sigma')), atol=2e-6)


def test_of_first_order_they_are_ddim():
    x, times = jax.random.normal(jax.random.key(0), (100,)), grids.uniform(VP, 12)
    run = lambda solver: jax.jit(lambda: sample(jax.random.key(0), x, oracles.denoiser(VP, oracles.TEST_BED), solver, times).x)()
    np.testing.assert_allclose(run(_adams(VP, _heun, 0, 1)), run(ddim(VP)), atol=2e-5)


@pytest.mark.parametrize(('solver', 'count'), [(pndm, 17), (s_pndm, 9), (plms, 9)])
def test_beginnings_cost_more_evaluations(solver, count):
    assert evaluations(VP, solver(VP), 8) == count


def test_evaluations_fall_where_tables_are_trained():
    path, seen = paths.discrete(paths.linear_betas(1000)), []

    def denoise(x, t):
        jax.debug.callback(lambda t: seen.append(float(path.embed(t))), t, ordered=True)
        return 0.5 * x

    times = grids.leading(1000, 10)[:-1]
    jax.block_until_ready(jax.jit(lambda x: sample(jax.random.key(0), x, denoise, pndm(path), times).x)(jnp.ones(3)))
    jax.effects_barrier()
    assert seen == [900, 850, 850, 800, 800, 750, 750, 700, 700, 650, 650, 600, 600, 500, 400, 300, 200, 100]


@pytest.mark.parametrize('path', [COSINE, paths.flow()], ids=['cosine', 'flow'])
@pytest.mark.parametrize('solver', SOLVERS.values(), ids=SOLVERS)
def test_they_begin_where_no_signal_is_left(solver, path):
    x = jax.random.normal(jax.random.key(0), (500,))
    run = jax.jit(lambda x: sample(jax.random.key(0), x, oracles.denoiser(path, oracles.TEST_BED), solver(path), grids.uniform(path, 20)).x)
    exact = oracles.flow(path, oracles.denoiser(path, oracles.TEST_BED), x, path.end * (1 - 1e-4), 1e-3 * path.end)
    assert jnp.sqrt(jnp.mean((run(x) - exact) ** 2)) < 0.05
