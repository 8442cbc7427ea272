"""Churn around other solvers."""

import jax
import jax.numpy as jnp
import numpy as np
import oracles

from jaxdiff import grids, paths
from jaxdiff.solvers.ancestral import ddpm
from jaxdiff.solvers.churn import churn, raised
from jaxdiff.solvers.loop import sample
from jaxdiff.solvers.runge_kutta import heun

VP, FLOW = paths.vp(), paths.flow()
SIGMA_HEUN = heun(VP, clock='sigma')


def test_no_churn_is_the_solver_itself():
    x, denoise, (t, s) = jax.random.normal(jax.random.key(0), (50,)), oracles.denoiser(VP, oracles.TEST_BED), jnp.array([0.5, 0.4])
    for solver in (SIGMA_HEUN, ddpm(VP)):
        still, moved = churn(VP, solver, amount=0.0), churn(VP, solver, amount=0.1)
        run = lambda solver, key=1: solver.step(jax.random.key(key), denoise, (), x, t, s)[0]
        np.testing.assert_array_equal(run(still), run(solver))
        assert jnp.any(run(moved) != run(still))
    walk = jax.jit(lambda key: sample(key, x, denoise, churn(VP, SIGMA_HEUN, amount=0.0), grids.karras(VP, 6)).x)
    np.testing.assert_array_equal(walk(jax.random.key(1)), walk(jax.random.key(2)))


def test_noise_is_raised_as_edm_says():
    ratio = lambda t: np.exp(-np.asarray(VP.log_snr(t)) / 2)
    times = grids.karras(VP, 10)[1:-1]
    up = lambda amount, **window: ratio(raised(VP, times, amount, **window)) / ratio(times)
    np.testing.assert_allclose(up(0.2), 1.2, rtol=1e-3)
    np.testing.assert_allclose(up(3.0), np.sqrt(2), rtol=1e-3)
    inside = (ratio(times) >= 0.05) & (ratio(times) <= 20)
    assert 0 < inside.sum() < len(inside)
    np.testing.assert_allclose(up(0.2, low=0.05, high=20.0), np.where(inside, 1.2, 1.0), rtol=1e-3)


def test_noise_is_never_raised_above_the_end():
    for path in (VP, FLOW):
        times = path.end * jnp.array([1.0, 0.999, 0.9])
        above = raised(path, times, 0.4)
        assert jnp.all(above <= path.end) and above[0] == path.end and jnp.all(above[1:] > times[1:])
    x = jnp.ones(3)
    run = lambda t: churn(FLOW, heun(FLOW), amount=0.4).step(jax.random.key(0), lambda x, t: 0.5 * x, (), x, t, 0.8 * t)[0]
    assert jnp.all(jnp.isfinite(jax.vmap(run)(jnp.array([1.0, 0.999]))))


def test_churn_forgets_the_start_and_keeps_the_marginals():
    """N(0, c^2) data: the variance at the end is c^2, yet what is drawn depends on the noise of the way."""
    c, count = 0.3, 20000
    denoise = oracles.denoiser(VP, oracles.Mixture((1.0,), (0.0,), (c,)))
    x, times = VP.sigma(1.0) * jax.random.normal(jax.random.key(0), (count,)), grids.karras(VP, 60)
    run = jax.jit(lambda amount: sample(jax.random.key(1), x, denoise, churn(VP, SIGMA_HEUN, amount=amount), times).x)
    still, moved = run(0.0), run(0.3)
    assert jnp.corrcoef(x, still)[0, 1] > 0.999 and jnp.abs(jnp.corrcoef(x, moved)[0, 1]) < 0.1
    assert abs(moved.std() / c - 1) < 4 / np.sqrt(2 * count) + 5e-3 and abs(moved.mean()) < 4 * c / np.sqrt(count)
    inflated = jax.jit(lambda: sample(jax.random.key(1), x, denoise, churn(VP, SIGMA_HEUN, amount=0.3, inflate=1.2), times).x)()
    assert inflated.std() > 1.05 * c
