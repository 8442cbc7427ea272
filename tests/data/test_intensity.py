"""Equation (1) there and back, and the cases in which percentiles say nothing."""

import numpy as np

from jaxdiff.data.intensity import box, ends, percentiles, scale, unscale, widest


def test_ends_map_to_minus_one_and_one_per_channel():
    array = np.random.default_rng(0).uniform([0, -500], [1, 3000], (6, 5, 4, 2)).astype(np.float32)
    low, high = percentiles(array, 0, 100)
    values = scale(array, low, high)
    np.testing.assert_allclose(values.min(axis=(0, 1, 2)), -1, atol=1e-6)
    np.testing.assert_allclose(values.max(axis=(0, 1, 2)), 1, atol=1e-6)
    np.testing.assert_allclose(unscale(values, low, high), array, rtol=1e-5, atol=1e-3)
    assert values.dtype == np.float32


def test_percentiles_are_those_of_each_channel():
    array = np.random.default_rng(0).normal(size=(8, 8, 8, 3)) * [1, 10, 100]
    found = percentiles(array, (1, 2, 3), (99, 98, 97))
    for channel, (low, high) in enumerate([(1, 99), (2, 98), (3, 97)]):
        np.testing.assert_allclose(found[:, channel], np.percentile(array[..., channel], [low, high]))


def test_what_is_beyond_the_ends_is_clipped():
    np.testing.assert_array_equal(scale(np.array([[-5.0], [0.5], [7.0]]), [0], [1])[:, 0], [-1, 0, 1])


def test_sparse_and_constant_channels_have_ends_of_positive_width():
    array = np.zeros((10, 10, 10, 2), np.float32)
    array[0, 0, 0, 0] = 4
    np.testing.assert_array_equal(percentiles(array, 0.5, 99.5), [[0, 0], [4, 1]])
    assert np.isfinite(scale(array, *percentiles(array, 0.5, 99.5))).all()


def test_widest_of_several_ranges():
    np.testing.assert_array_equal(widest([np.array([[0, 1], [5, 6]]), np.array([[-1, 2], [4, 9]])]), [[-1, 1], [5, 9]])


def test_box_of_the_foreground():
    values = np.full((9, 8, 7, 2), -1.0)
    values[2, 3, 4, 0] = values[5, 3, 6, 1] = 0
    np.testing.assert_array_equal(box(values), [[2, 3, 4], [5, 3, 6]])
    np.testing.assert_array_equal(box(np.full((9, 8, 7, 1), -1.0)), [[0, 0, 0], [8, 7, 6]])


def test_the_background_is_left_out_where_it_is_0():
    array = np.zeros((10, 10, 10, 2), np.float32)
    array[2:5, 2:5, 2:5] = np.random.default_rng(0).uniform(5, 10, (3, 3, 3, 2))
    inside = array[2:5, 2:5, 2:5].reshape(-1, 2)
    np.testing.assert_allclose(ends(array, 'brain', 1, 99), np.percentile(inside, [1, 99], axis=0), rtol=1e-5)
    np.testing.assert_allclose(
        ends(array, 'positive', (0, 0), (99, 90)), [[0, 0], [np.percentile(inside[:, 0], 99), np.percentile(inside[:, 1], 90)]], rtol=1e-5
    )
    np.testing.assert_allclose(ends(array, 'percentile', 1, 99), percentiles(array, 1, 99))
    assert (ends(np.zeros((4, 4, 4, 1)), 'brain', 1, 99)[1] > 0).all()
