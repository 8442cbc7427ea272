"""UniPC on the probability flow of the exact mixture."""

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from convergence import errors, evaluations, log_snr, orders

from jaxdiff import constraints, grids, paths
from jaxdiff.solvers.ancestral import ddim
from jaxdiff.solvers.dpm_solver import dpmpp
from jaxdiff.solvers.loop import sample
from jaxdiff.solvers.unipc import unipc

VP, FLOW = paths.vp(), paths.flow()


@pytest.mark.parametrize(
    ('solver', 'measured', 'order'),
    [
        (unipc(VP), [2.0e-2, 3.7e-3, 5.5e-4, 7.1e-5, 9.0e-6, 1.1e-6], 2.99),
        (unipc(VP, 3), [2.0e-2, 1.6e-3, 5.3e-5, 4.3e-6, 3.2e-7, 2.2e-8], 3.9),
        (unipc(VP, b='bh1'), [7.4e-2, 8.5e-3, 1.0e-3, 1.2e-4, 1.5e-5, 1.9e-6], 3.0),
    ],
    ids=['2', '3', '2, bh1'],
)
def test_measured_errors(solver, measured, order):
    with jax.enable_x64(True):
        rmse = errors(VP, solver, log_snr)
    np.testing.assert_allclose(rmse, measured, rtol=0.1)
    np.testing.assert_allclose(orders(rmse)[4:], order, atol=0.1)


def walk(path, solver, times, **options):
    x = jax.random.normal(jax.random.key(0), (100,))
    return sample(jax.random.key(1), x, oracles.denoiser(path, oracles.TEST_BED), solver, times, trace=lambda i, x, x0: x, **options)


@pytest.mark.parametrize(('order', 'other'), [(1, ddim), (2, dpmpp), (3, lambda path: dpmpp(path, 3))], ids=['ddim', '2M', '3M'])
def test_predictors_alone_are_known_methods(order, other):
    with jax.enable_x64(True):
        times = grids.uniform(FLOW, 12)
        np.testing.assert_allclose(
            walk(FLOW, unipc(FLOW, order, corrector=False), times).trace, walk(FLOW, other(FLOW), times).trace, atol=1e-6
        )


@pytest.mark.parametrize('order', [1, 2, 3])
def test_a_constant_denoiser_is_followed_exactly(order):
    eps, x0, times = jnp.array([0.7, -1.2]), 0.4, jnp.array([1.0, 0.8, 0.75, 0.3, 0.1])
    x = VP.alpha(1.0) * x0 + VP.sigma(1.0) * eps
    out = sample(jax.random.key(0), x, lambda x, t: jnp.full_like(x, x0), unipc(VP, order), times)
    np.testing.assert_allclose(out.x, VP.alpha(0.1) * x0 + VP.sigma(0.1) * eps, atol=1e-5)


def test_the_corrector_repeats_the_step_with_the_new_value():
    """The second step of order 1, by hand: the trapezium for x0_hat over lambda, from where the first step began."""
    denoise, (t, m, s) = oracles.denoiser(VP, oracles.TEST_BED), (jnp.array(v) for v in (0.5, 0.4, 0.3))
    x = jnp.array([0.3, -0.8, 1.1])
    ratio = lambda t, s: VP.sigma(s) / VP.sigma(t)
    lost = lambda t, s: VP.alpha(s) - ratio(t, s) * VP.alpha(t)
    first = denoise(x, t)
    second = denoise(ratio(t, m) * x + lost(t, m) * first, m)
    corrected = ratio(t, m) * x + lost(t, m) * (first + second) / 2
    expected = ratio(m, s) * corrected + lost(m, s) * second
    out = sample(jax.random.key(0), x, denoise, unipc(VP, 1), jnp.stack([t, m, s]))
    np.testing.assert_allclose(out.x, expected, atol=2e-6)


def test_the_corrector_costs_no_evaluation():
    assert evaluations(VP, unipc(VP, 3), 6) == 6


def test_constraints_are_corrected_not_undone():
    known, mask = jnp.full(100, 0.5), jnp.arange(100) < 50
    quiet = lambda key, shape: jnp.zeros(shape)  # what is known enters as alpha 0.5
    out = walk(VP, unipc(VP), grids.uniform(VP, 12), constrain=constraints.inpaint(VP, known, mask, noise=quiet))
    np.testing.assert_array_equal(out.x[:50], 0.5)
    assert jnp.all(jnp.abs(out.trace[:, 50:]) < 5) and jnp.std(out.x[50:]) > 0.2


def test_orders_and_functions_are_checked():
    for wrong in (lambda: unipc(VP, 4), lambda: unipc(VP, b='bh3')):
        with pytest.raises(ValueError, match=r'4|bh3'):
            wrong()
