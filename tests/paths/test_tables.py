"""Tables of betas against published numbers, and what may be made of one table."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff import paths

LINEAR = paths.linear_betas(1000)
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


@pytest.mark.parametrize(
    ('betas', 'below_5', 'below_1'), [(LINEAR, 130, 259), (paths.cosine_betas(1000), 261, 496)], ids=['linear', 'cosine']
)
def test_the_signal_falls_below_the_noise_where_published(betas, below_5, below_1):
    snr = jnp.exp(paths.discrete(betas).log_snr(jnp.arange(1.0, 1001)))
    assert [int(jnp.argmax(snr < level)) for level in (5, 1)] == [below_5, below_1]


def test_the_end_of_the_linear_table_is_as_near_to_the_prior_as_published():
    """KL(q(x_T | x0) || N(0, 1)) in bits for x0^2 = 1."""
    with jax.enable_x64(True):
        np.testing.assert_allclose(-jnp.log2(paths.prior_std(paths.discrete(LINEAR))), 2.911e-5, rtol=2e-4)


def test_sigmoid_betas_are_those_of_the_peers():
    reach = np.linspace(-6, 6, 1000)
    betas = paths.sigmoid_betas(1000)
    np.testing.assert_allclose(betas, 1 / (np.exp(-reach) + 1) * (0.02 - 1e-4) + 1e-4, rtol=1e-12)
    np.testing.assert_allclose(betas + betas[::-1], 0.0201, rtol=1e-12)
    np.testing.assert_allclose(betas[[0, -1]], [1e-4 + 0.0199 * 0.0024726232, 0.02 - 0.0199 * 0.0024726232], rtol=1e-8)


def test_zero_terminal_snr_has_the_published_values():
    betas = paths.rescale_zero_snr(LINEAR)
    np.testing.assert_allclose(betas[[0, 1, -2, -1]], [1e-4, 1.20686636e-4, 0.75226723, 1], rtol=1e-8)
    with jax.enable_x64(True):
        path = paths.discrete(betas)
        np.testing.assert_allclose(path.alpha(jnp.array([1, 501])) ** 2, [0.9999, 0.075246216], atol=6e-10)
        np.testing.assert_allclose(path.alpha(999.0) ** 2, 4.2133e-09, rtol=1e-5)
        assert path.alpha(1000.0) < 3e-9 and path.log_snr(1000.0) == -40


@pytest.mark.parametrize('indices', [range(1000), range(0, 1000, 111), [3, 4, 998], [999], [0]])
def test_respacing_keeps_the_signal_at_the_steps_kept(indices):
    for betas in (LINEAR, paths.rescale_zero_snr(LINEAR)):
        kept = paths.respace(betas, indices)
        assert kept.shape == (len(indices),)
        np.testing.assert_allclose(np.cumprod(1 - kept), np.cumprod(1 - betas)[np.array(indices)], atol=1e-12)
    np.testing.assert_allclose(paths.respace(LINEAR, range(1000)), LINEAR, rtol=1e-10)


@pytest.mark.parametrize('indices', [[], [3, 3], [5, 2], [-1, 2], [0, 1000]])
def test_impossible_respacings_are_refused(indices):
    with pytest.raises(ValueError, match='indices'):
        paths.respace(LINEAR, indices)


@pytest.mark.parametrize('betas', [[0.1, 1.2], [0.0, 0.1], [[0.1]]])
def test_impossible_betas_are_refused(betas):
    with pytest.raises(ValueError, match='betas'):
        paths.discrete(np.array(betas))


def test_traced_betas_are_the_same_path_and_compile_once():
    traces = []

    @jax.jit
    def coefficients(betas, t):
        traces.append(1)
        path = paths.discrete(betas)
        return path.alpha(t), path.sigma(t), path.log_snr(t)

    t = jnp.array([0.0, 0.3, 1, 17.5, 500, 999, 1000])
    for betas in (LINEAR, paths.rescale_zero_snr(LINEAR), paths.sigmoid_betas(1000)):
        path = paths.discrete(betas)
        for found, exact in zip(coefficients(jnp.asarray(betas), t), (path.alpha(t), path.sigma(t), path.log_snr(t)), strict=True):
            np.testing.assert_allclose(found, exact, rtol=2e-4, atol=3e-9)
    assert len(traces) == 1
    slope = jax.grad(lambda betas: paths.discrete(betas).log_snr(500.0))(jnp.asarray(LINEAR))
    assert jnp.all(slope[:500] < 0) and jnp.all(slope[500:] == 0)


def test_tables_keep_their_digits_near_data():
    betas = paths.linear_betas(2000, 1e-6, 0.01)
    path, abar = paths.discrete(betas), np.cumprod(1 - betas)
    t = jnp.array([1.0, 2, 10])
    exact = (1 - abar)[[0, 1, 9]]
    np.testing.assert_allclose(path.sigma(t), np.sqrt(exact), rtol=1e-6)
    np.testing.assert_allclose(path.log_snr(t), np.log(abar[[0, 1, 9]] / exact), rtol=1e-6)


def test_tables_are_linear_in_log_alpha_between_integers():
    steps, beta = 100, 3.0
    table, continuous = paths.discrete(np.full(steps, -np.expm1(-beta / steps))), paths.vp(beta, beta)
    t = jnp.array([0.0, 0.3, 17, 17.25, 99.9, 100])
    np.testing.assert_allclose(table.alpha(t), continuous.alpha(t / steps), rtol=1e-6)
    np.testing.assert_allclose(table.sigma(t), continuous.sigma(t / steps), rtol=1e-6)


def test_the_bridge_is_the_posterior_of_ddpm():
    abar, index = np.cumprod(1 - LINEAR), np.array([1, 10, 500, 999])
    before, beta, here = abar[index - 1], LINEAR[index], abar[index]
    of_x0 = beta * np.sqrt(before) / (1 - here)
    of_x = (1 - before) * np.sqrt(1 - beta) / (1 - here)
    with jax.enable_x64(True):
        path, t = paths.discrete(LINEAR), jnp.asarray(index + 1.0)
        mean, std = paths.bridge(path, 0.7, -1.3, t, t - 1)
        np.testing.assert_allclose(mean, 0.7 * of_x0 - 1.3 * of_x, rtol=1e-10)
        np.testing.assert_allclose(std**2, beta * (1 - before) / (1 - here), rtol=1e-10)
        np.testing.assert_allclose(paths.transition(path, t - 1, t)[1] ** 2, beta, rtol=1e-10)
        eps = (-1.3 - np.sqrt(here) * 0.7) / np.sqrt(1 - here)
        np.testing.assert_allclose(mean, (-1.3 - beta / np.sqrt(1 - here) * eps) / np.sqrt(1 - beta), rtol=1e-10)


def test_single_steps_compose_to_the_whole():
    with jax.enable_x64(True):
        path, t = paths.discrete(LINEAR), jnp.arange(1.0, 1001)
        scale, std = paths.transition(path, t - 1, t)
        left = jnp.cumprod(scale[::-1])[::-1] / scale  # of what a step brings, at the end
        np.testing.assert_allclose(jnp.prod(scale), path.alpha(1000.0), rtol=1e-10)
        np.testing.assert_allclose(jnp.sum((left * std) ** 2), path.sigma(1000.0) ** 2, rtol=1e-10)


def test_the_sde_of_a_table_has_its_betas():
    diffusion = paths.sde(paths.discrete(LINEAR)).diffusion(jnp.array([1.0, 500, 1000]))
    np.testing.assert_allclose(diffusion**2, -np.log1p(-LINEAR[[0, 499, 999]]), rtol=1e-3)
