"""From a patient's grid and units to the model's, and back.

A model sees arrays of one shape, one spacing and one range of values. Along each canonical axis, voxel i of the model's grid of n
voxels lies at voxel

    j(i) = c + r (i - (n - 1) / 2),        r = model's spacing / file's spacing,                          (1)

of the file's grid, c being the centre of the field of view or of the foreground's bounding box. Cropping, padding and resampling
are all equation (1). Where r = 1 the offset is made whole, so that nothing is interpolated; where r > 1 the image is first blurred
by a Gaussian of standard deviation (r - 1) / 2 voxels, so that nothing aliases. Values map linearly,

    v = 2 (u - low) / (high - low) - 1,    clipped to [-1, 1],                                           (2)

between two percentiles of each channel of each volume, or between two fixed values. A model of slices (dims = 2) leaves the axis
that it is sliced along as it is and takes every slice of it. Both maps are recorded per volume and inverted on outputs.

What the model was trained on is part of the record, and files far from it are refused: a model answers any question that has the
right shape.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from jaxdiff.data import volumes
from jaxdiff.data.volumes import Frame, Volume
from jaxdiff.types import UserError

FOREGROUND = -0.8  # mapped values above this are foreground: a tenth of the way from low to high
SAME = 1e-3  # spacings that differ by less, relatively, are the same
FACTOR = 2.0  # how far beyond what was seen spacing and extent may lie
BEYOND = 1.0  # how far values may lie beyond those seen, in widths of their range
AXES = ('sagittal', 'coronal', 'axial')

Span = tuple[tuple[float, float, float], tuple[float, float, float]]  # lowest and highest along each canonical axis


class Seen(NamedTuple):
    """What a model was trained on."""

    spacing: Span  # mm
    extent: Span  # mm
    intensity: tuple[tuple[float, float], ...]  # lowest and highest of each channel, without its extreme half per cent


class Preprocess(NamedTuple):
    """How files become examples; JSON by `to_json` and `from_json`."""

    dims: int  # 3: volumes, 2: slices
    shape: tuple[int, ...]  # of one example, without channels
    channels: int
    spacing: tuple[float, ...] | None  # mm along the axes of `shape`; None keeps each file's
    centre: str  # of the crop: 'foreground' or 'field' of view
    intensity: str  # what `low` and `high` are: 'percentile' of each volume or 'fixed' values
    low: tuple[float, ...]  # per channel
    high: tuple[float, ...]
    seen: Seen
    axis: int = 2  # canonical axis along which a model of slices is sliced
    orientation: str = 'RAS'

    @property
    def axes(self) -> tuple[int, ...]:
        """The canonical axes of `shape`."""
        return tuple(axis for axis in range(3) if self.dims == 3 or axis != self.axis)


class Record(NamedTuple):
    """What was done to one volume: equations (1), as j = offset + step i per canonical axis, and (2)."""

    size: tuple[int, int, int]  # of the volume
    shape: tuple[int, int, int]  # of what was made of it
    step: tuple[float, float, float]
    offset: tuple[float, float, float]
    low: tuple[float, ...]  # per channel, in the file's units
    high: tuple[float, ...]


def to_json(pre: Preprocess) -> dict:
    return {**pre._asdict(), 'seen': pre.seen._asdict()}


def from_json(fields: dict) -> Preprocess:
    frozen = {name: _tuples(value) for name, value in fields.items() if name != 'seen'}
    return Preprocess(**frozen, seen=Seen(**{name: _tuples(value) for name, value in fields['seen'].items()}))


def fit(
    index: Sequence[Frame],
    *,
    dims: int = 3,
    shape: tuple[int, ...] | None = None,
    spacing: tuple[float, ...] | str | None = 'median',
    multiple: int = 16,
    centre: str = 'foreground',
    intensity: str = 'percentile',
    percentiles: tuple[float, float] = (0.5, 99.5),
    limits: Sequence[tuple[float, float]] | None = None,
    most: int = 64,
) -> Preprocess:
    """Learns from files how to prepare them.

    Args:
      index: of the files, as `layouts.nifti` makes it.
      dims: 3 for volumes, 2 for their axial slices, or for files of one slice each in whatever plane they share.
      shape: of one example; None covers the largest foreground (or field of view) of the files.
      spacing: millimetres along the axes of `shape`, 'median' of the files, or None to keep each file's own.
      multiple: what a shape that is not given is rounded up to.
      centre: of the crop, 'foreground' or 'field'.
      intensity: 'percentile' maps the percentiles of each channel of each volume to [-1, 1] and suits units without a scale, as
        in magnetic resonance; 'fixed' maps the same two values of every file and suits computed tomography.
      limits: (low, high) per channel, for 'fixed'; None takes the widest of the files' percentiles.
      most: how many files, evenly spread, have their voxels read; headers are read of all.

    Raises:
      UserError: for files that cannot be read or that no one model can take.
    """
    axis = _slicing(index, dims)
    axes = [each for each in range(3) if dims == 3 or each != axis]
    channels = index[0].channels
    spacings = np.array([frame.spacing for frame in index])
    sizes = np.array([frame.size for frame in index])
    if spacing == 'median':
        spacing = tuple(float(value) for value in np.median(spacings, axis=0)[axes].round(6))

    places = np.unique(np.linspace(0, len(index) - 1, min(most, len(index))).round().astype(int))
    ranges, tight = np.empty((len(places), channels, 2)), sizes.copy()
    for number, place in enumerate(places):
        array = volumes.read(index[place].name).array
        ranges[number] = np.stack(_percentiles(array, *percentiles), axis=-1)
        if centre == 'foreground':
            low, high = _box(_map(array, *ranges[number].T))
            tight[place] = high - low + 1

    if shape is None:
        scale = np.ones_like(spacings[:, axes]) if spacing is None else spacings[:, axes] / np.array(spacing)
        covered = (tight if centre == 'foreground' else sizes)[:, axes] if len(places) == len(index) else sizes[places][:, axes]
        largest = np.ceil((covered * scale).max(axis=0) - SAME)
        shape = tuple(int(-(-size // multiple) * multiple) for size in largest)
    return None
