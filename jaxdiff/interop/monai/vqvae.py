"""MONAI's VQVAE as ours.

    spec, params = vqvae.read(weights by name, spatial_dims=3, in_channels=1, out_channels=1, ...)
    network = model.make_network(spec)
    network.apply(params, network.apply(params, x, method='encode'), method='quantize')        # x (batch, *spatial, channels)

A transposed convolution of size 4 and stride 2 with padding 1 makes two pixels of each, along every axis

    y[2 i] = w1 x[i] + w3 x[i - 1],    y[2 i + 1] = w2 x[i] + w0 x[i + 1],                                               (1)

which is a convolution of size 3 to a patch of pixels. The averages that the codebook follows in training are not needed. Names and arguments are
those of monai/networks/nets/vqvae.py in MONAI 1.6.
"""

import functools
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxdiff.interop import configuration, matching
from jaxdiff.interop.matching import Entry
from jaxdiff.interop.monai import naming
from jaxdiff.types import Params, UserError

WHAT = 'VQVAE'
DEFAULTS = {
    'spatial_dims': None,
    'in_channels': None,
    'out_channels': None,
    'channels': (96, 96, 192),
    'num_res_layers': 3,
    'num_res_channels': (96, 96, 192),
    'downsample_parameters': (2, 4, 1, 1),
    'upsample_parameters': (2, 4, 1, 1, 0),
    'num_embeddings': 32,
    'embedding_dim': 64,
}
FIXED = {'output_act': (None,), 'act': ('RELU', 'relu')}
IGNORED = ('embedding_init', 'commitment_cost', 'decay', 'epsilon', 'dropout', 'ddp_sync', 'use_checkpointing')
TAPS = np.zeros((2, 3, 4), np.float32)  # (1): parity of y, offset of x from -1, which w
TAPS[0, 0, 3] = TAPS[0, 1, 1] = TAPS[1, 1, 2] = TAPS[1, 2, 0] = 1


def read(state: Mapping[str, np.ndarray], **arguments: Any) -> tuple[dict[str, Any], Params]:
    """The specification that `model.make_network` takes, and its parameters with the codebook, from weights by name and the arguments of VQVAE.

    Raises `UserError` for arguments whose network ours is not, and, in one line that lists them, for weights that are missing, unexpected
    or of another shape.
    """
    return specification(**arguments), naming.read(WHAT, state, *_expected(**arguments))


def shapes(**arguments: Any) -> dict[str, tuple[int, ...]]:
    """The weights that a VQVAE made with these arguments has, buffers included: name -> shape."""
    return matching.shapes(matching.entries(*_expected(**arguments)))


def specification(**arguments: Any) -> dict[str, Any]:
    """What `model.make_network` takes, from the arguments of VQVAE. Raises `UserError` for what our network has not."""
    naming.needed(WHAT, arguments, 'spatial_dims', 'in_channels', 'out_channels')
    given = configuration.arguments(f'{WHAT} in MONAI 1.6', arguments, DEFAULTS, FIXED, IGNORED)
    for name in ('downsample_parameters', 'upsample_parameters'):
        values = given[name] if isinstance(given[name][0], list | tuple) else (given[name],)
        if any(tuple(each) != DEFAULTS[name] for each in values):
            raise UserError(f'{name}={given[name]}: only networks with {DEFAULTS[name]} at every level can be read; take another one')
    widths = tuple(given['channels'])
    return {
        'name': 'vqvae',
        'channels': given['out_channels'],
        'latent': given['embedding_dim'],
        'codes': given['num_embeddings'],
        'widths': widths,
        'inner': configuration.each(given['num_res_channels'], widths, 'num_res_channels'),
        'units': given['num_res_layers'],
        'dims': given['spatial_dims'],
    }


def find(path: str, shape: tuple[int, ...], *, levels: int, units: int, dims: int) -> Entry:
    """Where a parameter of ours, such as 'params/down_0_1/conv_in/kernel', comes from."""
    if path == 'codebook/vectors':
        buffers = {'embedding.weight': shape, 'ema_cluster_size': shape[:1], 'ema_w': shape}
        return Entry({f'quantizer.quantizer.{name}': size for name, size in buffers.items()}, lambda vectors, *averages: vectors)
    *module, leaf = path.removeprefix('params/').split('/')
    kind, *numbers = module[0].split('_')
    level, n = (*map(int, numbers), 0, 0)[:2]
    down, up = level * (units + 1), 1 + (levels - 1 - level) * (units + 1)  # where a level begins in either list
    layer = {
        'halve': f'encoder.blocks.{down}.conv',
        'down': f'encoder.blocks.{down + 1 + n}',
        'leave': f'encoder.blocks.{levels * (units + 1)}.conv',
        'enter': 'decoder.blocks.0.conv',
        'up': f'decoder.blocks.{up + n}',
        'double': f'decoder.blocks.{up + units}.conv',
    }[kind]
    if kind == 'double':
        return _transposed(layer, leaf, shape, dims)
    return naming.entry(f'{layer}.{naming.RESIDUAL[module[1]]}' if module[1:] else layer, leaf, shape, dims)


def _transposed(layer: str, leaf: str, shape: tuple[int, ...], dims: int) -> Entry:
    """(1): a kernel (*3s, in, 2^dims out) from (in, out, *4s); a bias the same for all pixels of a patch."""
    *_, inputs, wide = (1, *shape)
    outputs = wide // 2**dims
    if leaf == 'bias':
        return Entry({f'{layer}.bias': (outputs,)}, lambda bias: np.tile(bias, 2**dims))

    def make(weight):
        for _ in range(dims):
            weight = np.tensordot(weight, TAPS, (2, 2))  # the first axis of size 4 goes, parity and offset come at the end
        return weight.transpose(*range(3, 2 * dims + 2, 2), 0, *range(2, 2 * dims + 2, 2), 1).reshape(shape)

    return Entry({f'{layer}.weight': (inputs, outputs, *(4,) * dims)}, make)


def _expected(**arguments: Any) -> tuple[Params, naming.Find]:
    spec = specification(**arguments)
    found = functools.partial(find, levels=len(spec['widths']), units=spec['units'], dims=spec['dims'])
    return configuration.image_tree(spec, arguments['in_channels']), found
