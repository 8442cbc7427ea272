"""MONAI's DiffusionModelUNet as a network of ours: the same function of the same weights.

Its weights, by name as its `state_dict()` gives them, and the arguments it was made with are enough:

    spec, params = unet.read({name: value.numpy() for name, value in net.state_dict().items()}, spatial_dims=3, in_channels=1, ...)
    model.make_network(spec).apply(params, x, t)                # x (batch, *spatial, channels): channels last, where MONAI has them first

Its `context` is our `tokens`, its `class_labels` our `label`, and both may be missing here: the class and the token that stand for that are zeros.
Names and arguments are those of monai/networks/nets/diffusion_model_unet.py in MONAI 1.6.
"""

import functools
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxdiff.interop import configuration, matching
from jaxdiff.interop.matching import Entry
from jaxdiff.interop.monai import naming
from jaxdiff.interop.monai.naming import ATTENTION, RESIDUAL
from jaxdiff.types import Params, UserError

WHAT = 'DiffusionModelUNet'
DEFAULTS = {
    'spatial_dims': None,
    'in_channels': None,
    'out_channels': None,
    'num_res_blocks': (2, 2, 2, 2),
    'channels': (32, 64, 64, 64),
    'attention_levels': (False, False, True, True),
    'norm_num_groups': 32,
    'norm_eps': 1e-6,
    'resblock_updown': False,
    'num_head_channels': 8,
    'with_conditioning': False,
    'transformer_num_layers': 1,
    'cross_attention_dim': None,
    'num_class_embeds': None,
}
FIXED = {'use_combined_linear': (False,), 'include_fc': (True,)}
IGNORED = ('upcast_attention', 'dropout_cattn', 'use_flash_attention')

OUTSIDE = {
    'time_in': 'time_embed.0',
    'time_out': 'time_embed.2',
    'stem': 'conv_in.conv',
    'norm': 'out.0',
    'head': 'out.2.conv',
}
TRANSFORMER = {'norm': 'norm', 'enter': 'proj_in.conv', 'project': 'proj_out.conv'}
WITHIN = {  # parts of one of its blocks
    'self_norm': 'norm1',
    'cross_norm': 'norm2',
    'feed_norm': 'norm3',
    'feed_in': 'ff.linear1',
    'feed_out': 'ff.linear2',
    **{
        f'{ours}_{part}': f'{theirs}.{name}'
        for ours, theirs in (('self', 'attn1'), ('cross', 'attn2'))
        for part, name in (('query', 'to_q'), ('key', 'to_k'), ('value', 'to_v'), ('project', 'out_proj'))
    },
}


def read(state: Mapping[str, np.ndarray], **arguments: Any) -> tuple[dict[str, Any], Params]:
    """The specification that `model.make_network` takes, and its parameters, from weights by name and the arguments of DiffusionModelUNet.

    Raises `UserError` for arguments whose network ours is not, and, in one line that lists them, for weights that are missing, unexpected
    or of another shape.
    """
    return specification(**arguments), naming.read(WHAT, state, *_expected(**arguments))


def shapes(**arguments: Any) -> dict[str, tuple[int, ...]]:
    """The weights that a DiffusionModelUNet made with these arguments has: name -> shape."""
    return matching.shapes(matching.entries(*_expected(**arguments)))


def specification(**arguments: Any) -> dict[str, Any]:
    """What `model.make_network` takes, from the arguments of DiffusionModelUNet. Raises `UserError` for what our network has not."""
    naming.needed(WHAT, arguments, 'spatial_dims', 'in_channels', 'out_channels')
    given = configuration.arguments(f'{WHAT} in MONAI 1.6', arguments, DEFAULTS, FIXED, IGNORED)
    widths = tuple(given['channels'])
    per_level = {
        name: configuration.each(given[name], widths, name) for name in ('num_res_blocks', 'attention_levels', 'num_head_channels')
    }
    attends, sizes = tuple(map(bool, per_level['attention_levels'])), per_level['num_head_channels']
    for width, size, attend in zip(widths, sizes, (*attends[:-1], True), strict=True):  # the middle has the heads of the last
        if attend and (not size or width % size):
            raise UserError(
                f'num_head_channels={given["num_head_channels"]}: {width} channels do not split into heads of {size}; give a divisor'
            )
    told = bool(given['with_conditioning'])
    if told and given['norm_eps'] != 1e-6:
        raise UserError(f'norm_eps={given["norm_eps"]}: only networks with norm_eps=1e-06 can be read where with_conditioning=True')
    if told and not given['cross_attention_dim']:
        raise UserError('cross_attention_dim: with_conditioning=True needs it; give the one it was made with')
    return {
        'name': 'unet',
        'design': 'adm' if given['resblock_updown'] else 'ddpm',
        'channels': given['out_channels'],
        'dims': given['spatial_dims'],
        'widths': widths,
        'blocks': per_level['num_res_blocks'],
        'attention': attends,
        'heads': tuple(width // size if size else 1 for width, size in zip(widths, sizes, strict=True)),  # 0: attends nowhere
        'transformer': given['transformer_num_layers'] if told else 0,
        'tokens': given['cross_attention_dim'] if told else 0,
        'labels': given['num_class_embeds'] or 0,
        'groups': given['norm_num_groups'],
        'eps': given['norm_eps'],
    }


def find(path: str, shape: tuple[int, ...], *, levels: int, dims: int) -> Entry:
    """Where a parameter of ours, such as 'params/decode_2_0/attention/query/kernel', comes from."""
    name = path.removeprefix('params/')
    if name == 'null_token':
        return matching.nothing(shape)
    if name == 'label/embedding':
        rows = {'class_embedding.weight': (shape[0] - 1, shape[1])}
        return Entry(rows, lambda table: np.concatenate([table, np.zeros_like(table[:1])]))
    module, _, leaf = name.rpartition('/')
    return naming.entry(theirs(module, levels), leaf, shape, dims)


def theirs(module: str, levels: int) -> str:
    """The name in MONAI of a layer of ours, such as 'decode_2_0/attention/query'."""
    if module in OUTSIDE:
        return OUTSIDE[module]
    place, _, rest = module.partition('/')
    kind, *numbers = place.split('_')
    level, n = (*map(int, numbers), 0)[:2]
    above = levels - 1 - level
    if kind == 'halve':
        return f'down_blocks.{level - 1}.downsampler.{RESIDUAL[rest] if rest else "op.conv"}'
    if kind == 'double':
        return f'up_blocks.{above}.upsampler.{RESIDUAL[rest] if rest else "postconv.conv"}'
    what, _, part = rest.partition('/')
    inside = {'block': RESIDUAL.get, 'attention': ATTENTION.get, 'transformer': _transformer}[what](part)
    if kind == 'middle':
        return f'middle_block.{f"resnet_{level + 1}" if what == "block" else "attention"}.{inside}'
    block = f'down_blocks.{level}' if kind == 'encode' else f'up_blocks.{above}'
    return f'{block}.{"resnets" if what == "block" else "attentions"}.{n}.{inside}'


def _transformer(part: str) -> str:
    block, _, within = part.partition('/')
    return f'transformer_blocks.{block.removeprefix("block_")}.{WITHIN[within]}' if within else TRANSFORMER[part]


def _expected(**arguments: Any) -> tuple[Params, naming.Find]:
    """The tree of our parameters, and where each comes from."""
    spec = specification(**arguments)
    found = functools.partial(find, levels=len(spec['widths']), dims=spec['dims'])
    return configuration.image_tree(spec, arguments['in_channels'], configuration.time), found
