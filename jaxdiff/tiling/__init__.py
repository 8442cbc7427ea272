"""Volumes larger than memory: maps and denoisers evaluated tile by tile, and volumes split over devices."""

from jaxdiff.tiling.fusion import fuse, fuse_at, positions
from jaxdiff.tiling.maps import cut, tiled, tiled_at
from jaxdiff.tiling.spatial import split

__all__ = ['cut', 'fuse', 'fuse_at', 'positions', 'split', 'tiled', 'tiled_at']
