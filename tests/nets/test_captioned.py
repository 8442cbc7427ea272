"""A U-Net that reads: silence where nothing is said, words that count, both parts under one roof."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxdiff.nets import captioned, text
from jaxdiff.nets.captioned import Captioned

READ = text.tokenizer(['a small brain', 'a large brain'])
NET = Captioned(
    {'channels': 1, 'widths': (8, 8), 'blocks': 1, 'attention': (False, True), 'heads': 2},
    {'words': len(READ.words), 'length': READ.length, 'width': 8, 'depth': 1, 'heads': 2},
)


def test_silence_is_the_empty_sentence():
    np.testing.assert_array_equal(captioned.silence(jnp.zeros((2, READ.length), int))[1], READ(''))


def test_words_count_and_silence_is_what_is_heard_without():
    x, t = jax.random.normal(jax.random.key(0), (2, 8, 8, 1)), jnp.array([1.0, 500.0])
    params = jax.jit(NET.init)(jax.random.key(1), x, t)
    assert set(params['params']) == {'unet', 'text'}
    params = jax.tree.map(lambda leaf: leaf + 0.05 * jax.random.normal(jax.random.key(2), leaf.shape), params)
    apply = jax.jit(NET.apply)
    words = jnp.stack([READ('a small brain'), READ('a large brain')])
    said, nothing = apply(params, x, t, words=words), apply(params, x, t)
    assert not jnp.allclose(said, nothing, atol=1e-4)
    np.testing.assert_allclose(apply(params, x, t, **NET.null(words=words)), nothing, atol=1e-5)
    np.testing.assert_allclose(apply(params, x[1:], t[1:], words=words[1:])[0], said[1], atol=1e-5)
    assert NET.factor() == (2, 2)
