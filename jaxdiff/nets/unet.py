"""The U-Net of diffusion models, in one, two or three dimensions.

    encoder, level l:  h <- block(h), attention; each result kept; then halve the resampled axes, widths[l] -> widths[l+1]
    middle:            h <- block(h), attention, block(h)
    decoder, level l:  h <- block(join(h, kept)), attention; then double the axes, widths[l] -> widths[l-1]

With e the embedding of time and condition, `norm` includes the silu, and conv0 starts at zero:

    norm='add':        block(x) = skip(x) + conv0(norm(conv(norm(x)) + linear(e)))                        (1)
    norm='adaptive':   block(x) = skip(x) + conv0(norm(conv(norm(x)), scale and shift linear in e))       (2)

The projections of attention and the output start at zero too: a new network returns exactly 0, a new block its skip path.
After Ho, Jain & Abbeel 2020 ("Denoising diffusion probabilistic models") and Dhariwal & Nichol 2021 ("Diffusion models beat GANs");
cheaper than theirs in that a decoder level has as many blocks as its encoder level, and that axes are halved by a convolution whose
size is its stride and doubled by a 1x1 convolution and repetition.
"""

import itertools
import math
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxdiff.nets import layers
from jaxdiff.types import Array


class Block(nn.Module):
    """Equations (1) and (2): x (*spatial, c), embedding (e,) float32 -> (*spatial, features)."""

    features: int
    norm: str = 'add'
    groups: int | None = None
    dropout: float = 0.0
    dtype: str = 'float32'

    @nn.compact
    def __call__(self, x: Array, embedding: Array, dropout_key: Array | None = None) -> Array:
        adaptive = self.norm == 'adaptive'
        linear = nn.Dense(self.features * (2 if adaptive else 1), name='embedding')(nn.silu(embedding))
        h = layers.Conv(self.features, dtype=self.dtype, name='conv_in')(layers.GroupNorm(self.groups, name='norm_in')(x))
        norm = layers.GroupNorm(self.groups, name='norm_out')
        h = norm(h, jnp.split(linear, 2)) if adaptive else norm(h + layers.per_channel(linear.astype(h.dtype), h))
        h = layers.dropout(h, self.dropout, dropout_key)
        skip = x if x.shape[-1] == self.features else nn.Dense(self.features, dtype=self.dtype, name='skip')(x)
        return skip + layers.Conv(self.features, zero=True, dtype=self.dtype, name='conv_out')(h)


class Stage(nn.Module):
    """A block, then attention among the pixels and from the pixels to the tokens where `heads` is not 0."""

    features: int
    heads: int = 0
    norm: str = 'add'
    groups: int | None = None
    dropout: float = 0.0
    dtype: str = 'float32'

    @nn.compact
    def __call__(self, x: Array, embedding: Array, tokens: Array | None, dropout_key: Array | None) -> Array:
        h = Block(self.features, self.norm, self.groups, self.dropout, self.dtype, name='block')(x, embedding, dropout_key)
        if self.heads:
            h = layers.Attention(self.heads, self.groups, self.dtype, name='attention')(h)
            if tokens is not None:
                h = layers.Attention(self.heads, self.groups, self.dtype, name='cross_attention')(h, tokens)
        return h


class UNet(nn.Module):
    """(x, t) -> array like x with `channels` channels; twice as many with `learned_variance`, of which the first half is the prediction.

    Every field is JSON, and `UNet(**json.loads(text))` rebuilds the network (lists become tuples). A condition is missing when it is
    not given, and missing for one example, or in part, where its label is `labels` and its entries are NaN; see `null`.

    Attributes:
        channels: of the prediction.
        widths: channels at each resolution, the full one first.
        blocks: residual blocks per resolution, in the encoder and again in the decoder.
        attention: whether each resolution attends; the middle does where the last one does. () is nowhere.
        heads: of attention.
        dims: number of spatial axes, 1 to 3.
        patch: size (or size per axis) of the patches that become channels at the stem and pixels again at the head.
        resample: which axes are halved, such as (True, True, False) to keep the depth, or one such tuple per halving; None is all.
        skip: 'concat', or 'average' of the two.
        norm: 'add', equation (1), or 'adaptive', equation (2).
        groups: of the group norms; None is `layers.groups_of` the width.
        learned_variance: whether to return a second set of channels.
        coordinates: whether the network sees the position of each pixel, -1 to 1 along each axis.
        labels: number of classes of `label`, 0 for none.
        vector: length of `vector`, 0 for none.
        tokens: width of each of the `tokens`, 0 for none; seen where there is attention.
        image: channels of `image`, 0 for none.
        remat: whether each resolution recomputes its stages in the backward pass instead of storing them. () is nowhere.
        dropout: rate within the blocks, where a key is given.
        dtype: of convolutions and products; parameters, norms, softmax, embedding and output are float32.
    """

    channels: int
    widths: Sequence[int] = (32, 64, 96)
    blocks: int = 2
    attention: Sequence[bool] = (False, False, True)
    heads: int = 4
    dims: int = 2
    patch: int | Sequence[int] = 1
    resample: Sequence[bool] | Sequence[Sequence[bool]] | None = None
    skip: str = 'concat'
    norm: str = 'add'
    groups: int | None = None
    learned_variance: bool = False
    coordinates: bool = False
    labels: int = 0
    vector: int = 0
    tokens: int = 0
    image: int = 0
    remat: Sequence[bool] = ()
    dropout: float = 0.0
    dtype: str = 'float32'

    def __post_init__(self):
        for name in ('widths', 'attention', 'patch', 'resample', 'remat'):
            object.__setattr__(self, name, _tuples(getattr(self, name)))
        for name in ('attention', 'remat'):
            if len(getattr(self, name)) not in (0, len(self.widths)):
                raise ValueError(f'UNet: {name}={getattr(self, name)} needs an entry for each of the widths {self.widths}, or ()')
        if self.skip not in ('concat', 'average') or self.norm not in ('add', 'adaptive'):
            raise ValueError(f"UNet: skip={self.skip!r} is 'concat' or 'average', norm={self.norm!r} is 'add' or 'adaptive'")
        if self.tokens and not any(self.attention):
            raise ValueError('UNet: tokens are seen by attention, but no resolution attends')
        super().__post_init__()

    @nn.nowrap
    def patches(self) -> tuple[int, ...]:
        """Patch size per axis."""
        return self.patch if isinstance(self.patch, tuple) else (self.patch,) * self.dims

    @nn.nowrap
    def strides(self) -> list[tuple[int, ...]]:
        """For each halving, 2 for the axes that are halved and 1 for the others."""
        halvings = len(self.widths) - 1
        axes = self.resample or (True,) * self.dims
        each = axes if isinstance(axes[0], tuple) else (axes,) * halvings
        return [tuple(2 if halve else 1 for halve in level) for level in each]

    @nn.nowrap
    def factor(self) -> tuple[int, ...]:
        """What the size of each axis must be divisible by."""
        return tuple(map(math.prod, zip(self.patches(), *self.strides(), strict=True)))

    @nn.nowrap
    def null(self, **conditions: Array) -> dict[str, Array]:
        """The same conditions, all missing: what training drops to and classifier-free guidance subtracts."""
        return {name: jnp.full_like(value, self.labels if name == 'label' else jnp.nan) for name, value in conditions.items()}

    @nn.compact
    def __call__(
        self,
        x: Array,
        t: Array,
        *,
        label: Array | None = None,
        vector: Array | None = None,
        tokens: Array | None = None,
        image: Array | None = None,
        dropout_key: Array | None = None,
    ) -> Array:
        """x (batch, *spatial, c), t (batch,), label (batch,) integers up to `labels`, vector (batch, `vector`),
        tokens (batch, n, `tokens`), image (batch, *spatial, `image`), dropout_key one key -> (batch, *spatial, channels) float32.

        Raises ValueError for sizes that `factor` does not divide, and for a condition that the fields do not announce.
        """
        if x.ndim != self.dims + 2 or t.shape != x.shape[:1]:
            raise ValueError(f'UNet: x {x.shape} and t {t.shape} are not (batch, {self.dims} axes, channels) and (batch,)')
        spatial = x.shape[1:-1]
        if any(size % factor for size, factor in zip(spatial, self.factor(), strict=True)):
            raise ValueError(f'UNet: sizes {spatial} are not divisible by {self.factor()} (patch times downsampling); pad or crop')
        arguments = {'x': x, 't': t, 'label': label, 'vector': vector, 'tokens': tokens, 'image': image, 'dropout_key': dropout_key}
        for name, field in (('label', 'labels'), ('vector', 'vector'), ('tokens', 'tokens'), ('image', 'image')):
            if arguments[name] is not None and not getattr(self, field):
                raise ValueError(f'UNet: {name} was given to a network with {field}=0')
        if dropout_key is not None:
            arguments['dropout_key'] = jax.random.split(dropout_key, x.shape[0])
        if x.shape[0] == 1:  # under an outer vmap over examples, an axis of 1 in every array would cost XLA on CPU a tenth of its speed
            return self._example(jax.tree.map(lambda a: a[0], arguments))[None]
        return nn.vmap(UNet._example, variable_axes={'params': None}, split_rngs={'params': False})(self, arguments)

    def _example(self, arguments):
        x, dropout_key = arguments['x'], arguments['dropout_key']
        spatial = x.shape[:-1]
        embedding = self._embed(arguments['t'], arguments['label'], arguments['vector'])
        tokens = arguments['tokens']
        if self.tokens:
            null = self.param('null_token', nn.initializers.normal(1.0), (1, self.tokens))
            tokens = null if tokens is None else jnp.where(jnp.isnan(tokens), null, tokens)
        keys = (None if dropout_key is None else jax.random.fold_in(dropout_key, n) for n in itertools.count())

        def stage(name, level, h, attend=True):
            kind = nn.remat(Stage) if self.remat and self.remat[level] else Stage
            heads = self.heads if attend and self.attention and self.attention[level] else 0
            make = kind(self.widths[level], heads, self.norm, self.groups, self.dropout, self.dtype, name=name)
            return make(h, embedding, tokens, next(keys))

        def join(h, kept):
            return jnp.concatenate([h, kept], axis=-1) if self.skip == 'concat' else (h + kept) / 2

        inputs = [x]
        if self.image:
            inputs += [_flagged(arguments['image'], (*spatial, self.image))]
        if self.coordinates:
            inputs += [layers.coordinates(spatial)]
        h = layers.fold(jnp.concatenate(inputs, axis=-1), self.patches())
        h = layers.Conv(self.widths[0], dtype=self.dtype, name='stem')(h)
        kept = []
        last = len(self.widths) - 1
        strides = self.strides()
        for level in range(last + 1):
            if level:
                stride = strides[level - 1]
                h = layers.Conv(self.widths[level], stride, stride, dtype=self.dtype, name=f'halve_{level}')(h)
            for n in range(self.blocks):
                h = stage(f'encode_{level}_{n}', level, h)
                kept.append(h)
        h = stage('middle_0', last, h)
        h = stage('middle_1', last, h, attend=False)
        for level in reversed(range(last + 1)):
            for n in range(self.blocks):
                h = stage(f'decode_{level}_{n}', level, join(h, kept.pop()))
            if level:
                h = layers.nearest(nn.Dense(self.widths[level - 1], dtype=self.dtype, name=f'double_{level}')(h), strides[level - 1])
        outputs = self.channels * (2 if self.learned_variance else 1) * math.prod(self.patches())
        h = layers.Conv(outputs, zero=True, name='head')(layers.GroupNorm(self.groups, name='norm')(h))
        return layers.unfold(h, self.patches())

    def _embed(self, t, label, vector):
        width = 4 * self.widths[0]

        def perceptron(name, x):
            return nn.Dense(width, name=f'{name}_out')(nn.silu(nn.Dense(width, name=f'{name}_in')(x)))

        embedding = perceptron('time', layers.sinusoid(t, self.widths[0]))
        if self.labels:
            embedding += nn.Embed(self.labels + 1, width, name='label')(jnp.asarray(self.labels) if label is None else label)
        if self.vector:
            embedding += perceptron('vector', _flagged(vector, (self.vector,)))
        return embedding


def _tuples(value):
    return tuple(map(_tuples, value)) if isinstance(value, list | tuple) else value


def _flagged(x, shape):
    """(..., c) -> (..., 2 c): the entries with 0 for NaN, then 1 where they were NaN; all missing if x is None."""
    x = jnp.full(shape, jnp.nan) if x is None else x
    missing = jnp.isnan(x)
    return jnp.concatenate([jnp.where(missing, 0.0, x), missing.astype(x.dtype)], axis=-1)
