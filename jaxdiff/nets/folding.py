"""Patches of pixels as channels, and back."""

import math
from collections.abc import Sequence

from jaxdiff.types import Array


def fold(x: Array, size: Sequence[int]) -> Array:
    """The pixels of a patch become channels: (*spatial, c) -> (*(spatial / size), c prod(size)). Moves values only."""
    dims = len(size)
    split = (n for s, p in zip(x.shape[:-1], size, strict=True) for n in (s // p, p))
    x = x.reshape(*split, x.shape[-1]).transpose(*range(0, 2 * dims, 2), *range(1, 2 * dims, 2), 2 * dims)
    return x.reshape(*x.shape[:dims], -1)


def unfold(x: Array, size: Sequence[int]) -> Array:
    """The inverse of `fold`."""
    dims = len(size)
    *spatial, channels = x.shape
    x = x.reshape(*spatial, *size, channels // math.prod(size))
    x = x.transpose(*(axis for n in range(dims) for axis in (n, dims + n)), 2 * dims)
    return x.reshape(*(s * p for s, p in zip(spatial, size, strict=True)), -1)
