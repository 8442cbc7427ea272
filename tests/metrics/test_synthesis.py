"""The one answer about generated images, on images of which the answer is known."""

import numpy as np
import pytest

from jaxdiff.data import phantoms
from jaxdiff.data.source import stack
from jaxdiff.metrics import synthesis

N = 96


def people(first, count=N):
    return stack(phantoms.slices(phantoms.Recipe(size=32), first, count))


@pytest.fixture(scope='module')
def against():
    return synthesis.reference(people(0), people(1000), people(2000))


@pytest.fixture(scope='module')
def fresh():
    return people(3000)


@pytest.fixture(scope='module')
def noise():
    return np.random.default_rng(0).uniform(-1, 1, (N, 32, 32, 1)).astype(np.float32)


@pytest.fixture(scope='module')
def judged(against, fresh, noise):
    """Metrics of each kind of images."""
    kinds = {'fresh': fresh, 'noise': noise, 'again': against.train[::-1], 'themselves': against.real, 'one': fresh[:1].repeat(N, 0)}
    return {name: synthesis.assess(images, against) for name, images in kinds.items()}


def test_all_metrics_are_finite_numbers(judged):
    for metrics, _ in judged.values():
        assert all(isinstance(value, float) and np.isfinite(value) for value in metrics.values())


def test_images_of_other_subjects_are_near_and_noise_is_far(judged):
    fresh, noise = judged['fresh'][0], judged['noise'][0]
    assert abs(fresh['kernel_distance']) < 0.02 * noise['kernel_distance']
    assert fresh['precision'] > 0.6 and fresh['recall'] > 0.6
    assert noise['precision'] == noise['recall'] == 0


def test_the_real_images_themselves_agree_entirely(judged):
    """And are nearer than chance: of the same set the unbiased estimate is negative."""
    assert judged['themselves'][0]['precision'] == judged['themselves'][0]['recall'] == 1
    assert judged['themselves'][0]['kernel_distance'] < 0


def test_one_image_again_and_again_is_precise_at_best(judged):
    assert judged['one'][0]['recall'] < 0.1
    assert judged['one'][0]['kernel_distance'] > 10 * abs(judged['fresh'][0]['kernel_distance'])


def test_training_images_again_are_copies_and_fresh_ones_are_not(judged):
    metrics, copies = judged['again']
    assert metrics['memorised_5'] == 1 and metrics['nearest_ratio'] == 0
    np.testing.assert_array_equal(copies.nearest.index, np.arange(N)[::-1])
    scatter = np.sqrt(0.05 * 0.95 * 2 / N)
    assert abs(judged['fresh'][0]['memorised_5'] - 0.05) < 3 * scatter
    assert judged['fresh'][0]['nearest_ratio'] == pytest.approx(1, abs=0.1)
    assert judged['noise'][0]['memorised_5'] == 0 and judged['noise'][0]['nearest_ratio'] > 1.5


def test_a_comparison_tells_the_real_from_the_noise_and_its_controls_fail(against, fresh, noise, judged):
    metrics, baselines, controls, copies = synthesis.compare(fresh, noise, against, np.random.default_rng(0))
    assert metrics.items() >= judged['fresh'][0].items() and len(copies.nearest.index) == N
    assert metrics['kernel_distance_ratio'] == metrics['kernel_distance'] / baselines['pca_gaussian']['kernel_distance'] < 0.5
    assert baselines['real'] == synthesis.assess(against.calibration, against)[0]
    assert controls['untrained']['kernel_distance_ratio'] > 1 and 'memorised_5' not in controls['untrained']
    assert controls['training images again'] == {'memorised_5': 1.0}


@pytest.mark.parametrize(
    ('shape', 'train', 'held_out', 'words'),
    [
        ((32, 32, 1), 8, 8, ''),
        ((32, 16, 1), 100, 100, 'smaller than 32'),
        ((32, 32, 1), 7, 100, 'too few'),
        ((32, 32, 1), 100, 7, 'too few'),
    ],
)
def test_what_cannot_be_judged_is_told(shape, train, held_out, words):
    reason = synthesis.unfit(shape, train, held_out)
    assert words in reason and bool(reason) == bool(words)


def test_the_least_that_is_fit_can_be_judged():
    small = synthesis.reference(people(0, 8), people(1000, 8), people(2000, 8))
    assert np.isfinite(list(synthesis.compare(people(3000, 8), people(4000, 8), small, np.random.default_rng(0))[0].values())).all()
