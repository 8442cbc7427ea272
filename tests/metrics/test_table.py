"""The mean of what was wanted, by brightness."""

import numpy as np

from jaxdiff.metrics.table import table


def test_every_brightness_has_its_mean():
    seen = np.array([-1.0, -1.0, 0.5, 0.5, 1.0])
    wanted = np.array([[1.0, 0.0], [3.0, 0.0], [5.0, 2.0], [7.0, 4.0], [0.0, 9.0]])
    guess = table(seen, wanted, bins=4)
    np.testing.assert_allclose(guess(np.array([[-1.0, 0.6]])), [[[2.0, 0.0], [4.0, 5.0]]])  # 0.5 and 1 share a bin


def test_between_what_was_seen_lies_a_line():
    guess = table(np.array([-1.0, 1.0]), np.array([[0.0], [3.0]]), bins=4)
    np.testing.assert_allclose(guess(np.array([-0.9, -0.4, 0.2, 0.9]))[:, 0], [0, 1, 2, 3])
