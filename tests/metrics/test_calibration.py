"""Ranks of Gaussians: uniform where the samples' law is the truth's, known where it is not."""

import numpy as np
import pytest
from scipy.stats import chisquare

from jaxdiff.metrics import calibration


def drawn(samples, spread=1.0, shift=0.0, count=8000, seed=0):
    rng = np.random.default_rng(seed)
    centre = rng.normal(0, 3, count)  # every truth has a posterior of its own
    truth = centre + rng.standard_normal(count)
    return calibration.ranks(centre + shift + spread * rng.standard_normal((samples, count)), truth)


@pytest.mark.parametrize('samples', [4, 19, 39])
def test_a_true_posterior_covers_what_it_says(samples):
    found = drawn(samples)
    for each in calibration.coverage(found, samples):
        assert abs(each.found - each.expected) < 4 * np.sqrt(each.expected * (1 - each.expected) / found.size)
    assert calibration.p_value(found, samples) > 0.001


def test_enough_samples_say_the_levels_exactly():
    assert [each.expected for each in calibration.coverage(drawn(39), 39)] == pytest.approx([0.5, 0.8, 0.95])
    assert [each.expected for each in calibration.coverage(drawn(4), 4)] == pytest.approx([0.6, 0.6, 0.6])  # all that four can say


@pytest.mark.parametrize(('spread', 'sign'), [(0.6, -1), (1.6, 1)])
def test_wrong_spreads_cover_too_little_or_too_much(spread, sign):
    found = drawn(39, spread)
    assert all(sign * (each.found - each.expected) > 0.03 for each in calibration.coverage(found, 39))
    counts = calibration.histogram(found, 39, 4)
    assert sign * (counts[1] + counts[2] - counts[0] - counts[3]) > 0
    assert calibration.p_value(found, 39) < 1e-6


def test_a_bias_tilts_the_histogram():
    counts = calibration.histogram(drawn(39, shift=0.5), 39, 4)
    assert (np.diff(counts) < 0).all()


def test_two_samples_alike_cover_the_known_share():
    """Samples of a fraction s of the spread: P(truth between two samples) = 2 arctan(s / sqrt(s^2 + 2)) / pi for N = 2."""
    s = 0.5
    (each,) = calibration.coverage(drawn(2, s, count=100000), 2, [0.3])
    assert each.expected == pytest.approx(1 / 3)
    assert each.found == pytest.approx(2 / np.pi * np.arctan(s / np.sqrt(s**2 + 2)), abs=0.006)


def test_p_values_are_scipys_and_uniform():
    found = drawn(9, 0.9, count=500)
    assert calibration.p_value(found, 9) == pytest.approx(chisquare(np.bincount(found, minlength=10)).pvalue)
    values = [calibration.p_value(drawn(9, count=300, seed=seed), 9) for seed in range(200)]
    assert 0.4 < np.mean(values) < 0.6 and np.mean(np.array(values) < 0.1) < 0.17


def test_ties_are_broken_at_random():
    found = calibration.ranks(np.zeros((3, 4000)), np.zeros(4000))
    assert calibration.p_value(found, 3) > 0.001
    np.testing.assert_array_equal(calibration.ranks(np.array([[1.0], [3.0]]), np.array([2.0])), [1])


def test_what_makes_no_sense_is_refused():
    with pytest.raises(ValueError, match='samples'):
        calibration.ranks(np.zeros((3, 4)), np.zeros(5))
    with pytest.raises(ValueError, match='finite'):
        calibration.ranks(np.full((3, 4), np.nan), np.zeros(4))
    with pytest.raises(ValueError, match='ranks from 0'):
        calibration.coverage(np.array([4]), 3)
    with pytest.raises(ValueError, match='do not divide'):
        calibration.histogram(np.zeros(4, int), 4, 3)
    with pytest.raises(ValueError, match='too few'):
        calibration.p_value(np.zeros(4, int), 4)
    with pytest.raises(ValueError, match='level'):
        calibration.coverage(np.array([1]), 3, [1.0])


def test_the_factor_that_was_taken_away_is_found():
    rng = np.random.default_rng(0)
    mean, spread = rng.standard_normal(40000), rng.uniform(0.5, 2, 40000)
    truth = mean + spread * rng.standard_normal(40000)
    assert calibration.fitted(mean, spread / 3, truth) == pytest.approx(3, rel=0.03)
    assert calibration.held(mean, spread, truth) == pytest.approx((0.5, 0.8, 0.95), abs=0.01)
    assert max(calibration.held(mean, spread / 3, truth)) < 0.55
    with pytest.raises(ValueError, match='do not differ'):
        calibration.fitted(mean, 0 * spread, truth)
