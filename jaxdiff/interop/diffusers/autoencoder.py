"""diffusers' AutoencoderKL as ours.

    spec, params = autoencoder.read(weights by name, **config.json)
    network = model.make_network(spec)
    posterior = network.apply(params, x, method='encode')       # x (batch, *spatial, channels)
    network.apply(params, posterior.mean, method='decode')

What its pipelines multiply latents by is no part of the network; `scale` tells it. Names and arguments are those of
diffusers/models/autoencoders/autoencoder_kl.py in diffusers 0.42.
"""

import functools
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxdiff.interop import configuration, matching
from jaxdiff.interop.diffusers import naming
from jaxdiff.interop.matching import Entry
from jaxdiff.types import Params, UserError

WHAT = 'AutoencoderKL'
KINDS = {'DownEncoderBlock2D': 'UpDecoderBlock2D', 'AttnDownEncoderBlock2D': 'AttnUpDecoderBlock2D'}
DEFAULTS = {
    'in_channels': 3,
    'out_channels': 3,
    'down_block_types': ('DownEncoderBlock2D',),
    'up_block_types': ('UpDecoderBlock2D',),
    'block_out_channels': (64,),
    'layers_per_block': 1,
    'latent_channels': 4,
    'norm_num_groups': 32,
}
FIXED = {
    'act_fn': ('silu', 'swish'),
    'use_quant_conv': (True,),
    'use_post_quant_conv': (True,),
    'mid_block_add_attention': (True,),
}
IGNORED = ('sample_size', 'scaling_factor', 'shift_factor', 'latents_mean', 'latents_std', 'force_upcast')
SCALE = 0.18215  # where the configuration has none
MOVED = ('shift_factor', 'latents_mean', 'latents_std')  # pipelines with these do more than to multiply
OUTSIDE = {'stem': 'conv_in', 'norm': 'conv_norm_out', 'head': 'conv_out'}


def read(state: Mapping[str, np.ndarray], **config: Any) -> tuple[dict[str, Any], Params]:
    """The specification that `model.make_network` takes, and its parameters, from weights by name and the configuration of an AutoencoderKL.

    Raises `UserError` for arguments whose network ours is not, and, in one line that lists them, for weights that are missing, unexpected
    or of another shape.
    """
    spec = specification(**config)
    return spec, matching.fill(naming.modern(state), *_expected(**config), f'an {WHAT} of diffusers')


def scale(**config: Any) -> float | None:
    """What pipelines multiply latents by; None where they also move them, which one number cannot say. Raises `UserError` for none above 0."""
    if any(config.get(name) for name in MOVED):
        return None
    found = config.get('scaling_factor', SCALE)
    if isinstance(found, bool) or not isinstance(found, int | float) or not 0 < found < float('inf'):
        raise UserError(f'{WHAT}: scaling_factor={found!r} is not a number above 0; give the one it was made with')
    return float(found)


def shapes(**config: Any) -> dict[str, tuple[int, ...]]:
    """The weights that an AutoencoderKL with this configuration has: name -> shape."""
    return matching.shapes(_expected(**config)[1])


def specification(**config: Any) -> dict[str, Any]:
    """What `model.make_network` takes, from the configuration of an AutoencoderKL. Raises `UserError` for what our network has not."""
    given = configuration.arguments(WHAT, config, DEFAULTS, FIXED, IGNORED)
    widths = tuple(given['block_out_channels'])
    configuration.divides(given['norm_num_groups'], widths, 'norm_num_groups')
    return {
        'name': 'autoencoder',
        'kind': 'kl',
        'channels': given['out_channels'],
        'latent': given['latent_channels'],
        'dims': 2,
        'widths': widths,
        'blocks': configuration.each(given['layers_per_block'], widths, 'layers_per_block'),
        'extra': 1,
        'attention': naming.attends(naming.kinds(given, KINDS)[0]),
        'middle': True,
        'heads': 1,
        'groups': given['norm_num_groups'],
        'eps': 1e-6,
    }


def find(path: str, shape: tuple[int, ...], *, levels: int) -> Entry:
    """Where a parameter of ours, such as 'params/encoder/level_0_1/conv_in/kernel', comes from."""
    module, _, leaf = path.removeprefix('params/').rpartition('/')
    return naming.entry(theirs(module, levels), leaf, shape)


def theirs(module: str, levels: int) -> str:
    """The name in diffusers of a layer of ours, such as 'decoder/middle_0_attention/query'."""
    if module in ('leave', 'enter'):
        return {'leave': 'quant_conv', 'enter': 'post_quant_conv'}[module]
    half, place, *part = module.split('/')
    if place in OUTSIDE:
        return f'{half}.{OUTSIDE[place]}'
    kind, *numbers = place.removesuffix('_attention').split('_')
    level, n = (*map(int, numbers), 0)[:2]
    side = f'down_blocks.{level}' if half == 'encoder' else f'up_blocks.{levels - 1 - level}'
    if kind in ('halve', 'double'):
        return f'{half}.{side}.{kind.replace("halve", "down").replace("double", "up")}samplers.0.conv'
    attends = place.endswith('_attention')
    those, inside = ('attentions', naming.ATTENTION[part[0]]) if attends else ('resnets', naming.RESIDUAL[part[0]])
    if kind == 'middle':
        return f'{half}.mid_block.{those}.{level}.{inside}'
    return f'{half}.{side}.{those}.{n}.{inside}'


def _expected(**config: Any) -> tuple[Params, list[Entry]]:
    """The tree of our parameters, and where each comes from."""
    spec = specification(**config)
    tree = configuration.image_tree(spec, (DEFAULTS | config)['in_channels'])
    return tree, matching.entries(tree, functools.partial(find, levels=len(spec['widths'])))
