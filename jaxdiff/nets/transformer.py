"""DiT: a transformer over the patches of an image, told the time and the condition by what they make of its layer norms.

With c the sum of the embeddings of time and condition, LN without gain or bias, and everything linear in silu(c) starting at zero,

    h <- h + g1 attention(LN(h) (1 + s1) + b1),    h <- h + g2 perceptron(LN(h) (1 + s2) + b2),                          (1)

so that a new block is the identity, and a new network, whose head starts at zero too, returns exactly 0. Patch p has the position

    [sin(p_a w_i), cos(p_a w_i)] for each axis a, the last axis first,    w_i = 10000^(-i / n),  n = width / (2 axes)    (2)

added to it, with p_a its number along a. Peebles and Xie, "Scalable diffusion models with transformers", ICCV 2023.
"""

import math
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxdiff.nets import folding, layers
from jaxdiff.nets.conditions import flagged
from jaxdiff.types import Array

small = nn.initializers.normal(0.02)
xavier = nn.initializers.xavier_uniform()


class DiT(nn.Module):
    """(x, t) -> array like x with `channels` channels; twice as many with `learned_variance`, of which the first half is the prediction.

    Every field is JSON. Conditions are missing as they are for `UNet`. Published sizes, (depth, width, heads): S 12, 384, 6; B 12, 768, 12;
    L 24, 1024, 16; XL 28, 1152, 16, each with patches of 2, 4 or 8.

    Attributes:
        channels: of the prediction.
        patch: size of patches, or size per axis.
        width: of the tokens, a multiple of `heads` and of twice the axes.
        ratio: width of the perceptrons within the blocks, in units of `width`.
        dims: number of spatial axes.
        labels, vector, image: conditions, see `UNet`.
        remat: whether blocks are computed again in the backward pass instead of stored.
        dtype: of products; parameters, norms, softmax, embedding and output are float32.
    """

    channels: int
    patch: int | Sequence[int] = 4
    width: int = 384
    depth: int = 12
    heads: int = 6
    ratio: int = 4
    dims: int = 2
    learned_variance: bool = False
    labels: int = 0
    vector: int = 0
    image: int = 0
    remat: bool = False
    dtype: str = 'float32'

    def __post_init__(self):
        if self.width % self.heads or self.width % (2 * self.dims):
            raise ValueError(f'DiT: width={self.width} is no multiple of heads={self.heads} and of {2 * self.dims}, twice the axes')
        super().__post_init__()

    @nn.nowrap
    def factor(self) -> tuple[int, ...]:
        """What the size of each axis must be divisible by: the patch."""
        return (self.patch,) * self.dims if isinstance(self.patch, int) else tuple(self.patch)

    @nn.nowrap
    def null(self, **conditions: Array) -> dict[str, Array]:
        """The same conditions, all missing."""
        return {name: jnp.full_like(value, self.labels if name == 'label' else jnp.nan) for name, value in conditions.items()}

    @nn.compact
    def __call__(self, x: Array, t: Array, *, label: Array | None = None, vector: Array | None = None, image: Array | None = None) -> Array:
        """x (batch, *spatial, c), t (batch,), label (batch,), vector (batch, `vector`), image (batch, *spatial, `image`) ->
        (batch, *spatial, channels) float32.

        Raises ValueError for sizes that the patch does not divide, and for a condition that the fields do not announce.
        """
        if x.ndim != self.dims + 2 or t.shape != x.shape[:1]:
            raise ValueError(f'DiT: x {x.shape} and t {t.shape} are not (batch, {self.dims} axes, channels) and (batch,)')
        if any(size % patch for size, patch in zip(x.shape[1:-1], self.factor(), strict=True)):
            raise ValueError(f'DiT: sizes {x.shape[1:-1]} are not divisible by the patch {self.factor()}; pad or crop')
        for name, value in (('labels', label), ('vector', vector), ('image', image)):
            if value is not None and not getattr(self, name):
                raise ValueError(f'DiT: {name.removesuffix("s")} was given to a network with {name}=0')
        told = {'x': x, 't': t, 'label': label, 'vector': vector, 'image': image}
        if len(x) == 1:  # as for `UNet`
            return self._example(jax.tree.map(lambda a: a[0], told))[None]
        return nn.vmap(DiT._example, variable_axes={'params': None}, split_rngs={'params': False})(self, told)

    def _example(self, told):
        x = told['x']
        image = [flagged(told['image'], (*x.shape[:-1], self.image))] if self.image else []
        patches = folding.fold(jnp.concatenate([x, *image], axis=-1), self.factor())
        spatial = patches.shape[:-1]
        h = nn.Dense(self.width, dtype=self.dtype, kernel_init=xavier, name='stem')(patches.reshape(-1, patches.shape[-1]))
        h = h.astype(jnp.float32) + positions(spatial, self.width)
        condition = nn.silu(self._embed(told['t'], told['label'], told['vector']))
        kind = nn.remat(Block) if self.remat else Block
        for n in range(self.depth):
            h = kind(self.heads, self.ratio, self.dtype, name=f'block_{n}')(h, condition)
        shift, scale = jnp.split(_zero(2 * self.width, 'modulation')(condition), 2)
        outputs = self.channels * (2 if self.learned_variance else 1) * math.prod(self.factor())
        h = _zero(outputs, 'head')(_modulated(h, scale, shift))
        return folding.unfold(h.reshape(*spatial, outputs), self.factor())

    def _embed(self, t, label, vector):
        def perceptron(name, x):
            dense = lambda part: nn.Dense(self.width, kernel_init=small, name=f'{name}_{part}')
            return dense('out')(nn.silu(dense('in')(x)))

        embedding = perceptron('time', layers.sinusoid(t, 256))
        if self.labels:
            rows = nn.Embed(self.labels + 1, self.width, embedding_init=small, name='label')
            embedding += rows(jnp.asarray(self.labels) if label is None else label)
        if self.vector:
            embedding += perceptron('vector', flagged(vector, (self.vector,)))
        return embedding


class Block(nn.Module):
    """(1): h (tokens, width) float32, condition (width,) -> like h."""

    heads: int
    ratio: int = 4
    dtype: str = 'float32'

    @nn.compact
    def __call__(self, h: Array, condition: Array) -> Array:
        width = h.shape[-1]
        dense = lambda features, name: nn.Dense(features, dtype=self.dtype, kernel_init=xavier, name=name)
        shift, scale, gate, *feed = jnp.split(_zero(6 * width, 'modulation')(condition), 6)
        seen = _modulated(h, scale, shift)
        q, k, v = (dense(width, name)(seen).reshape(-1, self.heads, width // self.heads) for name in ('query', 'key', 'value'))
        h = h + gate[None] * dense(width, 'project')(jax.nn.dot_product_attention(q, k, v).reshape(h.shape))
        shift, scale, gate = feed
        seen = _modulated(h, scale, shift)
        return h + gate[None] * dense(width, 'feed_out')(nn.gelu(dense(self.ratio * width, 'feed_in')(seen), approximate=True))


def positions(spatial: Sequence[int], width: int) -> np.ndarray:
    """(2): (patches, width) float32, of a grid of patches."""
    each = width // len(spatial)
    waves = 10000.0 ** (-np.arange(each // 2) / (each // 2))
    angles = [axis.reshape(-1, 1) * waves for axis in np.indices(spatial)[::-1]]
    found = np.concatenate([wave(angle) for angle in angles for wave in (np.sin, np.cos)], axis=1)
    return np.pad(found, ((0, 0), (0, width - found.shape[1]))).astype(np.float32)


def _modulated(h, scale, shift):
    """LN(h) (1 + scale) + shift."""
    centred = h - h.mean(-1, keepdims=True)
    normal = centred * jax.lax.rsqrt(jnp.square(centred).mean(-1, keepdims=True) + 1e-6)
    return normal * (1 + scale)[None] + shift[None]


def _zero(features, name):
    return nn.Dense(features, kernel_init=nn.initializers.zeros, name=name)
