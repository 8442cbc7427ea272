"""What a data set is: a size, a pure function from index to example, and a description that can be digested."""

import hashlib
import json
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from jaxdiff.types import UserError


class Source(NamedTuple):
    """Examples addressed by index, so that the state of any loader over them is one integer."""

    size: int  # number of examples
    example: Callable[[int], dict[str, np.ndarray]]  # pure and thread-safe: 'image' float32 (*spatial, channels) in [-1, 1], and more
    manifest: dict  # JSON: what the data are (recipe or file names, sizes, digests)


def digest(manifest: dict) -> str:
    """sha256, in hexadecimal, of the manifest as JSON; independent of the order of its keys."""
    text = json.dumps(manifest, sort_keys=True, separators=(',', ':'))
    return hashlib.sha256(text.encode()).hexdigest()


def divided(names: Sequence[str], fractions: Sequence[float], seed: int = 0) -> tuple[tuple[int, ...], ...]:
    """Places of the names in parts of these fractions, at least one in each; equal names stay together.

    Where a name goes follows from the seed and itself, so that adding some moves few of the others. Raises ValueError for fractions that are not
    positive or exceed 1 together, and UserError for fewer names than parts.
    """
    if min(fractions) <= 0 or sum(fractions) > 1 + 1e-6:
        raise ValueError(f'fractions {tuple(fractions)} must be positive and sum to at most 1')
    each = sorted(set(names), key=lambda name: hashlib.sha256(f'{seed} {name}'.encode()).digest())
    if len(each) < len(fractions):
        raise UserError(
            f'{", ".join(sorted(each))}: {len(each)} cannot be split into {len(fractions)} parts, to train, validate and test: add more'
        )
    cuts = np.rint(np.cumsum([0, *fractions]) * len(each)).astype(int)
    for part in range(1, len(cuts)):  # forwards so that each part has one, backwards so that the later ones do
        cuts[part] = max(cuts[part], cuts[part - 1] + 1)
    for part in range(len(cuts) - 1, 0, -1):
        cuts[part] = min(cuts[part], len(each) - (len(cuts) - 1 - part))
    parts = [set(each[low:high]) for low, high in pairwise(cuts)]
    return tuple(tuple(place for place, name in enumerate(names) if name in part) for part in parts)


def stack(source: Source, name: str = 'image') -> np.ndarray:
    """One array of every example, (size, ...)."""
    return np.stack([source.example(i)[name] for i in range(source.size)])
