"""The discriminator: a number for each patch that sees just that patch, and the hinge."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff.nets.discriminator import PatchDiscriminator, hinge


@pytest.mark.parametrize('dims', [2, 3])
def test_a_number_for_each_patch(dims):
    net = PatchDiscriminator(width=4, depth=1)
    x = jax.random.normal(jax.random.key(0), (2, *(16,) * dims, 1))
    params = net.init(jax.random.key(1), x)
    found = net.apply(params, x)
    assert found.shape == (2, *(6,) * dims)
    np.testing.assert_allclose(net.apply(params, x[1:])[0], found[1], atol=1e-5)


def test_seventy_pixels_are_seen():
    """By the published one, of width 64 and depth 3; norms, which see all, left out of the count by their statistics being those of constants."""
    sizes = [4] * 5
    seen, step = 1, 1
    for size, stride in zip(sizes, (2, 2, 2, 1, 1), strict=True):
        seen, step = seen + (size - 1) * step, step * stride
    assert seen == 70


def test_hinge():
    assert hinge(jnp.array([2.0, 1.0]), jnp.array([-3.0, -1.0])) == 0
    assert hinge(jnp.array([0.0]), jnp.array([0.0])) == 1
    slope = jax.grad(lambda real: hinge(real, jnp.zeros(1)))(jnp.array([0.5, 3.0]))
    np.testing.assert_allclose(slope, [-0.25, 0.0])
