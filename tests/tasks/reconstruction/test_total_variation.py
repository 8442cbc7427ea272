"""Zero-filled and total variation against what defines them, and against figures measured by another implementation."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff import operators
from jaxdiff.data import coils, phantoms, undersampling
from jaxdiff.metrics.images import psnr, ssim
from jaxdiff.tasks.reconstruction import total_variation
from jaxdiff.tasks.reconstruction.zero_filled import zero_filled

RNG = np.random.default_rng(0)
SHAPE = (10, 12)
MASK = RNG.random((1, 12, 1)) < 0.5
COUNT = 24


def noise(shape):
    return (RNG.standard_normal(shape) + 1j * RNG.standard_normal(shape)).astype(np.complex64)


@cache
def table(kind):
    """Magnitudes, k-space and masks of aligned phantoms, sampled in columns that cross the short axis of the head."""
    truth, kspace, masks = [], [], []
    for index in range(COUNT):
        rng = np.random.default_rng([7, index])
        image = phantoms.phantom(phantoms.Recipe(aligned=True), 200 + index).image[..., 0].T
        truth.append(image)
        kspace.append(coils.measured(rng, image * coils.phase(rng, image.shape), covariance=0.005**2))
        masks.append(undersampling.COLUMNS[kind](np.random.RandomState(200 + index), 64, 4, 0.08)[None, :, None])
    return tuple(map(np.stack, (truth, kspace, masks)))


@cache
def smoothest(steps):
    return jax.jit(jax.vmap(partial(total_variation.reconstruct, steps=steps), in_axes=(0, 0, None)))


@pytest.mark.parametrize(
    ('kind', 'weight', 'filled', 'least', 'slack'),
    [('random', 0.03, 17.20, 20.70, (0.5, 0.5)), ('gaussian1d', 0.01, 19.95, 26.00, (1.0, 0.6))],
)
def test_the_table_of_the_phantom(kind, weight, filled, least, slack):
    """Mean decibels of 24 images, which vary by .3 to .5 with the masks drawn."""
    truth, kspace, masks = table(kind)
    zeros = np.asarray(jax.vmap(zero_filled)(kspace, masks).magnitude)[..., 0]
    found = smoothest(300)(kspace, masks, weight)
    image = np.asarray(found.magnitude)[..., 0]
    assert abs(psnr(truth, zeros, peak='slice') - filled) < slack[0]
    assert abs(psnr(truth, image, peak='slice') - least) < slack[1]
    assert ssim(truth, image, peak='slice') > ssim(truth, zeros, peak='slice') + 0.15
    start = jax.vmap(lambda y, mask: total_variation.objective(operators.fourier(mask).adjoint(y), y, mask, weight))(kspace, masks)
    early = smoothest(20)(kspace, masks, weight).objective
    assert (early < start).all() and (found.objective < early).all()  # the objective falls


def test_without_weight_nothing_changes():
    """The zero-filled image explains the measurement exactly, and every exact image is a minimum."""
    y = noise((*SHAPE, 1))
    found = total_variation.reconstruct(y, MASK, 0.0, steps=10)
    np.testing.assert_allclose(found.image, operators.fourier(MASK).adjoint(y), atol=1e-5)
    assert found.objective < 1e-8


def test_a_heavy_weight_leaves_the_mean():
    """The transform of a constant is its zero frequency alone: the constant nearest to y is exact."""
    y = noise((*SHAPE, 1))
    full = np.ones((1, 1, 1), bool)
    found = total_variation.reconstruct(y, full, 1e3, steps=300)
    np.testing.assert_allclose(found.image, np.mean(operators.inverse_transform(y)), atol=1e-3)


def test_denoising_a_step_takes_off_what_theory_says():
    """One axis, all measured: the two halves of a step of height 1 and length n move towards each other by w / n."""
    image = np.repeat([0.0, 1.0], 8).astype(np.complex64)[:, None]
    found = total_variation.reconstruct(operators.transform(image), np.ones((1, 1), bool), 0.4, steps=500)
    np.testing.assert_allclose(found.image[:, 0], np.repeat([0.05, 0.95], 8), atol=1e-3)
    assert float(found.objective) == pytest.approx(16 * 0.05**2 / 2 + 0.4 * 0.9, rel=1e-3)


def test_the_prox_is_stationary():
    """tau A^H (A x - y) + x - v = 0 at x = prox(v)."""
    v, y, tau = noise((*SHAPE, 1)), noise((*SHAPE, 1)), 0.35
    operator = operators.fourier(MASK)
    x = total_variation.prox(v, y, MASK, tau)
    np.testing.assert_allclose(tau * operator.adjoint(operator.forward(x) - y) + x - v, 0, atol=1e-5)


def test_the_shrinkage_projects_onto_balls():
    p = noise((2, *SHAPE, 1))
    short = total_variation.shrink(p, 0.7)
    length, before = np.linalg.norm(short, axis=0), np.linalg.norm(p, axis=0)
    np.testing.assert_allclose(length, np.minimum(before, 0.7), atol=1e-6)
    np.testing.assert_allclose(short * before[None], p * length[None], atol=1e-5)  # the direction stays
    assert np.isfinite(total_variation.shrink(np.zeros_like(p), 0.0)).all()


@pytest.mark.parametrize('shape', [(9, 1), (6, 7, 2), (4, 5, 6, 1)])
def test_the_transpose_of_the_gradient(shape):
    x, p = noise(shape), noise((len(shape) - 1, *shape))
    left, right = np.vdot(p, total_variation.gradient(x)), np.vdot(total_variation.gradient_transpose(p), x)
    assert abs(left - right) < 1e-4
    constant = total_variation.gradient(jnp.ones(shape, jnp.complex64))
    np.testing.assert_array_equal(constant, 0)


def test_what_was_not_measured_is_not_read():
    y = noise((*SHAPE, 1))
    bad = np.where(MASK, y, np.nan)
    np.testing.assert_array_equal(
        total_variation.reconstruct(bad, MASK, 0.1, steps=5).image, total_variation.reconstruct(y, MASK, 0.1, steps=5).image
    )
    np.testing.assert_array_equal(zero_filled(bad, MASK).magnitude, zero_filled(y, MASK).magnitude)


def test_zero_filling_joins_coils_by_their_squares():
    fields = coils.birdcage(SHAPE, 4)
    image = noise(SHAPE)
    found = zero_filled(coils.measured(None, image, sensitivities=fields), np.ones((1, 1, 1), bool))
    assert found.coils.shape == (*SHAPE, 4) and found.magnitude.shape == (*SHAPE, 1)
    np.testing.assert_allclose(found.magnitude[..., 0], np.abs(image), atol=1e-5)
