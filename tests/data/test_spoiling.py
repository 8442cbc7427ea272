"""What is taken from an image: masks of the promised size, nothing else touched, JPEGs that are JPEGs."""

import numpy as np
import pytest

from jaxdiff.data import spoiling

IMAGE = np.tanh(np.random.default_rng(0).standard_normal((24, 32, 3)).cumsum(0).cumsum(1) / 20).astype(np.float32)


@pytest.mark.parametrize(
    ('kind', 'least', 'most'), [(spoiling.hole, 0.02, 0.75), (spoiling.border, 0.2, 0.8), (spoiling.strokes, 0.01, 0.7)]
)
def test_masks_leave_something_to_go_by(kind, least, most):
    shares = [kind(np.random.default_rng(n), (24, 32)).mean() for n in range(60)]
    assert least <= min(shares) and max(shares) <= most and np.std(shares) > 0.01


def test_a_border_has_no_island():
    for n in range(40):
        known = ~spoiling.border(np.random.default_rng(n), (24, 32))
        rows, columns = np.flatnonzero(known.any(1)), np.flatnonzero(known.any(0))
        assert known[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()


def test_known_pixels_stay_and_missing_ones_are_noise():
    missing = spoiling.hole(np.random.default_rng(3), (24, 32))
    given = spoiling.filled(np.random.default_rng(0), IMAGE, missing)
    np.testing.assert_array_equal(given[~missing], IMAGE[~missing])
    assert 0.8 < given[missing].std() < 1.2 and given.dtype == np.float32


def test_grey_is_the_mean_of_the_colours():
    found = spoiling.grey(IMAGE)
    np.testing.assert_allclose(found.mean(-1), IMAGE.mean(-1), atol=1e-6)
    assert np.ptp(found, axis=-1).max() == 0


def test_worse_jpegs_are_worse():
    errors = [np.square(spoiling.jpeg(IMAGE, quality) - IMAGE).mean() for quality in (5, 20, 90)]
    assert errors[0] > 2 * errors[1] > 4 * errors[2] > 0


def test_the_nearest_known_pixel():
    missing = np.zeros((24, 32), bool)
    missing[:, 20:] = True
    found = spoiling.nearest_known(IMAGE, missing)
    np.testing.assert_array_equal(found[:, :20], IMAGE[:, :20])
    np.testing.assert_array_equal(found[:, 31], IMAGE[:, 19])
