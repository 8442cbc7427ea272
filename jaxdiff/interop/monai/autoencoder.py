"""MONAI's AutoencoderKL as ours.

    spec, params = autoencoder.read(weights by name, spatial_dims=3, ...)
    network = model.make_network(spec)
    posterior = network.apply(params, x, method='encode')       # x (batch, *spatial, channels)
    network.apply(params, posterior.mean, method='decode')

MONAI counts all layers of the encoder in one list, and all of the decoder; its two convolutions to mean and logarithm of the variance are one here.
Names and arguments are those of monai/networks/nets/autoencoderkl.py in MONAI 1.6.
"""

import functools
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from jaxdiff.interop import configuration, matching
from jaxdiff.interop.matching import Entry
from jaxdiff.interop.monai import naming
from jaxdiff.types import Params, UserError

WHAT = 'AutoencoderKL'
DEFAULTS = {
    'spatial_dims': None,
    'in_channels': 1,
    'out_channels': 1,
    'num_res_blocks': (2, 2, 2, 2),
    'channels': (32, 64, 64, 64),
    'attention_levels': (False, False, True, True),
    'latent_channels': 3,
    'norm_num_groups': 32,
    'norm_eps': 1e-6,
    'with_encoder_nonlocal_attn': True,
    'with_decoder_nonlocal_attn': True,
}
FIXED = {'use_convtranspose': (False,), 'include_fc': (True,), 'use_combined_linear': (False,)}
IGNORED = ('use_checkpoint', 'use_flash_attention')
INSIDE = {**naming.RESIDUAL, 'skip': 'nin_shortcut.conv'}
ENDS = {'stem': 'conv', 'head': 'conv', 'halve': 'conv.conv', 'double': 'postconv.conv'}


def read(state: Mapping[str, np.ndarray], **arguments: Any) -> tuple[dict[str, Any], Params]:
    """The specification that `model.make_network` takes, and its parameters, from weights by name and the arguments of AutoencoderKL.

    Raises `UserError` for arguments whose network ours is not, and, in one line that lists them, for weights that are missing, unexpected
    or of another shape.
    """
    return specification(**arguments), naming.read(WHAT, state, *_expected(**arguments))


def shapes(**arguments: Any) -> dict[str, tuple[int, ...]]:
    """The weights that an AutoencoderKL made with these arguments has: name -> shape."""
    return matching.shapes(matching.entries(*_expected(**arguments)))


def specification(**arguments: Any) -> dict[str, Any]:
    """What `model.make_network` takes, from the arguments of AutoencoderKL. Raises `UserError` for what our network has not."""
    naming.needed(WHAT, arguments, 'spatial_dims')
    given = configuration.arguments(f'{WHAT} in MONAI 1.6', arguments, DEFAULTS, FIXED, IGNORED)
    widths = tuple(given['channels'])
    if wrong := [width for width in widths if width % given['norm_num_groups']]:
        raise UserError(f'norm_num_groups={given["norm_num_groups"]}: does not divide {wrong[0]} channels; give the one it was made with')
    return {
        'name': 'autoencoder',
        'bare': True,
        'kind': 'kl',
        'channels': given['out_channels'],
        'latent': given['latent_channels'],
        'bottleneck': given['latent_channels'],
        'dims': given['spatial_dims'],
        'widths': widths,
        'blocks': configuration.each(given['num_res_blocks'], widths, 'num_res_blocks'),
        'extra': 0,
        'attention': tuple(map(bool, configuration.each(given['attention_levels'], widths, 'attention_levels'))),
        'middle': (bool(given['with_encoder_nonlocal_attn']), bool(given['with_decoder_nonlocal_attn'])),
        'groups': given['norm_num_groups'],
        'eps': given['norm_eps'],
    }


def find(path: str, shape: tuple[int, ...], *, order: Mapping[str, list[str]], dims: int) -> Entry:
    """Where a parameter of ours, such as 'params/encoder/level_0_1/conv_in/kernel', comes from; `order` as `_order` has it for both halves."""
    module, _, leaf = path.removeprefix('params/').rpartition('/')
    if module == 'leave':
        half = (*shape[:-1], shape[-1] // 2)
        both = [naming.entry(f'quant_conv_{name}.conv', leaf, half, dims) for name in ('mu', 'log_sigma')]
        return Entry(
            {name: size for each in both for name, size in each.theirs.items()},
            lambda *values: np.concatenate([each.make(value) for each, value in zip(both, values, strict=True)], axis=-1),
        )
    if module == 'enter':
        return naming.entry('post_quant_conv.conv', leaf, shape, dims)
    half, name, *rest = module.split('/')
    layer = f'{half}.blocks.{order[half].index(name)}'
    if rest:
        layer += f'.{(naming.ATTENTION if name.endswith("attention") else INSIDE)[rest[0]]}'
    elif end := ENDS.get(name.split('_')[0]):
        layer += f'.{end}'
    return naming.entry(layer, leaf, shape, dims)


def _order(half: str, blocks: tuple[int, ...], attention: tuple[bool, ...], middle: bool) -> Iterator[str]:
    """Names of our layers in the order in which MONAI lists them."""
    levels, centre = range(len(blocks)), ('middle_0', 'middle_0_attention', 'middle_1') if middle else ()
    encoder = half == 'encoder'
    yield 'stem'
    yield from () if encoder else centre
    for level in levels if encoder else reversed(levels):
        for n in range(blocks[level]):
            yield f'level_{level}_{n}'
            if attention[level]:
                yield f'level_{level}_{n}_attention'
        if encoder and level < levels[-1]:
            yield f'halve_{level}'
        if not encoder and level:
            yield f'double_{level}'
    yield from centre if encoder else ()
    yield 'norm'
    yield 'head'


def _expected(**arguments: Any) -> tuple[Params, naming.Find]:
    spec = specification(**arguments)
    halves = zip(('encoder', 'decoder'), spec['middle'], strict=True)
    order = {half: list(_order(half, spec['blocks'], spec['attention'], middle)) for half, middle in halves}
    return configuration.image_tree(spec, (DEFAULTS | arguments)['in_channels']), functools.partial(find, order=order, dims=spec['dims'])
