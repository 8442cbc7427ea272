"""Constraints: maps of x after each step, (key, x_s, x0_hat, s) -> x_s, that hold a walk to what is known."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxdiff.noise import Noise, gaussian
from jaxdiff.paths import GaussianPath, perturb
from jaxdiff.types import Array, Constraint


def inpaint(path: GaussianPath, known: Array, mask: Array, *, noise: Noise = gaussian) -> Constraint:
    """Put back the known voxels, noised to the level of x (Song et al., ICLR 2021, replacement). At s = 0 they are exact.

    Args:
        known: (*spatial, C); what lies outside the mask is not read.
        mask: of the same rank, broadcast to it; 1 (or True) where the voxel is known.
    """

    def constrain(key, x, x0, s):
        return jnp.where(jnp.asarray(mask) > 0, perturb(path, known, noise(key, x.shape), s), x)

    return constrain


def chain(*constraints: Constraint) -> Constraint:
    """Constraints one after another, the last having the last word; each draws from a key of its own."""

    def constrain(key, x, x0, s):
        for i, one in enumerate(constraints):
            x = one(jax.random.fold_in(key, i), x, x0, s)
        return x

    return constrain


def low_pass(path: GaussianPath, reference: Array, factor: int, *, noise: Noise = gaussian) -> Constraint:
    """Hold the low frequencies of x to those of a reference noised to the level of x, x + P(reference_s - x) (Choi et al., "ILVR", ICCV 2021).

    P, the mean of each block of `factor` voxels along every axis, is an orthogonal projection where the published bicubic resampling is
    only nearly one: at s = 0 the means of x are exactly those of the reference, and doing it twice is doing it once.

    Args:
        reference: (*spatial, C), any number of axes; only its block means are read.
        factor: voxels along the side of a block. Raises ValueError unless it divides every axis.
    """
    if any(n % factor for n in reference.shape[:-1]):
        raise ValueError(f'blocks of {factor} voxels do not fill a reference of shape {reference.shape}')

    def constrain(key, x, x0, s):
        return x + _block_means(perturb(path, reference, noise(key, x.shape), s) - x, factor)

    return constrain


def freeze(value: Array, mask: Array) -> Constraint:
    """Hold the voxels where `mask`, broadcast to x, is 1 (or True) at `value`, not noised: those that are not part of the walk."""
    return lambda key, x, x0, s: jnp.where(jnp.asarray(mask) > 0, value, x)


def consistent(
    forward: Callable[[Array], Array], pseudo_inverse: Callable[[Array], Array], y: Array, weight: float | Array = 1.0
) -> Constraint:
    """Move x towards what was measured, x + w A^+ (y - A x), not noised: data consistency, hard at a weight of 1, where A x = y if A A^+ A = A
    and y is in A's range (Chung and Ye, Medical Image Analysis 2022)."""
    return lambda key, x, x0, s: x + weight * pseudo_inverse(y - forward(x))


def _block_means(x: Array, factor: int) -> Array:
    """x (*spatial, C) with every voxel replaced by the mean of its block."""
    blocks = x.reshape(*(part for n in x.shape[:-1] for part in (n // factor, factor)), x.shape[-1])
    means = jnp.mean(blocks, axis=tuple(range(1, 2 * x.ndim - 2, 2)), keepdims=True)
    return jnp.broadcast_to(means, blocks.shape).reshape(x.shape)
