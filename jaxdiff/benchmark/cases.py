"""The cases of suite `samplers`: which network, on how many images of what shape, is walked by which solver in how many steps."""

import functools
import itertools
from collections.abc import Sequence
from typing import NamedTuple

from jaxdiff import model
from jaxdiff.benchmark import walks
from jaxdiff.model import Model
from jaxdiff.types import UserError

DTYPES = ('float32', 'bfloat16', 'float16')


class Case(NamedTuple):
    """One sampler to be timed; `shape` is that of the image."""

    shape: tuple[int, ...]
    batch: int
    dtype: str
    solver: str
    steps: int


def cases(shapes: Sequence[str], solvers: Sequence[str], steps: Sequence[int], batches: Sequence[int], dtypes: Sequence[str]) -> list[Case]:
    """Every solver and number of steps on the first shape, the first solver with the fewest steps on the others; all batches and dtypes."""
    for name in solvers:
        if name not in walks.SOLVERS:
            raise UserError(f'--solvers={name}: choose of {", ".join(walks.SOLVERS)}')
    for name in dtypes:
        if name not in DTYPES:
            raise UserError(f'--dtypes={name}: choose of {", ".join(DTYPES)}')
    found = []
    for n, shape in enumerate(map(sizes, shapes)):
        walked = [(solvers[0], min(steps))] if n else [*itertools.product(solvers, steps)]
        found += [Case(shape, batch, dtype, *walk) for batch in batches for dtype in dtypes for walk in walked]
    return found


def sizes(shape: str) -> tuple[int, ...]:
    """'32x32x32' -> (32, 32, 32)."""
    parts = shape.split('x')
    if len(parts) not in (2, 3) or not all(part.isdecimal() and int(part) for part in parts):
        raise UserError(f'--shapes={shape}: give two or three sizes, such as 64x64 or 32x32x32')
    return tuple(map(int, parts))


@functools.cache
def unet(shape: tuple[int, ...], dtype: str, widths: tuple[int, ...], patch: int) -> Model:
    """A U-Net like the shipped model's for images of this shape, without parameters; `UserError` where there is none."""
    network = {'name': 'unet', 'channels': 1, 'dims': len(shape), 'widths': [*widths], 'patch': patch, 'norm': 'adaptive', 'groups': 8}
    network |= {'attention': [False] * (len(widths) - 1) + [True], 'dtype': dtype}
    blank = Model(network, {'name': 'cosine'}, 'v', None, {}, {'shape': (*shape, 1)})
    try:
        model.shapes(blank)
    except (ValueError, TypeError) as error:
        raise UserError(f'{str(error).splitlines()[0]}; change --shapes or --widths') from None
    return blank
