"""MONAI's DiffusionModelUNet as a network of ours: the same function of the same weights.

Its weights, by name as its `state_dict()` gives them, and the arguments it was made with are enough:

    spec, params = monai.unet({name: value.numpy() for name, value in net.state_dict().items()}, spatial_dims=3, in_channels=1, ...)
    model.make_network(spec).apply(params, x, t)                # x (batch, *spatial, channels): channels last, where MONAI has them first

Names and arguments are those of monai/networks/nets/diffusion_model_unet.py in MONAI 1.6. PyTorch keeps a convolution as (out, in, *size) and a
matrix as (out, in), we as (*size, in, out) and (in, out); a convolution of size 1 is a matrix here.
"""

import re
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdiff import model
from jaxdiff.types import Params, UserError

DEFAULTS = {
    'num_res_blocks': (2, 2, 2, 2),
    'channels': (32, 64, 64, 64),
    'attention_levels': (False, False, True, True),
    'norm_num_groups': 32,
    'norm_eps': 1e-6,
    'num_head_channels': 8,
}
WITHOUT = {'with_conditioning': False, 'num_class_embeds': None, 'resblock_updown': False, 'use_combined_linear': False, 'include_fc': True}
IGNORED = ('transformer_num_layers', 'cross_attention_dim', 'upcast_attention', 'dropout_cattn', 'use_flash_attention')

INSIDE = {  # within a residual block or an attention: ours to theirs
    'norm_in': 'norm1',
    'conv_in': 'conv1.conv',
    'embedding': 'time_emb_proj',
    'norm_out': 'norm2',
    'conv_out': 'conv2.conv',
    'skip': 'skip_connection.conv',
    'norm': 'norm',
    'query': 'attn.to_q',
    'key': 'attn.to_k',
    'value': 'attn.to_v',
    'project': 'attn.out_proj',
}
OUTSIDE = {
    'time_in': 'time_embed.0',
    'time_out': 'time_embed.2',
    'stem': 'conv_in.conv',
    'norm': 'out.0',
    'head': 'out.2.conv',
    'middle_0/block': 'middle_block.resnet_1',
    'middle_0/attention': 'middle_block.attention',
    'middle_1/block': 'middle_block.resnet_2',
}


def unet(state: Mapping[str, np.ndarray], **arguments: Any) -> tuple[dict[str, Any], Params]:
    """The specification that `model.make_network` takes, and its parameters, from weights by name and the arguments of DiffusionModelUNet.

    Raises `UserError` for arguments whose network is not a plain U-Net told the time, and, in one line that lists them, for weights that are
    missing, unexpected or of another shape.
    """
    names, leaves, tree = _expected(**arguments)
    _check(state, shapes(**arguments))
    params = jax.tree.unflatten(tree, [_ours(state[name], leaf.shape) for name, leaf in zip(names, leaves, strict=True)])
    return specification(**arguments), params


def shapes(**arguments: Any) -> dict[str, tuple[int, ...]]:
    """The weights that a DiffusionModelUNet made with these arguments has: name -> shape."""
    names, leaves, _ = _expected(**arguments)
    return {name: _shape(name, leaf.shape, arguments['spatial_dims']) for name, leaf in zip(names, leaves, strict=True)}


def specification(*, spatial_dims: int, in_channels: int, out_channels: int, **options: Any) -> dict[str, Any]:
    """What `model.make_network` takes, from the arguments of DiffusionModelUNet. Raises `UserError` for what our network has not."""
    unknown = sorted(set(options) - {*DEFAULTS, *WITHOUT, *IGNORED})
    if unknown:
        raise UserError(f'{unknown[0]}: not an argument of DiffusionModelUNet in MONAI 1.6; leave it out')
    for name, value in WITHOUT.items():
        if options.get(name, value) != value:
            raise UserError(f'{name}={options[name]}: only networks with {name}={value} can be read')
    given = {**DEFAULTS, **options}
    widths = tuple(given['channels'])
    each = {name: given[name] for name in ('num_res_blocks', 'attention_levels', 'num_head_channels')}
    each = {name: (value,) * len(widths) if isinstance(value, int) else tuple(value) for name, value in each.items()}
    heads = tuple(
        width // size if size else 1 for width, size in zip(widths, each['num_head_channels'], strict=False)
    )  # 0: attends nowhere
    if wrong := [name for name, value in each.items() if len(value) != len(widths)]:
        raise UserError(f'{wrong[0]}={given[wrong[0]]}: give one for each of channels={widths}')
    return {
        'name': 'unet',
        'design': 'ddpm',
        'channels': out_channels,
        'dims': spatial_dims,
        'widths': widths,
        'blocks': each['num_res_blocks'],
        'attention': tuple(map(bool, each['attention_levels'])),
        'heads': heads,
        'groups': given['norm_num_groups'],
        'eps': given['norm_eps'],
    }


def _expected(*, in_channels: int, **arguments: Any) -> tuple[list[str], list[jax.ShapeDtypeStruct], Any]:
    """For every parameter of ours its name in MONAI, then what it is, then the tree of all."""
    network = model.make_network(specification(in_channels=in_channels, **arguments))
    x = jax.ShapeDtypeStruct((1, *network.factor(), in_channels), jnp.float32)
    tree = jax.eval_shape(network.init, jax.random.key(0), x, jax.ShapeDtypeStruct((1,), jnp.float32))
    found = jax.tree_util.tree_leaves_with_path(tree)
    names = [_theirs(jax.tree_util.keystr(path[1:], simple=True, separator='/'), len(network.widths)) for path, _ in found]
    return names, [leaf for _, leaf in found], jax.tree.structure(tree)


def _theirs(path: str, levels: int) -> str:
    """The name in MONAI of a parameter of ours, such as 'decode_2_0/attention/query/kernel'."""
    module, _, leaf = path.rpartition('/')
    room, _, part = module.rpartition('/')
    leaf = 'bias' if leaf == 'bias' else 'weight'
    return f'{_module(room, levels)}.{INSIDE[part]}.{leaf}' if room else f'{_module(module, levels)}.{leaf}'


def _module(module: str, levels: int) -> str:
    if module in OUTSIDE:
        return OUTSIDE[module]
    kind, level, n, what = re.fullmatch(r'(\w+?)_(\d+)(?:_(\d+)/(\w+))?', module).groups()
    list_of = {'block': 'resnets', 'attention': 'attentions'}.get(what)
    below, above = int(level) - 1, levels - 1 - int(level)
    return {
        'encode': f'down_blocks.{level}.{list_of}.{n}',
        'decode': f'up_blocks.{above}.{list_of}.{n}',
        'halve': f'down_blocks.{below}.downsampler.op.conv',
        'double': f'up_blocks.{above}.upsampler.postconv.conv',
    }[kind]


def _shape(name: str, ours: tuple[int, ...], dims: int) -> tuple[int, ...]:
    """The shape in PyTorch of an array whose shape here is `ours`."""
    if len(ours) == 1:
        return ours
    *size, inputs, outputs = ours
    return outputs, inputs, *(size or ((1,) * dims if 'skip_connection' in name else ()))


def _ours(value: np.ndarray, shape: tuple[int, ...]) -> jax.Array:
    value = np.asarray(value, np.float32)
    return jnp.asarray(value if value.ndim == 1 else np.moveaxis(value, (1, 0), (-2, -1)).reshape(shape))


def _check(state: Mapping[str, np.ndarray], shapes: Mapping[str, tuple[int, ...]]) -> None:
    given = {name: tuple(value.shape) for name, value in state.items()}
    other = [f'{name} {given[name]} for {shape}' for name, shape in shapes.items() if given.get(name, shape) != shape]
    wrong = {'missing': sorted(set(shapes) - set(given)), 'unexpected': sorted(set(given) - set(shapes)), 'of another shape': other}
    told = '; '.join(f'{what}: {", ".join(names)}' for what, names in wrong.items() if names)
    if told:
        raise UserError(f'these weights are not those of a DiffusionModelUNet with these arguments; give the ones it was made with. {told}')
