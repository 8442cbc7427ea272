"""What a data set is: a size, a pure function from index to example, and a description that can be digested."""

import hashlib
import json
from collections.abc import Callable
from typing import NamedTuple

import numpy as np


class Source(NamedTuple):
    """Examples addressed by index, so that the state of any loader over them is one integer."""

    size: int  # number of examples
    example: Callable[[int], dict[str, np.ndarray]]  # pure and thread-safe: 'image' float32 (*spatial, channels) in [-1, 1], and more
    manifest: dict  # JSON: what the data are (recipe or file names, sizes, digests)


def digest(manifest: dict) -> str:
    """sha256, in hexadecimal, of the manifest as JSON; independent of the order of its keys."""
    text = json.dumps(manifest, sort_keys=True, separators=(',', ':'))
    return hashlib.sha256(text.encode()).hexdigest()


def stack(source: Source, name: str = 'image') -> np.ndarray:
    """One array of every example, (size, ...)."""
    return np.stack([source.example(i)[name] for i in range(source.size)])
