"""The transformer within a U-Net: the identity at first, deaf to the order of tokens, told by hand what it computes."""

import jax
import numpy as np
import pytest

from jaxdiff.nets.spatial_transformer import SpatialTransformer

X, TOKENS = jax.random.normal(jax.random.key(0), (3, 2, 8)), jax.random.normal(jax.random.key(1), (5, 6))


@pytest.fixture(scope='module')
def made():
    net = SpatialTransformer(heads=2, depth=1)
    params = net.init(jax.random.key(2), X, TOKENS)
    return net, params, jax.tree.map(lambda leaf: leaf + 0.1 * jax.random.normal(jax.random.key(3), leaf.shape), params)


def test_it_starts_as_the_identity(made):
    net, fresh, _ = made
    np.testing.assert_array_equal(net.apply(fresh, X, TOKENS), X)


def test_by_definition(made):
    net, _, params = made
    p = jax.tree.map(np.asarray, params['params'])
    dense = lambda part, x: x @ part['kernel'] + part.get('bias', 0)
    normed = lambda part, x: (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5) * part['scale'] + part['bias']

    def attend(part, h, source):
        q, k, v = (
            dense(b[f'{part}_{name}'], value).reshape(len(value), 2, 4)
            for name, value in (('query', h), ('key', source), ('value', source))
        )
        weights = np.exp(np.einsum('ihd,jhd->hij', q, k) / 2)
        return dense(b[f'{part}_project'], np.einsum('hij,jhd->ihd', weights / weights.sum(-1, keepdims=True), v).reshape(h.shape))

    x, b = np.asarray(X), p['block_0']
    groups = x.reshape(6, 2, 4)
    h = ((groups - groups.mean((0, 2), keepdims=True)) / np.sqrt(groups.var((0, 2), keepdims=True) + 1e-6)).reshape(6, 8)
    h = dense(p['enter'], h * p['norm']['gain'] + p['norm']['bias'])
    seen = normed(b['self_norm'], h)
    h = h + attend('self', seen, seen)
    h = h + attend('cross', normed(b['cross_norm'], h), np.asarray(TOKENS))
    values, gates = np.split(dense(b['feed_in'], normed(b['feed_norm'], h)), 2, -1)
    h = h + dense(b['feed_out'], values * np.asarray(jax.nn.gelu(gates, approximate=False)))
    np.testing.assert_allclose(net.apply(params, X, TOKENS), x + dense(p['project'], h).reshape(x.shape), atol=2e-4)


def test_tokens_have_no_order_and_pixels_no_place(made):
    net, _, params = made
    expected = net.apply(params, X, TOKENS)
    np.testing.assert_allclose(net.apply(params, X, TOKENS[::-1]), expected, atol=1e-5)
    np.testing.assert_allclose(net.apply(params, X[::-1], TOKENS), expected[::-1], atol=1e-5)


def test_without_tokens_there_is_no_cross_attention(made):
    net, _, _ = made
    names = net.init(jax.random.key(0), X)['params']['block_0']
    assert not [name for name in names if name.startswith('cross')]
    with pytest.raises(ValueError, match='do not split into 3 heads'):
        SpatialTransformer(heads=3).init(jax.random.key(0), X)
