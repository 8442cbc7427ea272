"""Linear forward models y = A x of one example, with what inverse problems ask of them.

    adjoint             <A x, y> = <x, A^H y>                                                             (1)
    pseudo-inverse      A A^+ A = A                                                                       (2)

    fourier             A = M F,            A^H = F^-1 M,                        A^+ = A^H
    coils               A_c = M F S_c,      A^H = sum_c conj(S_c) F^-1 M,        A^+ = (A^H A + eps I)^-1 A^H, nearly      (3)
    pixels              A = M,              A^H = M,                             A^+ = A^H
    downsample          A = block means,    A^H = each mean over its block / f^d, A^+ = f^d A^H

F is the Fourier transform over the spatial axes, orthonormal, zero frequency in the middle, so that F^-1 = F^H; M keeps what was
measured (M^2 = M), S_c is the sensitivity of coil c (Pruessmann et al., "SENSE", MRM 1999).

Images are channels last. `fourier` and `coils` take complex images (*spatial, C); networks see two real channels for each complex one,
and `on_channels` turns such an operator into one of real arrays on both sides, as guidance and constraints want it.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxdiff.types import Array


class Operator(NamedTuple):
    """A, its adjoint (1) and its pseudo-inverse (2), the last two from what `forward` gives to what it takes."""

    forward: Callable[[Array], Array]
    adjoint: Callable[[Array], Array]
    pseudo_inverse: Callable[[Array], Array]


def to_complex(x: Array) -> Array:
    """(*spatial, 2 C) real -> (*spatial, C) complex; the channels are real, imaginary, real, imaginary, ..."""
    pairs = x.reshape(*x.shape[:-1], -1, 2)
    return jax.lax.complex(pairs[..., 0], pairs[..., 1])


def to_channels(z: Array) -> Array:
    """(*spatial, C) complex -> (*spatial, 2 C) real, the inverse of `to_complex`."""
    return jnp.stack([z.real, z.imag], axis=-1).reshape(*z.shape[:-1], -1)


def on_channels(operator: Operator) -> Operator:
    """An operator of complex arrays as one of their real channels: the real part of (1) is the inner product of those."""
    return Operator(*(lambda x, apply=apply: to_channels(apply(to_complex(x))) for apply in operator))


def transform(x: Array) -> Array:
    """F of (*spatial, C) over one to three spatial axes: complex, the zero frequency at index n // 2."""
    axes = range(x.ndim - 1)
    return jnp.fft.fftshift(jnp.fft.fftn(jnp.fft.ifftshift(x, axes), axes=axes, norm='ortho'), axes)


def inverse_transform(y: Array) -> Array:
    """F^-1 of (*spatial, C)."""
    axes = range(y.ndim - 1)
    return jnp.fft.fftshift(jnp.fft.ifftn(jnp.fft.ifftshift(y, axes), axes=axes, norm='ortho'), axes)


def fourier(mask: Array) -> Operator:
    """Measured frequencies of a complex image (*spatial, C), zeros elsewhere.

    Args:
        mask: of the same rank, broadcast to it; 1 (or True) where k-space is measured. Columns (W,) of an image enter as `mask[None, :, None]`.
    """
    back = lambda y: inverse_transform(_keep(mask, y))
    return Operator(lambda x: _keep(mask, transform(x)), back, back)


def coils(sensitivities: Array, mask: Array, *, steps: int = 10, eps: float = 1e-6) -> Operator:
    """Measured frequencies (*spatial, coils) of a complex image (*spatial, 1) seen by each coil (3).

    Args:
        sensitivities: (*spatial, coils) complex; A^H A is best conditioned where sum_c |S_c|^2 = 1.
        mask: as for `fourier`, the same for every coil or not.
        steps: of conjugate gradients in the pseudo-inverse, static.
        eps: what is added to A^H A; the pseudo-inverse is exact as it falls to 0 and the steps grow.
    """
    sensitivities = jnp.asarray(sensitivities)
    forward = lambda x: _keep(mask, transform(sensitivities * x))
    adjoint = lambda y: jnp.sum(sensitivities.conj() * inverse_transform(_keep(mask, y)), axis=-1, keepdims=True)
    normal = lambda x: adjoint(forward(x)) + eps * x
    return Operator(forward, adjoint, lambda y: conjugate_gradients(normal, adjoint(y), steps))


def pixels(mask: Array) -> Operator:
    """What is known of an image (*spatial, C), real or complex, zeros elsewhere; `mask` as for `fourier`, 1 where known."""
    keep = lambda x: _keep(mask, x)
    return Operator(keep, keep, keep)


def downsample(factor: int) -> Operator:
    """The means of blocks of `factor` voxels along each axis, (*spatial, C) -> (*spatial / factor, C); real or complex.

    Raises ValueError for an image that the blocks do not fill."""
    if factor < 1:
        raise ValueError(f'blocks of {factor} voxels: the side must be at least 1')

    def forward(x):
        if any(n % factor for n in x.shape[:-1]):
            raise ValueError(f'blocks of {factor} voxels do not fill an image of shape {x.shape}')
        blocks = x.reshape(*(part for n in x.shape[:-1] for part in (n // factor, factor)), x.shape[-1])
        return jnp.mean(blocks, axis=tuple(range(1, 2 * x.ndim - 2, 2)))

    def spread(y):
        for axis in range(y.ndim - 1):
            y = jnp.repeat(y, factor, axis=axis)
        return y

    return Operator(forward, lambda y: spread(y) / factor ** (y.ndim - 1), spread)


def conjugate_gradients(apply: Callable[[Array], Array], b: Array, steps: int) -> Array:
    """x with apply(x) = b, nearly, for a positive definite Hermitian map: `steps` (static) of conjugate gradients from 0; differentiable."""
    inner = lambda p, q: jnp.sum((p.conj() * q).real)
    first = inner(b, b)
    least = jnp.finfo(b.dtype).eps ** 2 * first  # below it a residual is rounding, and its square may vanish
    over = lambda p, q: jnp.where(q > least, p / jnp.where(q > least, q, 1), 0)

    def step(_, state):
        x, r, p, size = state
        along = apply(p)
        a = over(size, inner(p, along))
        x, r = x + a * p, r - a * along
        left = inner(r, r)
        return x, r, r + over(left, size) * p, left

    return jax.lax.fori_loop(0, steps, step, (jnp.zeros_like(b), b, b, first))[0]


def _keep(mask: Array, x: Array) -> Array:
    """x where it was measured; what lies elsewhere is not read, NaN included."""
    return jnp.where(jnp.asarray(mask) > 0, x, 0)
