"""Where eps comes from. A noise is a function (key, shape) -> array of that shape, with mean 0 and variance 1 in every element."""

from collections.abc import Callable, Sequence

import jax

from jaxdiff.types import Array, Key

Noise = Callable[[Key, Sequence[int]], Array]


def gaussian(key: Key, shape: Sequence[int]) -> Array:
    """White noise, N(0, I)."""
    return jax.random.normal(key, shape)


def rademacher(key: Key, shape: Sequence[int]) -> Array:
    """Signs, -1 or 1 with equal odds: of all probes of a trace those whose estimate varies least, and exact where the matrix is diagonal."""
    return jax.random.rademacher(key, shape, float)
