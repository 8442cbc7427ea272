"""What an image shows, told at any noise level: the encoder of a U-Net with attention as its pool.

    tokens = [mean of the pixels, pixels] + position,    answer = W attention(first token to all)                       (1)

Its gradient guides a sampler towards a class (`guidance.classifier`). Dhariwal and Nichol, "Diffusion models beat GANs", NeurIPS 2021, (1) after
Radford et al., ICML 2021.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxdiff.nets import layers
from jaxdiff.nets.unet import UNet
from jaxdiff.types import Array


class Classifier(UNet):
    """(x, t) -> a number for each class (batch, channels) float32, the logarithm of its probability up to a constant.

    Fields are those of `UNet`; `channels` is the number of classes. Images have the size of those it was initialised with.
    """

    def _example(self, arguments):
        _, h = self._encode(self._enter(arguments), self._stages(arguments))
        heads = self._each('heads')[-1]
        return Pool(self.channels, heads, self.groups, self.eps, self.dtype, name='pool')(h).astype(jnp.float32)


class Pool(nn.Module):
    """(1): (*spatial, channels) -> (features,)."""

    features: int
    heads: int = 4
    groups: int | None = None
    eps: float = 1e-5
    dtype: str = 'float32'

    @nn.compact
    def __call__(self, x: Array) -> Array:
        channels = x.shape[-1]
        pixels = layers.GroupNorm(self.groups, eps=self.eps, name='norm')(x).reshape(-1, channels)
        tokens = jnp.concatenate([pixels.mean(0, keepdims=True), pixels])
        tokens += self.param('positions', nn.initializers.normal(channels**-0.5), tokens.shape)
        q, k, v = (
            nn.Dense(channels, dtype=self.dtype, name=name)(values).reshape(len(values), self.heads, -1)
            for name, values in (('query', tokens[:1]), ('key', tokens), ('value', tokens))
        )
        seen = jax.nn.dot_product_attention(q, k, v).reshape(channels)
        return nn.Dense(self.features, name='answer')(seen)
