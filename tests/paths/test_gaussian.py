"""What every path owes: two finite ends, and the algebra of transitions, bridges and differential equations."""

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest

from jaxdiff import paths

PATHS = oracles.PATHS
every_path = pytest.mark.parametrize('path', PATHS.values(), ids=PATHS)
PRESERVING = ('linear', 'zero terminal', 'vp', 'cosine')


def test_networks_are_told_the_index_or_a_thousand_times_the_time():
    np.testing.assert_array_equal(PATHS['linear'].embed(jnp.array([1, 1000])), [0, 999])
    for name in ('vp', 'cosine', 'subvp', 'flow'):
        np.testing.assert_array_equal(PATHS[name].embed(jnp.array([0.5, 1])), [500, 1000])


@pytest.mark.parametrize('name', PRESERVING)
def test_variance_is_preserved(name):
    t = jnp.linspace(0, PATHS[name].end, 101)
    np.testing.assert_allclose(PATHS[name].alpha(t) ** 2 + PATHS[name].sigma(t) ** 2, 1, atol=1e-6)


@every_path
def test_a_path_starts_at_data_and_ends_finite(path):
    assert path.alpha(0.0) == 1 and path.sigma(0.0) == 0 and path.log_snr(0.0) == jnp.inf
    t = jnp.linspace(0, path.end, 101)[1:]
    assert jnp.isfinite(path.embed(0.0)) and 0 <= path.alpha(path.end) <= 1
    for values in (path.alpha(t), path.sigma(t), path.log_snr(t), path.embed(t)):
        assert jnp.all(jnp.isfinite(values)) and values.dtype == jnp.float32
    assert jnp.all(jnp.diff(path.log_snr(t)) < 0)
    np.testing.assert_allclose(path.log_snr(t[:-1]), 2 * jnp.log(path.alpha(t[:-1]) / path.sigma(t[:-1])), atol=1e-4, rtol=1e-4)
    np.testing.assert_array_equal(paths.prior_std(path), path.sigma(path.end))


@every_path
def test_bridges_compose_and_agree_with_transitions(path):
    with jax.enable_x64(True):
        t, s, r = (path.end * jnp.array([[0.9, 0.6, 0.3], [1.0, 0.01, 0.001], [0.7, 0.2, 0.0]])).T
        of_x0, of_x = (lambda t, s: paths.bridge(path, 1.0, 0.0, t, s)[0]), (lambda t, s: paths.bridge(path, 0.0, 1.0, t, s)[0])
        std = lambda t, s: paths.bridge(path, 0.0, 0.0, t, s)[1]
        # two steps are one
        np.testing.assert_allclose(of_x(s, r) * of_x(t, s), of_x(t, r), atol=1e-12)
        np.testing.assert_allclose(of_x(s, r) * of_x0(t, s) + of_x0(s, r), of_x0(t, r), atol=1e-12)
        np.testing.assert_allclose((of_x(s, r) * std(t, s)) ** 2 + std(s, r) ** 2, std(t, r) ** 2, atol=1e-12)
        # a bridge keeps the marginals
        np.testing.assert_allclose(of_x(t, s) * path.alpha(t) + of_x0(t, s), path.alpha(s), atol=1e-12)
        np.testing.assert_allclose((of_x(t, s) * path.sigma(t)) ** 2 + std(t, s) ** 2, path.sigma(s) ** 2, atol=1e-12)
        # it is Bayes' rule for the transition: precisions add
        scale, spread = paths.transition(path, s, t)
        np.testing.assert_allclose(std(t, s) ** -2, path.sigma(s) ** -2 + (scale / spread) ** 2, rtol=1e-6)
        np.testing.assert_allclose((scale * path.sigma(s)) ** 2 + spread**2, path.sigma(t) ** 2, rtol=1e-9)


@every_path
def test_the_bridge_to_data_is_the_data(path):
    x0, x = jnp.array([0.1, -0.7, 0.33333]), jnp.array([5.0, -3.0, 1.0])
    for t in (1e-3 * path.end, path.end):
        mean, std = paths.bridge(path, x0, x, t, 0.0)
        np.testing.assert_array_equal(mean, x0)
        assert std == 0


@every_path
def test_the_sde_moves_the_variance_of_the_noise(path):
    t = jnp.linspace(0, path.end, 7)
    drift, diffusion = paths.sde(path).drift(jnp.ones(7), t), paths.sde(path).diffusion(t)
    assert jnp.all(jnp.isfinite(drift)) and jnp.all(jnp.isfinite(diffusion))
    with jax.enable_x64(True):
        t = path.end * jnp.array([0.11, 0.52, 0.93]) + 0.0137
        change = jax.vmap(jax.grad(lambda t: path.sigma(t) ** 2))(t)
        process = paths.sde(path)
        np.testing.assert_allclose(change, 2 * process.drift(1.0, t) * path.sigma(t) ** 2 + process.diffusion(t) ** 2, rtol=1e-8)


@every_path
def test_times_are_found_from_the_log_snr(path):
    t = path.end * jnp.array([0.001, 0.0203, 0.4, 0.987, 1.0])
    np.testing.assert_allclose(paths.time_of(path, path.log_snr(t)), t, rtol=1e-4)
    np.testing.assert_allclose(paths.time_of(path, jnp.array([200.0, -200.0])), [0, path.end], atol=1e-6)
