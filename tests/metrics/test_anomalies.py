"""The evaluation on maps made by hand, and the published rows of the phantom."""

import numpy as np
import pytest
from scipy import ndimage

from jaxdiff.data import phantoms
from jaxdiff.metrics import anomalies, detection


def cases(seed, n=6, size=24):
    rng = np.random.default_rng(seed)
    brains, lesions = np.zeros((n, size, size), bool), np.zeros((n, size, size), bool)
    brains[:, 2:-2, 2:-2] = True
    for i in range(n - 2):
        lesions[i, 8 : 12 + i, 8 : 12 + i] = True
    return anomalies.Cases(rng.uniform(-0.1, 0.1, (n, size, size, 1)) + lesions[..., None], brains, lesions)


def test_a_perfect_map_is_perfect_and_a_constant_one_is_chance():
    tuning, test = cases(0), cases(1)
    found = anomalies.evaluate(
        tuning.lesions * 1.0, tuning, test.lesions * 1.0, test, restored=test.images + 0.25, masks=test.lesions, median=1
    )
    assert (found.ap, found.auroc, found.dice, found.dice_upper_bound, found.image_auroc, found.mask_recall) == (1,) * 6
    assert (found.small, found.large) == (1, 1) and found.healthy_mae == pytest.approx(0.25)
    flat = anomalies.evaluate(np.ones_like(tuning.lesions, float), tuning, np.ones_like(test.lesions, float), test, erosion=0, median=1)
    assert flat.ap == pytest.approx(flat.chance) == pytest.approx(test.lesions[test.brains].mean())
    assert flat.auroc == 0.5 and np.isnan(flat.healthy_mae) and np.isnan(flat.mask_recall)


def test_a_random_map_is_worth_the_prevalence():
    tuning, test = cases(0, n=40), cases(1, n=40)
    tuning, test = (c._replace(lesions=np.roll(c.brains & (np.arange(24) % 12 == 3), 1, -1)) for c in (tuning, test))
    rng = np.random.default_rng(2)
    found = anomalies.evaluate(
        rng.uniform(size=test.lesions.shape), tuning, rng.uniform(size=test.lesions.shape), test, median=1, erosion=0
    )
    assert found.ap == pytest.approx(found.chance, abs=0.01) and found.auroc == pytest.approx(0.5, abs=0.03)


def test_the_threshold_comes_from_validation():
    tuning, test = cases(0), cases(1)
    found = anomalies.evaluate(tuning.lesions * 1.0, tuning, test.lesions * 1.0 - 5, test, median=1, erosion=0)
    assert found.dice == 0 and found.dice_upper_bound == 1


def test_dice_is_told_by_the_size_of_lesions():
    tuning, test = cases(0), cases(1)
    blind = test.lesions * 1.0
    blind[:2] = 0
    found = anomalies.evaluate(tuning.lesions * 1.0, tuning, blind, test, median=1)
    assert (found.small, found.large) == (0, 1)


def test_small_components_go_and_diagonals_connect():
    mask = np.zeros((2, 6, 6), bool)
    mask[0, [0, 1, 2], [0, 1, 2]] = mask[0, 5, 5] = mask[1, 0, 0] = True
    kept = anomalies.remove_small(mask, 3)
    assert kept[0, [0, 1, 2], [0, 1, 2]].all() and kept.sum() == 3
    np.testing.assert_array_equal(anomalies.remove_small(mask, 0), mask)


def test_the_linear_denoiser_is_its_formula():
    rng = np.random.default_rng(0)
    healthy, images = rng.normal(size=(30, 3, 2, 2)), rng.normal(size=(4, 3, 2, 2))
    flat = healthy.reshape(30, -1)
    covariance, mean = np.cov(flat.T), flat.mean(0)
    away = images.reshape(4, -1) - mean
    left = away - away @ np.linalg.solve(covariance + 0.49 * np.eye(12), covariance)
    np.testing.assert_allclose(
        anomalies.linear_denoiser(anomalies.spectrum(healthy), 0.7)(images), np.abs(left).reshape(4, 3, 2, 2).mean(-1)
    )
    axes = np.linalg.eigh(covariance)[1][:, -5:]
    left = away - away @ axes @ axes.T
    np.testing.assert_allclose(
        anomalies.principal_components(anomalies.spectrum(healthy), 5)(images), np.abs(left).reshape(4, 3, 2, 2).mean(-1)
    )


def test_the_rows_of_the_phantom_are_the_published_ones():
    """Fewer subjects than published, 400 and 48, and a tolerance for it."""
    healthy = np.stack([phantoms.phantom(phantoms.Recipe(), i).image for i in range(400)])
    patients = [phantoms.phantom(phantoms.Recipe(lesion=True), i) for i in range(5000, 5048)]
    images, lesions = np.stack([p.image for p in patients]), np.stack([p.lesion for p in patients])
    brains = np.stack([ndimage.binary_fill_holes(p.labels > 0) for p in patients])

    def precision(score, median=5):
        return detection.average_precision(detection.postprocess(score, brains, median=median)[brains], lesions[brains])

    assert lesions[brains].mean() == pytest.approx(0.045, abs=0.01)
    rows = {name: precision(score(images)) for name, score in anomalies.baselines(healthy).items()}
    assert rows == pytest.approx({'intensity': 0.25, 'z-score': 0.40, 'PCA': 0.67, 'linear denoiser': 0.74}, abs=0.08)
