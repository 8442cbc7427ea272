"""Constraints on x after each step."""

import jax
import jax.numpy as jnp
import numpy as np
import oracles

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
