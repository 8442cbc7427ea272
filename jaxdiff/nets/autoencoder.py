"""Autoencoders: an image as a smaller array of latents, and back.

    encoder:  conv, then per level blocks (and attention), halve;  block, attention, block;  norm, conv, 1x1
    decoder:  1x1, conv, block, attention, block, then per level blocks (and attention), double;  norm, conv

with    block(x) = skip(x) + conv(norm(conv(norm(x)))),  norm with its silu.                                          (1)

Of the two kinds, 'kl' answers with a Gaussian for every image,

    z ~ N(mean, exp(log_variance)),    KL(. || N(0, 1)) = (mean^2 + exp(log_variance) - 1 - log_variance) / 2            (2)

for every number of z, and 'vq' with vectors of which the nearest of a codebook is decoded (`nets.codebook`). Neither network knows of
the other's loss; see `training.autoencoding`. Rombach et al., "High-resolution image synthesis with latent diffusion models", CVPR 2022;
Esser, Rombach, Ommer, "Taming transformers", CVPR 2021.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxdiff.nets import codebook, layers
from jaxdiff.types import Array, Key


class Posterior(NamedTuple):
    """(2): mean and log of the variance, of the shape of the latents."""

    mean: Array
    log_variance: Array

    def draw(self, key: Key) -> Array:
        """Latents of these images, one draw."""
        return self.mean + jnp.exp(self.log_variance / 2) * jax.random.normal(key, self.mean.shape, self.mean.dtype)

    def divergence(self) -> Array:
        """(2) for every number of the latents, nats."""
        return (jnp.square(self.mean) + jnp.exp(self.log_variance) - 1.0 - self.log_variance) / 2


class Autoencoder(nn.Module):
    """Images (batch, *spatial, channels) <-> latents (batch, *spatial / halvings, latent), by its methods `encode` and `decode`.

    Every field is JSON.

    Attributes:
        channels: of the images.
        latent: channels of the latents.
        kind: 'kl' or 'vq'.
        codes: vectors of the codebook, for 'vq'; they stand beside the parameters, as {'codebook': {'vectors': (codes, latent)}}.
        widths: channels at each resolution, the full one first.
        blocks: residual blocks of the encoder, at every resolution or at each.
        extra: how many more the decoder has.
        attention: whether each resolution attends. () is nowhere.
        middle: whether the encoder and the decoder have a middle that attends: one value, or one for each.
        heads: of attention.
        bottleneck: channels between the encoder and its 1x1; None is twice `latent` for 'kl', `latent` for 'vq'.
        dims: number of spatial axes, 1 to 3.
        resample: which axes are halved, or one such tuple per halving; None is all.
        groups, eps: of the group norms; None is `layers.groups_of` the width.
        dtype: of convolutions and products.
        bare: whether the norm before the last convolution of either half is without its silu, as in MONAI.
    """

    channels: int = 1
    latent: int = 4
    kind: str = 'kl'
    codes: int = 0
    widths: Sequence[int] = (32, 64, 64)
    blocks: int | Sequence[int] = 1
    extra: int = 1
    attention: Sequence[bool] = ()
    middle: bool | Sequence[bool] = True
    heads: int = 1
    bottleneck: int | None = None
    dims: int = 2
    resample: Sequence[bool] | Sequence[Sequence[bool]] | None = None
    groups: int | None = None
    eps: float = 1e-6
    dtype: str = 'float32'
    bare: bool = False

    def __post_init__(self):
        if self.kind not in ('kl', 'vq') or (self.kind == 'vq') != (self.codes > 0):
            raise ValueError(f"Autoencoder: kind={self.kind!r} with codes={self.codes}: 'kl' has none, 'vq' some")
        for name in ('blocks', 'attention'):
            value = getattr(self, name)
            if not isinstance(value, int) and value and len(value) != len(self.widths):
                raise ValueError(f'Autoencoder: {name}={value} needs an entry for each of the widths {self.widths}')
        super().__post_init__()

    def setup(self):
        blocks = (self.blocks,) * len(self.widths) if isinstance(self.blocks, int) else tuple(self.blocks)
        attention = tuple(self.attention) or (False,) * len(self.widths)
        inside, outside = (self.middle,) * 2 if isinstance(self.middle, bool) else self.middle
        common = {'heads': self.heads, 'groups': self.groups, 'eps': self.eps, 'dtype': self.dtype, 'bare': self.bare}
        moments = self.latent * (2 if self.kind == 'kl' else 1)
        self.encoder = Encoder(self.bottleneck or moments, self.widths, blocks, attention, inside, self.strides(), **common)
        more = tuple(each + self.extra for each in blocks)
        self.decoder = Decoder(self.channels, self.widths, more, attention, outside, self.strides(), **common)
        self.leave, self.enter = layers.Dense(moments, self.dtype), layers.Dense(self.latent, self.dtype)
        if self.codes:
            shape, most = (self.codes, self.latent), 1 / self.codes
            self.vectors = self.variable(
                'codebook', 'vectors', lambda: jax.random.uniform(self.make_rng('params'), shape, minval=-most, maxval=most)
            )

    @nn.nowrap
    def strides(self) -> tuple[tuple[int, ...], ...]:
        """For each halving, 2 for the axes that are halved and 1 for the others."""
        axes = self.resample or (True,) * self.dims
        each = axes if isinstance(axes[0], tuple | list) else (axes,) * (len(self.widths) - 1)
        return tuple(tuple(2 if halve else 1 for halve in level) for level in each)

    @nn.nowrap
    def factor(self) -> tuple[int, ...]:
        """What the size of each axis must be divisible by, and how many times smaller latents are."""
        return tuple(math.prod(each) for each in zip(*self.strides(), strict=True)) if len(self.widths) > 1 else (1,) * self.dims

    def __call__(self, x: Array) -> Array:
        """Decoded means, or codes."""
        found = self.encode(x)
        return self.decode(found.mean if self.kind == 'kl' else self.quantize(found))

    def encode(self, x: Array) -> Posterior | Array:
        """Images -> `Posterior` for 'kl', vectors as they are before any codebook for 'vq'; float32.

        Raises ValueError for sizes that `factor` does not divide.
        """
        if x.ndim != self.dims + 2 or any(size % factor for size, factor in zip(x.shape[1:-1], self.factor(), strict=True)):
            raise ValueError(
                f'Autoencoder: images {x.shape} are not (batch, {self.dims} axes divisible by {self.factor()}, channels); pad or crop'
            )
        found = (
            jax.vmap(lambda x: self.leave(self.encoder(x)))(x).astype(jnp.float32)
            if len(x) > 1
            else self.leave(self.encoder(x[0]))[None].astype(jnp.float32)
        )
        if self.kind == 'vq':
            return found
        mean, log_variance = jnp.split(found, 2, axis=-1)
        return Posterior(mean, jnp.clip(log_variance, -30.0, 20.0))

    def quantize(self, z: Array) -> Array:
        """The nearest vectors of the codebook."""
        return codebook.quantize(self.vectors.value, z)[0]

    def decode(self, z: Array) -> Array:
        """Latents -> images, float32."""
        return jax.vmap(lambda z: self.decoder(self.enter(z)))(z).astype(jnp.float32)


class ResidualBlock(nn.Module):
    """(1): (*spatial, c) -> (*spatial, features)."""

    features: int
    groups: int | None = None
    eps: float = 1e-6
    dtype: str = 'float32'

    @nn.compact
    def __call__(self, x: Array) -> Array:
        h = x
        for name in ('in', 'out'):
            h = layers.GroupNorm(self.groups, eps=self.eps, name=f'norm_{name}')(h)
            h = layers.Conv(self.features, dtype=self.dtype, name=f'conv_{name}')(h)
        return h + (x if x.shape[-1] == self.features else layers.Dense(self.features, self.dtype, name='skip')(x))


class _Half(nn.Module):
    features: int
    widths: Sequence[int]
    blocks: Sequence[int]
    attention: Sequence[bool]
    middle: bool
    strides: Sequence[Sequence[int]]
    heads: int = 1
    groups: int | None = None
    eps: float = 1e-6
    dtype: str = 'float32'
    bare: bool = False

    def _block(self, name, width, h, attend):
        h = ResidualBlock(width, self.groups, self.eps, self.dtype, name=name)(h)
        return layers.Attention(self.heads, self.groups, self.dtype, self.eps, name=f'{name}_attention')(h) if attend else h

    def _centre(self, h):
        h = self._block('middle_0', self.widths[-1], h, True) if self.middle else h
        return self._block('middle_1', self.widths[-1], h, False) if self.middle else h

    def _head(self, h):
        h = layers.GroupNorm(self.groups, silu=not self.bare, eps=self.eps, name='norm')(h)
        return layers.Conv(self.features, dtype=self.dtype, name='head')(h)


class Encoder(_Half):
    """(*spatial, channels) -> (*spatial / halvings, features), for one example."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        h = layers.Conv(self.widths[0], dtype=self.dtype, name='stem')(x)
        for level, (width, blocks, attend) in enumerate(zip(self.widths, self.blocks, self.attention, strict=True)):
            for n in range(blocks):
                h = self._block(f'level_{level}_{n}', width, h, attend)
            if level < len(self.strides):
                h = layers.Conv(width, None, self.strides[level], dtype=self.dtype, pad='end', name=f'halve_{level}')(h)
        return self._head(self._centre(h))


class Decoder(_Half):
    """(*spatial, latent) -> (*spatial * halvings, features), for one example."""

    @nn.compact
    def __call__(self, z: Array) -> Array:
        h = self._centre(layers.Conv(self.widths[-1], dtype=self.dtype, name='stem')(z))
        for level in reversed(range(len(self.widths))):
            for n in range(self.blocks[level]):
                h = self._block(f'level_{level}_{n}', self.widths[level], h, self.attention[level])
            if level:
                h = layers.Conv(self.widths[level], dtype=self.dtype, name=f'double_{level}')(layers.nearest(h, self.strides[level - 1]))
        return self._head(h)
