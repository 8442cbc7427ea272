"""Text for networks: words as numbers, and a transformer that makes them tokens a U-Net can attend to.

    tokens = LN(blocks(word_i + position_i)),    block:  h + attention(LN(h)),  h + perceptron(LN(h))                    (1)

A word sees the words before it and itself. Radford et al., "Learning transferable visual models from natural language supervision", ICML 2021.
"""

import json
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import flax.linen as nn
import jax
import numpy as np

from jaxdiff.types import Array, UserError

MARKS = PAD, START, END, UNKNOWN = '<pad>', '<start>', '<end>', '<unknown>'  # the first of all words
_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)?|[^\w\s]")


class Tokenizer(NamedTuple):
    """Words, numbered by their place among `words`, in sentences of `length` numbers, START and END included."""

    words: tuple[str, ...]
    length: int

    def __call__(self, sentence: str) -> np.ndarray:
        """(length,) int32, padded. Case does not count, words that are not known are one word. Raises `UserError` where it is too long."""
        found = split(sentence)
        if len(found) > self.length - 2:
            raise UserError(f'"{sentence}": {len(found)} words and signs, the model reads at most {self.length - 2}; say less')
        places = {word: n for n, word in enumerate(self.words)}
        numbers = [places[START], *(places.get(word, places[UNKNOWN]) for word in found), places[END]]
        return np.array(numbers + [places[PAD]] * (self.length - len(numbers)), np.int32)

    def unknown(self, sentence: str) -> list[str]:
        """The words of a sentence that are not among `words`."""
        return [word for word in split(sentence) if word not in self.words]

    def text(self, numbers: Sequence[int]) -> str:
        """The words between START and END."""
        return ' '.join(word for word in (self.words[n] for n in numbers) if word not in (PAD, START, END))


def split(sentence: str) -> list[str]:
    """Words and signs, in lower case."""
    return _WORD.findall(sentence.lower())


def tokenizer(sentences: Iterable[str], *, extra: Sequence[str] = (), length: int | None = None) -> Tokenizer:
    """One that knows every word of these sentences, in the order of the alphabet, then the `extra` ones: rare words kept for later use.

    `length` is by default that of the longest.
    """
    found = [split(sentence) for sentence in sentences]
    known = sorted({word for each in found for word in each})
    words = (*MARKS, *known, *(word for word in extra if word not in known))
    return Tokenizer(words, length or max(map(len, found), default=0) + 2)


def to_json(made: Tokenizer) -> str:
    """What `from_json` reads."""
    return json.dumps(made._asdict())


def from_json(text: str) -> Tokenizer:
    """Raises `UserError` for anything `to_json` has not written."""
    try:
        read = json.loads(text)
        made = Tokenizer(tuple(map(str, read['words'])), int(read['length']))
    except (KeyError, TypeError, ValueError):
        raise UserError('not a tokenizer; give what was written beside the model') from None
    if made.words[: len(MARKS)] != MARKS:
        raise UserError(f'not a tokenizer: it does not begin with {", ".join(MARKS)}; give what was written beside the model')
    return made


class TextEncoder(nn.Module):
    """(1): numbers (batch, n) int32 -> tokens (batch, n, width) float32. Every field is JSON.

    Attributes:
        words: how many numbers there are.
        length: the most numbers of a sentence.
        width: of the tokens, a multiple of `heads`.
        inner: width of the perceptrons; None is four times `width`.
        activation: 'gelu', or 'quick_gelu', x sigmoid(1.702 x).
        eps: of the layer norms.
    """

    words: int
    length: int = 77
    width: int = 128
    depth: int = 2
    heads: int = 4
    inner: int | None = None
    activation: str = 'gelu'
    eps: float = 1e-5
    dtype: str = 'float32'

    def __post_init__(self):
        if self.width % self.heads or self.activation not in ACTIVATIONS:
            raise ValueError(
                f'TextEncoder: width={self.width} in {self.heads} heads, activation={self.activation!r} of {", ".join(ACTIVATIONS)}'
            )
        super().__post_init__()

    @nn.compact
    def __call__(self, numbers: Array) -> Array:
        n = numbers.shape[-1]
        if n > self.length:
            raise ValueError(f'TextEncoder: {n} numbers, it reads {self.length}')
        positions = self.param('positions', nn.initializers.normal(0.01), (self.length, self.width))
        h = nn.Embed(self.words, self.width, embedding_init=nn.initializers.normal(0.02), name='words')(numbers) + positions[None, :n]
        for k in range(self.depth):
            h = Block(self.heads, self.inner or 4 * self.width, self.activation, self.eps, self.dtype, name=f'block_{k}')(h)
        return nn.LayerNorm(epsilon=self.eps, name='norm')(h)


class Block(nn.Module):
    """A block of (1): h (batch, n, width) -> like h."""

    heads: int
    inner: int
    activation: str = 'gelu'
    eps: float = 1e-5
    dtype: str = 'float32'

    @nn.compact
    def __call__(self, h: Array) -> Array:
        width = h.shape[-1]
        dense = lambda features, name: nn.Dense(features, dtype=self.dtype, name=name)
        seen = nn.LayerNorm(epsilon=self.eps, name='norm')(h)
        q, k, v = (dense(width, name)(seen).reshape(*h.shape[:-1], self.heads, -1) for name in ('query', 'key', 'value'))
        h = h + dense(width, 'project')(jax.nn.dot_product_attention(q, k, v, is_causal=True).reshape(h.shape))
        seen = nn.LayerNorm(epsilon=self.eps, name='feed_norm')(h)
        return h + dense(width, 'feed_out')(ACTIVATIONS[self.activation](dense(self.inner, 'feed_in')(seen)))


ACTIVATIONS = {'gelu': lambda x: jax.nn.gelu(x, approximate=False), 'quick_gelu': lambda x: x * jax.nn.sigmoid(1.702 * x)}
