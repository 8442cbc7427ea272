"""Masks against the formulas that define them, their counts, and the shares that the literature's code gives."""

import numpy as np
import pytest

from jaxdiff.data import undersampling
from jaxdiff.data.undersampling import acceleration, drawn, generator
from jaxdiff.types import UserError

KINDS = [*undersampling.COLUMNS, *undersampling.POINTS]


def many(kind, nominal, centre, count=400, shape=(64, 64)):
    return np.array([drawn(kind, np.random.RandomState(seed), shape, nominal, centre) for seed in range(count)])


@pytest.mark.parametrize(
    ('kind', 'nominal', 'centre', 'share', 'slack'),
    [
        ('random', 4, 0.08, 0.258, 0.015),  # of 24 masks, whose mean varies by .010
        ('random', 8, 0.04, 0.121, 0.011),
        ('equispaced_fraction', 4, 0.08, 0.246, 0.003),
        ('equispaced_fraction', 8, 0.04, 0.122, 0.004),
        ('gaussian1d', 4, 0.08, 0.246, 0.008),
        ('gaussian1d', 8, 0.04, 0.143, 0.006),
    ],
)
def test_shares_are_the_measured_ones(kind, nominal, centre, share, slack):
    assert abs(many(kind, nominal, centre).mean() - share) < slack


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('shape', [(64, 64), (40, 51)])
def test_masks_are_boolean_of_the_shape_and_follow_the_seed(kind, shape):
    one, same, *others = (drawn(kind, np.random.RandomState(seed), shape, 4, 0.08) for seed in (3, 3, 4, 5, 6, 7, 8))
    assert one.shape == shape and one.dtype == bool
    np.testing.assert_array_equal(one, same)
    assert any((one != other).any() for other in others)
    if kind in undersampling.COLUMNS:
        assert (one == one[:1]).all()


@pytest.mark.parametrize('kind', [kind for kind in undersampling.COLUMNS if kind not in ('gaussian1d', 'uniform1d')])
@pytest.mark.parametrize(('width', 'first', 'count'), [(64, 30, 5), (368, 170, 29), (51, 24, 4)])
def test_the_centre_is_fastmris(kind, width, first, count):
    """round(.08 W) columns from (W - n + 1) // 2 on, counted by hand."""
    always = many(kind, 4, 0.08, shape=(1, width), count=60)[:, 0].all(0)
    np.testing.assert_array_equal(np.flatnonzero(always), np.arange(first, first + count))


@pytest.mark.parametrize('kind', ['gaussian1d', 'uniform1d'])
def test_the_centre_is_score_mris(kind):
    always = many(kind, 4, 0.08, count=200)[:, 0].all(0)
    np.testing.assert_array_equal(np.flatnonzero(always), [30, 31, 32, 33, 34])


def test_random_is_one_uniform_number_a_column():
    rng = np.random.RandomState(7)
    expected = rng.uniform(size=64) < (64 / 4 - 5) / (64 - 5)
    expected[30:35] = True
    np.testing.assert_array_equal(undersampling.random(np.random.RandomState(7), 64, 4, 0.08), expected)
    assert many('random', 4, 0.08, 2000)[:, 0].mean() == pytest.approx(1 / 4, abs=0.004)  # as many as asked for, on average


def test_equispaced_keeps_every_fourth_and_exceeds_the_share():
    masks = many('equispaced', 4, 0.08, 50)[:, 0]
    offsets = [next(o for o in range(4) if mask[o::4].all()) for mask in masks]
    assert set(offsets) == {0, 1, 2, 3}
    for mask, offset in zip(masks, offsets, strict=True):
        expected = (np.arange(64) % 4 == offset) | ((np.arange(64) >= 30) & (np.arange(64) < 35))
        np.testing.assert_array_equal(mask, expected)
    assert np.mean([acceleration(mask) for mask in masks]) < 3.5


def test_equispaced_fraction_makes_up_for_the_centre():
    stride = 4 * (5 - 64) / (5 * 4 - 64)  # 5.36
    masks = many('equispaced_fraction', 4, 0.08, 50)[:, 0]
    allowed = [set(np.around(np.arange(offset, 63, stride)).astype(int)) | set(range(30, 35)) for offset in range(round(stride))]
    assert {tuple(np.flatnonzero(mask)) for mask in masks} == {tuple(sorted(each)) for each in allowed}
    assert abs(np.mean([acceleration(mask) for mask in masks]) - 4) < 0.2


@pytest.mark.parametrize('nominal', [3, 4, 5, 8])
@pytest.mark.parametrize('width', [64, 65])
def test_magic_measures_no_frequency_and_its_conjugate(nominal, width):
    for seed in range(20):
        mask = undersampling.magic(np.random.RandomState(seed), width, nominal, 0.0)
        frequencies = np.flatnonzero(mask) - width // 2
        assert not set(frequencies[frequencies != 0]) & set(-frequencies)
        gaps = {side: np.diff(np.sort(np.abs(frequencies[np.sign(frequencies) == side]))) for side in (-1, 1)}
        assert all((gap == nominal).all() for gap in gaps.values())


def test_gaussian1d_draws_near_the_zero_frequency():
    mask = undersampling.gaussian1d(np.random.RandomState(2), 64, 4, 0.0)
    expected = np.zeros(64, bool)
    expected[np.clip(np.random.RandomState(2).normal(32, 7.5, 19).astype(int), 0, 63)] = True
    np.testing.assert_array_equal(mask, expected)


def test_uniform1d_draws_collide():
    counts = many('uniform1d', 4, 0.08, 100)[:, 0].sum(1)
    assert counts.max() <= 16 and counts.mean() < 15


def test_gaussian2d_has_the_spread_of_its_covariance():
    masks = many('gaussian2d', 64, 0.0, 200, (128, 128))  # few points, so that few collide
    places = np.argwhere(masks)[:, 1:]
    np.testing.assert_allclose(places.mean(0), 63.5, atol=0.3)  # cast to whole numbers, half lost
    np.testing.assert_allclose(places.std(0), np.sqrt(1.5 * 128), rtol=0.05)


def test_poisson_discs_keep_their_distance_and_the_acceleration():
    rng = np.random.RandomState(0)
    mask = undersampling.poisson(rng, (64, 48), 6, centre=0.0)
    assert acceleration(mask) == pytest.approx(6, rel=0.05)
    radius = np.hypot(*np.meshgrid((np.arange(64) - 32) / 32, (np.arange(48) - 24) / 24, indexing='ij'))
    assert mask[radius < 0.3].mean() > 2 * mask[radius > 0.8].mean()
    far = np.argwhere(mask & (radius > 0.8))
    distances = np.linalg.norm(far[:, None] - far[None], axis=-1) + 99 * np.eye(len(far))
    assert distances.min() > 2  # neighbours would be 1 apart
    middle = undersampling.poisson(np.random.RandomState(0), (64, 64), 6, centre=0.2)
    assert middle[28:37, 28:37].all()


def test_a_poisson_mask_that_cannot_be_is_refused():
    with pytest.raises(UserError, match='no density gives'):
        undersampling.poisson(np.random.RandomState(0), (32, 32), 20, centre=0.9)


def test_the_seed_is_the_name_of_the_file():
    state = np.random.RandomState(tuple(map(ord, 'file1000000.h5')))
    np.testing.assert_array_equal(generator('file1000000.h5').uniform(size=4), state.uniform(size=4))
    assert generator('file1000001.h5').uniform() != generator('file1000000.h5').uniform()


def test_padding_is_never_sampled():
    mask = drawn('equispaced', np.random.RandomState(0), (4, 32), 4, 0.08)
    inside = undersampling.within(mask, (3, 29))
    np.testing.assert_array_equal(inside[:, 3:29], mask[:, 3:29])
    assert not inside[:, :3].any() and not inside[:, 29:].any()


def test_acceleration_counts():
    assert acceleration(np.array([True, False, False, False])) == 4
    assert acceleration(np.zeros(4, bool)) == float('inf')


def test_what_cannot_be_is_told():
    rng = np.random.RandomState(0)
    with pytest.raises(UserError, match='choose from random, equispaced'):
        drawn('radial', rng, (8, 8), 4, 0.08)
    for kind in ('random', 'equispaced', 'equispaced_fraction', 'magic', 'uniform1d'):
        with pytest.raises(UserError, match='lower the share'):
            drawn(kind, rng, (64, 64), 4, 0.5)
