"""Fusion of scores: a denoiser of tiles becomes a denoiser of volumes, tiles averaged in every evaluation.

    D(x, t)(v) = sum_k w_k(v) D_k(x_k, t)(v)                                                                                     (1)

x is one volume with one noise throughout, so tiles hear of each other through x from step to step, and solvers, constraints and guidance need
not know of tiles. Since all kinds of prediction are linear in x0_hat at given x and t, (1) is the average of scores too. Averaging finished
samples of tiles is another thing: where they disagree it blurs.

Bar-Tal et al., "MultiDiffusion", ICML 2023; with a margin of context and the volume's positions as condition, Hu et al., "PaDIS", NeurIPS 2024.
"""

from collections.abc import Callable, Sequence

import jax.numpy as jnp

from jaxdiff.tiling.maps import tiled_at
from jaxdiff.types import Array, Denoiser


def fuse(denoise: Denoiser, **layout) -> Denoiser:
    """A denoiser of tiles (*tile, C) as one of volumes (*spatial, C); `layout` is what `tiled` takes."""
    return fuse_at(lambda corner: denoise, **layout)


def fuse_at(local: Callable[[Array], Denoiser], **layout) -> Denoiser:
    """`fuse` for a network that sees more than x: `local(corner)` is the denoiser of the tile with its first voxel there.

        fuse_at(lambda corner: model.denoiser(trained, image=cut(scan, corner, (64, 64, 64))), tile=64, overlap=16)

    A network that should know where it is sees `positions` in the same way; one that makes its own coordinates takes its tile for the whole.
    """
    return lambda x, t: tiled_at(lambda part, corner: local(corner)(part, t), **layout)(x)


def positions(corner: Array, tile: Sequence[int], spatial: Sequence[int]) -> Array:
    """(*tile, axes): where a tile's voxels lie in the volume, from -1 at its first voxel to 1 at its last along each axis."""
    along = [2 * (first + jnp.arange(n)) / max(size - 1, 1) - 1 for first, n, size in zip(corner, tile, spatial, strict=True)]
    return jnp.stack(jnp.meshgrid(*along, indexing='ij'), axis=-1)
