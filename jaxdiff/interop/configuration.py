"""What the arguments of another library's network ask for, and what ours makes of them."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxdiff import model
from jaxdiff.types import Params, UserError


def arguments(
    what: str, given: Mapping[str, Any], defaults: Mapping[str, Any], fixed: Mapping[str, tuple], ignored: Sequence[str] = ()
) -> dict[str, Any]:
    """`defaults` with what was given; names that begin with '_' say nothing about the network.

    Raises `UserError` for an argument that `what` has not, and for one of `fixed` with another value than those that can be read.
    """
    given = {name: value for name, value in given.items() if not name.startswith('_')}
    if unknown := sorted(set(given) - {*defaults, *fixed, *ignored}):
        raise UserError(f'{unknown[0]}: not an argument of {what}; leave it out, or give those of another class')
    for name, values in fixed.items():
        if name in given and given[name] not in values:
            raise UserError(f'{name}={given[name]}: only networks with {name}={values[0]} can be read; take another one')
    return {**defaults, **{name: value for name, value in given.items() if name in defaults}}


def each(values: Any, widths: Sequence[int], name: str) -> tuple:
    """One value for each of the widths, where one was given for all. Raises `UserError` where there are too many or too few."""
    found = tuple(values) if isinstance(values, list | tuple) else (values,) * len(widths)
    if len(found) != len(widths):
        raise UserError(f'{name}={values}: give one for each of the widths {tuple(widths)}')
    return found


def alike(values: Any, name: str) -> int:
    """The one value of all resolutions. Raises `UserError` where they differ."""
    found = list(values) if isinstance(values, list | tuple) else [values]
    if not found or any(value != found[0] for value in found):
        raise UserError(f'{name}={values}: only networks with one value for all resolutions can be read; take another one')
    return found[0]


def divides(part: Any, widths: Sequence[int], name: str) -> None:
    """Raises `UserError` for a `part` that is no divisor of every width."""
    wrong = [width for width in widths if not isinstance(part, int) or part < 1 or width % part]
    if wrong:
        raise UserError(f'{name}={part}: does not divide {wrong[0]} channels; give the one it was made with')


def tree(network: Any, *inputs: jax.ShapeDtypeStruct) -> Params:
    """Shapes of the parameters of a network that is called with such inputs. Raises `UserError` where it cannot be."""
    try:
        return jax.eval_shape(network.init, jax.random.key(0), *inputs)
    except (ValueError, TypeError, ZeroDivisionError) as error:
        raise UserError(
            f'with these arguments no network can be made ({str(error).splitlines()[0]}); give those it was made with'
        ) from None


def image_tree(spec: Mapping[str, Any], channels: int, *others: Callable[[tuple[int, ...]], tuple[int, ...]]) -> Params:
    """`tree` of the network of `spec` for images of `channels`; what it is called with beside them is given as shapes, functions of the
    smallest size that it takes: `time` for a denoiser."""
    network = model.make_network(dict(spec))
    size = network.factor()
    shapes = [(*size, channels), *(shape(size) for shape in others)]
    return tree(network, *(jax.ShapeDtypeStruct((1, *shape), jnp.float32) for shape in shapes))


def time(size: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of one time."""
    return ()
