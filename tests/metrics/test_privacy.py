import numpy as np
import pytest

from jaxdiff.metrics.privacy import correlation_points, memorisation, nearest


def draw(seed, n):
    return np.random.default_rng(seed).standard_normal((n, 4, 4, 1)).astype(np.float32)


def test_nearest_is_brute_force_whatever_the_chunk():
    queries, records = draw(0, 23), draw(1, 40)
    distances = np.array([[np.sqrt(np.sum((q.astype(float) - r) ** 2)) for r in records] for q in queries])
    for chunk in (5, 512):
        found = nearest(queries, records, chunk=chunk)
        assert np.array_equal(found.index, distances.argmin(1))
        np.testing.assert_allclose(found.distance, distances.min(1), rtol=1e-6)


def test_copies_are_all_memorised():
    train, held_out = draw(0, 300), draw(1, 300)
    result = memorisation(train[50:150], train, held_out)
    assert result.fraction == 1
    assert result.median_ratio == 0 and not result.nearest.distance.any()
    assert np.array_equal(result.nearest.index, np.arange(50, 150))
    noisy = memorisation(train[:100] + 0.1 * draw(2, 100), train, held_out)
    assert noisy.fraction == 1 and noisy.median_ratio < 0.3


def test_fresh_draws_are_memorised_at_the_percentile():
    train, held_out, fresh = draw(0, 1000), draw(1, 2000), draw(2, 2000)
    for percentile in (1, 5):
        result = memorisation(fresh, train, held_out, percentile=percentile)
        p = percentile / 100
        assert abs(result.fraction - p) < 4 * np.sqrt(p * (1 - p) * (1 / 2000 + 1 / 2000))
        assert abs(result.median_ratio - 1) < 0.03
        assert (nearest(held_out, train).distance < result.threshold).mean() == pytest.approx(p, abs=1e-3)


def test_correlation_sees_a_rescaled_copy_that_pixels_miss():
    train, held_out = draw(0, 300), draw(1, 300)
    copies = 0.3 * train[:50] + 2
    assert memorisation(copies, train, held_out).fraction == 0
    assert memorisation(*map(correlation_points, (copies, train, held_out))).fraction == 1
    x = correlation_points(train[:2])
    r = np.corrcoef(train[0].ravel(), train[1].ravel())[0, 1]
    np.testing.assert_allclose(np.sum((x[0] - x[1]) ** 2), 2 * (1 - r), rtol=1e-6)


def test_refuses_what_cannot_be_calibrated():
    train = draw(0, 10)
    with pytest.raises(ValueError, match='split by subject'):
        memorisation(train, train, train)
    with pytest.raises(ValueError, match='empty'):
        nearest(train[:0], train)
