"""The embedded pair: its coefficients, its control of the error, and the probability flow walked by it."""

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from scipy.integrate import RK45

from jaxdiff import paths
from jaxdiff.solvers.embedded import COMPANION, NODES, STAGES, adaptive, integrate, transport

MIXTURE = oracles.TEST_BED
VP = paths.vp()
PATHS = {
    'vp': VP,
    'cosine': paths.cosine(),
    'zero terminal': paths.discrete(np.append(paths.linear_betas(999), 1.0)),
}
START = {'rising': np.ones((2, 3)), 'falling': np.ones(())}


def slope(y, tau):
    return {'rising': y['rising'] * jnp.cos(tau), 'falling': -2 * tau * y['falling'] ** 2}


def gap(y, tau):
    """Distance from the solution of the equation above from START at tau = 0."""
    return jnp.maximum(jnp.max(jnp.abs(y['rising'] - jnp.exp(jnp.sin(tau)))), jnp.abs(y['falling'] - 1 / (1 + tau**2)))


def test_the_coefficients_are_those_of_scipy():
    np.testing.assert_allclose(STAGES[:6, :5], RK45.A, rtol=1e-15)
    np.testing.assert_allclose(NODES[:6], RK45.C, rtol=1e-15)
    np.testing.assert_allclose(STAGES[6, :6], RK45.B, rtol=1e-15)
    np.testing.assert_allclose(COMPANION - STAGES[6], RK45.E, rtol=1e-12)


def test_a_step_is_of_fifth_order():
    with jax.enable_x64(True):
        lengths = 0.4 / 2 ** jnp.arange(4)
        out = jax.jit(jax.vmap(lambda stop: integrate(slope, START, 0.0, stop, first=1.0, atol=1e3)))(lengths)
        gaps = np.asarray(jax.vmap(gap)(out.y, lengths))
    np.testing.assert_array_equal(out.steps, 1)
    np.testing.assert_array_equal(out.evaluations, 7)
    np.testing.assert_allclose(np.log2(gaps[:-1] / gaps[1:])[1:], 6, atol=0.3)


def test_the_error_follows_the_tolerance_both_ways():
    traces = []

    @jax.jit
    @jax.vmap
    def there_and_back(tolerance):
        traces.append(0)
        there = integrate(slope, START, 0.0, 3.0, rtol=tolerance, atol=tolerance)
        back = integrate(slope, there.y, 3.0, 0.0, rtol=tolerance, atol=tolerance)
        return there, gap(there.y, 3.0), gap(back.y, 0.0)

    with jax.enable_x64(True):
        tolerance = jnp.array([1e-4, 1e-6, 1e-8, 1e-10])
        there, error, return_error = jax.tree.map(np.asarray, there_and_back(tolerance))
        there_and_back(tolerance / 2)
        tolerance = np.asarray(tolerance)
    assert len(traces) == 1
    assert np.all(error < 10 * tolerance) and np.all(return_error < 1000 * tolerance)  # the way back magnifies a hundredfold
    assert np.all(error[1:] < error[:-1] / 10)
    assert there.steps[-1] < 2 * 10**1.2 * there.steps[0]  # steps grow as tolerance^(-1/5)


def test_every_example_has_steps_of_its_own_or_shares_them():
    rates = jnp.array([0.1, 3.0, 40.0])

    def decay(rate, shared=None):
        return integrate(lambda y, tau: -rate * y, jnp.ones(4), 0.0, 1.0, shared=shared)

    own = jax.jit(jax.vmap(decay))(rates)
    together = jax.jit(jax.vmap(lambda rate: decay(rate, 'batch'), axis_name='batch'))(rates)
    alone = jax.jit(decay)
    np.testing.assert_array_equal(own.steps, [alone(rate).steps for rate in rates])
    assert own.steps[0] < own.steps[1] < own.steps[2]
    assert len(set(together.steps.tolist())) == 1 and together.steps[0] >= own.steps[2]
    for out in (own, together):
        np.testing.assert_allclose(out.y, jnp.repeat(jnp.exp(-rates)[:, None], 4, axis=1), atol=1e-4)


def test_what_is_not_reached_is_not_a_number():
    few = integrate(lambda y, tau: -50 * y, jnp.ones(2), 0.0, 1.0, max_attempts=4)
    assert few.evaluations == 25 and jnp.all(jnp.isnan(few.y))
    broken = integrate(lambda y, tau: jnp.where(tau > 0.5, jnp.nan, y), jnp.ones(2), 0.0, 1.0, max_attempts=60)
    assert jnp.all(jnp.isnan(broken.y))
    still = integrate(lambda y, tau: y, jnp.ones(2), 1.0, 1.0)
    np.testing.assert_array_equal(still.y, 1)


def test_it_follows_the_probability_flow():
    denoise = oracles.denoiser(VP, MIXTURE)
    with jax.enable_x64(True):
        x = jax.random.normal(jax.random.key(0), (200,))
        exact = jax.jit(lambda x: oracles.flow(VP, denoise, x, 1.0, 1e-3))(x)
        out = jax.jit(lambda x: transport(x, denoise, VP, 1.0, 1e-3, rtol=1e-7, atol=1e-7))(x)
    np.testing.assert_allclose(out.y, exact, atol=2e-6)
    assert out.evaluations < 400


def test_encoded_and_decoded_an_image_returns():
    denoise = oracles.denoiser(VP, MIXTURE)

    @jax.jit
    def there_and_back(x):
        latent = transport(x, denoise, VP, 1e-3, 1.0)
        return latent.y, transport(latent.y, denoise, VP, 1.0, 1e-3).y

    x = oracles.draw(jax.random.key(0), MIXTURE, (500,))
    latent, back = there_and_back(x)
    np.testing.assert_allclose(back, x, atol=1e-3)
    assert abs(jnp.std(latent) - 1) < 0.1


@pytest.mark.parametrize('path', PATHS.values(), ids=PATHS)
def test_samples_are_finite_from_either_end_of_time(path):
    calls, denoise = [], oracles.denoiser(path, MIXTURE)

    def counted(x, t):
        jax.debug.callback(lambda: calls.append(0))
        return denoise(x, t)

    x = paths.prior_std(path) * jax.random.normal(jax.random.key(1), (6, 5, 1), jnp.bfloat16)
    out = jax.block_until_ready(jax.jit(lambda x: adaptive(x, counted, path, rtol=1e-3, atol=1e-3))(x))
    jax.effects_barrier()
    assert out.y.shape == x.shape and out.y.dtype == x.dtype
    assert jnp.all(jnp.abs(out.y) < 1.5)
    assert out.evaluations == len(calls) and 10 < len(calls) < 150


def test_narrow_data_keep_their_spread_where_time_is_the_noise():
    """The step to data is taken from noise far below them."""
    path, narrow = paths.edm(), oracles.Mixture((1.0,), (0.2,), (0.05,))
    x = paths.prior_std(path) * jax.random.normal(jax.random.key(2), (4000,))
    out = jax.jit(lambda x: adaptive(x, oracles.denoiser(path, narrow), path))(x)
    assert abs(out.y.std() / 0.05 - 1) < 0.05
