"""Paths against published numbers, and the algebra of transitions and bridges."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff import paths

PATHS = {
    'linear': paths.discrete(paths.linear_betas(1000)),
    'zero terminal': paths.discrete(np.append(paths.linear_betas(999), 1.0)),
    'vp': paths.vp(),
    'cosine': paths.cosine(),
}
every_path = pytest.mark.parametrize('path', PATHS.values(), ids=PATHS)

GOLDEN = {  # betas: abar[0], abar[T/2], abar[T-1], largest sigma / alpha, beta~[1]
    'linear 1000': (paths.linear_betas(1000), 0.9999, 0.077796658, 4.035830e-05, 157.4073, 5.453188e-05),
    'linear 4000': (paths.linear_betas(4000, 2.5e-5, 0.005), 0.999975, 0.078746475, 4.246652e-05, 153.4502, 1.280363e-05),
    'cosine 1000': (paths.cosine_betas(1000), 0.999958716, 0.492285172, 2.428767e-09, 20291.17, 2.178950e-05),
    'cosine 4000': (paths.cosine_betas(4000), 0.999990134, 0.493453980, 1.517980e-10, 81164.6, 5.007683e-06),
    'scaled linear': (paths.scaled_linear_betas(1000), 0.99915, 0.276332684, 4.660099e-03, 14.6146, 4.263531e-04),
    'faces': (paths.scaled_linear_betas(1000, 0.0015, 0.0195), 0.9985, 0.114922001, 1.423040e-04, 83.8225, 7.525194e-04),
    'palette': (paths.linear_betas(2000, 1e-6, 0.01), 0.999999, 0.081374628, 4.385978e-05, 150.9931, 8.571844e-07),
}


@pytest.mark.parametrize('golden', GOLDEN.values(), ids=GOLDEN)
def test_tables_have_the_published_values(golden):
    betas, *expected = golden
    steps = len(betas)
    with jax.enable_x64(True):
        path = paths.discrete(betas)
        abar = path.alpha(jnp.array([1, steps // 2 + 1, steps])) ** 2
        widest = path.sigma(path.end) / path.alpha(path.end)
        variance = paths.bridge(path, 0.0, 0.0, 2.0, 1.0)[1] ** 2
        np.testing.assert_allclose(abar[:2], expected[:2], atol=6e-10)
        np.testing.assert_allclose([abar[2], variance], [expected[2], expected[4]], rtol=4e-7)
        np.testing.assert_allclose(widest, expected[3], rtol=4e-6)


def test_the_cosine_table_is_capped_once():
    np.testing.assert_allclose(paths.cosine_betas(1000)[-3:], [0.55555376, 0.74999939, 0.999], atol=1e-8)


def test_vp_has_the_published_values():
    with jax.enable_x64(True):
        path, t = paths.vp(), jnp.array([1e-5, 1e-3, 0.5, 1.0])
        np.testing.assert_allclose(path.alpha(t), [0.9999994995, 0.9999450265, 0.2811828808, 0.0065715865], atol=1e-10)
        np.testing.assert_allclose(path.sigma(t), [1.0004971e-3, 1.04854163e-2, 0.9596542021, 0.9999784069], rtol=1e-7)


def test_the_cosine_path_has_the_published_log_snr():
    t = jnp.array([0, 0.25, 0.5, 0.75, 1])
    with jax.enable_x64(True):
        np.testing.assert_allclose(paths.cosine(-20, 20).log_snr(t), [20, 1.76261877, 0, -1.76261877, -20], atol=1e-8)
    path = paths.cosine()
    np.testing.assert_allclose(path.log_snr(t[1:]), 2 * np.log(1 / np.tan(np.pi / 2 * np.array([0.25, 0.5, 0.75, 1 - 2.89e-5]))), atol=1e-3)


def test_tables_are_linear_in_log_alpha_between_integers():
    steps, beta = 100, 3.0
    table, continuous = paths.discrete(np.full(steps, -np.expm1(-beta / steps))), paths.vp(beta, beta)
    t = jnp.array([0.0, 0.3, 17, 17.25, 99.9, 100])
    np.testing.assert_allclose(table.alpha(t), continuous.alpha(t / steps), rtol=1e-6)
    np.testing.assert_allclose(table.sigma(t), continuous.sigma(t / steps), rtol=1e-6)


def test_networks_are_told_the_index_or_a_thousand_times_the_time():
    np.testing.assert_array_equal(PATHS['linear'].embed(jnp.array([1, 1000])), [0, 999])
    np.testing.assert_array_equal(PATHS['vp'].embed(jnp.array([0.5, 1])), [500, 1000])


@pytest.mark.parametrize('betas', [[0.1, 1.2], [0.0, 0.1], [[0.1]]])
def test_impossible_betas_are_refused(betas):
    with pytest.raises(ValueError, match='betas'):
        paths.discrete(np.array(betas))


@every_path
def test_a_path_starts_at_data_and_ends_finite(path):
    assert path.alpha(0.0) == 1 and path.sigma(0.0) == 0 and path.log_snr(0.0) == jnp.inf
    t = jnp.linspace(0, path.end, 101)[1:]
    for values in (path.alpha(t), path.sigma(t), path.log_snr(t)):
        assert jnp.all(jnp.isfinite(values)) and values.dtype == jnp.float32
    assert jnp.all(jnp.diff(path.log_snr(t)) < 0)
    np.testing.assert_allclose(path.alpha(t) ** 2 + path.sigma(t) ** 2, 1, atol=1e-6)
    np.testing.assert_allclose(path.log_snr(t[:-1]), 2 * jnp.log(path.alpha(t[:-1]) / path.sigma(t[:-1])), atol=1e-4, rtol=1e-4)
    np.testing.assert_allclose(paths.prior_std(path), 1, atol=1e-4)


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


def test_the_bridge_is_the_posterior_of_ddpm():
    betas = paths.linear_betas(1000)
    abar, index = np.cumprod(1 - betas), np.array([1, 10, 500, 999])
    before = abar[index - 1]
    of_x0 = betas[index] * np.sqrt(before) / (1 - abar[index])
    of_x = (1 - before) * np.sqrt(1 - betas[index]) / (1 - abar[index])
    with jax.enable_x64(True):
        path, t = paths.discrete(betas), jnp.asarray(index + 1.0)
        mean, std = paths.bridge(path, 0.7, -1.3, t, t - 1)
        np.testing.assert_allclose(mean, 0.7 * of_x0 - 1.3 * of_x, rtol=1e-10)
        np.testing.assert_allclose(std**2, betas[index] * (1 - before) / (1 - abar[index]), rtol=1e-10)
        np.testing.assert_allclose(paths.transition(path, t - 1, t)[1] ** 2, betas[index], rtol=1e-10)


def test_the_sde_of_vp_is_that_of_song():
    path, t = paths.vp(), jnp.array([0.0, 1e-4, 0.1, 0.5, 1.0])
    beta = 0.1 + 19.9 * t
    np.testing.assert_allclose(paths.sde(path).diffusion(t) ** 2, beta, rtol=2e-3)
    np.testing.assert_allclose(paths.sde(path).drift(jnp.full(5, 2.0), t), -beta, rtol=1e-3)


def test_the_sde_of_a_table_has_its_betas():
    betas = paths.linear_betas(1000)
    path = paths.discrete(betas)
    np.testing.assert_allclose(paths.sde(path).diffusion(jnp.array([1.0, 500, 1000])) ** 2, -np.log1p(-betas[[0, 499, 999]]), rtol=1e-3)


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
