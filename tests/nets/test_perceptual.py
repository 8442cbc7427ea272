"""Perceptual distance: nothing for what is the same, more for what is less alike, the same in every process."""

import jax
import jax.numpy as jnp
import numpy as np
from scipy.ndimage import gaussian_filter

from jaxdiff.nets import perceptual

FEATURES = perceptual.fixed(widths=(8, 8), depths=(1, 1))


def smooth(seed, width, *shape):
    values = gaussian_filter(np.random.default_rng(seed).standard_normal(shape), (*(width,) * (len(shape) - 1), 0))
    return jnp.asarray(values / values.std(), jnp.float32)


def test_distance_by_definition():
    x, y = smooth(0, 2, 8, 8, 1), smooth(1, 2, 8, 8, 1)
    assert perceptual.distance(FEATURES, x, x) == 0
    unit = lambda h: h / np.maximum(np.linalg.norm(h, axis=-1, keepdims=True), 1e-12)
    expected = sum(
        np.mean((unit(np.asarray(a)) - unit(np.asarray(b))) ** 2, -1).mean() for a, b in zip(FEATURES(x), FEATURES(y), strict=True)
    )
    np.testing.assert_allclose(perceptual.distance(FEATURES, x, y), expected, rtol=1e-3)
    weights = [jnp.full(8, 2 / 8), jnp.full(8, 2 / 8)]
    np.testing.assert_allclose(perceptual.distance(FEATURES, x, y, weights), 2 * expected, rtol=1e-3)


def test_blur_is_further_than_a_shade_of_the_same_error():
    """What mean squares cannot tell apart."""
    x = jnp.sign(smooth(0, 3, 32, 32, 1)) / 2
    blurred = jnp.asarray(gaussian_filter(np.asarray(x), (1, 1, 0)))
    shade = x + jnp.sqrt(jnp.mean(jnp.square(x - blurred)))
    features = perceptual.fixed()
    assert perceptual.distance(features, x, blurred) > 1.5 * perceptual.distance(features, x, shade)


def test_weights_come_from_the_seed():
    x = smooth(0, 2, 8, 8, 1)
    again, other = perceptual.fixed(widths=(8, 8), depths=(1, 1)), perceptual.fixed(seed=1, widths=(8, 8), depths=(1, 1))
    np.testing.assert_array_equal(again(x)[1], FEATURES(x)[1])
    assert not jnp.allclose(other(x)[1], FEATURES(x)[1])
    assert [each.shape for each in FEATURES(x)] == [(8, 8, 8), (4, 4, 8)]


def test_volumes_are_looked_at_along_every_axis():
    x = smooth(0, 1, 8, 8, 8, 1)
    key = jax.random.key(0)
    assert perceptual.of_volumes(FEATURES, key, x, x) == 0
    for axis in range(3):
        changed = x + jnp.moveaxis(jnp.zeros_like(x).at[0].set(3.0), 0, axis)
        assert perceptual.of_volumes(FEATURES, key, x, changed) > 0
