"""What MONAI's networks have in common: how their layers and arrays are called, and which of their arguments can be read.

A `Convolution` of MONAI holds the layer itself as `conv`, and after it what has no weights; its convolutions of size 1 are matrices here.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from jaxdiff.interop import matching
from jaxdiff.interop.matching import Entry
from jaxdiff.types import Params, UserError

Find = Callable[[str, tuple[int, ...]], Entry]

RESIDUAL = {  # parts of a residual block: ours to theirs
    'norm_in': 'norm1',
    'conv_in': 'conv1.conv',
    'embedding': 'time_emb_proj',
    'norm_out': 'norm2',
    'conv_out': 'conv2.conv',
    'skip': 'skip_connection.conv',
}
ATTENTION = {'norm': 'norm', 'query': 'attn.to_q', 'key': 'attn.to_k', 'value': 'attn.to_v', 'project': 'attn.out_proj'}


def entry(layer: str, leaf: str, shape: tuple[int, ...], dims: int) -> Entry:
    """The kernel, bias, or gain of the layer that MONAI calls `layer`, of a network of `dims` spatial axes."""
    if leaf == 'kernel':
        return matching.kernel(f'{layer}.weight', shape, dims if layer.endswith('conv') else 0)
    return matching.same(f'{layer}.{"bias" if leaf == "bias" else "weight"}', shape)


def needed(what: str, given: Mapping[str, Any], *names: str) -> None:
    """Raises `UserError` where one of the arguments without a default is missing."""
    if missing := [name for name in names if name not in given]:
        raise UserError(f'{what} needs {", ".join(missing)}; add what it was made with to its arguments')


def read(what: str, state: Mapping[str, np.ndarray], shapes: Params, find: Find) -> Params:
    """Parameters of ours from all of the weights of MONAI's `what`. Raises `UserError`, as `matching.fill`."""
    return matching.fill(state, shapes, matching.entries(shapes, find), f'a {what} of MONAI')
