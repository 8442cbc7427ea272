"""Constraints: maps of x after each step, (key, x_s, x0_hat, s) -> x_s, that hold a walk to what is known."""

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
