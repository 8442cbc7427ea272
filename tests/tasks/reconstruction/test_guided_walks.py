"""DiffuseRecon and score-MRI with the exact denoiser of a Gaussian."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff import constraints, exact, grids, operators, paths
from jaxdiff.tasks.reconstruction import kspace_guided, score_mri

SHAPE = (4, 2, 2)
KEY = jax.random.key(0)
MASK = np.array([1, 0, 1, 0], np.float32)[:, None, None]
FOURIER = operators.on_channels(operators.fourier(MASK))
PRIOR = exact.mixture([1.0], np.full((1, 16), 0.2), np.ones(1))  # elements that tell nothing of each other
TRUTH = jnp.asarray(np.random.default_rng(1).standard_normal(SHAPE), jnp.float32)
WAYS = {
    'kspace_guided': (kspace_guided.reconstruct, paths.cosine()),
    'score_mri': (score_mri.reconstruct, paths.ve(0.01, 20.0)),
}
jit = partial(jax.jit, compiler_options={'xla_backend_optimization_level': 0})


def drawn(name, operator, count, steps, **how):
    way, path = WAYS[name]
    run = lambda key, y: way(
        key, y, operator, exact.denoiser(path, PRIOR), path=path, times=grids.default(path, steps), shape=SHAPE, count=count, **how
    )
    return jit(run)(KEY, operator.forward(TRUTH))


def away(x, operator):
    y = operator.forward(TRUTH)
    return float(jnp.linalg.norm(operator.forward(x) - y) / jnp.linalg.norm(y))


@pytest.mark.parametrize('name', WAYS)
def test_every_sample_explains_what_was_measured_however_many_there_are(name):
    few, many = (drawn(name, FOURIER, count, 5) for count in (2, 3))
    assert max(away(each, FOURIER) for each in many.samples) <= 1e-5
    np.testing.assert_allclose(few.samples, many.samples[:2], atol=1e-5)
    assert jnp.abs(many.samples[0] - many.samples[1]).max() > 0.1


@pytest.mark.parametrize('name', WAYS)
def test_what_was_not_measured_is_drawn_from_the_prior(name):
    """Independent elements: the posterior is the prior where nothing was measured. Exact but for steps, the variance of DDPM, and the corrector,
    whose steps on sixteen elements are short."""
    found = drawn(name, operators.pixels(MASK), 1000, 60)
    free = MASK[:, 0, 0] == 0
    np.testing.assert_allclose(np.asarray(found.mean)[~free], np.asarray(TRUTH)[~free], atol=1e-4)
    np.testing.assert_allclose(np.asarray(found.mean)[free], 0.2, atol=0.15)
    np.testing.assert_allclose(np.asarray(found.deviation)[free], 1.0, atol=0.15)


def test_soft_consistency_goes_part_of_the_way():
    y, x = FOURIER.forward(TRUTH), jnp.zeros(SHAPE)
    left = [away(constraints.consistent(FOURIER.forward, FOURIER.pseudo_inverse, y, w)(KEY, x, x, 0.0), FOURIER) for w in (0.0, 0.25, 1.0)]
    np.testing.assert_allclose(left, [1.0, 0.75, 0.0], atol=1e-5)


def test_refining_keeps_what_was_measured_and_draws_nothing():
    path = paths.cosine()
    tail = grids.default(path, 10)[-4:]
    refine = lambda image: kspace_guided.refine(image, FOURIER.forward(TRUTH), FOURIER, exact.denoiser(path, PRIOR), path=path, times=tail)
    image = jnp.zeros(SHAPE)
    assert away(image, FOURIER) == 1.0 and away(jit(refine)(image), FOURIER) <= 1e-5
    perfect = lambda image: kspace_guided.refine(image, FOURIER.forward(TRUTH), FOURIER, lambda x, t: TRUTH, path=path, times=tail)
    np.testing.assert_allclose(jit(perfect)(image), TRUTH, atol=1e-5)


def test_parts_are_denoised_each_by_itself():
    halves = score_mri.by_parts(lambda x, t: x * jnp.linalg.norm(x))
    wanted = TRUTH * jnp.linalg.norm(TRUTH, axis=(0, 1), keepdims=True)
    np.testing.assert_allclose(halves(TRUTH, 0.5), wanted, rtol=1e-5)


def test_several_coils_are_one_image_that_explains_them_all():
    """With more coils than columns left out every pixel is known: each sample is the truth."""
    maps = np.random.default_rng(2).standard_normal((2, 4, 2, 3)).astype(np.float32)
    maps = maps[0] + 1j * maps[1]
    maps = maps / np.linalg.norm(maps, axis=-1, keepdims=True)
    operator = operators.on_channels(operators.coils(maps, MASK, steps=40))
    found = drawn('score_mri', operator, 2, 5)
    assert max(away(each, operator) for each in found.samples) <= 1e-3  # as exact as its conjugate gradients
    np.testing.assert_allclose(found.samples[0], TRUTH, atol=2e-2)
    np.testing.assert_allclose(found.samples[0], found.samples[1], atol=2e-2)
