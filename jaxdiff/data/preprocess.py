"""From a patient's grid and units to the model's, and back.

A model sees arrays of one shape, one spacing and one range of values. Along each canonical axis, voxel i of the model's grid of n
voxels lies at voxel

    j(i) = c + r (i - (n - 1) / 2),        r = model's spacing / file's spacing,                          (1)

of the file's grid, c being the centre of the field of view or of the foreground's bounding box: crop, pad and resampling at once
(`resample`). Where r = 1 the offset is made whole, so that nothing is interpolated. Values map linearly to [-1, 1] (`intensity`).
A model of slices (dims = 2) leaves the axis that it is sliced along as it is and takes every slice of it. Both maps are recorded
per volume and inverted on outputs.

What the model was trained on is part of the record, and files far from it are refused: a model answers any question that has the
right shape.
"""

import sys
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from jaxdiff.data import volumes
from jaxdiff.data.intensity import box, ends, percentiles, scale, unscale, widest
from jaxdiff.data.resample import resample
from jaxdiff.data.scope import TAILS, Seen, check, slicing
from jaxdiff.data.volumes import Frame, Volume
from jaxdiff.types import UserError

SAME = 1e-3  # spacings that differ by less, relatively, are the same


class Preprocess(NamedTuple):
    """How files become examples; JSON by `to_json` and `from_json`."""

    dims: int  # 3: volumes, 2: slices
    shape: tuple[int, ...]  # of one example, without channels
    channels: int
    spacing: tuple[float, ...] | None  # mm along the axes of `shape`; None keeps each file's
    centre: str  # of the crop: 'foreground' or 'field' of view
    intensity: str  # what `low` and `high` are: percentiles of each volume, as `intensity.ends` takes them, or 'fixed' values
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
    """What was done to one volume: equation (1) as j = offset + step i along each canonical axis, and the map of values."""

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
    tails: tuple[float, float] = TAILS,
    limits: Sequence[tuple[float, float]] | None = None,
    most: int = 64,
    read: Callable[[Frame], Volume] | None = None,
) -> Preprocess:
    """Learns from files how to prepare them.

    Args:
      index: the frames of the files, as `layouts.nifti` finds them.
      dims: 3 for volumes, 2 for their axial slices, or for files of one slice each in whatever plane they share.
      shape: of one example; None covers the largest foreground, or field of view, rounded up to a `multiple`.
      spacing: millimetres along the axes of `shape`, 'median' of the files, 'cover' for the finest cubic voxels with which the
        given shape covers the largest foreground, or None to keep each file's own.
      centre: of the crop, 'foreground' or 'field'.
      intensity: 'percentile' maps two percentiles of each channel of each volume to [-1, 1] and suits units without a scale, as in
        magnetic resonance, as do 'brain' and 'positive', see `intensity.ends`; 'fixed' maps the same two values of every file and suits
        computed tomography.
      tails: the two percentiles.
      limits: (low, high) per channel for 'fixed'; None takes the outermost percentiles of the files.
      most: of how many files, evenly spread, the voxels are read; the headers are read of all.
      read: the volume of a frame, `volumes.read` of its name by default.

    Raises:
      UserError: for files that cannot be read or that no one model can take.
    """
    from tqdm import tqdm

    axis = slicing(index, dims)
    axes = [each for each in range(3) if dims == 3 or each != axis]
    _choices(len(axes), shape, spacing, centre, intensity)
    spacings, sizes = (np.array([getattr(frame, name) for frame in index], np.float64) for name in ('spacing', 'size'))

    chosen = np.unique(np.linspace(0, len(index) - 1, min(most, len(index))).round().astype(int))
    spreads, ranges, boxes = [], [], []
    for place in tqdm(chosen, desc='measuring', unit='file', mininterval=0.1 if sys.stderr.isatty() else 30):
        array = (read(index[place]) if read else volumes.read(index[place].name)).array
        spreads.append(percentiles(array, *TAILS))
        ranges.append(np.transpose(limits) if limits else ends(array, 'percentile' if intensity == 'fixed' else intensity, *tails))
        boxes.append(np.ptp(box(scale(array, *ranges[-1])), axis=0) + 1)
    low, high = widest(ranges) if intensity == 'fixed' else np.repeat(np.array(tails)[:, None], index[0].channels, axis=1)

    covered, units = (np.array(boxes), spacings[chosen]) if centre == 'foreground' else (sizes, spacings)
    largest = (covered * units if spacing else covered)[:, axes].max(axis=0)
    if spacing == 'median':
        spacing = _tuples(np.median(spacings, axis=0)[axes].round(6))
    elif spacing == 'cover':
        spacing = (float((largest / shape).max()),) * len(axes)
    if shape is None:
        shape = tuple(int(np.ceil(size / multiple - SAME)) * multiple for size in largest / (spacing or 1))

    extents = sizes * spacings
    seen = Seen(
        spacing=_tuples((spacings.min(axis=0), spacings.max(axis=0))),
        extent=_tuples((extents.min(axis=0), extents.max(axis=0))),
        intensity=_tuples(np.transpose(widest(spreads))),
    )
    return Preprocess(dims, _tuples(shape), index[0].channels, spacing, centre, intensity, _tuples(low), _tuples(high), seen, axis)


def apply(pre: Preprocess, volume: Volume) -> tuple[np.ndarray, Record]:
    """The examples of a volume, (n, *shape, C) float32 in [-1, 1], and what was done: n is 1, or the slices of a model of slices.

    Raises:
      UserError: for a volume outside what the model was trained on.
    """
    fixed = pre.intensity == 'fixed'
    check(pre.seen, volume, dims=pre.dims, axis=pre.axis, channels=pre.channels, units=fixed)
    low, high = (pre.low, pre.high) if fixed else ends(volume.array, pre.intensity, pre.low, pre.high)
    values = scale(volume.array, low, high)
    size, axes = np.array(values.shape[:3]), list(pre.axes)
    shape, step = size.copy(), np.ones(3)
    shape[axes] = pre.shape
    step[axes] = np.array(pre.spacing) / volume.frame.spacing[axes] if pre.spacing else 1
    step = np.where(np.abs(step - 1) < SAME, 1, step)
    middle = box(values).mean(axis=0) if pre.centre == 'foreground' else (size - 1) / 2
    offset = middle - step * (shape - 1) / 2
    offset = np.where(step == 1, np.floor(offset), offset)
    offset[[axis for axis in range(3) if axis not in axes]] = 0
    record = Record(*map(_tuples, (size, shape, step, offset, low, high)))
    return _examples(pre, _onto(record, values, -1, order=1)), record


def apply_mask(pre: Preprocess, record: Record, mask: np.ndarray) -> np.ndarray:
    """The examples (n, *shape, C) of a mask or label map (X, Y, Z, C) on the grid of a volume: nearest voxel, 0 outside."""
    if mask.shape[:3] != record.size:
        raise ValueError(f'a mask of {mask.shape[:3]} voxels for a volume of {record.size}')
    return _examples(pre, _onto(record, mask, 0, order=0))


def invert(
    pre: Preprocess, record: Record, examples: np.ndarray, *, outside: np.ndarray | None = None, intensity: bool = True, order: int = 1
) -> np.ndarray:
    """Puts examples (n, *shape, C) back onto the canonical grid (X, Y, Z, C) of the volume that `apply` recorded.

    Args:
      outside: (X, Y, Z, C) in the file's units, for the voxels that the model did not see; None gives them the lowest value.
      intensity: whether to put values back into the file's units; False for masks and maps, which are 0 where nothing was seen.
      order: 1 interpolates, 0 takes the nearest voxel, for masks.
    """
    values = np.asarray(examples, np.float32)
    values = np.moveaxis(values, 0, pre.axis) if pre.dims == 2 else values[0]
    values = unscale(values, record.low, record.high) if intensity else values
    background = outside if outside is not None else np.array(record.low) if intensity else 0
    step, offset = np.array(record.step), np.array(record.offset)
    return resample(values, 1 / step, -offset / step, np.broadcast_to(background, (*record.size, values.shape[-1])), order=order)


def blank(pre: Preprocess, *, name: str = 'sample') -> tuple[Frame, Record]:
    """A frame centred on the origin, and the record that `invert` needs, for an example that was sampled and came from no file.

    Its values are in the files' units where those are 'fixed' and stay in [-1, 1] where percentiles made them relative.
    """
    size, spacing, axes = np.ones(3, int), np.ones(3), list(pre.axes)
    size[axes], spacing[axes] = pre.shape, pre.spacing or 1
    affine = np.diag([*spacing, 1])
    affine[:3, 3] = -spacing * (size - 1) / 2
    units = (pre.low, pre.high) if pre.intensity == 'fixed' else ((-1.0,) * pre.channels, (1.0,) * pre.channels)
    shape = _tuples(size)
    frame = volumes.frame((*shape, pre.channels) if pre.channels > 1 else shape, affine, name=name)
    return frame, Record(shape, shape, (1.0,) * 3, (0.0,) * 3, *units)


def _choices(axes: int, shape, spacing, centre: str, intensity: str) -> None:
    if centre not in ('foreground', 'field') or intensity not in ('percentile', 'brain', 'positive', 'fixed'):
        raise ValueError(f'centre {centre!r}, intensity {intensity!r}')
    if spacing not in (None, 'median', 'cover') and (isinstance(spacing, str) or len(spacing) != axes or min(spacing) <= 0):
        raise UserError(f"spacing {spacing}: give {axes} positive numbers of millimetres, 'median', 'cover' or None")
    if shape is None and spacing == 'cover':
        raise UserError("spacing 'cover' needs a shape: give one")
    if shape is not None and (len(shape) != axes or min(shape) < 1):
        raise UserError(f'shape {tuple(shape)}: give {axes} positive sizes')


def _onto(record: Record, values: np.ndarray, background: float, *, order: int) -> np.ndarray:
    """Values (X, Y, Z, C) on the model's grid.

    The file's outermost voxels reach to the next of the model's: `invert` interpolates between the two, and must not find background.
    """
    empty = np.full((*record.shape, values.shape[-1]), background)
    return resample(values, record.step, record.offset, empty, order=order, reach=np.maximum(record.step, 0.5))


def _examples(pre: Preprocess, grid: np.ndarray) -> np.ndarray:
    """(X, Y, Z, C) -> (n, *shape, C)."""
    return np.ascontiguousarray(np.moveaxis(grid, pre.axis, 0)) if pre.dims == 2 else grid[None]


def _tuples(value):
    """Arrays and lists as nested tuples of Python's own numbers."""
    value = value.tolist() if isinstance(value, np.ndarray | np.generic) else value
    return tuple(map(_tuples, value)) if isinstance(value, list | tuple) else value
