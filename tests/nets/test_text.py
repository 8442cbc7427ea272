"""Text: words that come back, sentences that cannot be read, and a transformer that looks back only."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff.nets import text
from jaxdiff.nets.text import TextEncoder
from jaxdiff.types import UserError

SENTENCES = ('a T2 scan of a brain, with large ventricles', "the patient's T1 scan")


def test_words_come_back():
    read = text.tokenizer(SENTENCES, extra=('sks',))
    numbers = read(SENTENCES[0])
    assert numbers.dtype == np.int32 and len(numbers) == read.length == 12
    assert read.text(numbers) == 'a t2 scan of a brain , with large ventricles'
    np.testing.assert_array_equal(read('A T2 SCAN of a brain, with large ventricles'), numbers)
    assert read.words.index('sks') == len(read.words) - 1 and read.text(read('sks brain')) == 'sks brain'
    assert text.split(SENTENCES[1])[1] == "patient's"


def test_unknown_words_are_told():
    read = text.tokenizer(SENTENCES)
    assert read.unknown('a purple brain') == ['purple']
    assert read('a purple brain')[2] == read.words.index(text.UNKNOWN)
    with pytest.raises(UserError, match='at most 10; say less'):
        read(' '.join(['scan'] * 11))


def test_json_brings_it_back_and_nothing_else():
    read = text.tokenizer(SENTENCES)
    assert text.from_json(text.to_json(read)) == read
    for wrong in ('{}', '[1]', 'no', '{"words": ["a"], "length": 4}'):
        with pytest.raises(UserError, match='not a tokenizer'):
            text.from_json(wrong)


def test_later_words_do_not_change_earlier_tokens():
    net = TextEncoder(words=9, length=6, width=8, depth=2, heads=2)
    numbers = jnp.array([[1, 4, 5, 2, 0, 0], [1, 4, 6, 2, 0, 0]])
    params = net.init(jax.random.key(0), numbers)
    tokens = net.apply(params, numbers)
    assert tokens.shape == (2, 6, 8)
    np.testing.assert_allclose(tokens[0, :2], tokens[1, :2], atol=1e-5)
    assert not jnp.allclose(tokens[0, 2:], tokens[1, 2:], atol=1e-3)
    np.testing.assert_allclose(net.apply(params, numbers[:1])[0], tokens[0], atol=1e-5)


def test_the_order_of_words_counts():
    net = TextEncoder(words=9, length=4, width=8, depth=1, heads=2)
    params = net.init(jax.random.key(0), jnp.zeros((1, 4), int))
    params = jax.tree.map(lambda leaf: leaf + 0.1 * jax.random.normal(jax.random.key(1), leaf.shape), params)
    a, b = net.apply(params, jnp.array([[3, 4, 5]]))[0], net.apply(params, jnp.array([[4, 3, 5]]))[0]
    assert not jnp.allclose(a[2], b[2], atol=1e-3)


def test_refusals():
    with pytest.raises(ValueError, match='heads'):
        TextEncoder(words=3, width=10, heads=4)
    with pytest.raises(ValueError, match='it reads 2'):
        TextEncoder(words=3, length=2, width=8).init(jax.random.key(0), jnp.zeros((1, 3), int))
