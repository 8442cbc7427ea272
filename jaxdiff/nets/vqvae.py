"""A plain vector-quantised autoencoder: strided convolutions, residual units with relu, and a codebook (`nets.codebook`).

    unit(x) = relu(x + conv(relu(conv(x))))                                                                              (1)

Axes are halved by a convolution of size 4 and stride 2, and doubled by one of size 3 that makes a patch of 2 pixels per axis out of each, which is
what a transposed convolution of size 4 and stride 2 does. Tudosiu et al., "Morphology-preserving autoregressive 3D generative modelling of the
brain", SASHIMI 2022; van den Oord, Vinyals, Kavukcuoglu, NeurIPS 2017.
"""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxdiff.nets import codebook, folding, layers
from jaxdiff.types import Array


class VQVAE(nn.Module):
    """Images (batch, *spatial, channels) <-> vectors (batch, *spatial / 2^levels, latent), by its methods `encode`, `quantize` and `decode`.

    Attributes:
        channels: of the images.
        latent: length of the vectors.
        codes: of the codebook, which stands beside the parameters as {'codebook': {'vectors': (codes, latent)}}.
        widths: channels after each halving.
        inner: channels within the residual units of each level; None is `widths`.
        units: residual units per level.
        dims: number of spatial axes, 1 to 3.
        dtype: of convolutions.
    """

    channels: int = 1
    latent: int = 32
    codes: int = 256
    widths: Sequence[int] = (32, 64)
    inner: Sequence[int] | None = None
    units: int = 2
    dims: int = 2
    dtype: str = 'float32'

    def setup(self):
        conv = lambda width, size=3, stride=1: layers.Conv(width, (size,) * self.dims, (stride,) * self.dims, dtype=self.dtype)
        inner, levels, patch = self.inner or self.widths, len(self.widths), 2**self.dims
        unit = lambda level: ResidualUnit(inner[level], self.dtype)
        self.halve = [conv(width, 4, 2) for width in self.widths]
        self.down = [[unit(level) for _ in range(self.units)] for level in range(levels)]
        self.leave, self.enter = conv(self.latent), conv(self.widths[-1])
        self.up = [[unit(level) for _ in range(self.units)] for level in range(levels)]
        self.double = [conv(patch * width) for width in (self.channels, *self.widths)[:levels]]
        shape = (self.codes, self.latent)
        self.vectors = self.variable('codebook', 'vectors', lambda: jax.random.normal(self.make_rng('params'), shape))

    @nn.nowrap
    def factor(self) -> tuple[int, ...]:
        """What the size of each axis must be divisible by, and how many times smaller the latents are."""
        return (2 ** len(self.widths),) * self.dims

    def __call__(self, x: Array) -> Array:
        """Decoded codes."""
        return self.decode(self.quantize(self.encode(x)))

    def encode(self, x: Array) -> Array:
        """Images -> vectors as they are before the codebook, float32. Raises ValueError for sizes that `factor` does not divide."""
        if x.ndim != self.dims + 2 or any(size % self.factor()[0] for size in x.shape[1:-1]):
            raise ValueError(
                f'VQVAE: images {x.shape} are not (batch, {self.dims} axes divisible by {self.factor()}, channels); pad or crop'
            )
        return jax.vmap(self._encode)(x).astype(jnp.float32)

    def quantize(self, z: Array) -> Array:
        """The nearest vectors of the codebook."""
        return codebook.quantize(self.vectors.value, z)[0]

    def decode(self, z: Array) -> Array:
        """Vectors -> images, float32."""
        return jax.vmap(self._decode)(z).astype(jnp.float32)

    def _encode(self, h):
        for halve, units in zip(self.halve, self.down, strict=True):
            h = nn.relu(halve(h))
            for unit in units:
                h = unit(h)
        return self.leave(h)

    def _decode(self, h):
        h = self.enter(h)
        for level in reversed(range(len(self.widths))):
            for unit in self.up[level]:
                h = unit(h)
            h = folding.unfold(self.double[level](h), (2,) * self.dims)
            h = nn.relu(h) if level else h
        return h


class ResidualUnit(nn.Module):
    """(1), with `inner` channels within."""

    inner: int
    dtype: str = 'float32'

    @nn.compact
    def __call__(self, x: Array) -> Array:
        h = nn.relu(layers.Conv(self.inner, dtype=self.dtype, name='conv_in')(x))
        return nn.relu(x + layers.Conv(x.shape[-1], dtype=self.dtype, name='conv_out')(h))
