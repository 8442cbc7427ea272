"""A U-Net that reads: a text encoder whose tokens its attention sees, both trained as one.

Saharia et al., "Imagen", NeurIPS 2022; Rombach et al., CVPR 2022, whose encoder learns with the denoiser.
"""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from jaxdiff.nets.text import END, MARKS, PAD, START, TextEncoder
from jaxdiff.nets.unet import UNet
from jaxdiff.types import Array


class Captioned(nn.Module):
    """A network called like its U-Net, with `words` (batch, n) int32 in place of tokens; without them it reads the empty sentence.

    Attributes:
        unet: fields of the `UNet`; its `tokens` are those of the encoder.
        text: fields of the `TextEncoder`.
    """

    unet: Mapping[str, Any]
    text: Mapping[str, Any]

    @nn.nowrap
    def factor(self) -> tuple[int, ...]:
        """What the size of each axis must be divisible by."""
        return UNet(**self._fields()).factor()

    @nn.nowrap
    def null(self, **conditions: Array) -> dict[str, Array]:
        """The same conditions, all missing: of words the empty sentence."""
        words = {'words': silence(conditions.pop('words'))} if 'words' in conditions else {}
        return words | UNet(**self._fields()).null(**conditions)

    @nn.compact
    def __call__(self, x: Array, t: Array, *, words: Array | None = None, **conditions: Array | None) -> Array:
        """words (batch, n) as `Tokenizer` numbers them; others as for `UNet`."""
        words = silence(jnp.zeros((len(x), self.text['length']), jnp.int32)) if words is None else words
        tokens = TextEncoder(**self.text, name='text')(words)
        return UNet(**self._fields(), name='unet')(x, t, tokens=tokens, **conditions)

    @nn.nowrap
    def _fields(self):
        return {**self.unet, 'tokens': self.text['width']}


def silence(words: Array) -> Array:
    """Empty sentences of the shape of words (..., n)."""
    start, end, pad = (MARKS.index(mark) for mark in (START, END, PAD))
    place = jnp.arange(words.shape[-1])
    return jnp.broadcast_to(jnp.where(place == 0, start, jnp.where(place == 1, end, pad)), words.shape).astype(words.dtype)
