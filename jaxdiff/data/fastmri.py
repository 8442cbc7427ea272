"""fastMRI files: k-space as the scanner gave it, one HDF5 file per volume (Zbontar et al., arXiv 1811.08839).

    kspace                  complex (slices, H, W), or (slices, coils, H, W)
    reconstruction_esc      (slices, h, w), of one coil; reconstruction_rss of several: what to compare with
    ismrmrd_header          XML: sizes of the encoded and of the reconstructed image, limits of the encoding
    mask                    (W,), in test files alone: the columns that were measured

Columns outside left <= w < right hold zeros that nobody measured, left = encoded.y // 2 - centre, right = left + maximum + 1     (1)
and no mask may sample them. Reconstructions are cropped to the reconstructed size, or to (W, W) where W is less.

Files are not trusted: links to other files are refused, so are XML entities, and one slice is read at a time.
"""

import os
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import numpy as np

from jaxdiff.data import coils
from jaxdiff.data.source import Source, divided
from jaxdiff.data.undersampling import within
from jaxdiff.types import UserError

MOST_SAMPLES = 2**28  # of one slice, 2 GiB
LONGEST_HEADER = 2**20  # bytes
TARGETS = ('reconstruction_rss', 'reconstruction_esc')


class Header(NamedTuple):
    """What a file says of itself."""

    name: str
    slices: int
    coils: int  # 1 for a single coil
    shape: tuple[int, int]  # (H, W) of k-space
    size: tuple[int, int]  # (h, w) of the reconstruction
    padding: tuple[int, int]  # (left, right) of equation (1)
    mask: np.ndarray | None  # (W,) bool
    target: str | None  # the dataset to compare with
    largest: float | None  # of the target, over the volume
    acquisition: str
    patient: str  # '' where the file does not say


class Slice(NamedTuple):
    """One slice: k-space (H, W, coils) complex64, columns (W,) bool that were measured, and the target (h, w) float32 if there is one."""

    kspace: np.ndarray
    columns: np.ndarray
    target: np.ndarray | None


def inspect(path: str | os.PathLike) -> Header:
    """Checks a file without reading its images. Raises UserError, one line, for whatever is missing or does not fit."""
    path = Path(path)
    with _opened(path) as file:
        kspace = _dataset(path, file, 'kspace', required=True)
        if kspace.ndim not in (3, 4) or not all(kspace.shape):
            raise UserError(f'{path}: kspace of shape {kspace.shape}: (slices, H, W) or (slices, coils, H, W) is needed')
        if kspace.dtype.kind != 'c':
            raise UserError(f'{path}: kspace holds {kspace.dtype}: complex numbers are needed')
        if prod(kspace.shape[1:]) > MOST_SAMPLES:
            raise UserError(f'{path}: kspace of shape {kspace.shape}: a slice is larger than {MOST_SAMPLES} samples')
        shape = kspace.shape[-2:]
        size, padding = _geometry(path, _dataset(path, file, 'ismrmrd_header', required=True), shape)
        mask = _dataset(path, file, 'mask')
        if mask is not None:
            if mask.shape != shape[1:]:
                raise UserError(f'{path}: mask of shape {mask.shape}: one value for each of {shape[1]} columns is needed')
            mask = mask[()] > 0
        target = next((name for name in TARGETS if file.get(name, getlink=True)), None)
        if target:
            found = _dataset(path, file, target)
            if found.ndim != 3 or found.shape[0] != kspace.shape[0] or prod(found.shape[1:]) > MOST_SAMPLES or found.dtype.kind != 'f':
                raise UserError(f'{path}: {target} of shape {found.shape} and {found.dtype}: real (slices, h, w) is needed')
            size = found.shape[1:]
        if any(few > many for few, many in zip(size, shape, strict=True)):
            size = (min(shape[1], shape[0]),) * 2
        largest = file.attrs.get('max')
        return Header(
            str(path), kspace.shape[0], kspace.shape[1] if kspace.ndim == 4 else 1, tuple(shape), tuple(size), padding, mask, target,
            None if largest is None else float(largest), str(file.attrs.get('acquisition', '')), str(file.attrs.get('patient_id', '')),
        )  # fmt: skip


def read(header: Header, number: int) -> Slice:
    """Slice `number` of a file that was inspected. Raises UserError where it cannot be read or is not finite."""
    path = Path(header.name)
    with _opened(path) as file:
        try:
            kspace = _dataset(path, file, 'kspace', required=True)[number].astype(np.complex64)
            target = file[header.target][number].astype(np.float32) if header.target else None
        except (OSError, ValueError, IndexError) as error:
            raise UserError(f'{path}: slice {number} cannot be read: {str(error).splitlines()[0]}') from None
    if not np.isfinite(kspace).all():
        raise UserError(f'{path}: NaN or infinite k-space (slice {number}): leave the file out')
    columns = within(np.ones(header.shape[1], bool) if header.mask is None else header.mask, header.padding)
    return Slice(np.moveaxis(kspace.reshape(-1, *header.shape), 0, -1), columns, target)


def crop(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The middle (h, w, ...) of (H, W, ...)."""
    first = [(n - few) // 2 for n, few in zip(image.shape, size, strict=False)]
    return image[first[0] : first[0] + size[0], first[1] : first[1] + size[1]]


def example(kspace: np.ndarray, size: tuple[int, int], columns: np.ndarray, *, lines: int = 24) -> dict[str, np.ndarray]:
    """An example of one size from k-space (H, W, coils), as if the cropped image had been measured.

    'image' (h, w, 2) float32, real and imaginary, of largest magnitude 1, several coils being joined by the sensitivities that `lines`
    central columns give; 'kspace' (h, w, coils) complex64 of the cropped coil images, divided by the same 'scale' (1,); 'columns' (w,) bool,
    those whose frequency was measured. Raises ValueError for k-space that is 0.
    """
    images = crop(coils.inverse_transform(kspace), size)
    cropped = coils.transform(images)
    image = images[..., 0] if images.shape[-1] == 1 else coils.combined(images, coils.estimated(cropped, min(lines, size[1])))[..., 0]
    scale = np.abs(image).max()
    if not scale > 0:
        raise ValueError('k-space is 0')
    places = np.clip(
        np.rint((np.arange(size[1]) - size[1] // 2) * len(columns) / size[1]).astype(int) + len(columns) // 2, 0, len(columns) - 1
    )
    image = (image / scale).astype(np.complex64)
    return {
        'image': np.stack([image.real, image.imag], -1),
        'kspace': (cropped / scale).astype(np.complex64),
        'columns': columns[places],
        'scale': np.array([scale], np.float32),
    }


def source(folder: str | os.PathLike) -> Source:
    """Every slice of the .h5 files in a folder, as `example` makes them, sorted by name.

    Raises UserError for a folder without such files, and for files of different sizes or numbers of coils."""
    return _slices(_headers(folder))


def sources(folder: str | os.PathLike, fractions: tuple[float, ...], seed: int = 0) -> tuple[Source, ...]:
    """The same in parts of these fractions, patients in one of them, see `source.divided`: whole files where they do not name a patient.

    To learn from and to judge by, so that UserError is raised for files that were measured in part, as those of test sets are."""
    headers = _headers(folder)
    for header in headers:
        if header.mask is not None and not header.mask[slice(*header.padding)].all():
            raise UserError(
                f'{header.name}: has a mask, so only part was measured: nothing can be learnt or judged by it; leave such files out'
            )
    parts = divided([header.patient or Path(header.name).name for header in headers], fractions, seed)
    return tuple(_slices(tuple(headers[place] for place in part)) for part in parts)


def coils_of(folder: str | os.PathLike) -> int:
    """Of the first .h5 file in a folder. Raises UserError for a folder without."""
    return inspect(_paths(folder)[0]).coils


def _headers(folder: str | os.PathLike) -> tuple[Header, ...]:
    headers = tuple(map(inspect, _paths(folder)))
    first = headers[0]
    for other in headers:
        if (other.size, other.coils) != (first.size, first.coils):
            raise UserError(
                f'{other.name}: {other.size} with {other.coils} coils, others {first.size} with {first.coils}: keep files of one kind'
            )
    return headers


def _paths(folder: str | os.PathLike) -> list[Path]:
    paths = sorted(path for path in Path(folder).glob('*.h5') if not path.name.startswith('.'))
    if not paths:
        raise UserError(f'{folder}: holds no file that ends in .h5: check the path after fastmri:')
    return paths


def _slices(headers: tuple[Header, ...]) -> Source:
    starts = np.cumsum([0, *(header.slices for header in headers)])

    def make(position: int) -> dict[str, np.ndarray]:
        if not 0 <= position < starts[-1]:
            raise IndexError(f'example {position} of {starts[-1]}')
        place = int(np.searchsorted(starts, position, side='right')) - 1
        one = read(headers[place], position - int(starts[place]))
        try:
            return example(one.kspace * one.columns[None, :, None], headers[place].size, one.columns)
        except ValueError as error:
            raise UserError(f'{headers[place].name}: slice {position - starts[place]}: {error}: leave the file out') from None

    files = [{'name': Path(header.name).name, 'bytes': os.path.getsize(header.name), 'slices': header.slices} for header in headers]
    return Source(int(starts[-1]), make, {'kind': 'fastmri', 'files': files})


@contextmanager
def _opened(path: Path):
    try:
        import h5py
    except ImportError:
        raise UserError(f"{path}: reading HDF5 needs h5py: pip install 'jaxdiff[formats]'") from None
    try:
        file = h5py.File(path, 'r')
    except OSError:
        raise UserError(f'{path}: is missing, or no HDF5 file: check the path') from None
    with file:
        yield file


def _dataset(path: Path, file, name: str, *, required: bool = False):
    import h5py

    link = file.get(name, getlink=True)
    if link is None:
        if required:
            raise UserError(f'{path}: holds no dataset {name}: give a file of fastMRI')
        return None
    found = file.get(name) if isinstance(link, h5py.HardLink) else None
    if not isinstance(found, h5py.Dataset) or found.external or found.is_virtual:
        raise UserError(f'{path}: {name} is not a dataset of this file itself: links are not followed')
    return found


def _geometry(path: Path, dataset, shape: tuple[int, int]) -> tuple[tuple[int, int], tuple[int, int]]:
    """The reconstructed size and equation (1) from the header."""
    root = _parsed(path, dataset)

    def value(*names: str) -> int:
        found = root.find('./{*}encoding/' + '/'.join('{*}' + name for name in names))
        try:
            return int(found.text)
        except (AttributeError, TypeError, ValueError):
            raise UserError(f'{path}: ismrmrd_header has no whole number at encoding/{"/".join(names)}') from None

    size = value('reconSpace', 'matrixSize', 'x'), value('reconSpace', 'matrixSize', 'y')
    limits = 'encodingLimits', 'kspace_encoding_step_1'
    left = value('encodedSpace', 'matrixSize', 'y') // 2 - value(*limits, 'center')
    right = left + value(*limits, 'maximum') + 1
    if not 0 <= left < right <= shape[1] or min(size) < 1:
        raise UserError(f'{path}: ismrmrd_header places columns {left} to {right} of {shape[1]}, and an image of {size}: they do not fit')
    return size, (left, right)


def _parsed(path: Path, dataset) -> ElementTree.Element:
    text = dataset[()] if dataset.shape == () else b''
    text = text.encode() if isinstance(text, str) else bytes(text)
    try:
        words = text.decode('utf-8')
        if len(text) > LONGEST_HEADER or '<!DOCTYPE' in words or '<!ENTITY' in words:
            raise UserError(f'{path}: ismrmrd_header declares a document type or is too long: it is not read')
        return ElementTree.fromstring(words)
    except (UnicodeDecodeError, ElementTree.ParseError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f'{path}: ismrmrd_header is no XML') from None
