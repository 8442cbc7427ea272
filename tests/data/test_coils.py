"""Coils, phase and noise against what defines them, and k-space against the operators that undo it."""

import numpy as np
import pytest

from jaxdiff import operators
from jaxdiff.data import coils, phantoms

SHAPE = (24, 20)
FACTOR = np.random.default_rng(1).standard_normal((3, 3)) + 1j * np.random.default_rng(2).standard_normal((3, 3))
PSI = FACTOR @ FACTOR.conj().T + np.eye(3)


def image(shape=SHAPE, seed=0):
    rng = np.random.default_rng(seed)
    return (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)).astype(np.complex64)


def head():
    person = phantoms.phantom(phantoms.Recipe(aligned=True), 0)
    return person.image[..., 0] * coils.phase(np.random.default_rng(0), (64, 64)), person.labels > 0


def test_the_transform_is_that_of_the_operators():
    x = image()[..., None]
    np.testing.assert_allclose(coils.transform(x), operators.transform(x), atol=1e-5)
    np.testing.assert_allclose(coils.inverse_transform(coils.transform(x)), x, atol=1e-6)


@pytest.mark.parametrize('count', [1, 4, 8])
def test_birdcage_coils_sum_to_one_and_turn_into_each_other(count):
    fields = coils.birdcage((32, 32), count)
    np.testing.assert_allclose(np.sum(np.abs(fields) ** 2, -1), 1, atol=1e-5)
    if count == 4:  # a quarter turn about the middle takes a coil to the next
        around = np.abs(fields[1:, 1:])  # the middle is at 16: the rest is symmetric about it
        np.testing.assert_allclose(np.rot90(around[..., 0], -1), around[..., 1], atol=1e-5)
        assert around[15, -1, 0] > 2 * around[15, 0, 0]  # the first is on the right
    middle = fields[4:-4, 4:-4]
    assert max(np.abs(np.diff(middle, axis=axis)).max() for axis in (0, 1)) < 0.15  # smooth, but next to a coil


def test_sensitivities_are_found_again_from_central_lines():
    x, brain = head()
    true = coils.birdcage((64, 64), 4)
    found = coils.estimated(coils.measured(np.random.default_rng(0), x, sensitivities=true), 16)
    support = np.sum(np.abs(found) ** 2, -1)
    np.testing.assert_allclose(support[support > 0], 1, atol=1e-5)
    assert support[brain].mean() > 0.99 and support[0, 0] == 0
    inside = brain & (support > 0)
    relative = lambda s: (s * np.exp(-1j * np.angle(s[..., :1])))[inside]  # up to the phase of the image
    assert np.sqrt(np.mean(np.abs(relative(found) - relative(true)) ** 2)) < 0.03
    merged = coils.combined(coils.inverse_transform(coils.measured(None, x, sensitivities=true)), found)[..., 0]
    assert np.linalg.norm(np.abs(merged[inside]) - np.abs(x[inside])) < 0.02 * np.linalg.norm(x[inside])


def test_true_sensitivities_combine_exactly():
    x, true = image(), coils.birdcage(SHAPE, 5)
    images = coils.inverse_transform(coils.measured(None, x, sensitivities=true))
    np.testing.assert_allclose(coils.combined(images, true)[..., 0], x, atol=1e-5)
    np.testing.assert_allclose(coils.root_sum_of_squares(images), np.abs(x), atol=1e-5)


def test_too_few_lines_are_refused():
    with pytest.raises(ValueError, match='at least 2'):
        coils.estimated(image()[..., None], 1)


def test_noise_has_its_covariance():
    samples = coils.noise(np.random.default_rng(0), (40000, 3), PSI)
    np.testing.assert_allclose(coils.covariance(samples), PSI, atol=0.03 * np.abs(PSI).max())
    assert np.mean(np.abs(coils.noise(np.random.default_rng(0), (20000, 2), 0.25)) ** 2) == pytest.approx(0.25, rel=0.03)
    assert abs(np.mean(samples**2)) < 0.05  # no preferred phase


def test_whitened_noise_is_white():
    samples = coils.noise(np.random.default_rng(0), (40000, 3), PSI)
    np.testing.assert_allclose(coils.covariance(coils.whitened(samples, PSI)), np.eye(3), atol=0.03)


def test_whitening_both_sides_leaves_the_image():
    """L^-1 y = F(L^-1 S x): the whitened coils see the same image."""
    x, fields = image(), coils.birdcage(SHAPE, 3)
    y = coils.whitened(coils.measured(None, x, sensitivities=fields), PSI)
    np.testing.assert_allclose(y, coils.measured(None, x, sensitivities=coils.whitened(fields, PSI)), atol=1e-4)


@pytest.mark.parametrize('bad', [-np.eye(3), FACTOR, np.eye(2), np.zeros((3, 3))])
def test_a_covariance_that_is_none_is_refused(bad):
    with pytest.raises(ValueError, match='covariance'):
        coils.noise(np.random.default_rng(0), (4, 3), bad)


def test_phase_is_smooth_and_reaches_its_strength():
    factor = coils.phase(np.random.default_rng(0), (64, 64), strength=1.0)
    np.testing.assert_allclose(np.abs(factor), 1, atol=1e-6)
    assert np.abs(np.angle(factor)).max() == pytest.approx(1, abs=1e-5)
    assert np.abs(np.diff(np.angle(factor), axis=0)).max() < 0.15


def test_kspace_has_noise_of_the_variance_asked_for():
    x = image((64, 64))
    clean = coils.measured(np.random.default_rng(0), x)
    assert clean.shape == (64, 64, 1) and clean.dtype == np.complex64
    noisy = coils.measured(np.random.default_rng(0), x, covariance=0.005**2)
    assert np.sqrt(np.mean(np.abs(noisy - clean) ** 2)) == pytest.approx(0.005, rel=0.05)
