import numpy as np
import pytest

from jaxdiff.data import warps


def rng(seed=0):
    return np.random.default_rng(seed)


def velocity(seed):
    """As rough as the population's roughest."""
    return 2.5 * warps.noise(rng(seed), 12) + 1.1 * warps.noise(rng(seed + 100), 6)


def still(displacement, matrix=None, offset=(0, 0, 0)):
    return warps.Warp(np.eye(3, dtype=np.float32) if matrix is None else matrix, np.float32(offset), displacement)


def inner_points(n=500):
    low, high = warps.ORIGIN + 25, warps.ORIGIN + warps.STEP * (np.array(warps.SHAPE) - 1) - 25
    return rng(7).uniform(low, high, (n, 3)).T.astype(np.float32)


def test_noise_has_unit_variance_at_the_centre_and_at_the_border():
    fields = np.stack([warps.noise(rng(seed), 12) for seed in range(40)])
    spread = fields.std((0, 1))
    assert abs(spread.mean() - 1) < 0.05
    assert abs(spread[0].mean() - 1) < 0.12 and abs(spread[:, :, -1].mean() - 1) < 0.12


def test_noise_is_as_smooth_as_asked():
    field, width = warps.noise(rng(), 15), 15 / warps.STEP
    ratio = np.mean(field[:, 1:] * field[:, :-1]) / np.mean(field**2)
    assert abs(ratio - np.exp(-1 / (4 * width**2))) < 0.01  # autocorrelation of white noise under a Gaussian


def test_a_constant_velocity_is_a_translation():
    shift = np.float32([3, -2, 1])
    displacement = warps.exponential(np.broadcast_to(shift[:, None, None, None], (3, *warps.SHAPE)))
    np.testing.assert_allclose(displacement, np.broadcast_to(shift[:, None, None, None], displacement.shape), atol=1e-5)


def test_the_exponential_of_a_linear_velocity_is_the_matrix_exponential():
    nodes = np.indices(warps.SHAPE, np.float32) * np.float32(warps.STEP) + warps.ORIGIN[:, None, None, None]
    displacement = warps.exponential(0.1 * nodes, steps=8)
    inside = (slice(None), *[slice(5, -5)] * 3)
    np.testing.assert_allclose(displacement[inside], (np.exp(0.1) - 1) * nodes[inside], atol=0.02)


@pytest.mark.parametrize('seed', range(4))
def test_warps_of_the_population_are_invertible(seed):
    v = velocity(seed)
    there, back = warps.exponential(v), warps.exponential(-v)
    gradient = np.stack(np.gradient(there, warps.STEP, axis=(1, 2, 3)), 1) + np.eye(3)[:, :, None, None, None]
    assert np.linalg.det(np.moveaxis(gradient, (0, 1), (-2, -1))).min() > 0.05
    points = inner_points()
    returned = warps.apply(still(back), warps.apply(still(there), points))
    assert np.abs(returned - points).max() < 1.0 < np.abs(warps.apply(still(there), points) - points).max()


def test_affine_is_undone_by_its_inverse_and_scales_by_what_is_asked():
    matrices = [warps.affine(rng(seed), 0.5) for seed in range(40)]
    sizes = [np.linalg.det(np.linalg.inv(matrix)) ** (1 / 3) for matrix, _ in matrices]
    assert abs(np.mean(sizes) - 0.5) < 0.02 and max(sizes) < 0.6
    matrix, offset = matrices[0]
    points = inner_points()
    seen = warps.apply(still(np.zeros((3, *warps.SHAPE), np.float32), matrix, offset), points)
    head = np.linalg.inv(matrix) @ (seen - warps.CENTRE[:, None] - offset[:, None]) + warps.CENTRE[:, None]
    np.testing.assert_allclose(head, points, atol=1e-3)


def test_interpolation_is_exact_for_linear_fields():
    fields = np.stack([np.indices((5, 6, 7), np.float32)[k] * (k + 1) for k in range(3)])
    points = rng().uniform(0, 4, (3, 50)).astype(np.float32)
    np.testing.assert_allclose(warps.interpolate(fields, points), points * np.float32([[1], [2], [3]]), atol=1e-5)
