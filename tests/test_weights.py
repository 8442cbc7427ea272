"""Loss weights: the same weight for x0 is the same loss whatever the network predicts."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff import paths, predict, weights

KINDS = ('x0', 'eps', 'v', 'score', 'edm')
VP, TABLE = paths.vp(), paths.discrete(paths.linear_betas(1000))
MAKERS = {
    'simple': partial(weights.simple, data_std=0.7),
    'min_snr': partial(weights.min_snr, data_std=0.7),
    'snr_trunc': partial(weights.snr_trunc, data_std=0.7),
    'edm': partial(weights.edm, data_std=0.7),
    'vlb': partial(weights.vlb, VP, data_std=0.7),
}
every_maker = pytest.mark.parametrize('make', MAKERS.values(), ids=MAKERS)


@every_maker
@pytest.mark.parametrize(
    ('path', 'kinds'),
    [(VP._replace(data_std=0.7), KINDS), (paths.flow()._replace(data_std=0.7), ('x0', 'eps', 'velocity', 'edm'))],
    ids=['vp', 'flow'],
)
def test_a_weight_means_the_same_for_every_kind(make, path, kinds):
    with jax.enable_x64(True):
        t = jnp.array([0.05, 0.2, 0.5, 0.8, 0.99])
        x, right, wrong = jnp.full(5, 0.4), jnp.full(5, 0.1), jnp.full(5, 0.35)
        losses = []
        for kind in kinds:
            a, b = (predict.convert(path, x0, x, t, source='x0', target=kind) for x0 in (right, wrong))
            losses.append(make(kind)(path.log_snr(t)) * (a - b) ** 2)
        for loss in losses[1:]:
            np.testing.assert_allclose(loss, losses[0], rtol=1e-6)


def test_weights_are_the_published_ones():
    snr = jnp.array([0.01, 1.0, 4.0, 100.0])
    log_snr = jnp.log(snr)
    np.testing.assert_allclose(weights.simple('eps')(log_snr), 1, rtol=1e-6)
    np.testing.assert_allclose(weights.simple('score')(log_snr), 1 / (1 + snr), rtol=1e-6)
    np.testing.assert_allclose(weights.min_snr('x0')(log_snr), [0.01, 1, 4, 5], rtol=1e-6)
    np.testing.assert_allclose(weights.min_snr('eps')(log_snr), [1, 1, 1, 0.05], rtol=1e-6)
    np.testing.assert_allclose(weights.min_snr('v')(log_snr), [0.01 / 1.01, 0.5, 0.8, 5 / 101], rtol=1e-6)
    np.testing.assert_allclose(weights.snr_trunc('x0')(log_snr), [1, 1, 4, 100], rtol=1e-6)
    np.testing.assert_allclose(weights.edm('x0')(log_snr), snr + 4, rtol=1e-6)  # (s^2 + d^2) / (s d)^2
    np.testing.assert_allclose(weights.edm('edm')(log_snr), 1, rtol=1e-6)
    with pytest.raises(ValueError, match='noise'):
        weights.simple('noise')
    with pytest.raises(ValueError, match='data_std'):
        weights.simple('edm')


@every_maker
def test_weights_are_finite_at_both_ends_of_time(make):
    path = paths.discrete(paths.rescale_zero_snr(paths.linear_betas(1000)))
    for kind in (*KINDS, 'velocity'):
        assert jnp.all(jnp.isfinite(make(kind)(path.log_snr(jnp.array([1.0, 1000.0]))))), kind


@pytest.mark.parametrize('path', [VP, paths.subvp(), paths.ve(), paths.edm(), paths.flow(), paths.cosine(), TABLE])
def test_the_bound_weighs_the_score_by_the_diffusion(path):
    """g^2 |score error|^2 = g^2 / sigma^2 |eps error|^2, times half the length of time."""
    t = path.end * jnp.array([0.01, 0.3, 0.9])
    expected = path.end / 2 * (paths.sde(path).diffusion(t) / path.sigma(t)) ** 2
    np.testing.assert_allclose(weights.vlb(path, 'eps')(path.log_snr(t)), expected, rtol=2e-3)


@pytest.mark.parametrize(('path', 'span'), [(VP, 23.864472), (paths.subvp(), 37.678945)], ids=['vp', 'subvp'])
def test_the_importance_of_times_is_the_published_one(path, span):
    """W, whose derivative is g^2 / std^2, is minus the log-SNR; its published inverses are what bisection finds."""
    with jax.enable_x64(True):
        np.testing.assert_allclose(path.log_snr(1e-5) - path.log_snr(1.0), span, atol=1e-6)
        u = jnp.linspace(-path.log_snr(1e-5), -path.log_snr(1.0), 50)
        B = jax.nn.softplus(u) if path is VP else 2 * jnp.arcsinh(jnp.exp(u / 2) / 2)
        closed = (-0.1 + jnp.sqrt(0.01 + 2 * 19.9 * B)) / 19.9
        np.testing.assert_allclose(paths.time_of(path, -u), closed, atol=1e-7)
        t = jnp.array([1e-4, 0.3, 0.9])
        rate = -jax.vmap(jax.grad(path.log_snr))(t)
        np.testing.assert_allclose(rate, (paths.sde(path).diffusion(t) / path.sigma(t)) ** 2, rtol=1e-9)


def test_the_bound_is_estimated_alike_with_and_without_importance_but_varies_less_with_it():
    """Its integral, 1/2 int |eps - eps_hat|^2 dlog_snr, for data N(0, c^2) and the exact denoiser, has a closed form."""
    c, keys = 0.4, jax.random.split(jax.random.key(0), 40000)

    @jax.jit
    @jax.vmap
    def estimates(key):
        time_key, noise_key = jax.random.split(key)
        x0, eps = jax.random.normal(noise_key, (2,)) * jnp.array([c, 1])

        def error(t):
            alpha, sigma = VP.alpha(t), VP.sigma(t)
            return (sigma * (alpha * x0 + sigma * eps) / (alpha**2 * c**2 + sigma**2) - eps) ** 2

        even, important = weights.uniform(VP, low=1e-3)(time_key), weights.importance(VP, low=1e-3)(time_key)
        span = VP.log_snr(1e-3) - VP.log_snr(1.0)
        return weights.vlb(VP, 'eps')(VP.log_snr(even)) * error(even), span / 2 * weights.simple('eps')(VP.log_snr(important)) * error(
            important
        )

    exact = jnp.log1p(c**2 * jnp.exp(VP.log_snr(1e-3))) / 2 - jnp.log1p(c**2 * jnp.exp(VP.log_snr(1.0))) / 2
    even, important = (np.asarray(each) for each in estimates(keys))
    for each in (even, important):
        assert abs(each.mean() - exact) < 4 * each.std() / 200
    assert even.std() > 2.5 * important.std()


@pytest.mark.parametrize(('path', 'mean', 'std'), [(paths.edm(), -1.2, 1.2), (VP, -1.2, 1.2), (paths.flow(), 0.0, 1.0)])
def test_log_normal_times_are(path, mean, std):
    times = jax.jit(jax.vmap(weights.log_normal(path, mean, std)))(jax.random.split(jax.random.key(0), 4000))
    noise = -path.log_snr(times) / 2
    np.testing.assert_allclose([noise.mean(), noise.std()], [mean, std], atol=4 * std / np.sqrt(4000))


@pytest.mark.parametrize('make', [weights.importance, weights.log_normal])
def test_tables_are_trained_at_their_integers(make):
    times = np.asarray(jax.jit(jax.vmap(make(TABLE)))(jax.random.split(jax.random.key(0), 4000)))
    assert times.min() == 1 and times.max() <= 1000 and np.array_equal(times, np.round(times))


def test_times_of_training_are_uniform():
    keys = jax.random.split(jax.random.key(0), 20000)
    indices = np.asarray(jax.vmap(weights.uniform(paths.discrete(paths.linear_betas(10))))(keys))
    counts = np.bincount(indices.astype(int), minlength=11)
    assert set(np.unique(indices)) == set(range(1, 11))
    assert np.all(np.abs(counts[1:] - 2000) < 4 * np.sqrt(2000 * 0.9))
    times = np.asarray(jax.vmap(weights.uniform(paths.cosine(), low=0.1))(keys))
    assert times.min() > 0.1 and times.max() <= 1 and abs(times.mean() - 0.55) < 4 * 0.9 / np.sqrt(12 * 20000)
