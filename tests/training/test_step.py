import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import training_worker as toy

from jaxdiff.training.state import init_state
from jaxdiff.training.step import example_keys, make_step
from jaxdiff.types import UserError

ADAM = optax.adam(1e-2)
WHOLE = jax.jit(make_step(toy.loss, ADAM))


def batch(size=8):
    return {'image': jnp.stack([toy.example(index)['image'] for index in range(size)])}


def start(optimizer):
    return jax.jit(lambda: init_state(toy.parameters(jax.random.key(1), 16), optimizer, jax.random.key(2)))()


def test_one_step_of_gradient_descent():
    """Equations (1) and (2) written out with a Python loop over the examples."""
    state = start(optax.sgd(0.1))
    keys = [jax.random.fold_in(jax.random.fold_in(jax.random.key(2), 0), index) for index in range(8)]
    examples = [{'image': image} for image in batch()['image']]

    def total(params):
        return sum(toy.loss(params, key, example)[0] for key, example in zip(keys, examples, strict=True)) / 8

    value, grads = jax.jit(jax.value_and_grad(total))(state.params)
    moved, metrics = jax.jit(make_step(toy.loss, optax.sgd(0.1)))(state, batch())
    np.testing.assert_allclose(metrics['loss'], value, rtol=1e-5)
    np.testing.assert_allclose(metrics['grad_norm'], np.sqrt(sum(np.square(leaf).sum() for leaf in jax.tree.leaves(grads))), rtol=1e-5)
    expected = jax.tree.map(lambda param, grad: param - 0.1 * grad, state.params, grads)
    jax.tree.map(lambda got, want: np.testing.assert_allclose(got, want, atol=1e-6), moved.params, expected)
    assert int(moved.step) == 1 and set(metrics) == {'loss', 'first', 'grad_norm'}


@pytest.mark.parametrize('accumulate', [2, 4])
def test_accumulation_equals_the_full_batch(accumulate):
    """Also in what each example draws: 'first' averages noise, which would differ with other keys."""
    parts = jax.jit(make_step(toy.loss, ADAM, accumulate=accumulate))
    one = other = start(ADAM)
    for _ in range(3):
        one, expected = WHOLE(one, batch())
        other, metrics = parts(other, batch())
        jax.tree.map(lambda got, want: np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6), metrics, expected)
    jax.tree.map(lambda got, want: np.testing.assert_allclose(got, want, atol=1e-5), other.params, one.params)


def test_accumulation_saves_memory():
    """Micro-batches one after the other: unless each waits for the one before, the compiler holds all their activations at once."""

    def wide(params, key, example):
        hidden = jnp.outer(example['image'][:, 0], jnp.ones(4096))
        for _ in range(6):
            hidden = jnp.sin(hidden * params['a'][None])
        return jnp.mean(hidden), {}

    state = init_state({'a': jnp.ones(4096)}, optax.sgd(0.1), jax.random.key(0))
    compiled = lambda accumulate: jax.jit(make_step(wide, optax.sgd(0.1), accumulate=accumulate)).lower(state, batch(64)).compile()
    temporary = [compiled(accumulate).memory_analysis().temp_size_in_bytes for accumulate in (1, 8)]
    assert temporary[1] < temporary[0] / 4


def test_accumulation_must_divide_the_batch():
    with pytest.raises(UserError, match='accumulate=3'):
        make_step(toy.loss, optax.sgd(0.1), accumulate=3)(start(optax.sgd(0.1)), batch())


def test_keys_depend_on_step_and_index_only():
    bits = lambda step, size: jax.vmap(jax.random.bits)(example_keys(jax.random.key(0), jnp.int32(step), size))
    np.testing.assert_array_equal(bits(3, 4), bits(3, 64)[:4])
    assert len(np.unique(np.concatenate([bits(step, 64) for step in range(8)]))) == 8 * 64


@pytest.mark.parametrize('dtype', [jnp.float32, jnp.bfloat16])
def test_average_in_closed_form(dtype):
    """Under a gradient of one, descent moves a parameter by -rate a step, exactly in both dtypes; the average is (3) in float64."""
    limit, rate, steps = 0.5, 0.25, 12
    step = jax.jit(make_step(lambda params, key, example: (jnp.sum(params.astype(jnp.float32)), {}), optax.sgd(rate), ema=limit))
    state = init_state(jnp.zeros(1, dtype), optax.sgd(rate), jax.random.key(0))
    expected = 0.0
    for n in range(steps):
        state, _ = step(state, {'image': jnp.zeros((2, 1))})
        decay = min(limit, (1 + n) / (10 + n))
        expected = decay * expected - (1 - decay) * rate * (n + 1)
    assert state.params.dtype == dtype and float(state.params[0]) == -rate * steps
    np.testing.assert_allclose(state.ema, [expected], rtol=1e-6)
