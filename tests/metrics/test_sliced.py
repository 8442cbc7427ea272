import numpy as np
import pytest
from scipy.stats import wasserstein_distance

from jaxdiff.metrics.sliced import sliced_wasserstein, unit_vectors, wasserstein


def normal(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape)


@pytest.mark.parametrize(('n', 'm'), [(50, 50), (50, 73), (7, 100)])
def test_in_one_dimension_it_is_the_earth_movers(n, m):
    x, y = normal(0, n), 2 * normal(1, m) + 1
    np.testing.assert_allclose(wasserstein(x, y), wasserstein_distance(x, y), rtol=1e-12)
    np.testing.assert_allclose(wasserstein(x, y, power=2), wasserstein(np.repeat(x, m), np.repeat(y, n), power=2), rtol=1e-12)


def test_a_shift_in_the_plane_has_its_mean_shadow():
    x = normal(0, 400, 2)
    np.testing.assert_allclose(sliced_wasserstein(x, x + np.array([3.0, 4.0])), 5 * 2 / np.pi, rtol=1e-3)
    np.testing.assert_allclose(sliced_wasserstein(x, x + np.array([3.0, 4.0]), power=2), 5 / np.sqrt(2), rtol=1e-9)
    np.testing.assert_allclose(
        sliced_wasserstein(10 * x, 10 * x + np.array([30.0, 40.0])), 50 * 2 / np.pi, rtol=1e-3
    )  # in the unit of the points


def test_a_shift_in_space():
    x = normal(0, 100, 3)
    assert abs(sliced_wasserstein(x, x + np.array([2.0, 0.0, 0.0]), directions=2000) - 1) < 0.05  # |u_1| is uniform on the sphere
    assert sliced_wasserstein(x, x + 1.0) == sliced_wasserstein(x, x + 1.0)
    np.testing.assert_allclose(np.linalg.norm(unit_vectors(5, 20), axis=1), 1)


def test_it_is_a_distance():
    x, y, z = normal(0, 60, 2), normal(1, 60, 2) + 1, normal(2, 60, 2) * 3
    d = sliced_wasserstein
    assert d(x, x[::-1]) < 1e-15 and d(x, y) > 0.1
    np.testing.assert_allclose(d(x, y), d(y, x))
    assert d(x, z) <= d(x, y) + d(y, z)


def test_the_floor_falls_with_the_root_of_the_number():
    floor = lambda n: np.mean([sliced_wasserstein(normal(2 * k, n, 2), normal(2 * k + 1, n, 2), directions=16) for k in range(20)])
    assert 7 < floor(100) / floor(10000) < 14


def test_points_of_two_spaces_are_refused():
    with pytest.raises(ValueError, match=r'\(5, 2\) and \(5, 3\)'):
        sliced_wasserstein(np.zeros((5, 2)), np.zeros((5, 3)))
