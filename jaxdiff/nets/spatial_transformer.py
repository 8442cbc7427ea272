"""The transformer that latent diffusion puts into a U-Net: pixels attend to pixels, then to the tokens of a condition.

    x + project(blocks(enter(norm(x)))),    block:  h + self(LN(h)),  h + cross(LN(h), tokens),  h + feed(LN(h))         (1)
    feed(h) = W (a gelu(b)) + c,    [a, b] linear in h, four times as wide                                               (2)

Queries, keys and values have no bias; `project` starts at zero, the layer as the identity. Rombach et al., "High-resolution image synthesis
with latent diffusion models", CVPR 2022 (1); Shazeer, "GLU variants improve transformer", 2020 (2).
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxdiff.nets import layers
from jaxdiff.types import Array


class SpatialTransformer(nn.Module):
    """(1) for one example: x (*spatial, channels), tokens (n, width) or None -> like x. Without tokens there is no cross-attention."""

    heads: int
    depth: int = 1
    groups: int | None = None
    dtype: str = 'float32'

    @nn.compact
    def __call__(self, x: Array, tokens: Array | None = None) -> Array:
        channels = x.shape[-1]
        if channels % self.heads:
            raise ValueError(f'SpatialTransformer: {channels} channels do not split into {self.heads} heads')
        h = layers.GroupNorm(self.groups, silu=False, eps=1e-6, name='norm')(x).reshape(-1, channels)
        h = layers.Dense(channels, self.dtype, name='enter')(h)
        for n in range(self.depth):
            h = TransformerBlock(self.heads, self.dtype, name=f'block_{n}')(h, tokens)
        return x + layers.Dense(channels, self.dtype, zero=True, name='project')(h).reshape(x.shape)


class TransformerBlock(nn.Module):
    """A block of (1): h (pixels, channels), tokens (n, width) or None -> like h."""

    heads: int
    dtype: str = 'float32'

    @nn.compact
    def __call__(self, h: Array, tokens: Array | None = None) -> Array:
        norm = lambda name: nn.LayerNorm(epsilon=1e-5, name=name)(h)
        h = h + self._attend('self', norm('self_norm'))
        if tokens is not None:
            h = h + self._attend('cross', norm('cross_norm'), tokens)
        values, gates = jnp.split(layers.Dense(8 * h.shape[-1], self.dtype, name='feed_in')(norm('feed_norm')), 2, axis=-1)
        return h + layers.Dense(h.shape[-1], self.dtype, name='feed_out')(values * nn.gelu(gates, approximate=False))

    def _attend(self, name, h, context=None):
        channels, source = h.shape[-1], h if context is None else context
        q, k, v = (
            nn.Dense(channels, use_bias=False, dtype=self.dtype, name=f'{name}_{part}')(values).reshape(
                -1, self.heads, channels // self.heads
            )
            for part, values in (('query', h), ('key', source), ('value', source))
        )
        y = jax.nn.dot_product_attention(q, k, v).reshape(h.shape)
        return nn.Dense(channels, dtype=self.dtype, name=f'{name}_project')(y)
