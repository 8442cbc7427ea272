"""What the networks are made of: convolution, group normalisation, attention, resampling, time embedding.

Every layer is written for one example, (*spatial, channels) with one, two or three spatial axes; `vmap` adds the batch. Parameters,
statistics and softmax are float32; `dtype` is the one of convolutions and products.

Group normalisation over the pixels and channels of a group g, with an affine map per channel c:

    y_c = silu(gain_c (x_c - mean_g) / sqrt(var_g + eps) + bias_c)                                        (1)

Adaptive (Dhariwal & Nichol 2021, "Diffusion models beat GANs"): gain (1 + scale) for gain and bias (1 + scale) + shift for bias, with
scale and shift linear in the embedding of time and condition. The sinusoid of a time t, with d even and i < d/2 (OpenAI's order):

    [cos(t w_i), sin(t w_i)],  w_i = 10000^(-2 i / d)                                                    (2)

or, as Ho, Jain and Abbeel 2020 have it, [sin(t w_i), cos(t w_i)] with w_i = 10000^(-i / (d/2 - 1)).
"""

import math
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from jaxdiff.nets.convolution import conv
from jaxdiff.types import Array, Key


class Conv(nn.Module):
    """Convolution with bias; `size` per axis (default 3), `stride` per axis (default 1); `zero` starts it at zero.

    Zeros are put around the image alike on both sides, or with `pad='end'` behind it alone, as many networks do where the stride is 2.
    """

    features: int
    size: Sequence[int] | None = None
    stride: Sequence[int] | None = None
    zero: bool = False
    dtype: str = 'float32'
    pad: str = 'both'

    @nn.compact
    def __call__(self, x: Array) -> Array:
        shape = (*(self.size or (3,) * (x.ndim - 1)), x.shape[-1], self.features)
        kernel = self.param('kernel', nn.initializers.zeros if self.zero else nn.initializers.lecun_normal(), shape)
        bias = self.param('bias', nn.initializers.zeros, (self.features,))
        strides = self.stride or (1,) * (x.ndim - 1)
        behind = [times > 1 and self.pad == 'end' for times in strides]
        # one zero more on either side moves every window back by one, but for the first of its axis
        y = jnp.pad(x.astype(self.dtype), [*((int(each),) * 2 for each in behind), (0, 0)])
        y = conv(y, kernel.astype(self.dtype), self.stride)[tuple(slice(int(each), None) for each in behind)]
        return y + per_channel(bias.astype(self.dtype), x)


class Dense(nn.Module):
    """W x + b for every pixel, (*spatial, in) -> (*spatial, features), as nn.Dense; its gradients are those of a convolution."""

    features: int
    dtype: str = 'float32'
    zero: bool = False

    @nn.compact
    def __call__(self, x: Array) -> Array:
        start = nn.initializers.zeros if self.zero else nn.initializers.lecun_normal()
        kernel = self.param('kernel', start, (x.shape[-1], self.features))
        bias = self.param('bias', nn.initializers.zeros, (self.features,))
        pixels = x.reshape(-1, x.shape[-1]).astype(self.dtype)
        y = conv(pixels, kernel[None].astype(self.dtype)) + bias.astype(self.dtype)[None]
        return y.reshape(*x.shape[:-1], self.features)


def per_channel(values: Array, x: Array) -> Array:
    """values (channels,) with the axes of x, to be added to it or multiplied with it."""
    return values.reshape((1,) * (x.ndim - 1) + values.shape)


def groups_of(channels: int, most: int = 32) -> int:
    """The largest divisor of `channels` that is at most `most` and leaves four channels a group: alone in its group, a channel would lose
    what the embedding adds to it."""
    return max(n for n in range(1, most + 1) if channels % n == 0 and (n == 1 or 4 * n <= channels))


def group_norm(x: Array, gain: Array, bias: Array, *, groups: int, silu: bool = True, eps: float = 1e-5) -> Array:
    """Equation (1), or without its silu: statistics in float32, result in the dtype of x.

    x (*spatial, channels), gain and bias (channels,). The moments of each channel are taken about its first pixel, in one reading of x
    and without the loss of digits of E[x^2] - E[x]^2; the result is one affine map per channel.
    """
    wide = x.astype(jnp.float32)
    pixels = tuple(range(x.ndim - 1))

    def over_group(values):
        return jnp.repeat(values.reshape(groups, -1).mean(-1), x.shape[-1] // groups)

    first = lax.stop_gradient(wide[(0,) * len(pixels)])  # no moment depends on it
    away = wide - per_channel(first, x)
    offset = away.mean(pixels)
    spread = jnp.maximum(jnp.square(away).mean(pixels) - jnp.square(offset), 0.0)
    centre = over_group(first + offset)
    variance = over_group(spread + jnp.square(first + offset - centre))
    gain = gain * lax.rsqrt(variance + eps)
    y = wide * per_channel(gain, x) + per_channel(bias - centre * gain, x)
    return (nn.silu(y) if silu else y).astype(x.dtype)


class GroupNorm(nn.Module):
    """Equation (1) with learned gain and bias; `groups=None` takes `groups_of` the channels.

    With `modulation` = (scale, shift), each (channels,), it is the adaptive one; scale = shift = 0 changes nothing.
    """

    groups: int | None = None
    silu: bool = True
    eps: float = 1e-5

    @nn.compact
    def __call__(self, x: Array, modulation: tuple[Array, Array] | None = None) -> Array:
        channels = x.shape[-1]
        gain = self.param('gain', nn.initializers.ones, (channels,))
        bias = self.param('bias', nn.initializers.zeros, (channels,))
        if modulation is not None:
            scale, shift = modulation
            gain, bias = gain * (1.0 + scale), bias * (1.0 + scale) + shift
        return group_norm(x, gain, bias, groups=self.groups or groups_of(channels), silu=self.silu, eps=self.eps)


class Attention(nn.Module):
    """x + W softmax(q k^T / sqrt(d)) v over the pixels of x, or from the pixels to the tokens of `context` (tokens, width).

    With `joint` the tokens stand among the pixels: one softmax over both, so that each pixel weighs what it is told against what it sees.
    Alone in a softmax of their own, as `context` is otherwise, one token adds the same to every pixel.

    The projection W starts at zero, the layer as the identity. There is neither bias nor mask, and no position: permuting the pixels
    permutes the result, permuting the tokens changes nothing. Softmax in float32 (`jax.nn.dot_product_attention`).
    """

    heads: int
    groups: int | None = None
    dtype: str = 'float32'
    eps: float = 1e-5
    joint: bool = False

    @nn.compact
    def __call__(self, x: Array, context: Array | None = None) -> Array:
        channels = x.shape[-1]
        if channels % self.heads:
            raise ValueError(f'attention: {channels} channels do not split into {self.heads} heads')
        split = (self.heads, channels // self.heads)
        pixels = GroupNorm(self.groups, silu=False, eps=self.eps, name='norm')(x).reshape(-1, channels)
        told = None if context is None else nn.LayerNorm(epsilon=1e-5, name='context_norm')(context)
        ask = lambda name, values: nn.Dense(channels, dtype=self.dtype, name=name)(values).reshape(-1, *split)
        source = pixels if told is None or self.joint else told
        q, k, v = ask('query', pixels), ask('key', source), ask('value', source)
        if self.joint and told is not None:
            k, v = jnp.concatenate([k, ask('context_key', told)]), jnp.concatenate([v, ask('context_value', told)])
        y = jax.nn.dot_product_attention(q, k, v).reshape(pixels.shape)
        return x + nn.Dense(channels, dtype=self.dtype, kernel_init=nn.initializers.zeros, name='project')(y).reshape(x.shape)


def nearest(x: Array, size: Sequence[int]) -> Array:
    """Repeats each pixel `size` times along each axis."""
    for axis, times in enumerate(size):
        x = jnp.repeat(x, times, axis) if times > 1 else x
    return x


def mean_pool(x: Array, size: Sequence[int]) -> Array:
    """The mean of every patch of `size`; nothing overlaps."""
    for axis, times in enumerate(size):
        if times > 1:
            x = x.reshape(*x.shape[:axis], x.shape[axis] // times, times, *x.shape[axis + 1 :]).mean(axis + 1)
    return x


def coordinates(spatial: Sequence[int]) -> Array:
    """(*spatial, axes): the position along each axis, from -1 at the first pixel to 1 at the last."""
    return jnp.stack(jnp.meshgrid(*(jnp.linspace(-1.0, 1.0, n) for n in spatial), indexing='ij'), axis=-1)


def sinusoid(t: Array, width: int, order: str = 'openai') -> Array:
    """Equation (2): scalar -> (width,) float32; times may be fractional, an odd width ends in a zero. `order` is 'openai' or 'ho'."""
    half = width // 2
    angles = t.astype(jnp.float32) * jnp.exp(-math.log(10000.0) / (half - (order == 'ho')) * jnp.arange(half))
    waves = jnp.cos(angles), jnp.sin(angles)
    return jnp.concatenate([*(waves if order == 'openai' else waves[::-1]), jnp.zeros(width % 2)])


def dropout(x: Array, rate: float, key: Key | None) -> Array:
    """Sets entries to zero with probability `rate` and scales the rest by 1 / (1 - rate); without a key returns x."""
    if key is None or not rate:
        return x
    return jnp.where(jax.random.bernoulli(key, 1.0 - rate, x.shape), x / (1.0 - rate), 0.0)
