"""Conditions as networks take them: what is missing is NaN, and a network sees that it is."""

from collections.abc import Sequence

import jax.numpy as jnp

from jaxdiff.types import Array


def flagged(x: Array | None, shape: Sequence[int]) -> Array:
    """(..., c) -> (..., 2 c): the entries with 0 for NaN, then 1 where they were NaN; all missing, of this shape, if x is None."""
    x = jnp.full(shape, jnp.nan) if x is None else x
    missing = jnp.isnan(x)
    return jnp.concatenate([jnp.where(missing, 0.0, x), missing.astype(x.dtype)], axis=-1)
