"""Where eps comes from. A noise is a function (key, shape) -> array of that shape, with mean 0 and variance 1 in every element."""

from collections.abc import Callable, Sequence

import jax

from jaxdiff.types import Array, Key

Noise = Callable[[Key, Sequence[int]], Array]


def gaussian(key: Key, shape: Sequence[int]) -> Array:
    """White noise, N(0, I)."""
    return jax.random.normal(key, shape)
