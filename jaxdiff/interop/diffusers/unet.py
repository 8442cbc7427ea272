"""diffusers' UNet2DModel as a network of ours: the same function of the same weights.

    spec, params = unet.read(weights by name, **config.json)
    model.make_network(spec).apply(params, x, t)                # x (batch, *spatial, channels): channels last

Its `class_labels` are our `label`, which may be missing here: the class that stands for that is zeros. Its middle attends without a norm where
`resnet_time_scale_shift` is 'scale_shift' and nothing else is said; such a network is refused. Names and arguments are those of
diffusers/models/unets/unet_2d.py in diffusers 0.42.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxdiff.interop import configuration, matching
from jaxdiff.interop.diffusers import naming
from jaxdiff.interop.matching import Entry
from jaxdiff.types import Params, UserError

WHAT = 'UNet2DModel'
KINDS = {
    'DownBlock2D': 'UpBlock2D',
    'AttnDownBlock2D': 'AttnUpBlock2D',
    'ResnetDownsampleBlock2D': 'ResnetUpsampleBlock2D',
}
DEFAULTS = {
    **naming.DEFAULTS,
    'in_channels': 3,
    'out_channels': 3,
    'down_block_types': ('DownBlock2D', 'AttnDownBlock2D', 'AttnDownBlock2D', 'AttnDownBlock2D'),
    'up_block_types': ('AttnUpBlock2D', 'AttnUpBlock2D', 'AttnUpBlock2D', 'UpBlock2D'),
    'block_out_channels': (224, 448, 672, 896),
    'downsample_type': 'conv',
    'upsample_type': 'conv',
    'attn_norm_num_groups': None,
}
FIXED = {**naming.FIXED, 'mid_block_type': ('UNetMidBlock2D',), 'add_attention': (True,)}
IGNORED = ('sample_size', 'num_train_timesteps')


def read(state: Mapping[str, np.ndarray], **config: Any) -> tuple[dict[str, Any], Params]:
    """The specification that `model.make_network` takes, and its parameters, from weights by name and the configuration of a UNet2DModel.

    Raises `UserError` for arguments whose network ours is not, and, in one line that lists them, for weights that are missing, unexpected
    or of another shape.
    """
    spec = specification(**config)
    return spec, matching.fill(naming.modern(state), *_expected(**config), f'a {WHAT} of diffusers')


def shapes(**config: Any) -> dict[str, tuple[int, ...]]:
    """The weights that a UNet2DModel with this configuration has: name -> shape."""
    return matching.shapes(_expected(**config)[1])


def specification(**config: Any) -> dict[str, Any]:
    """What `model.make_network` takes, from the configuration of a UNet2DModel. Raises `UserError` for what our network has not."""
    given = configuration.arguments(WHAT, config, DEFAULTS, FIXED, IGNORED)
    down, up = naming.kinds(given, KINDS)
    spec, attention = naming.shared(given), naming.attends(down)
    _check_middle(given)
    return {
        **spec,
        'design': _design(given, down, up),
        'attention': attention,
        'heads': _heads(given['attention_head_dim'], spec['widths'], attention),
    }


def _design(given: Mapping[str, Any], down: Sequence[str], up: Sequence[str]) -> str:
    """Ours whose halving and doubling is theirs; the last resolution is neither halved nor doubled."""
    halving = [_resizing(kind, given['downsample_type']) for kind in down[:-1]]
    doubling = [_resizing(kind, given['upsample_type']) for kind in up[1:]]
    found = {*halving, *doubling} or {'conv'}
    if len(found) != 1 or not found <= {'conv', 'resnet'}:
        told = f'downsample_type={given["downsample_type"]}, upsample_type={given["upsample_type"]}'
        raise UserError(
            f'down_block_types, up_block_types: resize in several ways with {told}; only networks with one, conv or resnet, can be read'
        )
    return {'conv': 'ddpm', 'resnet': 'adm'}[found.pop()]


def _resizing(kind: str, told: str | None) -> str:
    return (told or 'conv') if 'Attn' in kind else 'resnet' if 'Resnet' in kind else 'conv'


def _heads(size: int | None, widths: Sequence[int], attention: Sequence[bool]) -> tuple[int, ...]:
    """Theirs is the size of a head, None for one head alone; the middle has those of the last."""
    if size is None:
        return (1,) * len(widths)
    configuration.divides(
        size, [width for width, attend in zip(widths, (*attention[:-1], True), strict=True) if attend], 'attention_head_dim'
    )
    return tuple(max(width // size, 1) for width in widths)


def _check_middle(given: Mapping[str, Any]) -> None:
    groups, own = given['norm_num_groups'], given['attn_norm_num_groups']
    if (own or (groups if given['resnet_time_scale_shift'] == 'default' else None)) != groups:
        raise UserError(
            f'attn_norm_num_groups={own}: only networks whose middle has norm_num_groups={groups} can be read; take another one'
        )


def _expected(**config: Any) -> tuple[Params, list[Entry]]:
    """The tree of our parameters, and where each comes from."""
    spec = specification(**config)
    tree = configuration.image_tree(spec, (DEFAULTS | config)['in_channels'], configuration.time)
    return tree, matching.entries(tree, functools.partial(naming.find, levels=len(spec['widths'])))
