"""PatchGAN: whether patches of an image are real, and what that is worth to who made them.

    hinge:  L_D = (mean relu(1 - D(real)) + mean relu(1 + D(fake))) / 2,    L_G = -mean D(fake)                          (1)

Group normalisation stands where the original has batch normalisation: an answer must not depend on who else is in the batch.
Isola et al., "Image-to-image translation with conditional adversarial networks", CVPR 2017; Esser, Rombach, Ommer, CVPR 2021 (1).
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxdiff.nets import layers
from jaxdiff.types import Array


class PatchDiscriminator(nn.Module):
    """Images (batch, *spatial, channels) -> a number for each patch, (batch, *patches): larger is more real.

    Attributes:
        width: channels of the first convolution, doubled by each that follows up to eight times.
        depth: convolutions of stride 2. With 3 a number sees 70 pixels along each axis.
    """

    width: int = 64
    depth: int = 3
    dtype: str = 'float32'

    @nn.compact
    def __call__(self, x: Array) -> Array:
        return nn.vmap(PatchDiscriminator._example, variable_axes={'params': None}, split_rngs={'params': False})(self, x)

    def _example(self, x):
        dims, h = x.ndim - 1, x
        for n in range(self.depth + 1):
            stride = 2 if n < self.depth else 1
            h = layers.Conv(self.width * min(2**n, 8), (4,) * dims, (stride,) * dims, dtype=self.dtype, name=f'conv_{n}')(h)
            h = layers.GroupNorm(silu=False, name=f'norm_{n}')(h) if n else h
            h = nn.leaky_relu(h, 0.2)
        return layers.Conv(1, (4,) * dims, dtype=self.dtype, name='head')(h)[..., 0].astype(jnp.float32)


def hinge(real: Array, fake: Array) -> Array:
    """L_D of (1), of numbers of any shape."""
    return (jax.nn.relu(1.0 - real).mean() + jax.nn.relu(1.0 + fake).mean()) / 2
