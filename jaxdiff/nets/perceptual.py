"""Perceptual distance: how far two images are in the maps of a network that was not trained for it.

    d(x, y) = sum_l mean_p sum_c w_lc (f_lc(x)_p - f_lc(y)_p)^2,    f_l of unit length over channels at every pixel p    (1)

f_l are the maps of any network; here of one shaped like VGG-16, whose weights are drawn at random, always alike, or read from elsewhere. At random
they still see edges and textures at every scale. Volumes are looked at slice by slice, along each axis ("2.5-D").
Zhang et al., "The unreasonable effectiveness of deep features as a perceptual metric", CVPR 2018.
"""

from collections.abc import Callable, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxdiff.nets import layers
from jaxdiff.types import Array, Key, Params

Features = Callable[[Array], Sequence[Array]]  # image (X, Y, c) -> maps (X', Y', c') from fine to coarse


class Vgg(nn.Module):
    """Maps of an image (X, Y, c) before each halving, of convolutions and relu: for VGG-16 those named relu1_2, 2_2, 3_3, 4_3, 5_3.

    Attributes:
        widths, depths: channels and convolutions of each stage; VGG-16 has (64, 128, 256, 512, 512) and (2, 2, 3, 3, 3).
    """

    widths: Sequence[int] = (16, 32, 64)
    depths: Sequence[int] = (2, 2, 2)

    @nn.compact
    def __call__(self, x: Array) -> list[Array]:
        maps, h = [], x
        for stage, (width, depth) in enumerate(zip(self.widths, self.depths, strict=True)):
            h = _halved(h) if stage else h
            for n in range(depth):
                h = nn.relu(layers.Conv(width, name=f'conv_{stage}_{n}')(h))
            maps.append(h)
        return maps


def fixed(channels: int = 1, *, seed: int = 0, **fields: Sequence[int]) -> Features:
    """The maps of a `Vgg` whose weights come from this seed alone."""
    net = Vgg(**fields)
    params = net.init(jax.random.key(seed), jnp.zeros((2 ** len(net.widths),) * 2 + (channels,)))
    return lambda x: net.apply(params, x)


def distance(features: Features, x: Array, y: Array, weights: Params | None = None) -> Array:
    """(1) for two images (X, Y, c); `weights` holds w_l (channels,) for every map, each 1 / channels by default."""
    found = []
    for n, (a, b) in enumerate(zip(features(x), features(y), strict=True)):
        weight = 1 / a.shape[-1] if weights is None else weights[n][None, None]
        found.append(jnp.mean(jnp.sum(weight * jnp.square(_unit(a) - _unit(b)), axis=-1)))
    return sum(found)


def of_volumes(features: Features, key: Key, x: Array, y: Array, *, slices: int = 2) -> Array:
    """(1) of two volumes (X, Y, Z, c): the mean over `slices` slices drawn along each of the three axes."""
    found = []
    for axis, each in enumerate(jax.random.split(key, 3)):
        rows = jax.random.randint(each, (slices,), 0, x.shape[axis])
        found.append(
            jax.vmap(lambda a, b: distance(features, a, b))(
                jnp.take(x, rows, axis).swapaxes(0, axis), jnp.take(y, rows, axis).swapaxes(0, axis)
            )
        )
    return jnp.mean(jnp.stack(found))


def _halved(h):
    """The largest of every 2 x 2 pixels."""
    return nn.max_pool(h, (2, 2), strides=(2, 2))


def _unit(h):
    return h / jnp.sqrt(jnp.sum(jnp.square(h), axis=-1, keepdims=True) + 1e-10)
