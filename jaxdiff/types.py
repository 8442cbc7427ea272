"""The words every module shares. Aliases only; shapes are those of one example, without a batch axis."""

from collections.abc import Callable, Mapping
from typing import Any

import jax

Array = jax.Array
Key = jax.Array  # a typed key, `jax.random.key(seed)`
Time = jax.Array  # scalar; 0 is data, the path says what the largest is
Params = Any  # a tree of arrays
Example = Mapping[str, Array]  # 'image' (*spatial, channels) and whatever conditions it
Metrics = Mapping[str, Array]

Denoiser = Callable[[Array, Time], Array]  # x_t, t -> E[x0 | x_t]
Constraint = Callable[[Key, Array, Array, Time], Array]  # key, x_s, x0_hat, s -> x_s
Loss = Callable[[Params, Key, Example], tuple[Array, Metrics]]  # one example


class Interrupted(Exception):
    """Training was asked to stop, finished its step and saved. `step` is the number of steps taken."""

    def __init__(self, step: int, message: str):
        super().__init__(message)
        self.step = step


class UserError(ValueError):
    """A mistake in a file, a flag or a folder, told in one line that names it and the remedy; scripts exit with status 2."""
