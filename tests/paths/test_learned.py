"""The trainable path: the bound depends on its ends, the variance of its estimate on what lies between."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff import paths

STRAIGHT = paths.learned_params(8, high=9.0, low=-6.0)
BENT = STRAIGHT._replace(shape=jnp.array([1.0, -2, 0.5, 2, 0, 0, -1, 1.5]))
C = 0.5  # standard deviation of the data, N(0, C^2)


def terms(params):
    """1/2 |x0 - E[x0 | x_t]|^2 (-dSNR/dt), expected over x0 and x_t, at t in the middle of many short intervals: (8 * 400,)."""
    path, t = paths.learned(params), (jnp.arange(3200) + 0.5) / 3200

    def term(t):
        log_snr, slope = jax.jvp(path.log_snr, (t,), (1.0,))
        return -slope / 2 * C**2 / (jnp.exp(-log_snr) + C**2)

    return jax.vmap(term)(t)


def test_it_begins_as_told_and_never_rises():
    for params in (STRAIGHT, BENT):
        path, t = paths.learned(params), jnp.linspace(0, 1, 101)
        np.testing.assert_allclose(path.log_snr(jnp.array([0.0, 1.0])), [9, -6], rtol=1e-6)
        assert jnp.all(jnp.diff(path.log_snr(t)) < 0)
        np.testing.assert_allclose(path.alpha(t) ** 2 + path.sigma(t) ** 2, 1, rtol=1e-6)
        np.testing.assert_allclose(2 * jnp.log(path.alpha(t) / path.sigma(t)), path.log_snr(t), atol=1e-5)
        np.testing.assert_allclose(paths.time_of(path, path.log_snr(t)), t, atol=1e-5)
    np.testing.assert_allclose(paths.learned(STRAIGHT).log_snr(t), 9 - 15 * t, atol=1e-5)
    np.testing.assert_allclose(paths.learned(BENT).embed(t), 1000 * (9 - path.log_snr(t)) / 15, atol=1e-3)
    with pytest.raises(ValueError, match='falls'):
        paths.learned_params(low=5.0, high=5.0)


def test_the_bound_depends_on_the_ends_alone_and_its_variance_on_the_shape():
    exact = np.log((1 + C**2 * np.exp(9.0)) / (1 + C**2 * np.exp(-6.0))) / 2
    straight, bent = jax.jit(lambda *each: [terms(params) for params in each])(STRAIGHT, BENT)
    np.testing.assert_allclose([straight.mean(), bent.mean()], exact, rtol=1e-4)
    assert bent.std() > 1.5 * straight.std()


def test_gradients_reach_what_they_should():
    of_mean, of_square = (jax.jit(jax.grad(lambda p, n=n: jnp.mean(terms(p) ** n)))(BENT) for n in (1, 2))
    np.testing.assert_allclose(of_mean.shape, 0, atol=2e-3)
    assert of_mean.high > 0.4 and of_mean.drop != 0 and jnp.max(jnp.abs(of_square.shape)) > 1
