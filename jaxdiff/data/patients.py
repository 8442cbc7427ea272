"""Scans of people, with lesions marked or not: one file for each contrast, perhaps a mask, and what else is known.

Whatever the layout of a folder (`archives`), it becomes an index of `Patient`s, and that becomes examples: axial slices of one size and one range
of values, with a mask of the lesion, a mask of the head, and a label. Nobody is in two parts of a split. What was made of a scan is written back on
the grid of its first file.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.ndimage import binary_fill_holes

from jaxdiff.data import pictures, preprocess, store, volumes
from jaxdiff.data.preprocess import Preprocess, Record
from jaxdiff.data.source import Source, digest, divided
from jaxdiff.data.volumes import Frame, Volume
from jaxdiff.types import UserError

DARK = -0.98  # mapped values above this, in any channel, belong to the head
LEAST = 0.01  # of a slice that must be head
BELOW, OFTEN = 0.05, 0.01  # of the largest value, by which as many voxels may lie below 0: interpolation rings
SAME = 1e-3  # entries of affines that differ by less are the same, in mm


class Patient(NamedTuple):
    """One scan of one person.

    Attributes:
        name: of the person; several scans may share it.
        files: one for each channel, in order: NIfTI, or pictures of one slice (`pictures`).
        mask: the file of the lesion, above 0 where it is; None where nobody marked one.
        label: 0 healthy, 1 diseased, None unknown.
        covariates: what else is known.
    """

    name: str
    files: tuple[str, ...]
    mask: str | None = None
    label: int | None = None
    covariates: Mapping[str, float | str] = {}


class Scan(NamedTuple):
    """Every slice of one scan: images (n, X, Y, C) in [-1, 1], lesions and heads (n, X, Y, 1) of bool, and what `write` needs."""

    images: np.ndarray
    lesions: np.ndarray
    heads: np.ndarray
    record: Record
    volume: Volume
    ill: np.ndarray  # (n,) of bool: slices with a voxel of the lesion in the file, though it may fall between those of `lesions`


def read(patient: Patient) -> tuple[Volume, np.ndarray | None]:
    """The channels stacked (X, Y, Z, C) on the grid of the first file, and the lesion (X, Y, Z, 1) of bool.

    Raises `UserError` for a file that cannot be read, for one on another grid than the first, and for one whose values go below 0.
    """
    first, *others = (_positive(_volume(file)) for file in patient.files)
    for other in others:
        _same_grid(first, other)
    array = np.concatenate([each.array for each in (first, *others)], -1)
    whole = Volume(array, first.affine, _frame(first.frame, array.shape[-1]))
    if patient.mask is None:
        return whole, None
    lesion = _volume(patient.mask, mask=True)
    _same_grid(first, lesion)
    return whole, lesion.array.max(-1, keepdims=True) > 0


def split(patients: Sequence[Patient], fractions: Sequence[float] = (0.7, 0.1, 0.2), seed: int = 0) -> tuple[tuple[Patient, ...], ...]:
    """Parts of an index, each person in one, see `source.divided`."""
    return tuple(tuple(patients[place] for place in part) for part in divided([each.name for each in patients], fractions, seed))


def fit(patients: Sequence[Patient], *, size: int) -> Preprocess:
    """How slices of (size, size) are made of these scans: the head fills them, 0 is black and the 99th percentile above it white.

    Pictures already are 0 to 1. Raises `UserError` for files that no one model can take.
    """
    frames = [_inspected(each) for each in patients]
    for frame in frames:
        if frame.channels != frames[0].channels:
            raise UserError(f'{frame.name}: {frame.channels} channel(s), {frames[0].name} has {frames[0].channels}: give scans of one kind')
    by_name = {frame.name: each for frame, each in zip(frames, patients, strict=True)}
    common = dict(dims=2, shape=(size, size), spacing='cover', read=lambda frame: read(by_name[frame.name])[0])
    if all(pictures.known(each.files[0]) for each in patients):
        return preprocess.fit(frames, intensity='fixed', limits=[(0.0, 1.0)] * frames[0].channels, centre='field', **common)
    return preprocess.fit(frames, intensity='positive', tails=(0.0, 99.0), **common)


def examine(patient: Patient, pre: Preprocess) -> Scan:
    """Every slice of a scan. Raises `UserError` as `read` does, and for a scan outside what `pre` was fitted on."""
    volume, lesion = read(patient)
    images, record = preprocess.apply(pre, volume)
    heads = (images > DARK).any(-1, keepdims=True)
    heads = np.stack([binary_fill_holes(each[..., 0])[..., None] for each in heads])
    lesions = np.zeros(heads.shape, bool) if lesion is None else preprocess.apply_mask(pre, record, lesion.astype(np.float32)) > 0
    away = tuple(axis for axis in range(4) if axis != pre.axis)
    ill = np.zeros(len(heads), bool) if lesion is None else lesion.any(away)
    return Scan(images, lesions, heads, record, volume, ill)


def slices(patients: Sequence[Patient], pre: Preprocess, *, healthy: bool = False) -> Source:
    """Slices with a head, of every scan in turn; `healthy` keeps those without a lesion alone.

    Each has 'image' (X, Y, C) in [-1, 1], 'mask' and 'brain' (X, Y, 1), and 'label', 1 for a slice with a lesion: the patient's own where there
    is no mask. Every file is read before this returns. Raises `UserError` where nothing is left, and for a scan that has neither mask nor label:
    nobody knows whether it is healthy.
    """
    tables, told = [], []
    for patient in patients:
        if patient.mask is None and patient.label is None:
            raise UserError(f'{patient.files[0]}: neither a mask nor a label says whether it is healthy: give one, or leave the scan out')
        path, known = _prepared(patient, pre)
        table = np.load(path, mmap_mode='r')
        rows = np.flatnonzero(table['label'] == 0) if healthy else np.arange(len(table))
        tables.append((path, rows))
        told.append({**known, 'slices': len(rows)})
    ends = np.cumsum([0, *(len(rows) for _, rows in tables)])
    if not ends[-1]:
        wanted = 'without a lesion ' if healthy else ''
        raise UserError(f'{patients[0].files[0]} and {len(patients) - 1} other scans: hold no slice {wanted}to learn from: give more scans')

    def example(position: int) -> dict[str, np.ndarray]:
        if not 0 <= position < ends[-1]:
            raise IndexError(f'example {position} of {ends[-1]}')
        place = int(np.searchsorted(ends, position, side='right')) - 1
        path, rows = tables[place]
        row = np.load(path, mmap_mode='r')[rows[position - ends[place]]]
        return {
            'image': row['image'].astype(np.float32),
            'mask': np.array(row['mask']),
            'brain': np.array(row['brain']),
            'label': np.int32(row['label']),
        }

    return Source(int(ends[-1]), example, {'kind': 'patients', 'scans': told, 'healthy': healthy, 'preprocess': preprocess.to_json(pre)})


def write(folder: str | os.PathLike, patient: Patient, pre: Preprocess, scan: Scan, found: Mapping[str, np.ndarray]) -> list[Path]:
    """Arrays of all slices as NIfTI files <folder>/<name>.nii.gz, in the frame of the scan.

    Args:
        found: name -> (n, X, Y, C) images in [-1, 1], which get the scan's units and the scan itself around them; (n, X, Y) maps; (n, X, Y) of
            bool, masks. Maps and masks are 0 where nothing was seen.
    """
    written, first = [], _first(patient)
    for name, values in found.items():
        image, mask = values.ndim == 4, values.dtype == bool
        values = values if image else values[..., None].astype(np.float32)
        outside = scan.volume.array if image else None
        whole = preprocess.invert(pre, scan.record, values, outside=outside, intensity=image, order=0 if mask else 1)
        path = Path(folder) / f'{name}.nii.gz'
        volumes.write(path, whole > 0.5 if mask else whole, scan.volume.frame if image else first, dtype=np.uint8 if mask else np.float32)
        written.append(path)
    return written


def _volume(file: str, *, mask: bool = False) -> Volume:
    return pictures.read(file) if pictures.known(file) else volumes.read(file, mask=mask)


def _positive(volume: Volume) -> Volume:
    """The volume, whose 0 is black: centred values would lose what is below."""
    share = (volume.array < -BELOW * np.abs(volume.array).max()).mean()
    if share > OFTEN:
        raise UserError(
            f'{volume.frame.name}: {share:.0%} of its values are below 0, as of scans that were centred or are no magnitudes: '
            'give intensities as the scanner wrote them, from 0 on'
        )
    return volume


def _inspected(patient: Patient) -> Frame:
    """Of the whole scan; every file of it is there."""
    for file in (*patient.files, *([patient.mask] if patient.mask else [])):
        if not Path(file).exists():
            raise UserError(f'{file}: no such file: put it back, or leave out the patient {patient.name}')
    frame = _first(patient)
    return _frame(frame, len(patient.files) * frame.channels)


def _first(patient: Patient) -> Frame:
    file = patient.files[0]
    return pictures.read(file).frame if pictures.known(file) else volumes.inspect(file)


def _frame(frame: Frame, channels: int) -> Frame:
    if channels == frame.channels:
        return frame
    shape = (*(*frame.shape, 1)[:3], channels)
    header = frame.header.copy()
    header.set_data_shape(shape)
    return frame._replace(shape=shape, header=header)


def _same_grid(first: Volume, other: Volume) -> None:
    name, size = other.frame.name, other.array.shape[:3]
    if size != first.array.shape[:3]:
        raise UserError(f'{name}: of {size} voxels, {first.frame.name} of {first.array.shape[:3]}: bring them onto one grid')
    if not np.allclose(other.affine, first.affine, atol=SAME):
        raise UserError(f'{name}: lies elsewhere than {first.frame.name}, their affines differ: bring them onto one grid')


def _prepared(patient: Patient, pre: Preprocess) -> tuple[Path, dict[str, Any]]:
    """Where the slices of one scan are kept, made if they are not there, and what a manifest says of it."""
    files = [*patient.files, *([patient.mask] if patient.mask else [])]
    known = {'files': [{'name': Path(file).name, 'sha256': store.sha256(file)} for file in files], 'label': patient.label}
    key = digest(
        {'what': 'slices of patients, labels of files', **known, 'preprocess': preprocess.to_json(pre), 'dark': DARK, 'least': LEAST}
    )
    path = store.folder() / 'patients' / f'{key[:32]}.npy'
    try:
        np.load(path, mmap_mode='r')
    except (OSError, ValueError):  # absent, or damaged: make it again
        scan = examine(patient, pre)
        keep = scan.heads.mean((1, 2, 3)) >= LEAST
        labels = scan.ill[keep] if patient.mask else np.full(keep.sum(), bool(patient.label))
        fields = {
            'image': scan.images[keep].astype(np.float16),
            'mask': scan.lesions[keep],
            'brain': scan.heads[keep],
            'label': labels.astype(np.uint8),
        }
        table = np.empty(int(keep.sum()), [(name, each.dtype, each.shape[1:]) for name, each in fields.items()])
        for name, each in fields.items():
            table[name] = each
        store.save(path, table)
    return path, known
