import numpy as np
import pytest

from jaxdiff.metrics.distributions import frechet, kernel_distance, kernel_distances, pca_gaussian, precision_recall


def normal(seed, n, d, shift=0.0):
    return np.random.default_rng(seed).standard_normal((n, d)) + shift


def test_kernel_distance_is_the_double_loop():
    x, y = normal(0, 5, 3), normal(1, 4, 3, 0.5)
    kernel = lambda a, b: (a @ b / 3 + 1) ** 3
    within = [sum(kernel(a, b) for i, a in enumerate(z) for j, b in enumerate(z) if i != j) / (len(z) * (len(z) - 1)) for z in (x, y)]
    between = sum(kernel(a, b) for a in x for b in y) / (len(x) * len(y))
    np.testing.assert_allclose(kernel_distance(x, y), sum(within) - 2 * between, rtol=1e-12)


def test_kernel_distance_of_one_law_is_zero_within_its_error():
    """Unbiased: over repeated draws the mean is within 3 standard errors of 0 (the biased estimate would be 20 errors away)."""
    values = np.array([kernel_distance(normal(2 * i, 60, 8), normal(2 * i + 1, 60, 8)) for i in range(60)])
    assert abs(values.mean()) < 3 * values.std() / np.sqrt(len(values))
    assert values.min() < 0 < values.max()


def test_kernel_distance_grows_with_a_shift():
    x = normal(0, 400, 16)
    values = [kernel_distance(x, normal(1, 400, 16, shift)) for shift in (0, 0.1, 0.2, 0.4, 0.8)]
    assert all(np.diff(values) > 0) and values[1] > 0.01


def test_kernel_distances_over_subsets():
    x, y = normal(0, 300, 8), normal(1, 260, 8, 0.3)
    whole, estimate = kernel_distance(x, y), kernel_distances(x, y, subsets=50, size=100)
    assert abs(estimate.mean - whole) < 3 * estimate.sd / np.sqrt(50)
    assert 0 < estimate.sd < whole
    assert kernel_distances(x[:260], y, subsets=5).sd > 1e-6  # subsets differ even where `size` exceeds the sets
    assert kernel_distances(x, y, subsets=3, seed=1) == kernel_distances(x, y, subsets=3, seed=1)


def test_frechet_of_gaussians():
    """Samples are recoloured to exact moments, so the closed form holds exactly: commuting and general covariances."""
    rng = np.random.default_rng(0)

    def exact(mean, root):
        z = rng.standard_normal((200, 3))
        z -= z.mean(0)
        return z @ np.linalg.inv(np.linalg.cholesky(np.cov(z, rowvar=False))).T @ root.T + mean

    x, y = exact(np.zeros(3), np.diag([1.0, 2, 3])), exact(np.array([1.0, 0, -2]), np.diag([2.0, 2, 1]))
    np.testing.assert_allclose(frechet(x, y), 5 + 1 + 0 + 4, rtol=1e-9)  # |mu|^2 + sum (s_x - s_y)^2
    assert abs(frechet(x, x)) < 1e-9
    a, b = rng.standard_normal((2, 3, 3))
    x, y = exact(np.zeros(3), a), exact(np.zeros(3), b)
    nuclear = np.linalg.svd(a.T @ b, compute_uv=False).sum()  # tr (A A' B B')^1/2 = |A' B|_*
    np.testing.assert_allclose(frechet(x, y), np.sum(a**2) + np.sum(b**2) - 2 * nuclear, rtol=1e-7)
    np.testing.assert_allclose(frechet(x, y), frechet(y, x), rtol=1e-7)


def test_precision_recall_of_identical_and_disjoint_sets():
    x = normal(0, 80, 4)
    assert precision_recall(x, x) == (1, 1, 1, 1)
    assert precision_recall(x, x + 100) == (0, 0, 0, 0)


def test_precision_recall_by_hand():
    """On a line with k=1: real balls of radius 1 at 0 and 1, of 9 at 10; fakes .5 and -5 have balls of 5.5."""
    real, fake = np.array([[0.0], [1], [10]]), np.array([[0.5], [-5.0]])
    result = precision_recall(real, fake, k=1)
    assert result.precision == 1 / 2  # .5 is in the balls of 0 and 1; the ball of 10 ends at 1, and -5 is in none
    assert result.recall == 2 / 3  # 0 and 1 are in the ball of .5, which ends at 6
    assert result.density == 2 / 2 and result.coverage == 2 / 3


def test_mode_collapse_loses_recall_and_spread_loses_precision():
    real = normal(0, 300, 4)
    narrow, wide = precision_recall(real, 0.2 * normal(1, 300, 4)), precision_recall(real, 3 * normal(1, 300, 4))
    assert narrow.precision > 0.95 and narrow.recall < 0.2 and narrow.coverage < 0.3
    assert wide.precision < 0.3 and wide.recall > 0.7


def test_pca_gaussian_has_the_moments_of_its_training_set():
    rng = np.random.default_rng(0)
    train = (0.05 * rng.standard_normal((400, 3)) @ rng.standard_normal((3, 48)) + 0.1).reshape(400, 8, 6, 1)  # of rank 3
    images = pca_gaussian(train, 3)(np.random.default_rng(1), 4000)
    assert images.shape == (4000, 8, 6, 1) and images.dtype == np.float32
    x, y = train.reshape(400, -1), images.reshape(4000, -1)
    np.testing.assert_allclose(y.mean(0), x.mean(0), atol=0.01)
    np.testing.assert_allclose(np.cov(y.T), np.cov(x.T), atol=0.15 * np.cov(x.T).max())
    assert np.linalg.matrix_rank(y - y.mean(0), tol=1e-3) == 3
    assert np.array_equal(images[:5], pca_gaussian(train, 3)(np.random.default_rng(1), 4000)[:5])
    assert np.abs(pca_gaussian(10 * train, 3)(rng, 50)).max() == 1


def test_refuses_sets_that_cannot_be_compared():
    for measure in (kernel_distance, frechet, precision_recall):
        with pytest.raises(ValueError, match='space'):
            measure(normal(0, 5, 3), normal(0, 5, 4))
    with pytest.raises(ValueError, match='too few'):
        precision_recall(normal(0, 3, 3), normal(0, 9, 3))
