"""Agreement and diversity of sets that are known."""

import numpy as np

from jaxdiff.metrics.agreement import agreement, diversity, r_squared


def test_agreement_counts():
    assert agreement([0, 1, 2, 2], np.array([0, 1, 1, 2])) == 0.75


def test_r_squared_of_the_mean_is_zero_and_of_the_truth_one():
    wanted = np.array([0.0, 1.0, 2.0, 5.0])
    assert r_squared(wanted, wanted) == 1
    np.testing.assert_allclose(r_squared(np.full(4, 2.0), wanted), 0, atol=1e-12)
    assert r_squared(-wanted, wanted) < 0


def test_diversity_is_the_mean_squared_distance_within_classes():
    points = np.random.default_rng(0).standard_normal((40, 3)) + np.repeat([[0.0], [9.0]], 20, 0)
    classes = np.repeat([0, 1], 20)
    pairs = lambda each: np.mean([np.sum((a - b) ** 2) for n, a in enumerate(each) for b in each[:n]])
    np.testing.assert_allclose(diversity(points, classes), (pairs(points[:20]) + pairs(points[20:])) / 2)
    np.testing.assert_allclose(diversity(points[:21], classes[:21]), pairs(points[:20]))  # a class of one has none
