"""Loss weights: the same weight for x0 is the same loss whatever the network predicts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff import paths, predict, weights

KINDS = ('x0', 'eps', 'v', 'score')


@pytest.mark.parametrize('make', [weights.simple, weights.min_snr, weights.snr_trunc])
def test_a_weight_means_the_same_for_every_kind(make):
    with jax.enable_x64(True):
        path, t = paths.cosine(), jnp.array([0.05, 0.2, 0.5, 0.8, 0.99])
        x, right, wrong = jnp.full(5, 0.4), jnp.full(5, 0.1), jnp.full(5, 0.35)
        losses = []
        for kind in KINDS:
            a, b = (predict.convert(path, x0, x, t, source='x0', target=kind) for x0 in (right, wrong))
            losses.append(make(kind)(path.log_snr(t)) * (a - b) ** 2)
        for loss in losses[1:]:
            np.testing.assert_allclose(loss, losses[0], rtol=1e-9)


def test_weights_are_the_published_ones():
    snr = jnp.array([0.01, 1.0, 4.0, 100.0])
    log_snr = jnp.log(snr)
    np.testing.assert_allclose(weights.simple('eps')(log_snr), 1, rtol=1e-6)
    np.testing.assert_allclose(weights.simple('score')(log_snr), 1 / (1 + snr), rtol=1e-6)
    np.testing.assert_allclose(weights.min_snr('x0')(log_snr), [0.01, 1, 4, 5], rtol=1e-6)
    np.testing.assert_allclose(weights.min_snr('eps')(log_snr), [1, 1, 1, 0.05], rtol=1e-6)
    np.testing.assert_allclose(weights.min_snr('v')(log_snr), [0.01 / 1.01, 0.5, 0.8, 5 / 101], rtol=1e-6)
    np.testing.assert_allclose(weights.snr_trunc('x0')(log_snr), [1, 1, 4, 100], rtol=1e-6)
    with pytest.raises(ValueError, match='velocity'):
        weights.simple('velocity')


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('make', [weights.simple, weights.min_snr, weights.snr_trunc])
def test_weights_are_finite_at_both_ends_of_time(make, kind):
    path = paths.discrete(np.append(paths.linear_betas(999), 1.0))
    assert jnp.all(jnp.isfinite(make(kind)(path.log_snr(jnp.array([1.0, 1000.0])))))


def test_times_of_training_are_uniform():
    keys = jax.random.split(jax.random.key(0), 20000)
    indices = np.asarray(jax.vmap(weights.uniform(paths.discrete(paths.linear_betas(10))))(keys))
    counts = np.bincount(indices.astype(int), minlength=11)
    assert set(np.unique(indices)) == set(range(1, 11))
    assert np.all(np.abs(counts[1:] - 2000) < 4 * np.sqrt(2000 * 0.9))
    times = np.asarray(jax.vmap(weights.uniform(paths.cosine(), low=0.1))(keys))
    assert times.min() > 0.1 and times.max() <= 1 and abs(times.mean() - 0.55) < 4 * 0.9 / np.sqrt(12 * 20000)
