"""Conversions between kinds of prediction, and networks as denoisers."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest

from jaxdiff import paths, predict

PATHS = oracles.PATHS
every_path = pytest.mark.parametrize('path', PATHS.values(), ids=PATHS)


@every_path
def test_conversions_round_trip_over_all_pairs(path):
    @jax.vmap
    def round_trips(t):
        x0, eps = jnp.array([0.3, -1.0, 0.0]), jnp.array([-0.2, 1.7, 0.4])
        x = paths.perturb(path, x0, eps, t)
        truth = {kind: predict.target(path, kind, x0, eps, t) for kind in predict.KINDS}
        pairs = list(itertools.product(predict.KINDS, repeat=2))
        there = jnp.stack([predict.convert(path, truth[a], x, t, source=a, target=b) for a, b in pairs])
        back = jnp.stack([predict.convert(path, there[i], x, t, source=b, target=a) for i, (a, b) in enumerate(pairs)])
        return there, jnp.stack([truth[b] for _, b in pairs]), back, jnp.stack([truth[a] for a, _ in pairs])

    with jax.enable_x64(True):
        there, expected, back, origin = round_trips(path.end * jnp.array([0.01, 0.25, 0.5, 0.75, 0.99]))
        np.testing.assert_allclose(there, expected, rtol=1e-9, atol=1e-10)
        np.testing.assert_allclose(back, origin, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize('name', ['linear', 'zero terminal', 'vp', 'cosine'])
def test_v_is_a_rotation(name):
    path = PATHS[name]
    with jax.enable_x64(True):
        x0, eps, t = jnp.array([0.3, -1.0]), jnp.array([-0.2, 1.7]), 0.37 * path.end
        x, v = paths.perturb(path, x0, eps, t), predict.target(path, 'v', x0, eps, t)
        np.testing.assert_allclose(x**2 + v**2, x0**2 + eps**2, rtol=1e-13)


@every_path
def test_velocity_is_the_derivative_of_the_path(path):
    x0, eps, t = jnp.array([0.3, -1.0]), jnp.array([-0.2, 1.7]), jnp.float32(0.37 * path.end)
    velocity = jax.jacfwd(lambda t: paths.perturb(path, x0, eps, t))(t)
    np.testing.assert_allclose(predict.target(path, 'velocity', x0, eps, t), velocity, rtol=1e-5)


@every_path
def test_the_exact_denoiser_gives_the_exact_score_and_flow(path):
    with jax.enable_x64(True):
        x, t = jnp.linspace(-2, 2, 9), jnp.asarray(0.4 * path.end)
        x0 = oracles.denoiser(path, oracles.TEST_BED)(x, t)
        score = predict.convert(path, x0, x, t, source='x0', target='score')
        exact = jax.vmap(jax.grad(lambda x: oracles.log_density(path, oracles.TEST_BED, x, t)))(x)
        np.testing.assert_allclose(score, exact, rtol=1e-9)
        process = paths.sde(path)
        velocity = process.drift(x, t) - process.diffusion(t) ** 2 / 2 * exact
        np.testing.assert_allclose(predict.convert(path, x0, x, t, source='x0', target='velocity'), velocity, rtol=1e-7, atol=1e-12)


@pytest.mark.parametrize('name', ['linear', 'vp', 'edm', 'flow'])
def test_the_denoiser_of_one_path_is_that_of_every_other(name):
    with jax.enable_x64(True):
        walked, learnt, x = PATHS[name], PATHS['cosine'], jnp.linspace(-2, 2, 9)
        moved = predict.along(oracles.denoiser(learnt, oracles.TEST_BED), learnt, walked)
        for share in (0.1, 0.5, 0.9):
            t = jnp.asarray(share * walked.end)
            np.testing.assert_allclose(moved(x, t), oracles.denoiser(walked, oracles.TEST_BED)(x, t), rtol=1e-6)


@every_path
def test_conversions_are_finite_at_both_ends_of_time(path):
    x, value = jnp.array([0.3, -1.0]), jnp.array([-0.2, 0.7])
    pairs = list(itertools.product(predict.KINDS, repeat=2))

    def converted(value, t):
        return {(a, b): predict.convert(path, value, x, t, source=a, target=b) for a, b in pairs}

    both = jax.vmap(lambda t: (converted(value, t), jax.jacfwd(converted)(value, t)))
    values, slopes = both(jnp.array([0.0, path.end]))
    for pair in pairs:
        for array in (values[pair], slopes[pair]):
            assert jnp.all(jnp.isfinite(array)) and array.dtype == jnp.float32, pair
    for kind in ('eps', 'v', 'velocity', 'score', 'edm'):
        np.testing.assert_allclose(values[kind, 'x0'][0], x, atol=2e-3)


def test_edm_has_the_published_coefficients_and_unit_variance():
    sd, s = 0.7, jnp.array([0.002, 0.3, 5.0, 80.0])
    c_skip, c_out, c_in = sd**2 / (s**2 + sd**2), s * sd / jnp.sqrt(s**2 + sd**2), 1 / jnp.sqrt(s**2 + sd**2)
    with jax.enable_x64(True):
        path, nodes = paths.edm(data_std=sd), np.polynomial.hermite_e.hermegauss(3)
        x0, eps = (each.ravel() for each in np.meshgrid(sd * nodes[0], nodes[0]))  # Gaussians by quadrature
        mean = lambda values: values @ np.outer(nodes[1], nodes[1]).ravel() / (2 * np.pi)
        for i, t in enumerate(s):
            x = paths.perturb(path, x0, eps, t)
            answer = predict.target(path, 'edm', x0, eps, t)
            np.testing.assert_allclose(answer, (x0 - c_skip[i] * x) / c_out[i], rtol=1e-4, atol=1e-4)
            seen = predict.evaluate(lambda x, t: x, path, x, t, {})
            np.testing.assert_allclose(seen, c_in[i] * x, rtol=1e-6)
            np.testing.assert_allclose([mean(answer**2), mean(seen**2)], 1, rtol=1e-9)


def test_edm_is_minus_v_where_data_and_path_have_unit_variance():
    x0, eps, t = jnp.array([0.3, -1.0]), jnp.array([-0.2, 1.7]), jnp.float32(0.3)
    v, edm = (predict.target(paths.vp(), kind, x0, eps, t) for kind in ('v', 'edm'))
    np.testing.assert_allclose(edm, -v, rtol=1e-5)


def test_only_a_path_that_names_the_data_scales_what_a_network_sees():
    x, t = jnp.array([[3.0]]), jnp.float32(0.5)
    seen = {}
    apply = lambda x, t: seen.update(x=x) or x
    for path, expected in ((paths.flow(), 3), (paths.flow()._replace(data_std=2.0), 3 / np.hypot(1, 0.5)), (paths.ve(data_std=None), 3)):
        predict.as_denoiser(apply, path, 'x0')(x, t)
        np.testing.assert_allclose(seen['x'], [[[expected]]], rtol=1e-6)


def test_unknown_kinds_are_refused():
    with pytest.raises(ValueError, match='noise'):
        predict.as_denoiser(lambda x, t: x, PATHS['vp'], 'noise')
    with pytest.raises(ValueError, match='noise'):
        predict.target(PATHS['vp'], 'noise', jnp.zeros(1), jnp.zeros(1), 0.5)


def test_a_network_sees_a_batch_of_one_and_the_embedded_time():
    seen = {}

    def apply(x, t, label, drop, tree):
        seen.update(x=x.shape, t=t, label=label, drop=drop.shape, tree=tree['a'].shape)
        assert tree['b'] is None
        return jnp.concatenate([2 * x, jnp.full_like(x, 9)], -1).astype(jnp.bfloat16)

    path = PATHS['linear']
    told = {'label': 3, 'drop': jax.random.key(0), 'tree': {'a': jnp.ones((4, 2)), 'b': None}}
    x = jnp.full((5, 6, 1), 0.25)
    x0 = predict.as_denoiser(apply, path, 'x0', **told)(x, jnp.float32(7))
    assert seen['x'] == (1, 5, 6, 1) and seen['tree'] == (1, 4, 2) and seen['drop'] == ()
    np.testing.assert_array_equal(seen['t'], [6])
    np.testing.assert_array_equal(seen['label'], [3])
    assert x0.dtype == jnp.float32
    np.testing.assert_array_equal(x0, 2 * x)


@every_path
def test_an_exact_network_of_any_kind_is_the_exact_denoiser(path):
    exact = oracles.denoiser(path, oracles.TEST_BED)
    x, t = jnp.linspace(-1, 1, 5)[:, None], jnp.float32(0.5 * path.end)
    network = lambda kind: lambda seen, label: predict.convert(path, exact(x, t), x, t, source='x0', target=kind)[None]
    denoised = {kind: predict.as_denoiser(network(kind), path, kind)(x, t) for kind in predict.KINDS}
    for kind in predict.KINDS:
        np.testing.assert_allclose(denoised[kind], exact(x, t), atol=1e-4, err_msg=kind)


def test_learned_variances_lie_between_the_two_extremes():
    path, t, s = PATHS['linear'], jnp.float32(500), jnp.float32(450)
    large, small = paths.transition(path, s, t)[1] ** 2, paths.bridge(path, 0.0, 0.0, t, s)[1] ** 2
    raw = jnp.array([[-1.0], [0.0], [1.0]])
    apply = lambda x, t: jnp.concatenate([x, raw[None]], -1)
    variance = predict.learned_variance(apply, path)(jnp.zeros((3, 1)), t, s)
    np.testing.assert_allclose(variance[:, 0], [small, jnp.sqrt(small * large), large], rtol=1e-4)


def test_the_variance_of_the_last_step_is_clipped_like_the_original():
    with jax.enable_x64(True):
        log_variance = predict.log_variance(PATHS['linear'], jnp.array([-1.0, 1.0]), jnp.asarray(1.0), jnp.asarray(0.0))
        np.testing.assert_allclose(jnp.exp(log_variance), [5.453188e-05, 1e-4], rtol=1e-6)
