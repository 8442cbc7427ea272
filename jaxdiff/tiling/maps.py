"""A map of volumes, evaluated tile by tile in one program that holds the volumes and the activations of a few tiles.

    y(v) = sum_k w_k(v) f(x_k)(v),      w_k the product over the axes of the weights of `layout`, which sum to 1                 (1)

A map that sees at most `margin` voxels is evaluated exactly, any other without a jump. Tiles are independent: `batch` of them are evaluated
at once, and on a mesh every device takes its share.
"""

import itertools
from collections.abc import Callable
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxdiff.tiling.layout import Sizes, axes
from jaxdiff.types import Array


def tiled(
    fn: Callable[[Array], Array], *, tile: Sizes, overlap: Sizes, margin: Sizes | None = None, batch: int = 1, mesh: Mesh | None = None
) -> Callable[[Array], Array]:
    """`fn`, a map of one volume (*spatial, channels), as the same map evaluated on tiles (*tile, channels).

    Results may be larger or smaller than tiles by a factor per axis, as the decoder of a latent and an encoder make them. Any spatial size
    goes, and an axis shorter than its tile is one tile; but where `fn` resamples, tile and overlap should be multiples of its factor, so that
    tiles start on its grid. Gradients recompute the tiles, and need the memory of as few.

    Args:
        overlap: voxels that neighbours share, less than the tile.
        margin: voxels at a tile's border that give context only, at most half the overlap; a quarter of it by default.
        batch: tiles at once, on each device.
        mesh: devices to spread the tiles over; each holds the whole volume.

    Raises ValueError for sizes that do not fit together.
    """
    return tiled_at(lambda part, corner: fn(part), tile=tile, overlap=overlap, margin=margin, batch=batch, mesh=mesh)


def tiled_at(
    fn: Callable[[Array, Array], Array],
    *,
    tile: Sizes,
    overlap: Sizes,
    margin: Sizes | None = None,
    batch: int = 1,
    mesh: Mesh | None = None,
) -> Callable[[Array], Array]:
    """`tiled` for a map that is told where it is: fn(part (*tile, channels), corner (axes,)), the index of the tile's first voxel.

    With the corner, `cut` takes the tile's part of whatever else belongs to the volume.
    """
    at_once = batch * (mesh.size if mesh else 1)

    def run(x: Array) -> Array:
        layout = axes(x.shape[:-1], tile, overlap, margin)
        size = tuple(axis.tile for axis in layout)
        made = jax.eval_shape(fn, jax.ShapeDtypeStruct((*size, x.shape[-1]), x.dtype), jax.ShapeDtypeStruct((len(size),), jnp.int32))
        zooms = [Fraction(*pair) for pair in zip(made.shape[:-1], size, strict=True)]
        for axis, zoom in zip(layout, zooms, strict=True):
            if any((zoom * place).denominator > 1 for place in (*axis.starts(), axis.size)):
                raise ValueError(
                    f'tiles of {axis.tile} at {axis.starts()} in {axis.size} do not fall on the grid of results of {zoom} their size'
                )
        weights = [jnp.asarray(axis.weights(zoom), jnp.float32) for axis, zoom in zip(layout, zooms, strict=True)]

        @jax.checkpoint
        def evaluate(corner):
            return fn(cut(x, corner, size), corner)

        def add(total, each):
            y, number, corner, used = each
            for n, weight in enumerate(weights):
                y = y * jnp.expand_dims(weight[number[n]], [axis for axis in range(y.ndim) if axis != n])
            corner = (*corner, 0)
            return lax.dynamic_update_slice(total, lax.dynamic_slice(total, corner, y.shape) + used * y, corner), None

        def several(total, which):
            numbers, corners, places, used = which
            y = _evaluated(evaluate, corners, mesh)
            return lax.scan(add, total, (y, numbers, places, used))

        total = jnp.zeros((*(int(axis.size * zoom) for axis, zoom in zip(layout, zooms, strict=True)), made.shape[-1]), jnp.float32)
        return lax.scan(several, total, _tiles(layout, zooms, at_once))[0].astype(made.dtype)

    return run


def cut(volume: Array, corner: Array, size: tuple[int, ...]) -> Array:
    """The part (*size, channels) of a volume (*spatial, channels) whose first voxel is `corner` (axes,)."""
    return lax.dynamic_slice(volume, (*corner, 0), (*size, volume.shape[-1]))


def _tiles(layout, zooms, at_once) -> tuple[np.ndarray, ...]:
    """Of every tile, in rows of `at_once`: its number along each axis, its corner, that of its result, and 1, or 0 where it fills up a row."""
    numbers = np.array(list(itertools.product(*(range(len(axis.starts())) for axis in layout))), np.int32)
    filled = np.minimum(np.arange(-(-len(numbers) // at_once) * at_once), len(numbers) - 1)
    corners = np.stack([np.array(axis.starts(), np.int32)[each] for axis, each in zip(layout, numbers[filled].T, strict=True)], axis=-1)
    places = np.stack([corner * zoom.numerator // zoom.denominator for corner, zoom in zip(corners.T, zooms, strict=True)], axis=-1)
    used = np.arange(len(filled)) < len(numbers)
    return tuple(each.reshape(-1, at_once, *each.shape[1:]) for each in (numbers[filled], corners, places, used.astype(np.float32)))


def _evaluated(evaluate, corners, mesh):
    """Results for corners (n, axes), each device's share on it where there is a mesh."""
    if len(corners) == 1:
        return evaluate(corners[0])[None]
    if mesh is None:
        return jax.vmap(evaluate)(corners)
    shares = NamedSharding(mesh, PartitionSpec(mesh.axis_names))
    y = jax.vmap(evaluate)(lax.with_sharding_constraint(corners, shares))
    return lax.with_sharding_constraint(lax.with_sharding_constraint(y, shares), NamedSharding(mesh, PartitionSpec()))
