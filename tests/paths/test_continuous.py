"""Paths in continuous time: published values, and the processes whose marginals they are."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff import paths

T = jnp.array([1e-4, 0.1, 0.5, 1.0])
BETA, B = 0.1 + 19.9 * T, 0.1 * T + 9.95 * T**2


def test_vp_has_the_published_values():
    with jax.enable_x64(True):
        path, t = paths.vp(), jnp.array([1e-5, 1e-3, 0.5, 1.0])
        np.testing.assert_allclose(path.alpha(t), [0.9999994995, 0.9999450265, 0.2811828808, 0.0065715865], atol=1e-10)
        np.testing.assert_allclose(path.sigma(t), [1.0004971e-3, 1.04854163e-2, 0.9596542021, 0.9999784069], rtol=1e-7)


def test_subvp_has_the_variance_of_vp_squared():
    with jax.enable_x64(True):
        vp, subvp, t = paths.vp(), paths.subvp(), jnp.linspace(0, 1, 101)
        np.testing.assert_allclose(subvp.sigma(1.0), 0.9999568143, atol=1e-10)
        np.testing.assert_allclose(subvp.sigma(t), vp.sigma(t) ** 2, rtol=1e-12)
        np.testing.assert_array_equal(subvp.alpha(t), vp.alpha(t))
        assert jnp.all(subvp.sigma(t) <= vp.sigma(t))


def test_ve_begins_at_its_least_noise():
    path = paths.ve(0.02, 90.0)
    np.testing.assert_allclose(path.sigma(jnp.array([0, 1e-20, 0.5, 1])), [0, 0.02, np.sqrt(0.02 * 90), 90], rtol=2e-6)
    np.testing.assert_allclose(path.embed(jnp.array([0, 0.5, 1])), np.log([0.02, np.sqrt(0.02 * 90), 90]), rtol=1e-6)
    assert path.data_std == 0.5 and paths.ve(data_std=None).data_std is None


def test_the_time_of_edm_is_its_noise():
    path, t = paths.edm(), jnp.array([0, 0.002, 80])
    np.testing.assert_array_equal(path.sigma(t), t)
    np.testing.assert_allclose(path.embed(t[1:]), np.log([0.002, 80]) / 4, rtol=1e-6)
    assert path.end == 80 and path.data_std == 0.5 and jnp.isfinite(path.embed(0.0))


def test_flow_is_a_straight_line_that_leaves_no_data():
    path, t = paths.flow(), jnp.array([0.0, 0.25, 1.0])
    np.testing.assert_allclose(path.alpha(t), 1 - t, atol=3e-9)
    np.testing.assert_array_equal(path.sigma(t), t)
    np.testing.assert_allclose(path.log_snr(t[1:]), [2 * np.log(3), -40], rtol=1e-6)


def test_the_cosine_path_has_the_published_log_snr():
    t = jnp.array([0, 0.25, 0.5, 0.75, 1])
    with jax.enable_x64(True):
        np.testing.assert_allclose(paths.cosine(-20, 20).log_snr(t), [20, 1.76261877, 0, -1.76261877, -20], atol=1e-8)
    path = paths.cosine()
    np.testing.assert_allclose(path.log_snr(t[1:]), 2 * np.log(1 / np.tan(np.pi / 2 * np.array([0.25, 0.5, 0.75, 1 - 2.89e-5]))), atol=1e-3)


@pytest.mark.parametrize(
    ('path', 'drift', 'diffusion'),
    [
        (paths.vp(), -BETA / 2, BETA),
        (paths.subvp(), -BETA / 2, -BETA * jnp.expm1(-2 * B)),
        (paths.ve(), 0 * T, (0.01 * 5000**T) ** 2 * 2 * np.log(5000)),
        (paths.edm(), 0 * T, 2 * T),
    ],
    ids=['vp', 'subvp', 've', 'edm'],
)
def test_sdes_are_the_published_ones(path, drift, diffusion):
    process = paths.sde(path)
    np.testing.assert_allclose(process.drift(jnp.ones(4), T), drift, rtol=2e-3)
    np.testing.assert_allclose(process.diffusion(T) ** 2, diffusion, rtol=2e-3)


@pytest.mark.parametrize('path', [paths.vp(), paths.subvp(), paths.ve()], ids=['vp', 'subvp', 've'])
def test_the_sde_has_the_marginals_of_the_path(path):
    """Euler-Maruyama forward from t = 0.2 to 0.7, 20000 walks from one x0."""
    process, key = paths.sde(path), jax.random.key(0)
    h = 1 / 600

    @jax.jit
    def walk(x):
        def step(x, i):
            t = 0.2 + h * i
            return x + h * process.drift(x, t) + jnp.sqrt(h) * process.diffusion(t) * jax.random.normal(
                jax.random.fold_in(key, i), x.shape
            ), None

        return jax.lax.scan(step, x, jnp.arange(300))[0]

    x = walk(paths.perturb(path, 2.0, jax.random.normal(key, (20000,)), 0.2))
    alpha, sigma = path.alpha(0.7), path.sigma(0.7)
    np.testing.assert_allclose(x.mean(), 2 * alpha, atol=4 * sigma / np.sqrt(20000) + 0.01 * alpha)
    np.testing.assert_allclose(x.std(), sigma, rtol=0.03)


def test_other_constants_of_a_schedule_compile_nothing_new():
    traces = []

    @jax.jit
    def coefficients(a, b, t):
        traces.append(1)
        return jnp.stack([f(t) for path in (paths.vp(a, b), paths.subvp(a, b), paths.ve(a, b)) for f in path[:3]])

    for a, b in ((0.1, 20.0), (0.2, 5.0)):
        expected = [f(0.3) for path in (paths.vp(a, b), paths.subvp(a, b), paths.ve(a, b)) for f in path[:3]]
        np.testing.assert_allclose(coefficients(a, b, 0.3), expected, rtol=1e-5)
    assert len(traces) == 1
