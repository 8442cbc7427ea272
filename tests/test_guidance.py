"""Guidance: identities, thresholds, and exact conditional mixtures."""

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest

from jaxdiff import grids, guidance, paths, predict
from jaxdiff.solvers.ancestral import ddim
from jaxdiff.solvers.loop import sample

PATH = paths.vp()
MIXTURE = oracles.Mixture((0.5, 0.5), (-0.5, 0.5), (0.2, 0.2))


def conditioned(side):
    """The exact denoiser of the mixture for `side` = 0, of its right component for 1."""
    whole, right = oracles.denoiser(PATH, MIXTURE), oracles.denoiser(PATH, oracles.Mixture((1.0,), (0.5,), (0.2,)))
    return lambda x, t: jnp.where(side > 0, right(x, t), whole(x, t))


def test_guidance_is_exact_without_and_with_unit_weight():
    x, t = jnp.linspace(-2, 2, 11), jnp.float32(0.4)
    guided = lambda w: guidance.classifier_free(conditioned, jnp.float32(1), jnp.float32(0), w)(x, t)
    free, bound = conditioned(0.0)(x, t), conditioned(1.0)(x, t)
    np.testing.assert_array_equal(guided(0.0), free)
    np.testing.assert_array_equal(guided(1.0), bound)
    np.testing.assert_allclose(guided(3.0), free + 3 * (bound - free), atol=1e-6)
    np.testing.assert_array_equal(guided(lambda t: jnp.where(t > 0.3, 1.0, 0.0)), bound)


@pytest.mark.parametrize('kind', ['eps', 'v', 'score', 'velocity'])
def test_guiding_any_kind_is_guiding_the_denoiser(kind):
    x, t = jnp.linspace(-2, 2, 11), jnp.float32(0.4)
    convert = lambda value, **how: predict.convert(PATH, value, x, t, **how)
    free, bound = (convert(conditioned(side)(x, t), source='x0', target=kind) for side in (0.0, 1.0))
    guided = guidance.classifier_free(conditioned, 1.0, 0.0, 2.5)(x, t)
    np.testing.assert_allclose(convert(free + 2.5 * (bound - free), source=kind, target='x0'), guided, atol=1e-5)


def test_the_network_is_called_once():
    calls = []

    def apply(x, t, label):
        calls.append(x.shape)
        return x * label[:, None, None]

    denoiser = lambda told: predict.as_denoiser(apply, PATH, 'x0', **told)
    guided = guidance.classifier_free(denoiser, {'label': jnp.float32(2)}, {'label': jnp.float32(1)}, 2.0)
    np.testing.assert_allclose(guided(jnp.ones((3, 1)), jnp.float32(0.5)), 3)
    assert calls == [(1, 3, 1)]


def test_guided_samples_are_conditional_and_then_beyond():
    x, times = jax.random.normal(jax.random.key(0), (4000,)), grids.log_snr(PATH, 60)

    @jax.jit
    def draw(weight):
        return sample(jax.random.key(1), x, guidance.classifier_free(conditioned, 1.0, 0.0, weight), ddim(PATH), times).x

    free, bound, beyond = (draw(weight) for weight in (0.0, 1.0, 3.0))
    assert abs(free.mean()) < 4 * 0.54 / np.sqrt(4000) and abs(free.std() - MIXTURE.std) < 0.02
    assert abs(bound.mean() - 0.5) < 0.015 and abs(bound.std() - 0.2) < 0.01
    assert beyond.mean() > bound.mean() + 0.02 and beyond.min() > bound.min()


def test_outside_its_interval_only_the_other_denoiser_runs():
    inside, outside = (lambda x, t: x + 1), (lambda x, t: x - 1)
    denoise = jax.jit(guidance.interval(inside, outside, 0.2, 0.6))
    assert [float(denoise(jnp.float32(0), jnp.float32(t))) for t in (0.2, 0.21, 0.6, 0.61)] == [-1, 1, 1, -1]


def test_a_static_threshold_clips():
    denoise = guidance.static_threshold(lambda x, t: x, -1, 0.5)
    np.testing.assert_array_equal(denoise(jnp.array([-3.0, 0.2, 0.9]), 0.1), [-1, jnp.float32(0.2), 0.5])


def test_a_dynamic_threshold_scales_only_what_leaves_the_range():
    denoise = guidance.dynamic_threshold(lambda x, t: x, 0.9)
    within = jnp.linspace(-1, 1, 101)
    np.testing.assert_allclose(denoise(within, 0.1), within, atol=1e-6)
    beyond = denoise(3 * within, 0.1)
    np.testing.assert_allclose(beyond, jnp.clip(3 * within, -2.7, 2.7) / 2.7, atol=1e-5)
    np.testing.assert_allclose(guidance.dynamic_threshold(lambda x, t: x, 0.9, 2.0)(3 * within, 0.1).max(), 2, atol=1e-6)
