"""Zero-filled reconstruction: what was not measured is taken for 0, coils are joined by their root sum of squares (Roemer et al., MRM 1990).

    magnitude = sqrt(sum_c |F^-1 M y_c|^2)                                                                (1)

The least image that explains the measurement; it has the artefacts that everything better is to remove.
"""

from typing import NamedTuple

import jax.numpy as jnp

from jaxdiff.operators import fourier
from jaxdiff.types import Array


class ZeroFilled(NamedTuple):
    """Images of the coils (*spatial, coils), complex, and their magnitude (*spatial, 1), equation (1)."""

    coils: Array
    magnitude: Array


def zero_filled(y: Array, mask: Array) -> ZeroFilled:
    """From k-space (*spatial, coils) with its zero frequency in the middle; `mask` of that rank, 1 where measured: the rest is not read."""
    coils = fourier(mask).adjoint(y)
    return ZeroFilled(coils, root_sum_of_squares(coils))


def root_sum_of_squares(images: Array) -> Array:
    """(*spatial, coils) complex -> (*spatial, 1) real, equation (1)."""
    return jnp.sqrt(jnp.sum(jnp.square(images.real) + jnp.square(images.imag), axis=-1, keepdims=True))
