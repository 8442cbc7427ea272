"""Reconstruction by total variation, from one coil: of the images near the measurement, one with few edges.

    min_x  |M F x - y|^2 / 2 + w sum |grad x|                                                             (1)

x is complex, grad are forward differences, 0 at the far borders, and |.| is over both differences of a pixel together (isotropic; Rudin,
Osher and Fatemi 1992; for MRI Lustig et al., MRM 2007). Solved by the primal-dual hybrid gradient method (Chambolle and Pock 2011), with
tau = sigma = 1 / sqrt(4 d) for d spatial axes, so that tau sigma |grad|^2 <= 1:

    p  <-  (p + sigma grad x') / max(1, |p + sigma grad x'| / w)                                          (2)
    x+ =   prox(x - tau grad^T p),        prox(v) = F^-1 [(F v + tau M y) / (1 + tau M)]                  (3)
    x' <-  2 x+ - x

(3) is exact, for F is unitary: it minimises tau |M F x - y|^2 / 2 + |x - v|^2 / 2. This is the classical bar that a learned prior must clear.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxdiff.operators import fourier, inverse_transform, transform
from jaxdiff.types import Array


class Smoothest(NamedTuple):
    """The image (*spatial, 1), complex, its magnitude (*spatial, 1), and the value of (1) that it has."""

    image: Array
    magnitude: Array
    objective: Array


def reconstruct(y: Array, mask: Array, weight: float | Array, *, steps: int = 300) -> Smoothest:
    """Minimise (1) for k-space (*spatial, 1).

    Args:
        y: complex, its zero frequency in the middle; what the mask leaves out is not read.
        mask: of the same rank, 1 where measured.
        weight: w, traced, to be tuned on other images: .003 to .03 where the largest magnitude is about 1.
        steps: static; 200 to 300 are enough.
    """
    size = (4 * (y.ndim - 1)) ** -0.5
    operator = fourier(mask)
    start = operator.adjoint(y)

    def step(_, state):
        x, ahead, p = state
        p = shrink(p + size * gradient(ahead), weight)
        new = prox(x - size * gradient_transpose(p), y, mask, size)
        return new, 2 * new - x, p

    x, _, _ = jax.lax.fori_loop(0, steps, step, (start, start, jnp.zeros_like(gradient(start))))
    return Smoothest(x, jnp.abs(x), objective(x, y, mask, weight))


def objective(x: Array, y: Array, mask: Array, weight: float | Array) -> Array:
    """Equation (1) of an image (*spatial, 1)."""
    misfit = jnp.where(jnp.asarray(mask) > 0, transform(x) - y, 0)
    return _squares(misfit) / 2 + weight * jnp.sum(_length(gradient(x)))


def prox(v: Array, y: Array, mask: Array, tau: float | Array) -> Array:
    """Equation (3)."""
    kspace = transform(v)
    return inverse_transform(jnp.where(jnp.asarray(mask) > 0, (kspace + tau * y) / (1 + tau), kspace))


def shrink(p: Array, weight: float | Array) -> Array:
    """Equation (2): differences (d, *spatial, 1) cut to the length `weight`."""
    length = _length(p)
    return p * jnp.where(length > weight, weight / jnp.where(length > 0, length, 1), 1)


def gradient(x: Array) -> Array:
    """Forward differences (d, *spatial, C) along the axes of (*spatial, C), 0 at the far border."""
    return jnp.stack([jnp.diff(x, axis=axis, append=jax.lax.slice_in_dim(x, -1, None, axis=axis)) for axis in range(x.ndim - 1)])


def gradient_transpose(p: Array) -> Array:
    """The transpose of `gradient`, minus the divergence: (d, *spatial, C) -> (*spatial, C)."""
    return sum(_difference_transpose(one, axis) for axis, one in enumerate(p))


def _difference_transpose(p: Array, axis: int) -> Array:
    inner = jax.lax.slice_in_dim(p, 0, p.shape[axis] - 1, axis=axis)  # the last difference is 0 whatever x
    zero = jnp.zeros_like(jax.lax.slice_in_dim(p, 0, 1, axis=axis))
    return -jnp.diff(jnp.concatenate([zero, inner, zero], axis=axis), axis=axis)


def _length(p: Array) -> Array:
    """The Euclidean length of the differences at each pixel and channel, (1, *spatial, C)."""
    return jnp.sqrt(jnp.sum(jnp.square(p.real) + jnp.square(p.imag), axis=0, keepdims=True))


def _squares(z: Array) -> Array:
    return jnp.sum(jnp.square(z.real) + jnp.square(z.imag))
