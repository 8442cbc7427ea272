"""What the networks are made of: convolution, group normalisation, attention, resampling, time embedding.

Arrays are (batch, *spatial, channels) with one, two or three spatial axes. Parameters, statistics and softmax are float32;
`dtype` is the one of convolutions and products.

Group normalisation over the pixels and channels of a group g, with an affine map per channel c (per example, when adaptive):

    y_c = silu(gain_c (x_c - mean_g) / sqrt(var_g + eps) + bias_c)                                        (1)

Adaptive (Dhariwal & Nichol 2021, "Diffusion models beat GANs"): gain = gain (1 + scale), bias = bias (1 + scale) + shift, with
scale and shift linear in the embedding of time and condition. The sinusoid of a time t, with d even and i < d/2 (OpenAI's order):

    [cos(t w_i), sin(t w_i)],  w_i = 10000^(-2 i / d)                                                    (2)
"""

import math
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from jaxdiff.types import Array, Key


def conv(x: Array, kernel: Array, stride: Sequence[int] | None = None) -> Array:
    """Channels-last convolution, zero padding so that a stride of 1 keeps the size. The project's only call of `lax.conv`.

    x (batch, *spatial, in), kernel (*size, in, out). On a CPU a 3-D kernel is the sum of 2-D convolutions over its depth, which XLA
    runs several times faster.
    """
    dims = x.ndim - 2
    stride = tuple(stride or (1,) * dims)
    if dims == 3 and jax.default_backend() == 'cpu':
        return _conv_by_slices(x, kernel, stride)
    letters = 'DHW'[3 - dims :]
    layout = (f'N{letters}C', f'{letters}IO', f'N{letters}C')
    return lax.conv_general_dilated(x, kernel, stride, 'SAME', dimension_numbers=layout)


def _conv_by_slices(x: Array, kernel: Array, stride: Sequence[int]) -> Array:
    batch, depth, *plane, channels = x.shape
    size = kernel.shape[0]
    (pads,) = lax.padtype_to_pads((depth,), (size,), stride[:1], 'SAME')
    x = jnp.pad(x, [(0, 0), pads, *[(0, 0)] * 3])
    out_depth = (depth + sum(pads) - size) // stride[0] + 1

    def one(offset):
        slices = lax.slice_in_dim(x, offset, offset + (out_depth - 1) * stride[0] + 1, stride[0], axis=1)
        return conv(slices.reshape(batch * out_depth, *plane, channels), kernel[offset], stride[1:])

    y = sum(one(offset) for offset in range(size))
    return y.reshape(batch, out_depth, *y.shape[1:])


class Conv(nn.Module):
    """Convolution with bias; `size` per axis (default 3), `stride` per axis (default 1); `zero` starts it at zero."""

    features: int
    size: Sequence[int] | None = None
    stride: Sequence[int] | None = None
    zero: bool = False
    dtype: str = 'float32'

    @nn.compact
    def __call__(self, x: Array) -> Array:
        shape = (*(self.size or (3,) * (x.ndim - 2)), x.shape[-1], self.features)
        kernel = self.param('kernel', nn.initializers.zeros if self.zero else nn.initializers.lecun_normal(), shape)
        bias = self.param('bias', nn.initializers.zeros, (self.features,))
        y = conv(x.astype(self.dtype), kernel.astype(self.dtype), self.stride)
        return y + jnp.expand_dims(bias.astype(self.dtype), tuple(range(x.ndim - 1)))


def groups_of(channels: int, most: int = 32) -> int:
    """The largest divisor of `channels` that is at most `most`."""
    return max(n for n in range(1, most + 1) if channels % n == 0)


def group_norm(x: Array, gain: Array, bias: Array, *, groups: int, silu: bool = True, eps: float = 1e-5) -> Array:
    """Equation (1), statistics in float32, result in the dtype of x; without the silu if told so.

    gain and bias are (channels,), or (batch, channels) to differ by example. The normalisation is folded into one affine map per
    channel, so that an accelerator reads x once for the sums and once for the result.
    """
    batch, channels = x.shape[0], x.shape[-1]
    wide = x.astype(jnp.float32)

    def mean(values):
        each = values.mean(range(1, x.ndim - 1)).reshape(batch, groups, channels // groups)
        return jnp.repeat(each.mean(-1), channels // groups, axis=-1)

    centre = mean(wide)
    variance = jnp.maximum(mean(jnp.square(wide)) - jnp.square(centre), 0.0)
    gain = lax.rsqrt(variance + eps) * jnp.broadcast_to(gain, centre.shape)
    bias = jnp.broadcast_to(bias, centre.shape) - centre * gain
    inner = tuple(range(1, x.ndim - 1))
    y = wide * jnp.expand_dims(gain, inner) + jnp.expand_dims(bias, inner)
    return (nn.silu(y) if silu else y).astype(x.dtype)


class GroupNorm(nn.Module):
    """Equation (1) with learned gain and bias; `groups=None` takes the largest divisor of the channels up to 32.

    With `modulation` = (scale, shift), each (batch, channels), it is the adaptive one; scale = shift = 0 changes nothing.
    """

    groups: int | None = None
    silu: bool = True

    @nn.compact
    def __call__(self, x: Array, modulation: tuple[Array, Array] | None = None) -> Array:
        channels = x.shape[-1]
        gain = self.param('gain', nn.initializers.ones, (channels,))[None]
        bias = self.param('bias', nn.initializers.zeros, (channels,))[None]
        if modulation is not None:
            scale, shift = modulation
            gain, bias = gain * (1.0 + scale), bias * (1.0 + scale) + shift
        return group_norm(x, gain, bias, groups=self.groups or groups_of(channels), silu=self.silu)


class Attention(nn.Module):
    """x + W softmax(q k^T / sqrt(d)) v over the pixels of x, or from the pixels to the tokens of `context` (batch, tokens, width).

    The projection W starts at zero, the layer as the identity. There is neither bias nor mask, and no position: permuting the pixels
    permutes the result, permuting the tokens changes nothing. Softmax in float32 (`jax.nn.dot_product_attention`).
    """

    heads: int
    groups: int | None = None
    dtype: str = 'float32'

    @nn.compact
    def __call__(self, x: Array, context: Array | None = None) -> Array:
        channels = x.shape[-1]
        if channels % self.heads:
            raise ValueError(f'attention: {channels} channels do not split into {self.heads} heads')
        split = (self.heads, channels // self.heads)
        pixels = GroupNorm(self.groups, silu=False, name='norm')(x).reshape(x.shape[0], -1, channels)
        source = pixels if context is None else nn.LayerNorm(epsilon=1e-5, name='context_norm')(context)
        q = nn.DenseGeneral(split, dtype=self.dtype, name='query')(pixels)
        k = nn.DenseGeneral(split, dtype=self.dtype, name='key')(source)
        v = nn.DenseGeneral(split, dtype=self.dtype, name='value')(source)
        y = jax.nn.dot_product_attention(q, k, v).reshape(pixels.shape)
        return x + nn.Dense(channels, dtype=self.dtype, kernel_init=nn.initializers.zeros, name='project')(y).reshape(x.shape)


def fold(x: Array, size: Sequence[int]) -> Array:
    """Pixels of each patch become channels: (batch, *spatial, c) -> (batch, *(spatial / size), c prod(size)). Moves values only."""
    dims = len(size)
    split = [n for s, p in zip(x.shape[1:-1], size, strict=True) for n in (s // p, p)]
    x = x.reshape(x.shape[0], *split, x.shape[-1])
    x = x.transpose(0, *range(1, 2 * dims, 2), *range(2, 2 * dims + 1, 2), 2 * dims + 1)
    return x.reshape(*x.shape[: dims + 1], -1)


def unfold(x: Array, size: Sequence[int]) -> Array:
    """The inverse of `fold`."""
    dims = len(size)
    batch, *spatial, channels = x.shape
    x = x.reshape(batch, *spatial, *size, channels // math.prod(size))
    x = x.transpose(0, *(axis for n in range(dims) for axis in (1 + n, 1 + dims + n)), 2 * dims + 1)
    return x.reshape(batch, *(s * p for s, p in zip(spatial, size, strict=True)), -1)


def nearest(x: Array, size: Sequence[int]) -> Array:
    """Repeats each pixel `size` times along each axis."""
    for axis, times in enumerate(size, start=1):
        x = jnp.repeat(x, times, axis) if times > 1 else x
    return x


def coordinates(spatial: Sequence[int]) -> Array:
    """(*spatial, axes): the position along each axis, from -1 at the first pixel to 1 at the last."""
    return jnp.stack(jnp.meshgrid(*(jnp.linspace(-1.0, 1.0, n) for n in spatial), indexing='ij'), axis=-1)


def sinusoid(t: Array, width: int) -> Array:
    """Equation (2): (batch,) -> (batch, width) float32; times may be fractional."""
    half = width // 2
    angles = t.astype(jnp.float32)[:, None] * jnp.exp(-math.log(10000.0) / half * jnp.arange(half))[None]
    return jnp.concatenate([jnp.cos(angles), jnp.sin(angles)], axis=-1)


def dropout(x: Array, rate: float, keys: Array | None) -> Array:
    """Sets entries to zero with probability `rate`; keys (batch,), one per example; None or a rate of 0 returns x."""
    if keys is None or not rate:
        return x
    keep = jax.vmap(lambda key: jax.random.bernoulli(key, 1.0 - rate, x.shape[1:]))(keys)
    return jnp.where(keep, x / (1.0 - rate), 0.0)
