"""What MONAI's networks have in common: how their layers and arrays are called, and which of their arguments can be read.

A `Convolution` of MONAI holds the layer itself as `conv`, and after it what has no weights; its convolutions of size 1 are matrices here.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdiff import model
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


def arguments(what: str, given: Mapping[str, Any], defaults: Mapping[str, Any], fixed: Mapping[str, Any], ignored: tuple) -> dict[str, Any]:
    """`defaults` with what was given.

    Raises `UserError` for an argument that MONAI's `what` has not, and for one of `fixed` with another value than can be read.
    """
    if unknown := sorted(set(given) - {*defaults, *fixed, *ignored}):
        raise UserError(f'{unknown[0]}: not an argument of {what} in MONAI 1.6; leave it out')
    for name, value in fixed.items():
        if given.get(name, value) != value:
            raise UserError(f'{name}={given[name]}: only networks with {name}={value} can be read; take another one')
    return {**defaults, **{name: value for name, value in given.items() if name in defaults}}


def needed(what: str, given: Mapping[str, Any], *names: str) -> None:
    """Raises `UserError` where one of the arguments without a default is missing."""
    if missing := [name for name in names if name not in given]:
        raise UserError(f'{what} needs {", ".join(missing)}; add what it was made with to its arguments')


def each(values: int | bool | tuple, widths: tuple[int, ...], name: str) -> tuple:
    """One value for each of the widths, where one was given for all. Raises `UserError` where there are too many or too few."""
    found = (values,) * len(widths) if isinstance(values, int) else tuple(values)
    if len(found) != len(widths):
        raise UserError(f'{name}={values}: give one for each of channels={widths}')
    return found


def tree(spec: dict[str, Any], channels: int, *others: Callable[[tuple[int, ...]], tuple[int, ...]]) -> Params:
    """Shapes of the parameters of the network of `spec` for images of `channels`.

    What it is called with beside the image is given as shapes, functions of the smallest size that it takes. Raises `UserError` for arguments
    of which no network can be made.
    """
    network = model.make_network(spec)
    array = lambda shape: jax.ShapeDtypeStruct((1, *shape), jnp.float32)
    size = network.factor()
    try:
        return jax.eval_shape(network.init, jax.random.key(0), array((*size, channels)), *(array(shape(size)) for shape in others))
    except (ValueError, TypeError, ZeroDivisionError) as error:
        raise UserError(
            f'with these arguments no network can be made ({str(error).splitlines()[0]}); give those it was made with'
        ) from None


def read(what: str, state: Mapping[str, np.ndarray], shapes: Params, find: Find) -> Params:
    """Parameters of ours from all of the weights of MONAI's `what`. Raises `UserError`, as `matching.fill`."""
    return matching.fill(state, shapes, matching.entries(shapes, find), f'a {what} of MONAI')
