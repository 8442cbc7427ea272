import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff.nets.mlp import MLP

SMALL = {'width': 16, 'blocks': 2}


def some_params(net, d=3):
    """Parameters of which none is zero."""
    shapes = jax.eval_shape(net.init, jax.random.key(0), jnp.zeros((1, d)), jnp.zeros(1))
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda leaf: jnp.asarray(rng.standard_normal(leaf.shape) * 0.3, leaf.dtype), shapes)


@pytest.mark.parametrize('features', [None, 6])
def test_shapes_and_a_start_at_zero(features):
    net = MLP(**SMALL, features=features)
    x = jnp.ones((5, 3))
    fresh = net.apply(net.init(jax.random.key(0), x, jnp.zeros(5)), x, jnp.arange(5.0))
    assert fresh.shape == (5, features or 3) and jnp.all(fresh == 0)
    assert json.loads(json.dumps({**SMALL, 'features': features})) == {**SMALL, 'features': features}


def test_each_point_is_answered_alone_and_sees_its_time():
    net = MLP(**SMALL)
    params, x = some_params(net), jax.random.normal(jax.random.key(1), (4, 3))
    run = jax.jit(lambda x, t: net.apply(params, x, t))
    t = jnp.array([0.0, 10.0, 500.0, 999.0])
    together, alone = run(x, t), jnp.concatenate([run(x[n : n + 1], t[n : n + 1]) for n in range(4)])
    np.testing.assert_allclose(together, alone, atol=1e-4)
    moved = jnp.abs(run(x, t + 1.0) - together).max(1)
    assert jnp.all(moved > 1e-3)
    assert jnp.all(jnp.abs(run(x + 0.1, t) - together).max(1) > 1e-3)


def test_every_parameter_learns():
    net = MLP(**SMALL)
    x, t = jax.random.normal(jax.random.key(1), (8, 3)), jnp.linspace(0, 999, 8)
    grads = jax.jit(jax.grad(lambda params: jnp.mean(jnp.square(net.apply(params, x, t) - 1))))(some_params(net))
    assert all(jnp.any(leaf != 0) and jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(grads))
