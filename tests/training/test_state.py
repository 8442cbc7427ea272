import hashlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxdiff.training.state import init_state, state_digest


def made():
    params = {'kernel': jnp.arange(6.0).reshape(2, 3), 'half': jnp.ones(3, jnp.bfloat16)}
    return params, init_state(params, optax.adam(1e-3), jax.random.key(5))


def test_average_is_kept_in_float32():
    _, state = made()
    assert state.ema['half'].dtype == jnp.float32 and state.params['half'].dtype == jnp.bfloat16
    np.testing.assert_array_equal(state.ema['kernel'], state.params['kernel'])


def test_state_owns_its_buffers():
    """A donated state must not take the caller's parameters and key with it, nor may one buffer be donated twice."""
    params, key = {'kernel': jnp.ones((64, 64))}, jax.random.key(0)
    state = init_state(params, optax.adam(1e-3), key)
    jax.block_until_ready(jax.jit(lambda state: jax.tree.map(lambda leaf: leaf, state), donate_argnums=0)(state))
    assert float(params['kernel'].sum()) == 4096 and jax.random.uniform(key).shape == ()


def test_digest_is_sha256_over_leaves():
    leaf = np.arange(3, dtype=np.int32)
    expected = hashlib.sha256(b"['a'] int32 (3,)\n" + leaf.tobytes()).hexdigest()
    assert state_digest({'a': jnp.asarray(leaf)}) == expected


@pytest.mark.parametrize(
    'change',
    [
        lambda state: state._replace(step=state.step + 1),
        lambda state: state._replace(key=jax.random.key(6)),
        lambda state: state._replace(ema={**state.ema, 'kernel': state.ema['kernel'].at[1, 2].add(5e-7)}),
        lambda state: state._replace(params={**state.params, 'half': state.params['half'].astype(jnp.float32)}),
        lambda state: state._replace(params=state.ema, ema=state.params),
    ],
)
def test_digest_sees_every_change(change):
    _, state = made()
    assert state_digest(state) == state_digest(made()[1]) != state_digest(change(state))
