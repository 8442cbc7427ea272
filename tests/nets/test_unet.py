import json
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff.nets.blocks import Block
from jaxdiff.nets.unet import UNet

jit = partial(jax.jit, compiler_options={'xla_backend_optimization_level': 0})  # compiling is most of what these tests cost

SMALL = {'channels': 2, 'widths': (8, 12), 'blocks': 1, 'attention': (False, True), 'heads': 2}
CONDITIONED = UNet(**SMALL, norm='adaptive', labels=3, vector=2, tokens=5, image=1, dropout=0.3, coordinates=True)
ODD = {
    'line': (UNet(**SMALL, dims=1, patch=3, learned_variance=True, groups=2), (12,)),
    'image': (UNet(**{**SMALL, 'attention': ()}, skip='average', norm='adaptive', patch=(2, 1), coordinates=True), (4, 6)),
    'levels': (UNet(**{**SMALL, 'widths': (8, 8, 8), 'attention': ()}, resample=((True, False), (True, True))), (4, 2)),
    'ddpm': (UNet(**SMALL | {'widths': (8, 8, 12), 'attention': ()}, design='ddpm', resample=((True, False), (True, True))), (4, 2)),
    'adm': (
        UNet(**SMALL | {'widths': (8, 8, 12), 'attention': ()}, design='adm', norm='adaptive', resample=((True, False), (True, True))),
        (4, 2),
    ),
    'text': (UNet(**SMALL, design='ddpm', transformer=2, tokens=3, sinusoid='ho', pad='end', remat=(True, True)), (4, 4)),
    'joint': (UNet(**SMALL, tokens=3, joint=True), (4, 4)),
    'volume': (UNet(**SMALL, dims=3, resample=(True, True, False), learned_variance=True, remat=(False, True)), (4, 4, 3)),
}


def normal(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)


def some_params(net, *spatial):
    """Parameters of which none is zero, of a size that hands signals on; for as many channels in as out."""
    shapes = jax.eval_shape(net.init, jax.random.key(0), jnp.zeros((1, *spatial, net.channels)), jnp.zeros(1))
    leaves, tree = jax.tree.flatten(shapes)
    return jax.tree.unflatten(tree, [normal(n, *leaf.shape) / max(1, np.prod(leaf.shape[:-1])) ** 0.5 for n, leaf in enumerate(leaves)])


@pytest.fixture(scope='module')
def conditioned():
    """The compiled network with every condition, its parameters, and three examples."""
    examples = {
        'x': normal(0, 3, 4, 4, 2),
        't': jnp.array([1.0, 50.5, 999.0]),
        'label': jnp.array([0, 2, 1]),
        'vector': normal(1, 3, 2),
        'tokens': normal(2, 3, 4, 5),
        'image': normal(3, 3, 4, 4, 1),
    }
    return jit(CONDITIONED.apply), some_params(CONDITIONED, 4, 4), examples


@pytest.mark.parametrize('name', ODD)
def test_a_new_network_returns_zero(name):
    net, spatial = ODD[name]
    x, t = normal(0, 2, *spatial, 3), jnp.array([0.0, 3.0])
    params, apply = jit(net.init)(jax.random.key(0), x, t), jit(net.apply)
    y = apply(params, x, t)
    assert y.shape == (2, *spatial, 4 if net.learned_variance else 2)
    assert not y.any()
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(params))
    moved = apply(jax.tree.map(lambda leaf: leaf + 0.1, params), x, t)
    assert jnp.isfinite(moved).all() and moved.any()


@pytest.mark.parametrize('norm', ['add', 'adaptive'])
@pytest.mark.parametrize('features', [4, 6])
def test_a_new_block_is_its_skip_path(norm, features):
    block, x = Block(features, norm), normal(0, 4, 4)
    params = block.init(jax.random.key(0), x, normal(1, 8))
    skip = params['params'].get('skip')
    expected = x if skip is None else x @ skip['kernel'] + skip['bias'][None]
    np.testing.assert_allclose(block.apply(params, x, normal(1, 8)), expected, atol=1e-6)
    assert (skip is None) == (features == 4)


def test_examples_of_a_batch_do_not_meet(conditioned):
    apply, params, examples = conditioned
    batch = apply(params, **examples)
    singles = [apply(params, **{name: value[n : n + 1] for name, value in examples.items()})[0] for n in range(3)]
    np.testing.assert_allclose(batch, jnp.stack(singles), atol=1e-4)


def test_vmap_over_examples_is_the_batch(conditioned):
    apply, params, examples = conditioned
    each = jax.vmap(lambda example: CONDITIONED.apply(params, **jax.tree.map(lambda leaf: leaf[None], example))[0])
    np.testing.assert_allclose(jit(each)(examples), apply(params, **examples), atol=1e-4)


@pytest.mark.parametrize('name', ['x', 't', 'label', 'vector', 'tokens', 'image'])
def test_every_input_changes_the_output(conditioned, name):
    apply, params, examples = conditioned
    changed = {**examples, name: jnp.roll(examples[name], 1, axis=0)}
    assert jnp.abs(apply(params, **changed) - apply(params, **examples)).max() > 1e-2


@pytest.mark.parametrize('name', ['label', 'vector', 'tokens', 'image'])
def test_a_missing_condition(conditioned, name):
    """What is not given is what `null` says; it can be missing for one example alone, and it hides what it replaces."""
    apply, params, examples = conditioned
    given = apply(params, **examples)
    null = CONDITIONED.null(**{name: examples[name]})
    absent = apply(params, **{**examples, **null})
    assert jnp.isfinite(absent).all()
    assert jnp.abs(absent - given).max() > 1e-2
    without = apply(params, **{key: value for key, value in examples.items() if key != name})
    np.testing.assert_allclose(without, absent, atol=1e-4)
    once = apply(params, **{**examples, name: examples[name].at[1].set(null[name][1])})
    np.testing.assert_allclose(once, jnp.stack([given[0], absent[1], given[2]]), atol=1e-4)


def test_gradients_with_missing_conditions_are_finite(conditioned):
    _, params, examples = conditioned
    null = CONDITIONED.null(**{name: value for name, value in examples.items() if name not in 'xt'})
    slopes = jit(jax.grad(lambda p: jnp.sum(CONDITIONED.apply(p, examples['x'], examples['t'], **null) ** 2)))(params)
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(slopes))
    assert jnp.abs(slopes['params']['null_token']).max() > 0


def test_dropout_needs_a_key(conditioned):
    apply, params, examples = conditioned
    drop = jit(lambda key: CONDITIONED.apply(params, **examples, dropout_key=key))
    first = drop(jax.random.key(0))
    assert jnp.array_equal(first, drop(jax.random.key(0)))
    assert jnp.abs(first - drop(jax.random.key(1))).max() > 1e-2
    assert jnp.abs(first - apply(params, **examples)).max() > 1e-2


def test_parameter_count():
    def dense(inputs, outputs, size=1):
        return size * inputs * outputs + outputs

    def norm(width):
        return 2 * width

    def block(inputs, outputs, embedding=16):
        skip = 0 if inputs == outputs else dense(inputs, outputs)
        return norm(inputs) + dense(inputs, outputs, 9) + dense(embedding, outputs) + norm(outputs) + dense(outputs, outputs, 9) + skip

    attention = norm(6) + 4 * dense(6, 6)
    time = dense(4, 16) + dense(16, 16)
    stem, head = dense(2 * 2 * (3 + 2), 4, 9), norm(4) + dense(4, 2 * 2 * 2, 9)
    encoder = 2 * block(4, 4) + dense(4, 6, 4) + 2 * (block(6, 6) + attention)
    middle = 2 * block(6, 6) + attention
    decoder = 2 * (block(12, 6) + attention) + dense(6, 4) + 2 * block(8, 4)
    net = UNet(2, widths=(4, 6), attention=(False, True), heads=2, patch=2, coordinates=True)
    shapes = jax.eval_shape(net.init, jax.random.key(0), jnp.zeros((1, 8, 8, 3)), jnp.zeros(1))
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == time + stem + encoder + middle + decoder + head


def test_parameter_count_of_ddpm():
    """Level 0 keeps what enters it and one block, level 1 what enters it, halved at the width of level 0, and two; only level 0 attends."""
    dense = lambda inputs, outputs, size=1: size * inputs * outputs + outputs
    norm = lambda width: 2 * width
    conv = lambda inputs, outputs: dense(inputs, outputs, 9)
    skip = lambda inputs, outputs: 0 if inputs == outputs else dense(inputs, outputs)
    block = lambda inputs, outputs: (
        norm(inputs) + conv(inputs, outputs) + dense(16, outputs) + norm(outputs) + conv(outputs, outputs) + skip(inputs, outputs)
    )
    attention = lambda width: norm(width) + 4 * dense(width, width)
    outside = dense(4, 16) + dense(16, 16) + conv(3, 4) + norm(4) + conv(4, 2)
    encoder = block(4, 4) + attention(4) + conv(4, 4) + block(4, 6) + block(6, 6)
    middle = 2 * block(6, 6) + attention(6)
    decoder = 2 * block(6 + 6, 6) + block(6 + 4, 6) + conv(6, 6) + block(6 + 4, 4) + block(4 + 4, 4) + 2 * attention(4)
    net = UNet(2, widths=(4, 6), blocks=(1, 2), heads=(1, 2), attention=(True, False), design='ddpm')
    shapes = jax.eval_shape(net.init, jax.random.key(0), jnp.zeros((1, 8, 8, 3)), jnp.zeros(1))
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == outside + encoder + middle + decoder


def test_bfloat16_is_near_float32():
    low, full = UNet(**SMALL, dtype='bfloat16'), UNet(**SMALL)
    params = jit(full.init)(jax.random.key(0), jnp.zeros((1, 4, 4, 2)), jnp.zeros(1))
    params = jax.tree.map(lambda leaf, other: leaf + 0.3 * other, params, some_params(full, 4, 4))
    x, t = normal(0, 2, 4, 4, 2), jnp.array([3.0, 700.0])
    exact, rough = jit(full.apply)(params, x, t), jit(low.apply)(params, x, t)
    assert rough.dtype == jnp.float32
    error = jnp.abs(rough - exact).max() / jnp.abs(exact).max()
    assert 0 < error < 3e-2


def test_remat_changes_neither_values_nor_gradients():
    x, t = normal(0, 2, 4, 4, 2), jnp.array([3.0, 700.0])
    plain, remat = UNet(**SMALL), UNet(**SMALL, remat=(True, True))
    params = some_params(plain, 4, 4)

    def loss(net):
        return lambda p: jnp.sum(jnp.sin(net.apply(p, x, t)))

    assert 'remat' in str(jax.make_jaxpr(loss(remat))(params)) and 'remat' not in str(jax.make_jaxpr(loss(plain))(params))
    (value, slopes), (again, same) = (jit(jax.value_and_grad(loss(net)))(params) for net in (plain, remat))
    np.testing.assert_allclose(value, again, rtol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3), slopes, same)


@pytest.mark.parametrize('net', [net for net, _ in ODD.values()] + [CONDITIONED])
def test_json_rebuilds_the_network(net):
    fields = {name: getattr(net, name) for name in net.__dataclass_fields__ if name not in ('parent', 'name')}
    rebuilt = UNet(**json.loads(json.dumps(fields)))
    assert rebuilt == net and hash(rebuilt) == hash(net)


def test_factor_counts_patches_and_halvings():
    assert UNet(1, widths=(4, 4, 4), dims=3, patch=(2, 2, 1), resample=(True, True, False), attention=()).factor() == (8, 8, 1)


def test_refusals():
    net = UNet(1, widths=(4, 4, 4), patch=2, attention=())

    def shapes(net, *spatial, **conditions):
        return jax.eval_shape(net.init, jax.random.key(0), jnp.zeros((1, *spatial, 1)), jnp.zeros(1), **conditions)

    with pytest.raises(ValueError, match=r'\(16, 20\).*\(8, 8\)'):
        shapes(net, 16, 20)
    with pytest.raises(ValueError, match='2 axes'):
        shapes(net, 16)
    with pytest.raises(ValueError, match='labels=0'):
        shapes(net, 8, 8, label=jnp.zeros(1, int))
    with pytest.raises(ValueError, match='attention'):
        UNet(1, widths=(4, 4), attention=(True,))
    with pytest.raises(ValueError, match='tokens'):
        UNet(1, widths=(4, 4), attention=(False, False), tokens=3)
    for fields in ({}, {'tokens': 3, 'transformer': 1}):
        with pytest.raises(ValueError, match='joint'):
            UNet(1, joint=True, **fields)
    for entries in ({'blocks': ()}, {'heads': (1, 2)}, {'remat': (True,)}):
        with pytest.raises(ValueError, match=next(iter(entries))):
            UNet(1, **entries)
    for word in ('design', 'skip', 'norm'):
        with pytest.raises(ValueError, match=f"{word}='plain'"):
            UNet(1, **{word: 'plain'})
    with pytest.raises(ValueError, match='average'):
        UNet(1, design='ddpm', skip='average')
