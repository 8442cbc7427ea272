"""The U-Net of diffusion models, in one, two or three dimensions.

    encoder, level l:  h <- block(h), attention; each result kept; then halve the resampled axes
    middle:            h <- block(h), attention, block(h)
    decoder, level l:  h <- block(join(h, kept)), attention; then double the axes

Blocks are those of `nets.blocks`. The output starts at zero: a new network returns exactly 0. Three designs:

    'ddpm'   what enters a level of the encoder is kept too, for one more block in the decoder; axes are halved by a convolution of size 3
             and doubled by repetition and such a convolution; the middle always attends
    'adm'    the same, but that blocks halve and double: within them means of 2 pixels, or repetition, stand before the first convolution and
             on the skip path
    'light'  cheaper: as many blocks in the decoder as in the encoder; axes are halved by a convolution whose size is its stride and
             doubled by a 1x1 convolution and repetition, which change the width; the middle attends where the last level does

After Ho, Jain & Abbeel 2020 ("Denoising diffusion probabilistic models"), and Dhariwal & Nichol 2021 ("Diffusion models beat GANs").
"""

import itertools
import math
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxdiff.nets import folding, layers
from jaxdiff.nets.blocks import Block, Stage
from jaxdiff.nets.conditions import flagged
from jaxdiff.types import Array

CHOICES = {
    'design': ('light', 'ddpm', 'adm'),
    'skip': ('concat', 'average'),
    'norm': ('add', 'adaptive'),
    'sinusoid': ('openai', 'ho'),
    'pad': ('both', 'end'),
}


class UNet(nn.Module):
    """(x, t) -> array like x with `channels` channels; twice as many with `learned_variance`, of which the first half is the prediction.

    Every field is JSON, and `UNet(**json.loads(text))` rebuilds the network (lists become tuples). A condition is missing when it is
    not given, and missing for one example, or in part, where its label is `labels` and its entries are NaN; see `null`.

    Attributes:
        channels: of the prediction.
        widths: channels at each resolution, the full one first.
        blocks: residual blocks of the encoder at every resolution, or at each.
        design: 'light', 'ddpm' or 'adm', see above.
        attention: whether each resolution attends. () is nowhere.
        heads: of attention, or as many for each resolution.
        transformer: blocks of the `SpatialTransformer` that takes the place of attention, 0 for none.
        dims: number of spatial axes, 1 to 3.
        patch: size (or size per axis) of patches, which become channels at the stem and pixels again at the head.
        resample: which axes are halved, such as (True, True, False) to keep the depth, or one such tuple per halving; None is all.
        skip: 'concat', or 'average' of the two.
        norm: 'add' or 'adaptive', see `nets.blocks`.
        groups, eps: of the group norms; None is `layers.groups_of` the width.
        learned_variance: whether to return a second set of channels.
        coordinates: whether the network sees the position of each pixel, -1 to 1 along each axis.
        labels: number of classes of `label`, 0 for none.
        vector: length of `vector`, 0 for none.
        tokens: width of each of the `tokens`, 0 for none; seen where there is attention.
        joint: whether tokens stand among the pixels that attention sees, or in a layer of their own, see `layers.Attention`.
        image: channels of `image`, 0 for none.
        remat: whether each resolution recomputes its stages in the backward pass instead of storing them. () is nowhere.
        dropout: rate within the blocks, where a key is given.
        sinusoid: order of the sinusoids of the time, 'openai' or 'ho', see `layers`.
        pad: where 'ddpm' puts zeros when it halves, at 'both' ends or at the 'end'.
        dtype: of convolutions and products; parameters, norms, softmax, embedding and output are float32.
    """

    channels: int
    widths: Sequence[int] = (32, 64, 96)
    blocks: int | Sequence[int] = 2
    design: str = 'light'
    attention: Sequence[bool] = (False, False, True)
    heads: int | Sequence[int] = 4
    transformer: int = 0
    dims: int = 2
    patch: int | Sequence[int] = 1
    resample: Sequence[bool] | Sequence[Sequence[bool]] | None = None
    skip: str = 'concat'
    norm: str = 'add'
    groups: int | None = None
    eps: float = 1e-5
    learned_variance: bool = False
    coordinates: bool = False
    labels: int = 0
    vector: int = 0
    tokens: int = 0
    joint: bool = False
    image: int = 0
    remat: Sequence[bool] = ()
    dropout: float = 0.0
    dtype: str = 'float32'
    sinusoid: str = 'openai'
    pad: str = 'both'

    def __post_init__(self):
        for name in ('widths', 'blocks', 'attention', 'heads', 'patch', 'resample', 'remat'):
            object.__setattr__(self, name, _tuples(getattr(self, name)))
        for name in ('blocks', 'attention', 'heads', 'remat'):
            value = getattr(self, name)
            if isinstance(value, tuple) and len(value) != len(self.widths) and (value or name in ('blocks', 'heads')):
                raise ValueError(f'UNet: {name}={value} needs an entry for each of the widths {self.widths}')
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                raise ValueError(f'UNet: {name}={getattr(self, name)!r} is one of {choices}')
        if self.design != 'light' and self.skip == 'average':
            raise ValueError(f"UNet: skip='average' needs maps of one width, which design='{self.design}' does not join")
        if self.tokens and not any(self.attention):
            raise ValueError('UNet: tokens are seen by attention, but no resolution attends')
        if self.joint and (self.transformer or not self.tokens):
            raise ValueError(
                'UNet: joint attention is of tokens and pixels, and not of a spatial transformer; give tokens, or transformer=0'
            )
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
    def _each(self, name: str) -> tuple[int, ...]:
        """A field that may be one value for all resolutions, or () for nowhere, with an entry for each."""
        value = getattr(self, name)
        return value if isinstance(value, tuple) and value else (value or False,) * len(self.widths)

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
        control: Sequence[Array] | None = None,
    ) -> Array:
        """x (batch, *spatial, c), t (batch,), label (batch,) integers up to `labels`, vector (batch, `vector`),
        tokens (batch, n, `tokens`), image (batch, *spatial, `image`), dropout_key one key -> (batch, *spatial, channels) float32.

        `control` is added to what the encoder keeps, in its order, and to what the middle makes: see `nets.control`.
        Raises ValueError for sizes that `factor` does not divide, and for a condition that the fields do not announce.
        """
        told = {'label': label, 'vector': vector, 'tokens': tokens, 'image': image, 'dropout_key': dropout_key, 'control': control}
        return self._over_examples({'x': x, 't': t, **told})

    def _over_examples(self, arguments):
        """`_example` of every example; `arguments` by name, with a leading axis, those that are missing None."""
        x, t, dropout_key = (arguments[name] for name in ('x', 't', 'dropout_key'))
        if x.ndim != self.dims + 2 or t.shape != x.shape[:1]:
            raise ValueError(f'UNet: x {x.shape} and t {t.shape} are not (batch, {self.dims} axes, channels) and (batch,)')
        spatial = x.shape[1:-1]
        if any(size % factor for size, factor in zip(spatial, self.factor(), strict=True)):
            raise ValueError(f'UNet: sizes {spatial} are not divisible by {self.factor()} (patch times downsampling); pad or crop')
        for name, field in (('label', 'labels'), ('vector', 'vector'), ('tokens', 'tokens'), ('image', 'image')):
            if arguments[name] is not None and not getattr(self, field):
                raise ValueError(f'UNet: {name} was given to a network with {field}=0')
        if dropout_key is not None:
            arguments = {**arguments, 'dropout_key': jax.random.split(dropout_key, x.shape[0])}
        if x.shape[0] == 1:  # under an outer vmap over examples, an axis of 1 in every array would cost XLA on CPU a tenth of its speed
            return jax.tree.map(lambda a: a[None], self._example(jax.tree.map(lambda a: a[0], arguments)))
        return nn.vmap(type(self)._example, variable_axes={'params': None}, split_rngs={'params': False})(self, arguments)

    def _example(self, arguments):
        h = self._enter(arguments)
        stage = self._stages(arguments)
        kept, h = self._encode(h, stage)
        if arguments['control'] is not None:
            *more, middle = arguments['control']
            kept, h = [each + added for each, added in zip(kept, more, strict=True)], h + middle
        return self._leave(self._decode(h, kept, stage))

    def _enter(self, arguments):
        """The stem."""
        x = arguments['x']
        image = [flagged(arguments['image'], (*x.shape[:-1], self.image))] if self.image else []
        position = [layers.coordinates(x.shape[:-1])] if self.coordinates else []
        h = folding.fold(jnp.concatenate([x, *image, *position], axis=-1), self.patches())
        return layers.Conv(self.widths[0], dtype=self.dtype, name='stem')(h)

    def _stages(self, arguments):
        """(name, level, h, whether it attends, resize) -> a stage's answer, told the time and the conditions; a block that resizes never attends."""
        tokens, dropout_key = arguments['tokens'], arguments['dropout_key']
        embedding = self._embed(arguments['t'], arguments['label'], arguments['vector'])
        if self.tokens:
            null = self.param('null_token', nn.initializers.normal(1.0), (1, self.tokens))
            tokens = null if tokens is None else jnp.where(jnp.isnan(tokens), null, tokens)
        keys = (None if dropout_key is None else jax.random.fold_in(dropout_key, n) for n in itertools.count())

        def stage(name, level, h, attend, resize=None):
            wrap = nn.remat if self._each('remat')[level] else lambda kind: kind
            common = self.norm, self.groups, self.eps, self.dropout, self.dtype
            if resize:
                return wrap(Block)(self.widths[level], *common, resize, name=name)(h, embedding, next(keys))
            heads = self._each('heads')[level] if attend else 0
            return wrap(Stage)(self.widths[level], heads, self.transformer, *common, self.joint, name=name)(
                h, embedding, tokens, next(keys)
            )

        return stage

    @nn.nowrap
    def _levels(self):
        """(level, blocks, whether it attends) of each resolution."""
        return list(zip(range(len(self.widths)), self._each('blocks'), self._each('attention'), strict=True))

    def _encode(self, h, stage):
        """What is kept for the decoder, and what the middle makes of the last."""
        full, kept = self.design != 'light', []
        for level, blocks, attend in self._levels():
            h = self._halve(h, level, stage) if level else h
            kept += [h] if full else []
            for n in range(blocks):
                h = stage(f'encode_{level}_{n}', level, h, attend)
                kept.append(h)
        h = stage('middle_0', level, h, attend or full)
        return kept, stage('middle_1', level, h, False)

    def _decode(self, h, kept, stage):
        def join(h, kept):
            return jnp.concatenate([h, kept], axis=-1) if self.skip == 'concat' else (h + kept) / 2

        kept = list(kept)
        for level, blocks, attend in reversed(self._levels()):
            for n in range(blocks + (self.design != 'light')):
                h = stage(f'decode_{level}_{n}', level, join(h, kept.pop()), attend)
            h = self._double(h, level, stage) if level else h
        return h

    def _leave(self, h):
        """The head."""
        outputs = self.channels * (2 if self.learned_variance else 1) * math.prod(self.patches())
        h = layers.Conv(outputs, zero=True, name='head')(layers.GroupNorm(self.groups, eps=self.eps, name='norm')(h))
        return folding.unfold(h, self.patches())

    def _halve(self, h, level, stage):
        stride, name = self.strides()[level - 1], f'halve_{level}'
        if self.design == 'adm':
            return stage(name, level - 1, h, False, lambda h: layers.mean_pool(h, stride))
        if self.design == 'ddpm':
            return layers.Conv(self.widths[level - 1], None, stride, dtype=self.dtype, pad=self.pad, name=name)(h)
        return layers.Conv(self.widths[level], stride, stride, dtype=self.dtype, name=name)(h)

    def _double(self, h, level, stage):
        stride, name = self.strides()[level - 1], f'double_{level}'
        if self.design == 'adm':
            return stage(name, level, h, False, lambda h: layers.nearest(h, stride))
        if self.design == 'ddpm':
            return layers.Conv(self.widths[level], dtype=self.dtype, name=name)(layers.nearest(h, stride))
        return layers.nearest(layers.Dense(self.widths[level - 1], self.dtype, name=name)(h), stride)

    def _embed(self, t, label, vector):
        width = 4 * self.widths[0]

        def perceptron(name, x):
            return nn.Dense(width, name=f'{name}_out')(nn.silu(nn.Dense(width, name=f'{name}_in')(x)))

        embedding = perceptron('time', layers.sinusoid(t, self.widths[0], self.sinusoid))
        if self.labels:
            of_labels = nn.Embed(self.labels + 1, width, embedding_init=nn.initializers.normal(1.0), name='label')
            embedding += of_labels(jnp.asarray(self.labels) if label is None else label)
        if self.vector:
            embedding += perceptron('vector', flagged(vector, (self.vector,)))
        return embedding


def _tuples(value):
    return tuple(map(_tuples, value)) if isinstance(value, list | tuple) else value
