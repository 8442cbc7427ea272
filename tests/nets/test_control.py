"""ControlNet: the trunk itself at first, bit for bit; then steered by a copy of its encoder, while it stays what it was."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff.nets import control
from jaxdiff.nets.control import Controlled
from jaxdiff.nets.unet import UNet

jit = partial(jax.jit, compiler_options={'xla_backend_optimization_level': 0})
FIELDS = {'channels': 1, 'widths': (8, 12), 'blocks': 1, 'attention': (False, True), 'heads': 2, 'tokens': 3}
DESIGNS = ('light', 'ddpm', 'adm')


def normal(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)


X, T, HINT, TOKENS = normal(0, 2, 8, 8, 1), jnp.array([3.0, 700.0]), normal(1, 2, 16, 16, 2), normal(2, 2, 4, 3)


def made(design):
    """A trunk none of whose parameters is zero, and the same under control."""
    fields = FIELDS | {'design': design}
    trunk, net = UNet(**fields), Controlled(fields, hint=2, hint_widths=(4, 8))
    own = jax.tree.map(lambda leaf: leaf + 0.05, jit(trunk.init)(jax.random.key(0), X, T))
    params = control.begin(jit(net.init)(jax.random.key(1), X, T), own)
    return trunk, net, own, params


@pytest.mark.parametrize('design', DESIGNS)
def test_at_first_it_is_the_trunk(design):
    trunk, net, own, params = made(design)
    told = {'tokens': TOKENS}
    expected = jit(trunk.apply)(own, X, T, **told)
    np.testing.assert_array_equal(jit(net.apply)(params, X, T, hint=HINT, **told), expected)
    np.testing.assert_array_equal(jit(net.apply)(params, X, T, **told), expected)
    moved = jax.tree.map(lambda leaf: leaf + 0.05, params['params']['control'])
    params = {'params': params['params'] | {'control': moved}}
    steered = jit(net.apply)(params, X, T, hint=HINT, **told)
    assert not jnp.allclose(steered, expected, atol=1e-3)
    np.testing.assert_array_equal(jit(net.apply)(params, X, T, hint=HINT, strength=0.0, **told), expected)
    each = jit(net.apply)(params, X, T, hint=HINT, strength=jnp.array([0.0, 1.0]), **told)
    np.testing.assert_allclose(each, jnp.stack([expected[0], steered[1]]), atol=1e-5)


def test_the_zero_convolutions_learn_first_and_the_copy_after_them():
    _, net, _, params = made('light')

    @jit
    def slopes(params):
        loss = lambda control: jnp.sum(net.apply({'params': params['params'] | {'control': control}}, X, T, hint=HINT) ** 2)
        return jax.grad(loss)(params['params']['control'])

    first = slopes(params)
    moving = {name for name, each in first.items() if any(leaf.any() for leaf in jax.tree.leaves(each))}
    assert moving == {name for name in first if name.startswith('zero_')}
    stepped = jax.tree.map(lambda leaf, slope: leaf - 1e-3 * slope, params['params']['control'], first)
    second = slopes({'params': params['params'] | {'control': stepped}})
    assert all(leaf.any() for leaf in jax.tree.leaves(second['encode_0_0']['block']['conv_in']))


def test_null_keeps_the_hint():
    net = Controlled(FIELDS)
    null = net.null(hint=HINT, tokens=TOKENS)
    np.testing.assert_array_equal(null['hint'], HINT)
    assert jnp.isnan(null['tokens']).all() and net.factor() == (2, 2)


def test_refusals():
    _, net, own, params = made('light')
    with pytest.raises(ValueError, match='hint_widths'):
        net.apply(params, X, T, hint=HINT[:, :8])
    with pytest.raises(ValueError, match='another architecture'):
        control.begin(params, jax.tree.map(lambda leaf: leaf[..., :1], own))
