"""Along each axis, equation (1) against one-dimensional interpolation; exact where nothing is interpolated."""

import numpy as np
import pytest

from jaxdiff.data.resample import resample


def ramp(*shape):
    return np.random.default_rng(0).normal(size=(*shape, 2)).astype(np.float32)


def test_linear_interpolation_along_each_axis():
    values, step, offset = ramp(9, 8, 7), np.array([0.4, 1.0, 0.75]), np.array([1.3, 2.0, 0.1])
    out = resample(values, step, offset, np.zeros((15, 4, 6, 2)))
    expected = values
    for axis, size in enumerate((15, 4, 6)):
        places = offset[axis] + step[axis] * np.arange(size)
        expected = np.apply_along_axis(lambda line, at=places: np.interp(at, np.arange(len(line)), line), axis, expected)
    np.testing.assert_allclose(out, expected, atol=1e-5)
    assert out.dtype == np.float32


@pytest.mark.parametrize('offset', [(0, 0, 0), (2, 1, 3), (-2, -1, -3), (3, -2, 0)])
def test_whole_offsets_copy_and_leave_background(offset):
    values = ramp(5, 6, 7)
    background = np.full((5, 6, 7, 2), -9.0) + np.arange(2)
    out = resample(values, np.ones(3), np.array(offset), background)
    for index in np.ndindex(5, 6, 7):
        source = tuple(np.add(index, offset))
        inside = all(0 <= place < size for place, size in zip(source, (5, 6, 7), strict=True))
        np.testing.assert_array_equal(out[index], values[source] if inside else background[index])


def test_outermost_voxels_reach_so_far_and_no_further():
    for reach, expected in ((0.5, '---#######---'), (0.75, '--#########--'), (1, '--#########--'), (1.5, '-###########-')):
        out = resample(np.ones((4, 1)), np.array([0.5]), np.array([-1.5]), np.full((13, 1), -1), reach=reach)
        assert ''.join('-#'[int(value > 0)] for value in out[:, 0]) == expected


def test_nothing_is_left_where_the_grids_do_not_meet():
    out = resample(ramp(4, 4), np.ones(2), np.array([10, 0]), np.zeros((3, 4, 2)))
    assert not out.any()


def test_a_fine_pattern_does_not_alias():
    stripes = np.cos(np.pi * np.arange(64))[:, None]
    coarse = resample(stripes, np.array([4.0]), np.array([0.0]), np.zeros((16, 1)))
    assert np.abs(coarse[2:-2]).max() < 0.02
    slow = np.cos(2 * np.pi * np.arange(64) / 32)[:, None]
    kept = resample(slow, np.array([4.0]), np.array([0.0]), np.zeros((16, 1)))
    assert np.abs(kept - slow[::4])[2:-2].max() < 0.1


def test_labels_stay_labels():
    labels = np.random.default_rng(0).integers(0, 4, (9, 9, 1)) * 10
    out = resample(labels, np.array([1.7, 0.6]), np.array([0.2, 0.4]), np.zeros((5, 14, 1)), order=0)
    assert set(np.unique(out)) <= {0, 10, 20, 30}
