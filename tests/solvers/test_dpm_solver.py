"""DPM-Solver++ on the exact mixture."""

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from convergence import errors, evaluations, log_snr, orders

from jaxdiff import grids, paths
from jaxdiff.solvers.ancestral import ddim, ddpm
from jaxdiff.solvers.dpm_solver import dpmpp, sde_dpmpp
from jaxdiff.solvers.loop import sample

VP, LINEAR, FLOW = paths.vp(), paths.discrete(paths.linear_betas(1000)), paths.flow()
MIXTURE = oracles.TEST_BED


@pytest.mark.parametrize(
    ('solver', 'measured', 'order'),
    [
        (dpmpp(VP), [2.1e-2, 6.1e-3, 1.6e-3, 4.0e-4, 1.0e-4, 2.5e-5], 2.00),
        (dpmpp(VP, variant='heun'), [4.2e-2, 1.1e-2, 2.7e-3, 6.6e-4, 1.6e-4, 4.1e-5], 2.00),
        (dpmpp(VP, 3, peer_compat=True), [2.6e-2, 4.0e-3, 6.8e-4, 1.4e-4, 3.4e-5, 8.3e-6], 2.05),
        (dpmpp(VP, 3), [2.4e-2, 3.4e-3, 3.3e-4, 3.5e-5, 3.9e-6, 4.7e-7], 3.05),
    ],
    ids=['2M', '2M, heun', '3M of peers', '3M'],
)
def test_measured_errors(solver, measured, order):
    with jax.enable_x64(True):
        rmse = errors(VP, solver, log_snr)
    np.testing.assert_allclose(rmse, measured, rtol=0.1)
    np.testing.assert_allclose(orders(rmse)[4:], order, atol=0.1)


@pytest.mark.parametrize(('solver', 'other'), [(dpmpp, ddim), (sde_dpmpp, ddpm)], ids=['ddim', 'ddpm'])
@pytest.mark.parametrize('path', [LINEAR, FLOW], ids=['table', 'flow'])
def test_of_first_order_they_are_ddim_and_ddpm(solver, other, path):
    with jax.enable_x64(True):
        x, times = jax.random.normal(jax.random.key(0), (100,)), grids.uniform(path, 12)
        run = lambda solver: sample(jax.random.key(1), x, oracles.denoiser(path, MIXTURE), solver, times, trace=lambda i, x, x0: x).trace
        np.testing.assert_allclose(run(solver(path, 1)), run(other(path)), atol=1e-6)


@pytest.mark.parametrize('order', [1, 2, 3])
def test_a_constant_denoiser_is_followed_exactly(order):
    """x = alpha x0 + sigma eps for ever, in any number of steps."""
    eps, x0, times = jnp.array([0.7, -1.2]), 0.4, jnp.array([1.0, 0.8, 0.75, 0.3, 0.1])
    x = VP.alpha(1.0) * x0 + VP.sigma(1.0) * eps
    out = sample(jax.random.key(0), x, lambda x, t: jnp.full_like(x, x0), dpmpp(VP, order), times)
    np.testing.assert_allclose(out.x, VP.alpha(0.1) * x0 + VP.sigma(0.1) * eps, atol=1e-5)


def test_one_evaluation_a_step():
    assert evaluations(VP, dpmpp(VP, 3), 6) == evaluations(VP, sde_dpmpp(VP), 6) == 6


def test_the_stochastic_solver_draws_the_data():
    """Data N(0, 1), where the noise of the whole way is what is drawn: the error of the variance falls with the steps."""
    denoise, x = oracles.denoiser(VP, oracles.Mixture((1.0,), (0.0,), (1.0,))), jax.random.normal(jax.random.key(0), (40000,))
    run = jax.jit(lambda times: sample(jax.random.key(1), x, denoise, sde_dpmpp(VP), times).x.var())
    few, many = (abs(run(grids.log_snr(VP, n)) - 1) for n in (10, 80))
    assert many < 0.03 and many < few / 2


def test_second_order_draws_better_than_first():
    denoise, x = oracles.denoiser(VP, MIXTURE), jax.random.normal(jax.random.key(0), (40000,))
    short = [
        abs(jax.jit(lambda s=s: sample(jax.random.key(1), x, denoise, s, grids.log_snr(VP, 20)).x.std())() - MIXTURE.std)
        for s in (sde_dpmpp(VP, 1), sde_dpmpp(VP, 2))
    ]
    assert short[1] < short[0] / 2


def test_orders_and_variants_are_checked():
    for wrong in (lambda: dpmpp(VP, 4), lambda: sde_dpmpp(VP, 3), lambda: dpmpp(VP, variant='moon')):
        with pytest.raises(ValueError, match=r'4|3|moon'):
            wrong()
