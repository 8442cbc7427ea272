"""Detectors against closed forms: Gaussian priors restore linearly, and what is not to change returns as it came."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest

from jaxdiff import exact, grids, noise, paths
from jaxdiff.paths import bridge
from jaxdiff.solvers.ancestral import ddim, ddpm
from jaxdiff.tasks.anomaly import classifier_free, classifier_guided, coarse, latent, patched, resample, single
from jaxdiff.tasks.anomaly import partial as averaged
from jaxdiff.tasks.anomaly.finding import cut, dilate, finding, otsu

jit = partial(jax.jit, compiler_options={'xla_backend_optimization_level': 0})
PATH = paths.cosine()
HEALTHY = oracles.Mixture((1.0,), (-0.2,), (0.3,))
DENOISE = oracles.denoiser(PATH, HEALTHY)
SPOT = np.zeros((16, 16), bool)
SPOT[5:9, 6:10] = True
IMAGE = np.where(SPOT, 0.9, -0.2).astype(np.float32)[..., None]
KEY = jax.random.key(0)
TIME = 0.4
ALPHA, SIGMA = float(PATH.alpha(TIME)), float(PATH.sigma(TIME))
SHRINKAGE = (ALPHA * 0.3) ** 2 / ((ALPHA * 0.3) ** 2 + SIGMA**2)


def test_restorations_are_averaged_before_the_absolute_value():
    found = finding(jnp.zeros((2, 2, 1)), jnp.stack([jnp.full((2, 2, 1), 3.0), jnp.full((2, 2, 1), -1.0)]), weight=2.0)
    np.testing.assert_allclose(found.map, np.full((2, 2), 2.0))
    np.testing.assert_allclose(found.spread, np.full((2, 2, 1), 2.0))
    assert np.isnan(found.inversion)


def test_masks_come_from_the_map_or_from_a_threshold():
    score = jnp.where(SPOT, 0.9, 0.1)[..., None]
    found = finding(score, jnp.zeros((1, 16, 16, 1)))
    np.testing.assert_array_equal(found.mask, SPOT)
    assert float(found.score) == pytest.approx(float(score.mean()), rel=1e-5) and float(found.healthy_error) == pytest.approx(0.1, rel=1e-5)
    all_, none = cut(found, 0.05), cut(found, 0.95)
    assert all_.mask.all() and all_.healthy_error == 0
    assert not none.mask.any() and float(none.healthy_error) == pytest.approx(float(score.mean()), rel=1e-5)


def test_otsu_divides_two_heaps_as_the_direct_search_does():
    rng = np.random.default_rng(0)
    score = np.concatenate([rng.normal(0, 0.1, 90), rng.normal(1, 0.1, 10)]).astype(np.float32)
    spread = lambda t: (score > t).mean() * (score <= t).mean() * (score[score > t].mean() - score[score <= t].mean()) ** 2
    assert otsu(jnp.asarray(score)) == max(np.sort(score)[:-1], key=spread)
    assert otsu(jnp.ones(5)) == 1  # nothing above
    assert otsu(jnp.linspace(0, 1, 320 * 320)) == pytest.approx(0.5, abs=1e-3)  # more pixels than products of integers hold


def test_dilation_is_by_one_pixel_every_way():
    expected = np.zeros((16, 16), bool)
    expected[4:10, 5:11] = True
    np.testing.assert_array_equal(dilate(jnp.asarray(SPOT)), expected)


def test_one_call_without_noise_is_the_linear_denoiser():
    found = coarse.restore(IMAGE, DENOISE, path=PATH, time=TIME)
    np.testing.assert_allclose(found.restored, -0.2 + SHRINKAGE * (IMAGE + 0.2), atol=1e-5)
    np.testing.assert_allclose(found.map[SPOT], (1 - SHRINKAGE) * 1.1, atol=1e-5)


def test_the_background_returns_as_it_is():
    image = jnp.where(SPOT[..., None], 0.5, -1.0)
    found = coarse.restore(image, DENOISE, path=PATH, time=TIME)
    np.testing.assert_array_equal(found.map[~SPOT], 0)
    assert (found.map[SPOT] > 0.1).all()


def test_a_single_step_shrinks_a_lesion_by_the_linear_denoiser():
    found = jit(partial(single.restore, denoise=DENOISE, path=PATH, repeats=400))(KEY, IMAGE, time=TIME)
    error = SHRINKAGE * SIGMA / ALPHA / np.sqrt(400 * SPOT.sum())
    assert abs(found.restored[SPOT].mean() - (-0.2 + SHRINKAGE * 1.1)) < 4 * error
    assert found.spread[SPOT].mean() == pytest.approx(SHRINKAGE * SIGMA / ALPHA, rel=0.03)


def test_patches_are_the_whole_where_the_denoiser_is_pointwise():
    whole = single.restore(KEY, IMAGE, DENOISE, path=PATH, time=TIME, repeats=2)
    boxes = patched.restore(KEY, IMAGE, DENOISE, path=PATH, time=TIME, size=8, repeats=2)
    np.testing.assert_allclose(boxes.restored, whole.restored, atol=1e-6)


def test_a_patch_sees_its_surroundings_as_they_are():
    """A denoiser that answers with the mean of the image tells how much of it was noised."""
    mean = lambda x, t: jnp.full_like(x, x.mean())
    large = lambda key, shape: jnp.full(shape, 100.0)
    found = patched.restore(KEY, IMAGE, mean, path=PATH, time=TIME, size=8, noise=large)
    box = patched.boxes((16, 16), 8)[0]
    np.testing.assert_allclose(found.restored[:8, :8], np.where(box, ALPHA * IMAGE + SIGMA * 100, IMAGE).mean(), rtol=1e-5)


def test_boxes_divide_the_image_once():
    grid = patched.boxes((4, 6), 2)
    assert grid.shape == (6, 4, 6, 1) and (grid.sum(0) == 1).all() and (grid.sum((1, 2, 3)) == 4).all()
    with pytest.raises(ValueError, match='do not fill'):
        patched.boxes((4, 6), 4)


def test_overlapping_patches_that_agree_are_the_whole():
    grid = patched.boxes((8, 8), 4, 2)
    assert len(grid) == 9 and grid.sum(0).max() == 4 and grid.any(0).all()
    whole = single.restore(KEY, IMAGE, DENOISE, path=PATH, time=TIME, repeats=1)
    boxes = patched.restore(KEY, IMAGE, DENOISE, path=PATH, time=TIME, size=8, stride=4)
    np.testing.assert_allclose(boxes.restored, whole.restored, atol=1e-6)


@pytest.mark.parametrize('resamplings', [1, 3])
def test_resampling_returns_what_is_not_masked_exactly(resamplings):
    times = grids.uniform(PATH, 4, start=TIME)

    def run(key):
        first = averaged.restore(key, IMAGE, DENOISE, path=PATH, solver=ddpm(PATH), times=times, repeats=4)
        options = {'path': PATH, 'solver': ddpm(PATH), 'times': times / 4, 'threshold': 0.8, 'resamplings': resamplings}
        return first, resample.restore(key, first, DENOISE, **options)

    first, found = jax.device_get(jit(run)(KEY))
    assert found.mask[SPOT].all() and not found.mask.all()
    np.testing.assert_array_equal(found.restored[~found.mask], IMAGE[~found.mask])
    assert found.healthy_error == 0 and first.healthy_error > 0.01
    assert (found.restored[found.mask] != first.restored[found.mask]).all()
    assert (found.restored[SPOT].mean() - first.restored[SPOT].mean()) < 0.05  # towards the mean, not back to the lesion


def test_an_image_is_found_alike_in_any_batch():
    run = jit(lambda keys: jax.vmap(lambda key: single.restore(key, IMAGE, DENOISE, path=PATH, time=TIME))(keys))
    keys = jax.random.split(KEY, 3)
    for one, three in zip(run(keys[1:2]), run(keys), strict=True):
        np.testing.assert_allclose(one[0], three[1], atol=1e-6)


TIMES = grids.uniform(PATH, 40, start=0.5)


def test_guidance_of_zero_returns_the_image_and_the_classifier_moves_it_to_health():
    """Health is the component at -0.5, disease that at 0.5; the exact likelihood of health guides with its true weight."""
    both = exact.mixture([0.5, 0.5], [[-0.5] * 4, [0.5] * 4], [0.01, 0.01])
    denoise = exact.denoiser(PATH, both)
    log_likelihood = lambda x, t: jnp.log(exact.posterior(PATH, both, x, t)[0] + 1e-30)
    run = jit(
        lambda image, scale: classifier_guided.restore(image, denoise, log_likelihood, path=PATH, times=TIMES, scale=scale, iterations=8)
    )
    image = jnp.full((2, 2, 1), 0.5).at[0, 0].add(0.05)
    free, guided = run(image, 0.0), run(image, 6.0)
    assert free.inversion < 0.01 and free.map.max() < 0.02
    assert abs(guided.restored.mean() + 0.5) < 0.15 and guided.map.min() > 0.7
    np.testing.assert_allclose(guided.inversion, free.inversion)


def test_classes_move_an_image_from_mean_to_mean():
    """Encoded under one Gaussian and decoded under another of the same width, every pixel keeps its place in the law."""
    means = jnp.array([0.3, -0.3])
    conditioned = lambda label: lambda x, t: oracles.denoiser(PATH, oracles.Mixture((1.0,), (means[label],), (0.2,)))(x, t)
    run = partial(classifier_free.restore, jnp.asarray(0.3 + IMAGE / 10), conditioned, 1, 0, path=PATH, iterations=8)
    same = jit(lambda times: run(times=times, weight=0.0, quantile=None))(TIMES)
    assert same.inversion < 0.005 and same.map.max() < 0.02
    whole = grids.uniform(PATH, 60, start=0.9)
    moved = jit(lambda times: run(times=times, weight=1.0, quantile=None))(whole)
    gone = moved.image - moved.restored
    late = float(PATH.alpha(0.9))
    left = 0.6 * (1 - late * 0.2 / np.hypot(late * 0.2, PATH.sigma(0.9)))  # the flow of a Gaussian is affine
    np.testing.assert_allclose(gone, np.full(IMAGE.shape, left), atol=0.02)


def test_the_threshold_keeps_the_answer_in_range():
    far = lambda label: lambda x, t: jnp.where(label, 5.0, 0.0) * jnp.ones_like(x)
    run = partial(classifier_free.restore, IMAGE, far, 1, 0, path=PATH, times=TIMES[-5:])
    assert run().restored.max() <= 1 + 1e-5 and run(quantile=None).restored.max() > 10


def test_an_exact_model_finds_its_own_samples_equally_likely_everywhere():
    """E |eps - eps_hat|^2 is alpha^2 Var[x0 | x_t] / sigma^2 at every position."""
    ask = lambda key: latent.unlikely(key, -0.2 + 0.3 * jax.random.normal(key, (8, 8, 2)), DENOISE, path=PATH, band=jnp.array([TIME]))
    maps = jit(jax.vmap(ask))(jax.random.split(KEY, 300))
    expected = ALPHA**2 * 0.09 / (ALPHA**2 * 0.09 + SIGMA**2)
    error = maps.std() / np.sqrt(300)
    assert np.abs(maps.mean(0) - expected).max() < 4.5 * error
    strange = latent.unlikely(KEY, IMAGE, DENOISE, path=PATH, band=jnp.array([TIME]), draws=16)
    assert strange[SPOT].min() > 2 * strange[~SPOT].max()


def test_latents_are_healed_where_they_are_unlikely():
    """The code is the image at half its size: what is not masked decodes as it came."""
    image = np.kron(IMAGE[:, :, 0], np.ones((2, 2), np.float32))[..., None]
    encode, decode = lambda x: x[::2, ::2], lambda z: jnp.repeat(jnp.repeat(z, 2, 0), 2, 1)
    run = partial(latent.restore, denoise=DENOISE, encode=encode, decode=decode, path=PATH, solver=ddim(PATH, eta=1.0))
    found = jit(run)(KEY, image, times=grids.uniform(PATH, 6, start=0.8), band=jnp.array([0.3, 0.5]), threshold=1.5)
    np.testing.assert_array_equal(found.mask, np.kron(dilate(jnp.asarray(SPOT)), np.ones((2, 2), bool)))
    np.testing.assert_array_equal(found.restored[~found.mask], image[~found.mask])
    assert found.inversion == 0 and found.map[10:18, 12:20].mean() > 0.5 and not found.map[:6].any()


def test_the_noise_of_a_walk_may_be_chosen():
    times = jnp.array([TIME, TIME / 2])
    one = lambda key, shape: jnp.ones(shape)
    step = ddpm(PATH, noise=one).step(KEY, DENOISE, (), jnp.asarray(IMAGE), *times)[0]
    mean, std = bridge(PATH, DENOISE(jnp.asarray(IMAGE), TIME), jnp.asarray(IMAGE), *times)
    np.testing.assert_allclose(step, mean + std, atol=1e-6)
    found = single.restore(KEY, IMAGE, DENOISE, path=PATH, time=TIME, repeats=1, noise=noise.coarse(4))
    assert np.abs(np.diff(found.restored[..., 0], axis=1)).mean() < found.restored[~SPOT].std()


def test_simplex_noise_erases_the_lesion_and_leaves_the_mean():
    """Averaged partial diffusion with simplex noise in the first draw and in the walk: linear, and the noise has mean 0."""
    fog = noise.simplex(8.0, octaves=2)
    times = grids.uniform(PATH, 2, start=TIME)
    run = partial(averaged.restore, denoise=DENOISE, path=PATH, solver=ddpm(PATH, noise=fog), noise=fog, repeats=64)
    found = jit(run)(KEY, IMAGE, times=times)
    error = 4 * found.spread.mean() / 8  # as if all pixels of a draw were one
    assert abs(found.restored[SPOT].mean() - (-0.2 + SHRINKAGE * 1.1)) < error
    assert abs(found.restored[~SPOT].mean() + 0.2) < error < 0.2


def test_coarse_noise_is_learnt_from_where_there_is_signal_alone():
    image = jnp.where(SPOT[..., None], 0.5, -1.0)
    x, t, weight = coarse.spoil(PATH, TIME, noise.gaussian)(KEY, image)
    np.testing.assert_array_equal(weight[..., 0] > 0, SPOT)
    np.testing.assert_allclose(x[~SPOT], -ALPHA, atol=1e-6)
    assert float(t) == TIME and np.std(np.asarray(x)[SPOT] - ALPHA * 0.5) == pytest.approx(SIGMA, rel=0.5)


def test_a_box_is_spoilt_and_its_surroundings_are_not():
    spoil = patched.spoil(PATH, 8)
    x, t, weight = jax.vmap(spoil, (0, None))(jax.random.split(KEY, 40), jnp.asarray(IMAGE))
    inside = np.asarray(weight) > 0
    assert (inside.sum((1, 2, 3)) == 64).all() and len({each.tobytes() for each in inside}) == 4
    for each, box in zip(np.asarray(x), inside, strict=True):
        np.testing.assert_array_equal(each[~box], IMAGE[~box])
        assert np.std(each[box] - IMAGE[box]) > 0
    assert t.min() > 0 and t.max() <= 1 and t.std() > 0.2


def test_similar_surroundings_differ_little_and_others_much():
    rng = np.random.default_rng(0)
    image = np.where(SPOT, 0.6, -0.2).astype(np.float32)[..., None]
    noisy, without = image + 0.02 * rng.standard_normal(image.shape).astype(np.float32), np.full_like(image, -0.2)
    np.testing.assert_allclose(resample.dissimilar(image, image), 0, atol=1e-5)
    near, far = np.asarray(resample.dissimilar(image, noisy)), np.asarray(resample.dissimilar(image, without))
    assert near.mean() < 0.2 < far[SPOT].mean() and far[0, -1] < 1e-3 and 0 <= far.min() <= far.max() <= 1
