"""What a model was trained on, and the refusal of what is far from it: a model answers any question that has the right shape."""

from collections.abc import Sequence
from typing import NamedTuple

from jaxdiff.data.intensity import percentiles
from jaxdiff.data.volumes import Frame, Volume
from jaxdiff.types import UserError

TAILS = (0.5, 99.5)  # the percentiles that stand for lowest and highest
FACTOR = 2.0  # how far beyond what was seen spacing and extent may lie
BEYOND = 1.0  # how far beyond what was seen values may lie, in widths of their range
NARROW = 0.02  # the least width of the values, in the same unit
AXES = ('left-right', 'posterior-anterior', 'inferior-superior')
PLANES = ('sagittal', 'coronal', 'axial')

Span = tuple[tuple[float, ...], tuple[float, ...]]  # lowest and highest along each canonical axis


class Seen(NamedTuple):
    """What a model was trained on."""

    spacing: Span  # mm
    extent: Span  # mm
    intensity: tuple[tuple[float, float], ...]  # of each channel, between the outermost `TAILS` of the files


def check(seen: Seen, volume: Volume, *, dims: int, axis: int, channels: int, units: bool) -> None:
    """Refuses a volume outside what a model was trained on.

    Args:
      dims: of the model, 3 for volumes, 2 for slices across `axis`; the slices' distance is free.
      units: whether values have units, so that their range must be near the one seen.

    Raises:
      UserError: one line with the file, what it has, what the model was trained on and the remedy.
    """
    frame, across = volume.frame, plane(volume.frame)

    def refuse(found, trained, remedy):
        raise UserError(f'{frame.name}: {found}, the model was trained on {trained}: {remedy}')

    if frame.channels != channels:
        refuse(f'has {frame.channels} channel(s)', channels, 'give the same channels in the same order along the fourth dimension')
    if across is not None and dims == 3:
        refuse('is one slice', 'volumes', 'give the whole volume, or use a model of slices')
    if across not in (None, axis):
        refuse(f'is a {PLANES[across]} slice', f'{PLANES[axis]} slices', 'give slices of that plane')
    for each in (each for each in range(3) if dims == 3 or each != axis):
        for what, found, (lowest, highest), remedy in (
            ('voxels', frame.spacing, seen.spacing, 'resample it or use another model'),
            ('a field of view', frame.spacing * frame.size, seen.extent, 'crop or pad it to the same anatomy or use another model'),
        ):
            if not lowest[each] / FACTOR <= found[each] <= highest[each] * FACTOR:
                refuse(f'has {what} of {found[each]:.3g} mm {AXES[each]}', _span(lowest[each], highest[each], ' mm'), remedy)
    if units:
        for low, high, (lowest, highest) in zip(*percentiles(volume.array, *TAILS), seen.intensity, strict=True):
            width = highest - lowest
            if low < lowest - BEYOND * width or high > highest + BEYOND * width or high - low < NARROW * width:
                refuse(f'has values from {low:.4g} to {high:.4g}', _span(lowest, highest), 'rescale it to the same units')


def plane(frame: Frame) -> int | None:
    """The canonical axis across an image of one slice; None for a volume."""
    return next((axis for axis in (2, 1, 0) if frame.size[axis] == 1), None)


def slicing(index: Sequence[Frame], dims: int) -> int:
    """The canonical axis across the slices of these files: 2 for volumes, and for files of one slice the one they share.

    Raises:
      UserError: for single slices where volumes are wanted, and for a mixture of planes.
    """
    planes = [plane(frame) for frame in index]
    axis = next((each for each in planes if each is not None), 2)
    for frame, each in zip(index, planes, strict=True):
        if dims == 3 and each is not None:
            raise UserError(f'{frame.name}: is one slice, volumes need three dimensions: train with dims=2 or give whole volumes')
        if each not in (None, axis) or (each is None and axis != 2):
            kind = 'a volume' if each is None else f'a {PLANES[each]} slice'
            raise UserError(f'{frame.name}: is {kind} among {PLANES[axis]} slices: keep one plane in a folder')
    return axis


def _span(low: float, high: float, unit: str = '') -> str:
    return f'{low:.4g}{unit}' if low == high else f'{low:.4g} to {high:.4g}{unit}'
