"""The classifier: an answer for each class, told the time, no meeting of examples, and it learns."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxdiff import losses, paths
from jaxdiff.nets.classifier import Classifier

NET = Classifier(channels=3, widths=(8, 8), blocks=1, attention=(False, True), heads=2, norm='adaptive')


@pytest.fixture(scope='module')
def made():
    x = jax.random.normal(jax.random.key(0), (4, 8, 8, 1))
    return x, NET.init(jax.random.key(1), x, jnp.zeros(4)), jax.jit(NET.apply)


def test_examples_do_not_meet_and_the_time_is_seen(made):
    x, params, apply = made
    t = jnp.array([0.0, 10.0, 500.0, 999.0])
    found = apply(params, x, t)
    assert found.shape == (4, 3) and found.dtype == jnp.float32
    np.testing.assert_allclose(apply(params, x[2:3], t[2:3])[0], found[2], atol=1e-5)
    moved = jax.tree.map(lambda leaf: leaf + 0.05, params)
    assert not jnp.allclose(apply(moved, x, t), apply(moved, x, t + 300), atol=1e-3)


def test_where_things_are_counts(made):
    x, params, apply = made
    assert not jnp.allclose(apply(params, x[:1], jnp.zeros(1)), apply(params, x[:1, ::-1], jnp.zeros(1)), atol=1e-4)


def test_it_learns_which_half_is_bright():
    """From noised images; at first all classes are about as likely."""

    def example(key):
        label = jax.random.bernoulli(key).astype(int)
        image = jnp.where((jnp.arange(8) < 4)[:, None, None] == (label == 0), 1.0, -1.0) * jnp.ones((8, 8, 1))
        return {'image': image, 'label': label}

    net = Classifier(channels=2, widths=(8,), blocks=1, attention=(False,), heads=2)
    loss, adam = losses.classification(net.apply, paths.cosine()), optax.adam(3e-3)
    params = net.init(jax.random.key(0), jnp.zeros((1, 8, 8, 1)), jnp.zeros(1))

    @jax.jit
    def step(params, memory, key):
        keys, examples = jax.random.split(key, 16), jax.vmap(example)(jax.random.split(jax.random.fold_in(key, 1), 16))
        over = lambda params: jax.tree.map(jnp.mean, jax.vmap(lambda key, each: loss(params, key, each))(keys, examples))
        (value, seen), slopes = jax.value_and_grad(over, has_aux=True)(params)
        updates, memory = adam.update(slopes, memory)
        return optax.apply_updates(params, updates), memory, value, seen['accuracy']

    memory, seen = adam.init(params), []
    for n in range(60):
        params, memory, value, accuracy = step(params, memory, jax.random.key(n))
        seen.append((float(value), float(accuracy)))
    assert 0.4 < seen[0][0] < 1.2
    assert np.mean([accuracy for _, accuracy in seen[-10:]]) > 0.8
