"""DiT: exactly zero at first, blocks the identity, patches that know where they are and only that."""

import json
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff.nets.transformer import Block, DiT, positions

jit = partial(jax.jit, compiler_options={'xla_backend_optimization_level': 0})
SMALL = {'channels': 2, 'patch': 2, 'width': 24, 'depth': 2, 'heads': 2}
NETS = {
    'image': (DiT(**SMALL, labels=3, vector=2, image=1, learned_variance=True), (4, 6)),
    'volume': (DiT(**SMALL | {'patch': (2, 2, 1)}, dims=3, remat=True), (4, 4, 2)),
}


def normal(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)


def some_params(net, spatial):
    shapes = jax.eval_shape(net.init, jax.random.key(0), jnp.zeros((1, *spatial, net.channels)), jnp.zeros(1))
    leaves, tree = jax.tree.flatten(shapes)
    return jax.tree.unflatten(tree, [normal(n, *leaf.shape) / max(1, np.prod(leaf.shape[:-1])) ** 0.5 for n, leaf in enumerate(leaves)])


@pytest.mark.parametrize('name', NETS)
def test_a_new_network_returns_zero(name):
    net, spatial = NETS[name]
    x, t = normal(0, 2, *spatial, 2), jnp.array([0.0, 3.0])
    params, apply = jit(net.init)(jax.random.key(0), x, t), jit(net.apply)
    y = apply(params, x, t)
    assert y.shape == (2, *spatial, 4 if net.learned_variance else 2) and not y.any()
    moved = apply(jax.tree.map(lambda leaf: leaf + 0.1, params), x, t)
    assert jnp.isfinite(moved).all() and moved.any()


def test_a_new_block_is_the_identity():
    block, h = Block(2), normal(0, 5, 8)
    params = block.init(jax.random.key(0), h, normal(1, 8))
    np.testing.assert_array_equal(block.apply(params, h, normal(1, 8)), h)


def test_blocks_know_no_order():
    block, h, condition = Block(2), normal(0, 5, 8), normal(1, 8)
    params = jax.tree.map(lambda leaf: leaf + 0.1, block.init(jax.random.key(0), h, condition))
    order = jnp.array([3, 0, 4, 1, 2])
    np.testing.assert_allclose(block.apply(params, h[order], condition), block.apply(params, h, condition)[order], atol=1e-5)


def test_positions_are_sinusoids_of_the_last_axis_first():
    found = positions((3, 4), 8)
    assert found.shape == (12, 8)
    row, column = 2, 3
    waves = np.array([1.0, 0.01])
    expected = [np.sin(column * waves), np.cos(column * waves), np.sin(row * waves), np.cos(row * waves)]
    np.testing.assert_allclose(found[row * 4 + column], np.concatenate(expected), atol=1e-6)


def test_examples_of_a_batch_do_not_meet_and_conditions_are_seen():
    net, spatial = NETS['image']
    params, apply = some_params(net, spatial), jit(net.apply)
    told = {'label': jnp.array([0, 2, 1]), 'vector': normal(1, 3, 2), 'image': normal(2, 3, *spatial, 1)}
    x, t = normal(0, 3, *spatial, 2), jnp.array([1.0, 50.5, 999.0])
    batch = apply(params, x, t, **told)
    for n in range(3):
        one = slice(n, n + 1)
        np.testing.assert_allclose(
            apply(params, x[one], t[one], **{name: value[one] for name, value in told.items()})[0], batch[n], atol=1e-4
        )
    without = apply(params, x, t)
    np.testing.assert_allclose(apply(params, x, t, **net.null(**told)), without, atol=1e-5)
    for name, value in told.items():
        assert not jnp.allclose(apply(params, x, t, **net.null(**told) | {name: value}), without, atol=1e-3)


def test_bfloat16_is_near_float32():
    net, spatial = NETS['image']
    params, x, t = some_params(net, spatial), normal(0, 2, *spatial, 2), jnp.array([1.0, 500.0])
    full = jit(net.apply)(params, x, t)
    half = jit(net.clone(dtype='bfloat16').apply)(params, x, t)
    assert half.dtype == jnp.float32
    assert jnp.abs(half - full).max() < 3e-2 * jnp.abs(full).max()


def test_parameter_count_of_the_largest_published():
    """675,129,632, of class-conditional XL/2 on latents of 4 channels with a learned variance, among them the fixed positions of 256 patches."""
    net = DiT(channels=4, patch=2, width=1152, depth=28, heads=16, labels=1000, learned_variance=True)
    shapes = jax.eval_shape(net.init, jax.random.key(0), jnp.zeros((1, 32, 32, 4)), jnp.zeros(1))
    assert sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(shapes)) == 675_129_632 - 256 * 1152


def test_json_rebuilds_the_network():
    fields = {name: getattr(NETS['volume'][0], name) for name in ('channels', 'patch', 'width', 'depth', 'heads', 'dims', 'remat')}
    again = DiT(**json.loads(json.dumps(fields)))
    assert again.factor() == (2, 2, 1)
    x, t = normal(0, 1, 4, 4, 2, 2), jnp.ones(1)
    shapes = lambda net: jax.tree.map(lambda leaf: leaf.shape, jax.eval_shape(net.init, jax.random.key(0), x, t))
    assert shapes(again) == shapes(NETS['volume'][0])


def test_refusals():
    net, spatial = NETS['volume']
    x, t = jnp.zeros((1, *spatial, 2)), jnp.zeros(1)
    with pytest.raises(ValueError, match='pad or crop'):
        net.init(jax.random.key(0), jnp.zeros((1, 3, 4, 2, 2)), t)
    with pytest.raises(ValueError, match='labels=0'):
        net.init(jax.random.key(0), x, t, label=jnp.zeros(1, int))
    with pytest.raises(ValueError, match='batch'):
        net.init(jax.random.key(0), x[0], t)
    with pytest.raises(ValueError, match='multiple'):
        DiT(channels=1, width=30, heads=4)
