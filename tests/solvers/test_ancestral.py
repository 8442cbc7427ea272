"""DDPM and DDIM on the exact mixture, against their definitions and measured tables."""

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from scipy.stats import kstest, norm

from jaxdiff import grids, paths
from jaxdiff.solvers.ancestral import ddim, ddpm
from jaxdiff.solvers.loop import sample
from jaxdiff.solvers.runge_kutta import euler

LINEAR, VP = paths.discrete(paths.linear_betas(1000)), paths.vp()
MIXTURE = oracles.TEST_BED
COUNT = 20000


def optimal(x, t, s):
    """The variance of x_s given x_t under the mixture, by the law of total variance."""
    of_x0, std = paths.bridge(LINEAR, 1.0, 0.0, t, s)
    return std**2 + of_x0**2 * oracles.posterior_variance(LINEAR, MIXTURE, x, t)


@pytest.fixture(scope='module', params=['small', 'large', 'optimal'])
def ancestral(request):
    """The choice of variance, and steps -> COUNT draws."""
    denoise, solver = oracles.denoiser(LINEAR, MIXTURE), ddpm(LINEAR, variance=optimal if request.param == 'optimal' else request.param)
    x = jax.random.normal(jax.random.key(0), (COUNT,))
    run = jax.jit(lambda times: sample(jax.random.key(1), x, denoise, solver, times).x)
    return request.param, lambda steps: np.asarray(run(grids.leading(1000, steps)))


@pytest.mark.parametrize('steps', [20, 100])
def test_few_steps_have_the_measured_spread(ancestral, steps):
    variance, draw = ancestral
    std, left, right = {
        (20, 'small'): (0.4032, 0.257, 0.142),
        (20, 'large'): (0.5054, 0.300, 0.195),
        (20, 'optimal'): (0.4838, 0.293, 0.193),
        (100, 'small'): (0.4686, 0.293, 0.195),
        (100, 'large'): (0.4916, 0.304, 0.207),
        (100, 'optimal'): (0.4898, 0.304, 0.208),
    }[steps, variance]
    x = draw(steps)
    assert abs(x.std() - std) < 0.004
    assert abs((x < -0.3).mean() - left) < 0.009 and abs((x > 0.5).mean() - right) < 0.008


@pytest.mark.parametrize('ancestral', ['small', 'large'], indirect=True)
def test_a_thousand_steps_draw_the_mixture(ancestral):
    variance, draw = ancestral
    x = draw(1000)
    truth = np.random.default_rng(0).normal(
        np.repeat(MIXTURE.means, [300000, 500000, 200000]), np.repeat(MIXTURE.stds, [300000, 500000, 200000])
    )
    law = lambda x: sum(w * norm.cdf(x, m, c) for w, m, c in zip(*MIXTURE, strict=True))
    statistics = [lambda x: x, lambda x: (x - MIXTURE.mean) ** 2, lambda x: x < -0.3, lambda x: x > 0.5]
    if variance == 'small':  # measured: 0.4856, short of the truth by 0.004
        assert abs(x.std() - 0.4856) < 0.004
        statistics = statistics[:1]
    else:
        assert kstest(x, law).pvalue > 0.01
    for of in statistics:
        assert abs(of(x).mean() - of(truth).mean()) < 4 * np.std(of(x)) / np.sqrt(COUNT)


def test_the_noise_of_a_step_has_the_variance_named():
    betas = paths.linear_betas(1000)
    before, now = np.cumprod(1 - betas)[[498, 499]]
    x = jax.random.normal(jax.random.key(0), (50,))

    def step(variance):
        moved, _, _ = ddpm(LINEAR, variance=variance).step(jax.random.key(1), lambda x, t: x, (), x, jnp.float32(500), jnp.float32(499))
        return np.asarray(moved)

    mean, unit = step(lambda x, t, s: 0.0), step(lambda x, t, s: 1.0)
    noise = unit - mean
    np.testing.assert_allclose(step('large'), mean + np.sqrt(betas[499]) * noise, atol=2e-5)
    np.testing.assert_allclose(step('small'), mean + np.sqrt(betas[499] * (1 - before) / (1 - now)) * noise, atol=2e-5)


def test_full_noise_makes_ddim_ancestral():
    x, times = jax.random.normal(jax.random.key(0), (500,)), grids.trailing(1000, 25)
    run = lambda solver: jax.jit(lambda: sample(jax.random.key(1), x, oracles.denoiser(LINEAR, MIXTURE), solver, times).x)()
    np.testing.assert_allclose(run(ddim(LINEAR, eta=1.0)), run(ddpm(LINEAR)), atol=2e-5)


def test_ddim_is_euler_in_sigma_over_alpha():
    x, times = jax.random.normal(jax.random.key(0), (500,)), grids.uniform(VP, 25)
    run = lambda solver: jax.jit(lambda: sample(jax.random.key(1), x, oracles.denoiser(VP, MIXTURE), solver, times).x)()
    np.testing.assert_allclose(run(ddim(VP)), run(euler(VP, clock='sigma')), atol=2e-5)


@pytest.mark.parametrize('eta', [0.0, 0.4, 1.0])
def test_ddim_keeps_the_marginals(eta):
    """With x0_hat = x0, the true one, a step takes q(x_t | x0) to q(x_s | x0)."""
    t, s, x0 = jnp.float32(0.6), jnp.float32(0.3), 0.7
    x = paths.perturb(VP, x0, jax.random.normal(jax.random.key(0), (COUNT,)), t)
    step = ddim(VP, eta=eta).step
    moved, _, _ = step(jax.random.key(1), lambda x, t: jnp.full_like(x, x0), (), x, t, s)
    assert abs(moved.mean() - VP.alpha(s) * x0) < 4 * VP.sigma(s) / np.sqrt(COUNT)
    assert abs(moved.std() / VP.sigma(s) - 1) < 4 / np.sqrt(2 * COUNT)
    fresh = jnp.corrcoef(x, moved)[0, 1]
    lost = -jnp.expm1(VP.log_snr(t) - VP.log_snr(s))
    assert abs(fresh - jnp.sqrt(1 - eta**2 * lost)) < 4 / np.sqrt(COUNT)


def test_unknown_variances_are_refused():
    with pytest.raises(ValueError, match='medium'):
        ddpm(LINEAR, variance='medium')


STEPS = np.array([10, 20, 40, 80, 160, 320])


def test_ddim_is_of_first_order_with_the_measured_errors():
    with jax.enable_x64(True):
        denoise = oracles.denoiser(VP, MIXTURE)
        x = VP.sigma(1.0) * jax.random.normal(jax.random.key(0), (4000,))
        exact = jax.jit(lambda x: oracles.flow(VP, denoise, x, 1.0, 1e-3))(x)
        even = (lambda n: grids.log_snr(VP, n, last=1e-3, zero=False)), (lambda n: grids.uniform(VP, n, last=1e-3))
        # one compilation: shorter grids stay at their last time, where a step does nothing
        padded = [np.pad(grid(n), (0, 320 - n), mode='edge') for grid in even for n in STEPS]
        run = jax.jit(jax.vmap(lambda times: jnp.sqrt(jnp.mean((sample(jax.random.key(0), x, denoise, ddim(VP), times).x - exact) ** 2))))
        errors = np.asarray(run(jnp.array(padded))).reshape(2, 6)
    np.testing.assert_allclose(errors[0], [9.7e-2, 5.1e-2, 2.6e-2, 1.3e-2, 6.5e-3, 3.3e-3], rtol=0.1)
    np.testing.assert_allclose(errors[1], [1.2e-1, 5.7e-2, 2.9e-2, 1.5e-2, 7.3e-3, 3.7e-3], rtol=0.1)
    np.testing.assert_allclose(np.log2(errors[:, 3:-1] / errors[:, 4:]), 1, atol=0.05)
