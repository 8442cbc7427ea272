"""Constraints on x after each step."""

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest

from jaxdiff import constraints, grids, paths
from jaxdiff.solvers.ancestral import ddpm
from jaxdiff.solvers.loop import sample

PATH = paths.vp()
KNOWN = jnp.linspace(-1, 1, 24).reshape(4, 6, 1)
MASK = (jnp.arange(24).reshape(4, 6, 1) % 3 == 0).astype(jnp.float32)


def walk(constrain):
    x = jax.random.normal(jax.random.key(1), KNOWN.shape)
    return sample(jax.random.key(2), x, oracles.denoiser(PATH, oracles.TEST_BED), ddpm(PATH), grids.uniform(PATH, 8), constrain=constrain).x


def test_known_voxels_are_exact_and_the_others_free():
    known = jnp.where(MASK > 0, KNOWN, jnp.nan)  # what is unknown is not read
    x = walk(constraints.inpaint(PATH, known, MASK))
    np.testing.assert_array_equal(x[MASK > 0], KNOWN[MASK > 0])
    assert jnp.all(jnp.isfinite(x)) and jnp.all(x[MASK == 0] != KNOWN[MASK == 0])


def test_a_mask_may_be_boolean_and_broadcast():
    x = jnp.zeros((4, 6, 2))
    filled = constraints.inpaint(PATH, jnp.ones((4, 6, 2)), MASK > 0)(jax.random.key(0), x, x, jnp.float32(0))
    np.testing.assert_array_equal(filled, jnp.broadcast_to(MASK, (4, 6, 2)))


def test_a_constraint_leaves_the_noise_of_the_solver_alone():
    np.testing.assert_array_equal(walk(constraints.inpaint(PATH, KNOWN, jnp.zeros((4, 6, 1)))), walk(None))


def test_known_voxels_are_noised_to_the_level_of_the_step():
    constrain = constraints.inpaint(PATH, jnp.full((20000,), 0.5), jnp.ones(20000))
    x = constrain(jax.random.key(0), jnp.zeros(20000), None, jnp.float32(0.4))
    sigma = PATH.sigma(0.4)
    assert abs(x.mean() - 0.5 * PATH.alpha(0.4)) < 4 * sigma / np.sqrt(20000)
    assert abs(x.std() / sigma - 1) < 4 / np.sqrt(40000)


def test_a_chain_applies_in_order_with_keys_of_their_own():
    seen = []

    def recording(factor, offset):
        def constrain(key, x, x0, s):
            seen.append(jax.random.key_data(key).tolist())
            return factor * x + offset + x0 + s

        return constrain

    both = constraints.chain(recording(2, 0), recording(1, 3))
    assert both(jax.random.key(0), jnp.float32(1), jnp.float32(10), jnp.float32(100)) == (2 + 110) + 3 + 110
    assert seen[0] != seen[1]
    assert constraints.chain()(None, 5, None, None) == 5


# ---- low frequencies

FACTORED = (4, 6, 8)


def block_means(x, factor):
    """One number per block, by pooling along one axis after the other."""
    for axis in range(x.ndim - 1):
        x = np.add.reduceat(x, np.arange(0, x.shape[axis], factor), axis=axis) / factor
    return x


@pytest.mark.parametrize('axes', [1, 2, 3])
def test_low_frequencies_are_those_of_the_reference_at_data(axes):
    reference, x = (jax.random.normal(jax.random.key(n), (*FACTORED[:axes], 2)) for n in (0, 1))
    held = constraints.low_pass(PATH, reference, 2)(jax.random.key(2), x, x, jnp.float32(0))
    assert held.shape == x.shape
    np.testing.assert_allclose(block_means(np.asarray(held), 2), block_means(np.asarray(reference), 2), atol=1e-6)
    for place in np.ndindex(*(n // 2 for n in x.shape[:-1])):
        block = tuple(slice(2 * i, 2 * i + 2) for i in place)
        details = lambda x, block=block: np.asarray(x)[block] - np.asarray(x)[block].mean(tuple(range(axes)))
        np.testing.assert_allclose(details(held), details(x), atol=1e-5)


def test_low_frequencies_are_noised_to_the_level_of_the_step():
    reference, s = jnp.full((200, 200, 1), 0.5), jnp.float32(0.4)
    constrain = constraints.low_pass(PATH, reference, 2)
    x = constrain(jax.random.key(0), jnp.zeros_like(reference), None, s)
    means, sigma = block_means(np.asarray(x), 2), float(PATH.sigma(s))
    assert abs(means.mean() - 0.5 * PATH.alpha(s)) < 4 * sigma / 200
    assert abs(means.std() / (sigma / 2) - 1) < 4 / np.sqrt(2 * means.size)
    assert x.std() == pytest.approx(means.std(), rel=1e-4)  # constant within blocks, as x was
    np.testing.assert_allclose(constrain(jax.random.key(0), x, None, s), x, atol=1e-6)  # twice is once


def test_blocks_must_fill_the_reference():
    with pytest.raises(ValueError, match='4'):
        constraints.low_pass(PATH, jnp.zeros((8, 6, 1)), 4)


def test_a_walk_ends_with_the_low_frequencies_of_its_reference():
    x = walk(constraints.low_pass(PATH, KNOWN, 2))
    np.testing.assert_allclose(block_means(np.asarray(x), 2), block_means(np.asarray(KNOWN), 2), atol=1e-5)
    assert jnp.std(x - KNOWN) > 0.05


def test_frozen_voxels_hold_their_value_at_every_level():
    x = jnp.zeros((4, 6, 2))
    for s in (0.0, 0.5, 1.0):
        held = constraints.freeze(jnp.ones((4, 6, 2)), MASK > 0)(jax.random.key(0), x, x, jnp.float32(s))
        np.testing.assert_array_equal(held, jnp.broadcast_to(MASK, (4, 6, 2)))
