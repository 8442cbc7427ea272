"""Residual blocks of U-Nets, alone and with attention behind them.

With e the embedding of time and condition, `norm` includes the silu, and conv0 starts at zero:

    norm='add':        block(x) = skip(x) + conv0(norm(conv(norm(x)) + linear(e)))                        (1)
    norm='adaptive':   block(x) = skip(x) + conv0(norm(conv(norm(x)), scale and shift linear in e))       (2)

The projections of attention start at zero too: a new block is its skip path.

(1) Ho, Jain & Abbeel 2020, "Denoising diffusion probabilistic models"; (2) Dhariwal & Nichol 2021, "Diffusion models beat GANs".
"""

from collections.abc import Callable

import flax.linen as nn
import jax.numpy as jnp

from jaxdiff.nets import layers
from jaxdiff.nets.spatial_transformer import SpatialTransformer
from jaxdiff.types import Array


class Block(nn.Module):
    """Equations (1) and (2): x (*spatial, c), embedding (e,) float32 -> (*spatial, features)."""

    features: int
    norm: str = 'add'
    groups: int | None = None
    eps: float = 1e-5
    dropout: float = 0.0
    dtype: str = 'float32'
    resize: Callable[[Array], Array] | None = None  # of h before the first convolution, and of x

    @nn.compact
    def __call__(self, x: Array, embedding: Array, dropout_key: Array | None = None) -> Array:
        adaptive = self.norm == 'adaptive'
        linear = nn.Dense(self.features * (2 if adaptive else 1), name='embedding')(nn.silu(embedding))
        h = layers.GroupNorm(self.groups, eps=self.eps, name='norm_in')(x)
        h, x = (h, x) if self.resize is None else (self.resize(h), self.resize(x))
        h = layers.Conv(self.features, dtype=self.dtype, name='conv_in')(h)
        norm = layers.GroupNorm(self.groups, eps=self.eps, name='norm_out')
        h = norm(h, jnp.split(linear, 2)) if adaptive else norm(h + layers.per_channel(linear.astype(h.dtype), h))
        h = layers.dropout(h, self.dropout, dropout_key)
        skip = x if x.shape[-1] == self.features else layers.Dense(self.features, self.dtype, name='skip')(x)
        return skip + layers.Conv(self.features, zero=True, dtype=self.dtype, name='conv_out')(h)


class Stage(nn.Module):
    """A block, then attention among the pixels and from the pixels to the tokens where `heads` is not 0: a layer for each, with `joint` one
    for both, or a `SpatialTransformer` of `transformer` blocks."""

    features: int
    heads: int = 0
    transformer: int = 0
    norm: str = 'add'
    groups: int | None = None
    eps: float = 1e-5
    dropout: float = 0.0
    dtype: str = 'float32'
    joint: bool = False

    @nn.compact
    def __call__(self, x: Array, embedding: Array, tokens: Array | None, dropout_key: Array | None) -> Array:
        h = Block(self.features, self.norm, self.groups, self.eps, self.dropout, self.dtype, name='block')(x, embedding, dropout_key)
        if self.heads and self.transformer:
            return SpatialTransformer(self.heads, self.transformer, self.groups, self.dtype, name='transformer')(h, tokens)
        if self.heads:
            h = layers.Attention(self.heads, self.groups, self.dtype, self.eps, self.joint, name='attention')(
                h, tokens if self.joint else None
            )
            if tokens is not None and not self.joint:
                h = layers.Attention(self.heads, self.groups, self.dtype, self.eps, name='cross_attention')(h, tokens)
        return h
