"""Inpainting by replacement (Song et al., ICLR 2021, section 5; Lugmayr et al., CVPR 2022, equation 8).

A solver walks from noise to data; after every step to time s the known voxels are overwritten by the image noised to s,

    x_s <- m (alpha_s y + sigma_s eps) + (1 - m) x_s,        m = 1 where the voxel is known,              (1)

so that the hole grows towards its surroundings and the known voxels end exactly as they came. It is an approximation: the hole hears of its
surroundings only through noised copies, and follows them less than the exact conditional law would.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxdiff.constraints import inpaint
from jaxdiff.paths import GaussianPath
from jaxdiff.solvers.loop import Solver, sample
from jaxdiff.types import Array, Denoiser, Key


class Filling(NamedTuple):
    """All of the image's shape: the image with its hole set to the background, what was known (1) or not (0), and the filled image."""

    image: Array
    known: Array
    filled: Array


def fill(key: Key, image: Array, known: Array, denoise: Denoiser, *, path: GaussianPath, solver: Solver, times: Array) -> Filling:
    """Fill the voxels of one image (*spatial, channels) in [-1, 1] where `known` is 0; `times` (steps + 1,) fall from the path's end to 0.

    Another key gives another plausible filling.
    """
    start, walk = jax.random.split(key)
    x = path.sigma(times[0]) * jax.random.normal(start, image.shape)
    filled = sample(walk, x, denoise, solver, times, constrain=inpaint(path, image, known)).x
    return Filling(jnp.where(known > 0, image, -1.0), known, filled)
