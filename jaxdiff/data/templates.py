"""The MNI152 head of nilearn's package as tissue maps, at the resolution that a sampling needs.

V. Fonov et al., Unbiased average age-appropriate atlases for pediatric studies, NeuroImage 54, 2011.
"""

import hashlib
from functools import cache
from typing import NamedTuple

import numpy as np

from jaxdiff.types import UserError

_ORIGIN = np.array([-98, -134, -72])  # world coordinates of the first voxel of nilearn's 1 mm templates
_HEAD = np.array([[-80, 80], [-114, 82], [-72, 90]])  # the box that holds the head, world coordinates
_MEANS = np.float32([0.660, 0.879, 0.280])  # of grey, white and fluid in the template's T1, by least squares


class Templates(NamedTuple):
    """Maps of the head on one grid, sides parallel to the world's."""

    maps: np.ndarray  # (5, X, Y, Z) float32: grey, white, fluid (sum 1 in the head, 0 outside), fluid of the ventricles, T1 residual
    step: float  # mm between voxels
    origin: np.ndarray  # (3,) float32 world coordinates of the first voxel, mm


@cache
def _original() -> np.ndarray:
    """(4, X, Y, Z) uint8 of 255: T1, grey, white and head in the head's box at 1 mm. Raises UserError when nilearn is missing."""
    try:
        from nilearn import datasets
    except ImportError as error:
        raise UserError('virtual brains need nilearn, which is not installed: pip install "jaxdiff[brain]"') from error
    images = (
        datasets.load_mni152_template(resolution=1),
        datasets.load_mni152_gm_template(resolution=1),
        datasets.load_mni152_wm_template(resolution=1),
        datasets.load_mni152_brain_mask(resolution=1),
    )
    box = tuple(slice(low, high) for low, high in _HEAD - _ORIGIN[:, None])
    return np.stack([np.rint(np.float32(255) * np.asarray(image.dataobj)[box]).astype(np.uint8) for image in images])


@cache
def fingerprint() -> str:
    """sha256 of the templates, in hexadecimal."""
    return hashlib.sha256(_original().tobytes()).hexdigest()


@cache
def templates(step: int) -> Templates:
    """The maps at 1, 2 or 4 mm, smoothed against aliasing when that is coarser than the original."""
    maps = _full() if step == 1 else _halve(_full() if step == 2 else templates(step // 2).maps)
    return Templates(maps, float(step), _HEAD[:, 0].astype(np.float32))


def _full() -> np.ndarray:
    t1, grey, white, head = _original() / np.float32(255)
    grey, white = grey * head, white * head
    fluid = np.clip(head - grey - white, 0, None)
    residual = head * (t1 - _MEANS[0] * grey - _MEANS[1] * white - _MEANS[2] * fluid)
    return np.stack([grey, white, fluid, fluid * _ventricular(fluid.shape), residual])


def _halve(maps: np.ndarray) -> np.ndarray:
    """Every second voxel of the last three axes, after smoothing with weights 1/4, 1/2, 1/4."""
    for _ in range(3):
        wide = np.pad(maps, [(0, 0), (1, 1), (0, 0), (0, 0)])
        maps = (wide[:, :-2:2] + 2 * wide[:, 1:-1:2] + wide[:, 2::2]) / np.float32(4)
        maps = np.moveaxis(maps, 1, 3)  # the next axis comes forward; after three the order is the old one
    return np.ascontiguousarray(maps)


def _ventricular(shape: tuple[int, ...]) -> np.ndarray:
    """The part of space (X, Y, Z), bool, where fluid belongs to the lateral and third ventricles and not to cisterns and fissures."""
    x, y, z = np.ogrid[tuple(slice(low, low + n) for low, n in zip(_HEAD[:, 0], shape, strict=True))]
    x = abs(x)
    lateral = (x < 36) & (y > -52) & (y < 34) & (z > -4) & (z < 34)
    third = (x < 6) & (y > -30) & (y < 8) & (z > -12) & (z < 6)
    cistern = ((x < 14) & (y < -24) & (z < 9)) | ((x < 9) & (y < -22) & (z < 20))
    fissure = (x < 4) & (z > 22) | (x > 28) & (y > -20)
    return (lateral | third) & ~cistern & ~fissure
