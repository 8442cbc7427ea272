"""What every sampler of images given a measurement returns."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxdiff.types import Array, Key


class Posterior(NamedTuple):
    """Samples (count, *shape) given y, their mean and their standard deviation (*shape)."""

    samples: Array
    mean: Array
    deviation: Array


def several(one: Callable[[Key], Array], key: Key, count: int) -> Posterior:
    """`count` (static) samples, the i-th `one(fold_in(key, i))`, whatever the count."""
    samples = jax.vmap(lambda i: one(jax.random.fold_in(key, i)))(jnp.arange(count))
    return Posterior(samples, samples.mean(0), samples.std(0))
