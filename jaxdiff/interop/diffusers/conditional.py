"""diffusers' UNet2DConditionModel as a network of ours: what Stable Diffusion 1 and 2 denoise with.

    spec, params = conditional.read(weights by name, **config.json)
    model.make_network(spec).apply(params, x, t, tokens=tokens)         # x (batch, *spatial, channels), tokens (batch, n, width)

Its `encoder_hidden_states` are our `tokens`, its `class_labels` our `label`; both may be missing here: the class and the token that stand for that
are zeros. What the argument `attention_head_dim` names is the number of heads. Names and arguments are those of
diffusers/models/unets/unet_2d_condition.py in diffusers 0.42.
"""

import functools
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxdiff.interop import configuration, matching
from jaxdiff.interop.diffusers import naming
from jaxdiff.interop.matching import Entry
from jaxdiff.types import Params, UserError

WHAT = 'UNet2DConditionModel'
KINDS = {'DownBlock2D': 'UpBlock2D', 'CrossAttnDownBlock2D': 'CrossAttnUpBlock2D'}
DEFAULTS = {
    **naming.DEFAULTS,
    'in_channels': 4,
    'out_channels': 4,
    'down_block_types': ('CrossAttnDownBlock2D', 'CrossAttnDownBlock2D', 'CrossAttnDownBlock2D', 'DownBlock2D'),
    'up_block_types': ('UpBlock2D', 'CrossAttnUpBlock2D', 'CrossAttnUpBlock2D', 'CrossAttnUpBlock2D'),
    'block_out_channels': (320, 640, 1280, 1280),
    'cross_attention_dim': 1280,
    'transformer_layers_per_block': 1,
    'num_attention_heads': None,
    'use_linear_projection': False,
}
FIXED = {
    **naming.FIXED,
    'mid_block_type': ('UNetMidBlock2DCrossAttn',),
    'addition_embed_type': (None,),
    'only_cross_attention': (False,),
    'mid_block_only_cross_attention': (None, False),
    'dual_cross_attention': (False,),
    'cross_attention_norm': (None,),
    'attention_type': ('default',),
    'reverse_transformer_layers_per_block': (None,),
    'encoder_hid_dim': (None,),
    'encoder_hid_dim_type': (None,),
    'resnet_skip_time_act': (False,),
    'resnet_out_scale_factor': (1,),
    'time_embedding_act_fn': (None,),
    'timestep_post_act': (None,),
    'time_cond_proj_dim': (None,),
    'class_embeddings_concat': (False,),
    'conv_in_kernel': (3,),
    'conv_out_kernel': (3,),
}
IGNORED = (
    'sample_size',
    'upcast_attention',
    'addition_time_embed_dim',
    'addition_embed_type_num_heads',
    'projection_class_embeddings_input_dim',
)


def read(state: Mapping[str, np.ndarray], **config: Any) -> tuple[dict[str, Any], Params]:
    """The specification that `model.make_network` takes, and its parameters, from weights by name and the configuration of a UNet2DConditionModel.

    Raises `UserError` for arguments whose network ours is not, and, in one line that lists them, for weights that are missing, unexpected
    or of another shape.
    """
    spec = specification(**config)
    return spec, matching.fill(state, *_expected(**config), f'a {WHAT} of diffusers')


def shapes(**config: Any) -> dict[str, tuple[int, ...]]:
    """The weights that a UNet2DConditionModel with this configuration has: name -> shape."""
    return matching.shapes(_expected(**config)[1])


def specification(**config: Any) -> dict[str, Any]:
    """What `model.make_network` takes, from the configuration of a UNet2DConditionModel. Raises `UserError` for what our network has not."""
    given = configuration.arguments(WHAT, config, DEFAULTS, FIXED, IGNORED)
    spec, attention = naming.shared(given), naming.attends(naming.kinds(given, KINDS)[0])
    if not any(attention):
        raise UserError('down_block_types: no resolution attends; only networks with CrossAttnDownBlock2D can be read')
    told = 'num_attention_heads' if given['num_attention_heads'] else 'attention_head_dim'
    heads = configuration.each(given[told], spec['widths'], told)
    for width, each, attend in zip(spec['widths'], heads, (*attention[:-1], True), strict=True):  # the middle has the heads of the last
        if attend:
            configuration.divides(each, [width], told)
    return {
        **spec,
        'design': 'ddpm',
        'attention': attention,
        'heads': heads,
        'transformer': configuration.alike(given['transformer_layers_per_block'], 'transformer_layers_per_block'),
        'tokens': configuration.alike(given['cross_attention_dim'], 'cross_attention_dim'),
    }


def _expected(**config: Any) -> tuple[Params, list[Entry]]:
    """The tree of our parameters, and where each comes from."""
    spec, given = specification(**config), DEFAULTS | config
    tree = configuration.image_tree(spec, given['in_channels'], configuration.time)
    find = functools.partial(naming.find, levels=len(spec['widths']), linear=bool(given['use_linear_projection']))
    return tree, matching.entries(tree, find)
