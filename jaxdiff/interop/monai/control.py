"""MONAI's ControlNet as ours, and with a U-Net as one network.

    trunk = unet.read(weights of the DiffusionModelUNet, **its arguments)
    spec, params = control.join(trunk, control.read(weights of the ControlNet, **its arguments))
    model.make_network(spec).apply(params, x, t, hint=hint)     # hint (batch, *spatial, channels), in the size that x has when it is decoded

Names and arguments are those of monai/networks/nets/controlnet.py in MONAI 1.6.
"""

import functools
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxdiff.interop import configuration, matching
from jaxdiff.interop.matching import Entry
from jaxdiff.interop.monai import naming, unet
from jaxdiff.types import Params, UserError

WHAT = 'ControlNet'
OWN = {'conditioning_embedding_in_channels': 1, 'conditioning_embedding_num_channels': (16, 32, 96, 256)}


def read(state: Mapping[str, np.ndarray], **arguments: Any) -> tuple[dict[str, Any], Params]:
    """The specification that `model.make_network` takes, and its parameters, from weights by name and the arguments of ControlNet.

    Raises `UserError`, as `unet.read`.
    """
    return specification(**arguments), naming.read(WHAT, state, *_expected(**arguments))


def shapes(**arguments: Any) -> dict[str, tuple[int, ...]]:
    """The weights that a ControlNet made with these arguments has: name -> shape."""
    return matching.shapes(matching.entries(*_expected(**arguments)))


def specification(**arguments: Any) -> dict[str, Any]:
    """What `model.make_network` takes: the fields of the trunk, but that nobody knows how many `channels` it has."""
    naming.needed(WHAT, arguments, 'spatial_dims', 'in_channels')
    known = {*unet.DEFAULTS, *unet.FIXED, *unet.IGNORED, *OWN} - {'out_channels', 'dropout_cattn'}
    if unknown := sorted(set(arguments) - known):
        raise UserError(f'{unknown[0]}: not an argument of {WHAT} in MONAI 1.6; leave it out')
    trunk = {name: value for name, value in arguments.items() if name not in OWN}
    hint_widths = tuple((OWN | arguments)['conditioning_embedding_num_channels'])
    return {**unet.specification(**trunk, out_channels=arguments['in_channels']), 'name': 'control', 'hint_widths': hint_widths}


def join(trunk: tuple[dict[str, Any], Params], control: tuple[dict[str, Any], Params]) -> tuple[dict[str, Any], Params]:
    """A `nets.control.Controlled` of two (specification, parameters). Raises `UserError` where one is no copy of the other's encoder."""
    (fields, own), (copied, added) = trunk, control
    plain = lambda spec: json.loads(
        json.dumps({name: value for name, value in spec.items() if name not in ('name', 'channels', 'hint_widths')})
    )
    if differing := sorted(name for name in {*fields, *copied} if plain(fields).get(name) != plain(copied).get(name)):
        raise UserError(f'the ControlNet is of another U-Net: {differing[0]} differs; take the one that it was trained with')
    spec = {
        'name': 'controlled',
        'trunk': {name: value for name, value in fields.items() if name != 'name'},
        'hint': int(added['params']['hint_in']['kernel'].shape[-2]),
        'hint_widths': copied['hint_widths'],
    }
    return spec, {'params': {'trunk': own['params'], 'control': added['params']}}


def find(path: str, shape: tuple[int, ...], *, levels: int, dims: int, zeros: int) -> Entry:
    """Where a parameter of ours comes from; `zeros` is how many convolutions of size 1 stand behind the encoder."""
    module, _, leaf = path.removeprefix('params/').rpartition('/')
    kind, _, number = module.rpartition('_')
    if kind == 'zero':
        layer = 'controlnet_mid_block.conv' if int(number) == zeros else f'controlnet_down_blocks.{number}{".conv" if int(number) else ""}'
        entry = naming.entry(layer, leaf, shape, dims)
        return entry if int(number) or leaf != 'kernel' else matching.kernel(f'{layer}.weight', shape, dims)
    if kind in ('hint', 'hint_halve'):
        ends = {'in': 'conv_in', 'out': 'conv_out'}
        layer = ends.get(number) or f'blocks.{2 * int(number) + (kind == "hint_halve")}'
        return naming.entry(f'controlnet_cond_embedding.{layer}.conv', leaf, shape, dims)
    return unet.find(path, shape, levels=levels, dims=dims)


def _expected(**arguments: Any) -> tuple[Params, naming.Find]:
    spec = specification(**arguments)
    levels, dims = len(spec['widths']), spec['dims']
    channels, times = (OWN | arguments)['conditioning_embedding_in_channels'], 2 ** (len(spec['hint_widths']) - 1)
    hint = lambda size: (*(times * each for each in size), channels)
    found = functools.partial(find, levels=levels, dims=dims, zeros=sum(spec['blocks']) + levels)
    return configuration.image_tree(spec, arguments['in_channels'], configuration.time, hint), found
