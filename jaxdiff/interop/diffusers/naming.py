"""What the networks of diffusers have in common: how their layers and arrays are called, and what of their U-Nets' configurations can be read.

Convolutions of size 1 are matrices here. Attention of old files is called otherwise than that of new ones, of which `modern` makes them.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxdiff.interop import configuration, matching
from jaxdiff.interop.matching import Entry
from jaxdiff.types import UserError

RESIDUAL = {  # parts of a residual block: ours to theirs
    'norm_in': 'norm1',
    'conv_in': 'conv1',
    'embedding': 'time_emb_proj',
    'norm_out': 'norm2',
    'conv_out': 'conv2',
    'skip': 'conv_shortcut',
}
PROJECTIONS = {'query': 'to_q', 'key': 'to_k', 'value': 'to_v', 'project': 'to_out.0'}
ATTENTION = {'norm': 'group_norm', **PROJECTIONS}
OUTSIDE = {
    'time_in': 'time_embedding.linear_1',
    'time_out': 'time_embedding.linear_2',
    'stem': 'conv_in',
    'norm': 'conv_norm_out',
    'head': 'conv_out',
}
TRANSFORMER = {'norm': 'norm', 'enter': 'proj_in', 'project': 'proj_out'}
WITHIN = {  # parts of one of its blocks
    'self_norm': 'norm1',
    'cross_norm': 'norm2',
    'feed_norm': 'norm3',
    'feed_in': 'ff.net.0.proj',
    'feed_out': 'ff.net.2',
    **{
        f'{ours}_{part}': f'{theirs}.{name}'
        for ours, theirs in (('self', 'attn1'), ('cross', 'attn2'))
        for part, name in PROJECTIONS.items()
    },
}
CONVOLUTIONS = ('conv_shortcut', 'quant_conv', 'post_quant_conv', 'proj_in', 'proj_out')  # of size 1

DEFAULTS = {  # of what both of their U-Nets are told
    'flip_sin_to_cos': True,
    'freq_shift': 0,
    'layers_per_block': 2,
    'downsample_padding': 1,
    'dropout': 0.0,
    'attention_head_dim': 8,
    'norm_num_groups': 32,
    'norm_eps': 1e-5,
    'resnet_time_scale_shift': 'default',
    'num_class_embeds': None,
    'time_embedding_dim': None,
}
FIXED = {
    'center_input_sample': (False,),
    'time_embedding_type': ('positional',),
    'mid_block_scale_factor': (1,),
    'act_fn': ('silu', 'swish'),
    'class_embed_type': (None,),
}
SINUSOIDS = {(True, 0): 'openai', (False, 1): 'ho'}  # flip_sin_to_cos, freq_shift
NORMS = {'default': 'add', 'scale_shift': 'adaptive'}
PADS = {1: 'both', 0: 'end'}
OLD = {'query': 'to_q', 'key': 'to_k', 'value': 'to_v', 'proj_attn': 'to_out.0'}
_OLD = re.compile(r'(?<=\.)(query|key|value|proj_attn)(?=\.(?:weight|bias)$)')


def modern(state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The same weights with attention called as it is today."""
    return {_OLD.sub(lambda found: OLD[found[1]], name): value for name, value in state.items()}


def entry(layer: str, leaf: str, shape: tuple[int, ...], linear: bool = False) -> Entry:
    """The kernel, bias, gain or table of the layer that diffusers calls `layer`; with `linear` all matrices there are matrices."""
    if leaf == 'kernel':
        return matching.kernel(f'{layer}.weight', shape, 2 if layer.endswith(CONVOLUTIONS) and not linear else 0)
    return matching.same(f'{layer}.{"bias" if leaf == "bias" else "weight"}', shape)


def find(path: str, shape: tuple[int, ...], *, levels: int, linear: bool = False) -> Entry:
    """Where a parameter of our U-Net, such as 'params/decode_2_0/attention/query/kernel', comes from; `linear` as the transformers' projections."""
    name = path.removeprefix('params/')
    if name == 'null_token':
        return matching.nothing(shape)
    if name == 'label/embedding':
        rows = {'class_embedding.weight': (shape[0] - 1, shape[1])}
        return Entry(rows, lambda table: np.concatenate([table, np.zeros_like(table[:1])]))
    module, _, leaf = name.rpartition('/')
    return entry(theirs(module, levels), leaf, shape, linear and '/transformer/' in name)


def theirs(module: str, levels: int) -> str:
    """The name in diffusers of a layer of our U-Net, such as 'decode_2_0/attention/query'."""
    if module in OUTSIDE:
        return OUTSIDE[module]
    place, _, rest = module.partition('/')
    kind, *numbers = place.split('_')
    level, n = (*map(int, numbers), 0)[:2]
    above = levels - 1 - level
    if kind == 'halve':
        return f'down_blocks.{level - 1}.downsamplers.0.{RESIDUAL[rest] if rest else "conv"}'
    if kind == 'double':
        return f'up_blocks.{above}.upsamplers.0.{RESIDUAL[rest] if rest else "conv"}'
    what, _, part = rest.partition('/')
    inside = {'block': RESIDUAL.get, 'attention': ATTENTION.get, 'transformer': _transformer}[what](part)
    those = 'resnets' if what == 'block' else 'attentions'
    if kind == 'middle':
        return f'mid_block.{those}.{level if what == "block" else 0}.{inside}'
    block = f'down_blocks.{level}' if kind == 'encode' else f'up_blocks.{above}'
    return f'{block}.{those}.{n}.{inside}'


def _transformer(part: str) -> str:
    block, _, within = part.partition('/')
    return f'transformer_blocks.{block.removeprefix("block_")}.{WITHIN[within]}' if within else TRANSFORMER[part]


def shared(given: Mapping[str, Any]) -> dict[str, Any]:
    """What the configurations of both of their U-Nets say alike. Raises `UserError` for what our network has not."""
    widths = tuple(given['block_out_channels'])
    configuration.divides(given['norm_num_groups'], widths, 'norm_num_groups')
    if given['time_embedding_dim'] not in (None, 4 * widths[0]):
        raise UserError(
            f'time_embedding_dim={given["time_embedding_dim"]}: only networks with {4 * widths[0]} can be read; take another one'
        )
    order = given['flip_sin_to_cos'], given['freq_shift']
    return {
        'name': 'unet',
        'channels': given['out_channels'],
        'dims': 2,
        'widths': widths,
        'blocks': configuration.each(given['layers_per_block'], widths, 'layers_per_block'),
        'norm': chosen(NORMS, given['resnet_time_scale_shift'], 'resnet_time_scale_shift'),
        'sinusoid': chosen(SINUSOIDS, order, 'flip_sin_to_cos, freq_shift'),
        'pad': chosen(PADS, given['downsample_padding'], 'downsample_padding'),
        'labels': given['num_class_embeds'] or 0,
        'groups': given['norm_num_groups'],
        'eps': given['norm_eps'],
        'dropout': given['dropout'],
    }


def chosen(choices: Mapping, value: Any, name: str) -> Any:
    """What a value of theirs is called here. Raises `UserError` for another one."""
    if value not in choices:
        raise UserError(f'{name}={value}: only networks with one of {", ".join(map(str, choices))} can be read; take another one')
    return choices[value]


def kinds(given: Mapping[str, Any], known: Mapping[str, str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Blocks of the encoder and of the decoder at each resolution, the full one first, that attend at the same ones.

    `known` has the names of the encoder's blocks and those of the decoder's. Raises `UserError` for others.
    """
    widths = given['block_out_channels']
    down = configuration.each(given['down_block_types'], widths, 'down_block_types')
    up = tuple(reversed(configuration.each(given['up_block_types'], widths, 'up_block_types')))
    for name, found, allowed in (('down_block_types', down, list(known)), ('up_block_types', up, list(known.values()))):
        if wrong := [kind for kind in found if kind not in allowed]:
            raise UserError(f'{name}: {wrong[0]} cannot be read, only {", ".join(allowed)}; take another network')
    if attends(down) != attends(up):
        raise UserError(
            'up_block_types: attend at other resolutions than down_block_types; only networks that attend at the same can be read'
        )
    return down, up


def attends(kinds: Sequence[str]) -> tuple[bool, ...]:
    """Which of these blocks attend, by name."""
    return tuple('Attn' in kind for kind in kinds)
