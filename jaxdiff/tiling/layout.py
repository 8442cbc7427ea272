"""Where tiles lie along one axis, and what each of them weighs there.

Tiles start every (tile - overlap) voxels, the last where it ends with the volume. With d_k(v) how far the centre of voxel v lies inside tile k,

    u_k(v) = sin^2(pi/2 clip((d_k(v) - margin) / (overlap - 2 margin), 0, 1)),      w_k = u_k / sum_j u_j:                     (1)

nothing within `margin` voxels of a tile's border, then a rise without a kink. A border that tile and volume share is none: u = 1 there.
"""

from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

import numpy as np

Sizes = int | Sequence[int]  # voxels, of every axis or of each


class Axis(NamedTuple):
    """One axis of a volume of `size` voxels, in tiles of at most that."""

    size: int
    tile: int
    overlap: int
    margin: int

    def starts(self) -> list[int]:
        """Index of every tile's first voxel."""
        return [*range(0, self.size - self.tile, self.tile - self.overlap), self.size - self.tile]

    def weights(self, zoom: Fraction = Fraction(1)) -> np.ndarray:
        """w of (1), (tiles, tile * zoom), for results with `zoom` voxels in the place of one; every voxel's sum to 1."""
        inside = (np.arange(int(self.tile * zoom)) + 0.5) / float(zoom)
        starts = self.starts()
        up = np.stack([np.ones_like(inside) if start == 0 else self._rise(inside) for start in starts])
        down = np.stack([np.ones_like(inside) if start == starts[-1] else self._rise(self.tile - inside) for start in starts])
        weights, total = up * down, np.zeros(int(self.size * zoom))
        rows = [slice(int(start * zoom), int(start * zoom) + len(inside)) for start in starts]
        for row, weight in zip(rows, weights, strict=True):
            total[row] += weight
        return np.stack([weight / total[row] for row, weight in zip(rows, weights, strict=True)])

    def _rise(self, depth: np.ndarray) -> np.ndarray:
        ramp = max(self.overlap - 2 * self.margin, 1e-9)  # without one, a step
        return np.sin(np.pi / 2 * np.clip((depth - self.margin) / ramp, 0, 1)) ** 2


def axes(spatial: Sequence[int], tile: Sizes, overlap: Sizes, margin: Sizes | None = None) -> tuple[Axis, ...]:
    """The axes of a volume; one shorter than its tile is one tile. Without a margin it is a quarter of the overlap.

    Raises ValueError for sizes that would leave voxels without a weight.
    """
    every = lambda sizes: (sizes,) * len(spatial) if isinstance(sizes, int) else tuple(sizes)
    margin = [each // 4 for each in every(overlap)] if margin is None else every(margin)
    found = []
    for size, length, shared, unused in zip(spatial, every(tile), every(overlap), margin, strict=True):
        if not 0 <= 2 * unused <= shared < length:
            raise ValueError(f'tile {length}, overlap {shared}, margin {unused}: take 0 <= 2 margin <= overlap < tile')
        found.append(Axis(size, min(size, length), shared, unused))
    return tuple(found)
