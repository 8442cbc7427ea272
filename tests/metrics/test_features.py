import numpy as np
import pytest

from jaxdiff.metrics.features import random_convolutions, squared_distances, standardised

SHAPE = (32, 32, 1)


@pytest.fixture(scope='module')
def images():
    rng = np.random.default_rng(0)
    images = rng.uniform(-1, 1, (70, *SHAPE)).astype(np.float32)
    images[:, :8] = -1 + 1e-3 * images[:, :8]  # background that hardly varies
    return images


def test_deterministic_and_seeded(images):
    first, again, other = (random_convolutions(SHAPE, seed)(images[:3]) for seed in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.allclose(first, other)


def test_batch_independent(images):
    features = random_convolutions(SHAPE)
    together = features(images)  # 70 images: more than one batch of 64
    alone = np.concatenate([features(images[i : i + 1]) for i in (0, 63, 69)])
    np.testing.assert_allclose(together[[0, 63, 69]], alone, rtol=1e-5, atol=1e-5)


def test_first_layer_is_a_strided_convolution(images):
    width, kernel, cells = 3, 5, 2
    features = random_convolutions(SHAPE, 7, widths=(width,), kernels=(kernel,), cells=cells)
    weights = np.random.default_rng(7).standard_normal((1, kernel**2, width)) * np.sqrt(2 / kernel**2)
    weights -= weights.mean(1, keepdims=True) * np.array([0, 1, 1])
    padded = np.pad(images[0, :, :, 0], 2, mode='edge')
    maps = np.zeros((16, 16, width))
    for i in range(16):
        for j in range(16):
            maps[i, j] = padded[2 * i : 2 * i + kernel, 2 * j : 2 * j + kernel].reshape(1, -1) @ weights[0]
    maps = np.where(maps > 0, maps, 0.1 * maps).reshape(cells, 8, cells, 8, width)
    expected = np.concatenate([maps.mean((1, 3)).ravel(), maps.std((1, 3)).ravel()])
    np.testing.assert_allclose(features(images[:1])[0], expected, rtol=1e-4, atol=1e-5)


def test_sees_where(images):
    """Global pooling could not tell an image from its shifted copy; cells can."""
    blob = -np.ones((2, *SHAPE), np.float32)
    blob[0, 6:10, 6:10] = blob[1, 22:26, 22:26] = 1
    near, far = random_convolutions(SHAPE, cells=1)(blob), random_convolutions(SHAPE, cells=4)(blob)
    assert np.linalg.norm(far[0] - far[1]) > 3 * np.linalg.norm(near[0] - near[1])


def test_standardised_on_the_reference_without_dead_features(images):
    plain = random_convolutions(SHAPE)
    features = standardised(plain, images)
    points = features(images)
    assert points.shape[1] < standardised(plain, images, floor=0)(images[:1]).shape[1]  # the background is gone
    np.testing.assert_allclose(points.mean(0), 0, atol=1e-4)
    np.testing.assert_allclose(points.std(0), 1, atol=1e-3)


def test_volumes_and_channels():
    volumes = np.random.default_rng(0).uniform(-1, 1, (2, 16, 18, 16, 2)).astype(np.float32)
    points = random_convolutions((16, 18, 16, 2), widths=(4, 8, 8), kernels=(3, 3, 3), cells=2)(volumes)
    assert points.shape == (2, 2 * 20 * 2**3) and np.isfinite(points).all()


def test_refuses_other_shapes(images):
    with pytest.raises(ValueError, match='asked for'):
        random_convolutions((64, 64, 1))(images)
    with pytest.raises(ValueError, match='too small'):
        random_convolutions((16, 16, 1))
    with pytest.raises(ValueError, match='constant'):
        standardised(random_convolutions(SHAPE), np.repeat(images[:1], 4, 0))


def test_squared_distances():
    x, y = np.random.default_rng(0).standard_normal((2, 5, 3))
    np.testing.assert_allclose(squared_distances(x, y), [[np.sum((a - b) ** 2) for b in y] for a in x], atol=1e-12)
