import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff.nets import folding, layers


def normal(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)


def perturbed(params, scale=0.3):
    leaves, tree = jax.tree.flatten(params)
    return jax.tree.unflatten(tree, [leaf + scale * normal(n, *leaf.shape) for n, leaf in enumerate(leaves)])


@pytest.mark.parametrize(('mean', 'std'), [(2, 3), (30, 0.1)])
def test_group_norm_by_definition(mean, std):
    x, gain, bias = mean + std * normal(0, 4, 5, 6), normal(1, 6), normal(2, 6)
    grouped = np.asarray(x, np.float64).reshape(20, 3, 2)
    centred = grouped - grouped.mean((0, 2), keepdims=True)
    y = (centred / np.sqrt(centred.var((0, 2), keepdims=True) + 1e-5)).reshape(x.shape) * np.asarray(gain) + np.asarray(bias)
    np.testing.assert_allclose(layers.group_norm(x, gain, bias, groups=3, silu=False), y, atol=2e-6 * (1 + mean / std))
    np.testing.assert_allclose(layers.group_norm(x, gain, bias, groups=3), y / (1 + np.exp(-y)), atol=2e-6 * (1 + mean / std))


def test_gradient_of_group_norm_is_that_of_its_definition():
    x, gain, bias, weight = normal(0, 3, 2, 4), normal(1, 4), normal(2, 4), normal(3, 3, 2, 4)

    def defined(x, gain, bias):
        grouped = x.reshape(6, 2, 2)
        centred = grouped - grouped.mean((0, 2), keepdims=True)
        y = (centred / jnp.sqrt(grouped.var((0, 2), keepdims=True) + 1e-5)).reshape(x.shape)
        return jax.nn.silu(y * gain[None, None] + bias[None, None])

    ours, theirs = (
        jax.jit(jax.grad(lambda *a, f=f: jnp.sum(weight * f(*a)), (0, 1, 2)))(x, gain, bias)
        for f in (lambda *a: layers.group_norm(*a, groups=2), defined)
    )
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_group_norm_of_a_constant_is_its_bias():
    x = jnp.full((8, 8, 4), 3.3)
    y = layers.group_norm(x, jnp.ones(4), jnp.arange(4.0), groups=2, silu=False)
    np.testing.assert_allclose(y[0, 0], jnp.arange(4.0), atol=1e-2)


def test_modulation_of_zero_is_plain_group_norm():
    norm = layers.GroupNorm()
    x = normal(0, 4, 6)
    params = perturbed(norm.init(jax.random.key(0), x))
    plain = norm.apply(params, x)
    assert jnp.array_equal(norm.apply(params, x, (jnp.zeros(6), jnp.zeros(6))), plain)
    assert not jnp.allclose(norm.apply(params, x, (jnp.ones(6), jnp.zeros(6))), plain)
    assert not jnp.allclose(norm.apply(params, x, (jnp.zeros(6), jnp.ones(6))), plain)


def test_statistics_of_bfloat16_are_float32():
    x = 40.3 + normal(0, 32, 32, 4)
    low = layers.group_norm(x.astype(jnp.bfloat16), jnp.ones(4), jnp.zeros(4), groups=1, silu=False)
    exact = layers.group_norm(x.astype(jnp.bfloat16).astype(jnp.float32), jnp.ones(4), jnp.zeros(4), groups=1, silu=False)
    assert low.dtype == jnp.bfloat16
    np.testing.assert_allclose(low.astype(jnp.float32), exact, atol=2e-2)


@pytest.mark.parametrize(('channels', 'groups'), [(128, 32), (96, 24), (120, 30), (72, 18), (34, 2), (37, 1), (5, 1)])
def test_groups_divide_the_channels(channels, groups):
    assert layers.groups_of(channels) == groups


@pytest.fixture(scope='module')
def attention():
    """A layer whose projection is not zero, with pixels and tokens for it."""
    layer = layers.Attention(heads=2)
    x, tokens = normal(0, 2, 3, 4), normal(1, 5, 6)
    return (
        layer,
        {name: perturbed(layer.init(jax.random.key(0), x, context)) for name, context in (('self', None), ('cross', tokens))},
        x,
        tokens,
    )


def test_attention_starts_as_the_identity():
    layer, x = layers.Attention(heads=2), normal(0, 2, 3, 4)
    assert jnp.array_equal(layer.apply(layer.init(jax.random.key(0), x), x), x)


def test_attention_by_definition(attention):
    layer, params, x, tokens = attention
    for name, context in (('self', None), ('cross', tokens)):
        p = jax.tree.map(np.asarray, params[name]['params'])
        pixels = layers.group_norm(x, p['norm']['gain'], p['norm']['bias'], groups=1, silu=False).reshape(6, 4)
        source = pixels
        if context is not None:
            centred = context - context.mean(-1, keepdims=True)
            normed = centred / jnp.sqrt(context.var(-1, keepdims=True) + 1e-5)
            source = normed * p['context_norm']['scale'][None] + p['context_norm']['bias'][None]
        q, k, v = (
            np.asarray(values @ p[key]['kernel'] + p[key]['bias'][None]).reshape(-1, 2, 2)
            for key, values in (('query', pixels), ('key', source), ('value', source))
        )
        weights = jax.nn.softmax(np.einsum('nhd,mhd->hnm', q, k) / np.sqrt(2), axis=-1)
        y = np.einsum('hnm,mhd->nhd', weights, v).reshape(6, 4) @ p['project']['kernel'] + p['project']['bias'][None]
        np.testing.assert_allclose(layer.apply(params[name], x, context), x + y.reshape(x.shape), atol=1e-5)


def test_joint_attention_weighs_tokens_against_pixels_in_one_softmax(attention):
    _, _, x, tokens = attention
    layer = layers.Attention(heads=2, joint=True)
    params = perturbed(layer.init(jax.random.key(0), x, tokens))
    p = jax.tree.map(np.asarray, params['params'])
    dense = lambda name, values: np.asarray(values @ p[name]['kernel'] + p[name]['bias'][None])
    pixels = layers.group_norm(x, p['norm']['gain'], p['norm']['bias'], groups=1, silu=False).reshape(6, 4)
    normed = (tokens - tokens.mean(-1, keepdims=True)) / jnp.sqrt(tokens.var(-1, keepdims=True) + 1e-5)
    normed = normed * p['context_norm']['scale'][None] + p['context_norm']['bias'][None]
    k, v = (np.concatenate([dense(f'{name}', pixels), dense(f'context_{name}', normed)]).reshape(-1, 2, 2) for name in ('key', 'value'))
    weights = jax.nn.softmax(np.einsum('nhd,mhd->hnm', dense('query', pixels).reshape(-1, 2, 2), k) / np.sqrt(2), axis=-1)
    y = dense('project', np.einsum('hnm,mhd->nhd', weights, v).reshape(6, 4)).reshape(x.shape)
    np.testing.assert_allclose(layer.apply(params, x, tokens), x + y, atol=1e-5)
    alone = layer.apply(params, x, tokens[:1]) - layer.apply(params, x, tokens[1:2])
    assert alone.std((0, 1)).max() > 1e-3  # one token tells pixels apart, which in a softmax of its own it cannot


def test_attention_commutes_with_permutations_of_pixels(attention):
    layer, params, x, _ = attention
    order = jnp.array([4, 2, 0, 1, 5, 3])
    permuted = x.reshape(6, 4)[order].reshape(x.shape)
    y = layer.apply(params['self'], x)
    assert not jnp.allclose(y, x, atol=1e-2)
    np.testing.assert_allclose(layer.apply(params['self'], permuted), y.reshape(6, 4)[order].reshape(x.shape), atol=1e-5)


def test_attention_ignores_the_order_of_tokens(attention):
    layer, params, x, tokens = attention
    y = layer.apply(params['cross'], x, tokens)
    np.testing.assert_allclose(layer.apply(params['cross'], x, tokens[::-1]), y, atol=1e-5)
    assert not jnp.allclose(layer.apply(params['cross'], x, tokens.at[0].add(normal(3, 6))), y, atol=1e-3)


def test_gradients_of_vmapped_attention(attention):
    layer, params, x, _ = attention
    batch = jnp.stack([x, 2 * x**2])
    slope = jax.jit(jax.grad(lambda x: jnp.sum(jnp.sin(layer.apply(params['self'], x)))))
    np.testing.assert_allclose(jax.vmap(slope)(batch), jnp.stack([slope(x) for x in batch]), atol=1e-5)


def test_attention_refuses_heads_that_do_not_divide():
    with pytest.raises(ValueError, match='4 channels do not split into 3 heads'):
        layers.Attention(heads=3).init(jax.random.key(0), jnp.zeros((2, 4)))


@pytest.mark.parametrize(('spatial', 'size'), [((6,), (3,)), ((4, 6), (2, 3)), ((4, 2, 3), (2, 2, 1))])
def test_unfold_inverts_fold(spatial, size):
    x = normal(0, *spatial, 2)
    folded = folding.fold(x, size)
    assert folded.shape == (*(s // p for s, p in zip(spatial, size, strict=True)), 2 * np.prod(size))
    assert jnp.array_equal(folding.unfold(folded, size), x)
    first = tuple(slice(p) for p in size)
    assert jnp.array_equal(folded[(0,) * len(size)], x[first].reshape(-1))


def test_nearest_repeats_along_each_axis():
    x = normal(0, 2, 3, 1)
    y = layers.nearest(x, (2, 1))
    assert y.shape == (4, 3, 1)
    assert all(jnp.array_equal(y[i], x[i // 2]) for i in range(4))


def test_coordinates_span_each_axis():
    grid = layers.coordinates((3, 5))
    np.testing.assert_allclose(grid[:, 2, 0], [-1, 0, 1])
    np.testing.assert_allclose(grid[1, :, 1], [-1, -0.5, 0, 0.5, 1])


def test_sinusoid_is_cosines_then_sines():
    frequencies = np.array([1.0, 0.01])
    np.testing.assert_allclose(
        layers.sinusoid(jnp.asarray(2.5), 4), np.concatenate([np.cos(2.5 * frequencies), np.sin(2.5 * frequencies)]), atol=1e-6
    )
    assert layers.sinusoid(jnp.asarray(7), 5).shape == (5,)


def test_dropout_keeps_the_mean():
    x = jnp.ones((100, 100))
    y = layers.dropout(x, 0.2, jax.random.key(0))
    np.testing.assert_allclose(np.unique(y), [0, 1.25], atol=1e-6)
    assert abs(y.mean() - 1) < 0.02
    assert layers.dropout(x, 0.2, None) is x
