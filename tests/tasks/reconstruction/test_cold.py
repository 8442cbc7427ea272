"""Cold diffusion with restorers that know the answer, or know it wrongly."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from jaxdiff import operators
from jaxdiff.tasks.reconstruction import cold

KEY = jax.random.key(0)
MASK = (np.arange(8) % 4 == 0)[None, :, None]  # 6 of 8 columns are missing
FOURIER = operators.on_channels(operators.fourier(MASK))
TIMES = jnp.linspace(1.0, 0.0, 7)
TRUTH = jnp.asarray(np.random.default_rng(0).standard_normal((4, 8, 2)), jnp.float32)
Y = FOURIER.forward(TRUTH)
jit = partial(jax.jit, compiler_options={'xla_backend_optimization_level': 0})


def restored(restorer, **how):
    return jit(lambda key, y: cold.restore(key, y, MASK, restorer, times=TIMES, **how))(KEY, Y)


def wrong(x, t):
    return 0.5 * TRUTH + 0.1


def test_masks_lose_one_column_after_another_from_all_to_what_was_measured():
    turns = cold.order(KEY, MASK)
    masks = np.array([cold.kept(turns, MASK, t)[0, :, 0] for t in TIMES])
    np.testing.assert_array_equal(masks[0], MASK[0, :, 0])
    np.testing.assert_array_equal(masks.sum(1), [2, 3, 4, 5, 6, 7, 8])
    assert np.all(masks[1:] >= masks[:-1])


def test_the_degradation_is_linear_and_ends_at_the_measurement():
    turns, other = cold.order(KEY, MASK), jnp.flip(TRUTH)
    mixed = cold.degrade(2.0 * TRUTH - other, turns, MASK, 0.5)
    parts = 2.0 * cold.degrade(TRUTH, turns, MASK, 0.5) - cold.degrade(other, turns, MASK, 0.5)
    np.testing.assert_allclose(mixed, parts, atol=1e-5)
    np.testing.assert_allclose(cold.degrade(TRUTH, turns, MASK, 0.0), TRUTH, atol=1e-5)
    np.testing.assert_allclose(FOURIER.forward(cold.degrade(TRUTH, turns, MASK, 1.0)), Y, atol=1e-5)
    assert jnp.linalg.norm(cold.degrade(TRUTH, turns, MASK, 1.0) - FOURIER.adjoint(Y)) < 1e-5


def test_a_pair_is_a_degraded_image_and_its_time():
    seen = {float(cold.pair(jax.random.key(i), TRUTH, MASK, 2)[1]) for i in range(12)}
    assert seen == {0.0, 0.5, 1.0}
    x, t = cold.pair(KEY, TRUTH, MASK, 2)
    missing = np.isclose(np.linalg.norm(operators.transform(operators.to_complex(x))[..., 0], axis=0), 0, atol=1e-4).sum()
    assert missing == int(6 * t)


def test_a_perfect_restorer_gives_the_image():
    found = restored(lambda x, t: TRUTH, count=2)
    np.testing.assert_allclose(found.samples, jnp.stack([TRUTH, TRUTH]), atol=1e-5)
    np.testing.assert_allclose(found.deviation, jnp.zeros_like(TRUTH), atol=1e-5)


def test_a_wrong_restorer_breaks_what_was_measured_in_the_naive_sampler_alone():
    away = lambda x: jnp.linalg.norm(FOURIER.forward(x) - Y) / jnp.linalg.norm(Y)
    assert away(restored(wrong).mean) < 1e-5
    assert away(restored(wrong, naive=True).mean) > 0.1
    assert away(cold.one_shot(Y, MASK, wrong)) > 0.1


def test_orders_differ_and_do_not_depend_on_how_many_there_are():
    restorer = lambda x, t: x + t * jnp.roll(TRUTH, 1, axis=1)  # what comes late depends on what came before
    few, many = restored(restorer, count=2), restored(restorer, count=3)
    np.testing.assert_allclose(few.samples, many.samples[:2], atol=1e-5)
    assert jnp.abs(few.samples[0] - few.samples[1]).max() > 1e-2
