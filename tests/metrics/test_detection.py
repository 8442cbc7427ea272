import numpy as np
import pytest
from scipy.stats import mannwhitneyu

from jaxdiff.metrics import detection
from jaxdiff.metrics.detection import auroc, average_precision, best_dice_upper_bound, best_threshold, dice


def tied_case(seed=0, n=400):
    rng = np.random.default_rng(seed)
    lesion = rng.random(n) < 0.2
    return np.round(rng.standard_normal(n) + lesion, 1), lesion


def test_average_precision_by_hand():
    assert average_precision([0.9, 0.8, 0.7, 0.6], [1, 0, 1, 0]) == pytest.approx((1 + 2 / 3) / 2)
    assert average_precision([0.9, 0.5, 0.5, 0.1], [1, 1, 0, 0]) == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)  # a tie enters whole
    assert average_precision([3, 2, 1], [1, 1, 0]) == 1
    assert average_precision(np.zeros(10), np.arange(10) < 3) == pytest.approx(0.3)  # chance is the prevalence


def test_average_precision_and_auroc_are_sklearns():
    metrics = pytest.importorskip('sklearn.metrics')
    for seed in range(5):
        score, lesion = tied_case(seed)
        assert average_precision(score, lesion) == pytest.approx(metrics.average_precision_score(lesion, score), rel=1e-12)
        assert auroc(score, lesion) == pytest.approx(metrics.roc_auc_score(lesion, score), rel=1e-12)


def test_auroc_is_mann_whitney():
    score, lesion = tied_case()
    pairs = score[lesion][:, None] - score[~lesion][None]
    assert auroc(score, lesion) == pytest.approx(np.mean((pairs > 0) + 0.5 * (pairs == 0)), rel=1e-12)
    statistic = mannwhitneyu(score[lesion], score[~lesion]).statistic
    assert auroc(score, lesion) == pytest.approx(statistic / pairs.size, rel=1e-12)


def test_dice():
    assert dice([1, 1, 0, 0], [1, 0, 1, 0]) == 0.5
    assert dice([0, 0], [0, 0]) == 1 and dice([1, 0], [0, 0]) == 0


def test_best_threshold_is_the_best_of_all():
    score, lesion = tied_case()
    every = [dice(score > theta, lesion) for theta in [*np.unique(score), score.min() - 1]]
    chosen = best_threshold(score, lesion)
    assert chosen.dice == pytest.approx(max(every))
    assert dice(score > chosen.threshold, lesion) == pytest.approx(chosen.dice)
    assert best_dice_upper_bound(score, lesion) == chosen.dice
    everything = best_threshold([1.0, 2.0], [1, 1])
    assert everything.dice == 1 and np.isfinite(everything.threshold) and everything.threshold < 1


def test_erosion_is_the_cross_twice():
    mask = np.zeros((2, 11, 11), bool)
    mask[0, 2:9, 2:9] = True
    mask[1, 1:10, 1:10] = True
    mask[1, 5, 1] = False  # a notch in the border: two erosions by a cross cut a diamond of radius 2 around it
    distance = lambda i, j: min(abs(i - a) + abs(j - b) for a in range(-1, 12) for b in range(-1, 12) if not inside(a, b))
    inside = lambda a, b: 1 <= a < 10 and 1 <= b < 10 and (a, b) != (5, 1)
    expected = np.array([[distance(i, j) > 2 for j in range(11)] for i in range(11)])
    eroded = detection.erode(mask)
    assert eroded[0].sum() == 9 and np.array_equal(eroded[1], expected)
    assert np.array_equal(detection.erode(mask, 0), mask)


def test_postprocess_treats_each_map_alone():
    rng = np.random.default_rng(0)
    score, brain = rng.random((3, 12, 12)), np.ones((3, 12, 12), bool)
    both = detection.postprocess(score, brain)
    np.testing.assert_array_equal(both[1], detection.postprocess(score[1:2], brain[1:2])[0])
    assert both[0, 6, 6] == np.median(score[0, 4:9, 4:9])
    corner = np.pad(score[0], 2, mode='symmetric')[:5, :5]
    assert detection.median_filter(score)[0, 0, 0] == np.median(corner)
    bare = detection.postprocess(score, brain, median=1)
    assert not bare[:, :2].any() and np.array_equal(bare[:, 2:-2, 2:-2], score[:, 2:-2, 2:-2])


def test_baseline_maps_find_what_they_should():
    rng = np.random.default_rng(0)
    ramp = np.linspace(-0.5, 0.5, 16)[None, :, None, None]
    healthy = ramp + 0.05 * rng.standard_normal((200, 16, 16, 1))
    test = ramp + 0.05 * rng.standard_normal((4, 16, 16, 1))
    lesion = np.zeros((4, 16, 16), bool)
    lesion[:, 4:8, 4:8] = True
    dark = np.where(lesion[..., None], test - 0.4, test)
    brain = np.ones_like(lesion)
    z = detection.z_score(healthy)(dark)
    assert z.shape == lesion.shape and np.median(z[~lesion]) == pytest.approx(0.674, abs=0.1)  # |N(0, 1)| has this median
    assert average_precision(z, lesion) > 0.95
    assert average_precision(detection.contrast(dark, brain), lesion) > average_precision(detection.intensity(dark), lesion)


def test_refuses_undefined_questions():
    with pytest.raises(ValueError, match='no lesion'):
        average_precision([1, 2], [0, 0])
    with pytest.raises(ValueError, match='no healthy'):
        auroc([1, 2], [1, 1])
    with pytest.raises(ValueError, match='finite'):
        average_precision([1, np.nan], [0, 1])
    with pytest.raises(ValueError, match='pixels'):
        average_precision(np.zeros(3), np.ones(4))
