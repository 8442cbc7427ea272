"""NIfTI in and out: canonical inside, the input's own frame on the way out.

A file holds values on a grid of voxel indices i and an affine A with millimetres = A i, the axes of the patient being right,
anterior, superior (RAS). Reading permutes and mirrors the grid's axes by the signed permutation P that brings them nearest to RAS

    array = P(file),    A_array = A P^-1,                                                            (1)

and never resamples, so that an oblique grid stays oblique and writing undoes reading exactly. The frame keeps A bit for bit, the
qform and sform with their codes, the shape with its number of axes, and the units.

A file is not trusted. Its header is checked before any voxel is read: a plain file must be as long as its header says, and a
compressed one cannot hold more than deflate's largest ratio allows, so a small file that declares a terabyte costs nothing.
"""

import gzip
import logging
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import BinaryIO, NamedTuple

import nibabel as nib
import numpy as np
from nibabel.orientations import apply_orientation, inv_ornt_aff, io_orientation, ornt_transform
from nibabel.spatialimages import HeaderDataError

from jaxdiff.types import UserError

SUFFIXES = ('.nii', '.nii.gz')
MOST_VOXELS = 2**32  # 16 GiB as float32
DEFLATE_RATIO = 1032  # the most that a byte of deflate can become
NEVER = logging.CRITICAL + 1  # above every level: what nibabel mends in a header is not worth a line
SILENT = logging.Logger('nifti', level=NEVER)
RAS = np.array([[0, 1], [1, 1], [2, 1]], np.float64)


class Frame(NamedTuple):
    """How a file lays its voxels out: all that is needed to write something back onto its grid."""

    name: str  # where it was read from, for messages
    shape: tuple[int, ...]  # of the file, two axes to four
    affine: np.ndarray  # (4, 4) float64 of the file
    header: nib.Nifti1Header

    @property
    def orientation(self) -> np.ndarray:
        """(3, 2): the axis of RAS that each axis of the file runs along, and its sign."""
        return io_orientation(self.affine)

    @property
    def size(self) -> tuple[int, int, int]:
        """The spatial shape in canonical order."""
        spatial = (*self.shape, 1)[:3]
        return tuple(spatial[axis] for axis in np.argsort(self.orientation[:, 0]))

    @property
    def channels(self) -> int:
        return self.shape[3] if len(self.shape) > 3 else 1

    @property
    def spacing(self) -> np.ndarray:
        """(3,) millimetres between voxels along the canonical axes."""
        return nib.affines.voxel_sizes(self.affine)[np.argsort(self.orientation[:, 0])]

    @property
    def canonical_affine(self) -> np.ndarray:
        """(4, 4) of the canonical array, equation (1)."""
        return self.affine @ inv_ornt_aff(self.orientation, (*self.shape, 1)[:3])


class Volume(NamedTuple):
    """A canonical array (X, Y, Z, C) float32, the affine of its grid and the frame of its file."""

    array: np.ndarray
    affine: np.ndarray
    frame: Frame


def frame(shape: tuple[int, ...], affine: np.ndarray, *, name: str = 'array') -> Frame:
    """A frame for what came from no file: `shape` of two axes to four (the last of four is channels), `affine` (4, 4) in mm."""
    header = nib.Nifti1Header()
    header.set_data_shape(shape)
    header.set_qform(affine, code='aligned')
    header.set_sform(affine, code='aligned')
    header.set_xyzt_units('mm')
    return Frame(name, tuple(shape), header.get_best_affine(), header)


def read(path: str | os.PathLike, *, mask: bool = False) -> Volume:
    """Reads a NIfTI file, scaled by its slope and intercept, into canonical order.

    A 2-D file becomes an array with one axis of length 1, the fourth axis of a file becomes the channels. A `mask` may be
    constant, an image may not.

    Raises:
      UserError: one line with the file and the remedy, for whatever is not a finite real image of two to four axes.
    """
    layout = inspect(path)
    array = np.empty((*layout.shape, 1, 1)[:4], np.float32, order='F')
    slabs = np.moveaxis(array.reshape(*layout.shape[:2], -1, order='F'), -1, 0)
    dtype, (slope, inter) = layout.header.get_data_dtype(), _scaling(layout.name, layout.header)
    with _opened(layout.name) as stream:
        stream.seek(_offset(layout.name, layout.header))
        for number, slab in enumerate(slabs):
            block = stream.read(slab.size * dtype.itemsize)
            if len(block) < slab.size * dtype.itemsize:
                raise _truncated(layout.name)
            values = np.frombuffer(block, dtype).reshape(slab.shape, order='F')
            with np.errstate(over='ignore', invalid='ignore'):
                slab[:] = values if slope is None else values * np.float64(slope) + np.float64(inter)
            if not np.isfinite(slab).all():
                raise UserError(f'{layout.name}: NaN or infinite voxels (slice {number}): replace them, as numpy.nan_to_num does')
        stream.read(1)  # at the end of a gzip stream this compares its checksum
    if not mask and array.min() == array.max():
        raise UserError(f'{layout.name}: every voxel is {array.flat[0]:g}: give an image that is not constant')
    canonical = np.ascontiguousarray(apply_orientation(array, layout.orientation))
    return Volume(canonical, layout.canonical_affine, layout)


def write(path: str | os.PathLike, array: np.ndarray, frame: Frame, *, dtype: type = np.float32) -> None:
    """Writes a canonical array (X, Y, Z, C) onto the grid of `frame`; afterwards the whole file is there or none.

    The file has the axes of the frame's, without the fourth for one channel where the frame has several, and with C of them
    where the numbers differ. Integer `dtype`s round. Header extensions stay behind: they may hold the patient's name.
    """
    path = Path(path)
    if not path.name.endswith(SUFFIXES):
        raise UserError(f'{path}: can only write NIfTI: let the name end in {" or ".join(SUFFIXES)}')
    if array.ndim != 4 or array.shape[:3] != frame.size:
        raise ValueError(f'{array.shape} is not (*{frame.size}, channels), the grid of {frame.name}')
    own = apply_orientation(array, ornt_transform(RAS, frame.orientation))
    channels = array.shape[3]
    shape = frame.shape if channels == frame.channels else (*own.shape[:3], channels) if channels > 1 else frame.shape[:3]
    own = own.reshape(shape)
    header = frame.header.copy()
    header.set_data_dtype(dtype)
    header.set_slope_inter(1, 0)
    header['cal_min'] = header['cal_max'] = 0  # the display window of other values
    if shape != frame.shape:  # setting the shape forgets the zooms of further axes, which a 2-D file's qform needs
        header.set_data_shape(shape)
        header['pixdim'][4] = 1
    kind = nib.Nifti2Image if isinstance(header, nib.Nifti2Header) else nib.Nifti1Image
    values = np.rint(own) if np.issubdtype(dtype, np.integer) else own
    image = kind(values.astype(dtype), frame.affine, header)
    unfinished = path.with_name(f'.{os.getpid()}-{path.name}')
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            image.to_filename(unfinished)
            os.replace(unfinished, path)
        finally:
            unfinished.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f'{path}: cannot be written ({error.strerror}): choose a folder with space and permission') from error


def inspect(path: str | os.PathLike) -> Frame:
    """Reads and checks a header: what can be known of a file without its voxels.

    Raises:
      UserError: one line with the file and the remedy.
    """
    name = str(path)
    if not name.lower().endswith(SUFFIXES):
        raise UserError(f'{name}: not a NIfTI name: give a file that ends in {" or ".join(SUFFIXES)}')
    with _opened(name) as stream:
        header = _header(name, stream.read(nib.Nifti2Header.template_dtype.itemsize))
        ratio = DEFLATE_RATIO if isinstance(stream, gzip.GzipFile) else 1
    shape = _shape(name, header)
    voxels, length = prod(shape), os.path.getsize(name)
    declared = _offset(name, header) + voxels * _dtype(name, header).itemsize
    if declared > ratio * length:
        raise _truncated(name, f' (its header declares {declared:,} bytes, it has {length:,})')
    if voxels > MOST_VOXELS:
        raise UserError(f'{name}: declares {voxels:.3g} voxels, the most is {MOST_VOXELS:.3g}: crop or downsample it')
    return Frame(name, shape, _affine(name, header), header)


@contextmanager
def _opened(name: str) -> Iterator[BinaryIO]:
    """A file open for reading, decompressed if it is gzip whatever its name; its defects in the user's words."""
    try:
        with open(name, 'rb') as file:
            packed = file.read(2) == b'\x1f\x8b'
        with gzip.open(name) if packed else open(name, 'rb') as stream:
            yield stream
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise _truncated(name) from error
    except OSError as error:
        raise UserError(f'{name}: {error.strerror or error}: check the path and its permissions') from error


def _truncated(name: str, why: str = '') -> UserError:
    return UserError(f'{name}: truncated or damaged{why}: copy or download it again')


def _header(name: str, start: bytes) -> nib.Nifti1Header:
    for kind in (nib.Nifti1Header, nib.Nifti2Header):
        block = start[: kind.template_dtype.itemsize]
        if len(block) == kind.template_dtype.itemsize:
            header = kind(block, check=False)
            if header['sizeof_hdr'] == kind.sizeof_hdr and header['magic'].item() == kind.single_magic.rstrip(b'\0'):
                header.check_fix(logger=SILENT, error_level=NEVER)  # as nibabel does when it loads: negative zooms, unknown codes
                return header
    raise UserError(f'{name}: not a NIfTI file whatever its name: convert it, for instance with dcm2niix or nibabel')


def _shape(name: str, header: nib.Nifti1Header) -> tuple[int, ...]:
    axes = int(header['dim'][0])
    shape = tuple(int(size) for size in header['dim'][1 : axes + 1])
    if not 2 <= axes <= 4:
        raise UserError(f'{name}: has {axes} dimensions {shape}: give an image of 2 or 3, or 4 with channels last')
    if min(shape) < 1:
        raise UserError(f'{name}: has a dimension without size in {shape}: export the image again')
    return shape


def _dtype(name: str, header: nib.Nifti1Header) -> np.dtype:
    code = int(header['datatype'])
    try:
        dtype = header.get_data_dtype()
    except (HeaderDataError, KeyError):
        dtype = np.dtype('V')
    if dtype.kind not in 'iuf':
        label = nib.nifti1.data_type_codes.label.get(code, code)
        raise UserError(f'{name}: has voxels of type {label}: convert them to real numbers, one channel along the fourth dimension each')
    return dtype


def _offset(name: str, header: nib.Nifti1Header) -> int:
    offset = header['vox_offset']
    if not 0 <= offset < 2**40:
        raise _truncated(name, f' (its voxels start at byte {offset})')
    return max(int(offset), type(header).single_vox_offset)


def _scaling(name: str, header: nib.Nifti1Header) -> tuple[float | None, float | None]:
    try:
        return header.get_slope_inter()
    except HeaderDataError as error:
        raise UserError(f'{name}: {error}: mend scl_slope and scl_inter in its header') from error


def _affine(name: str, header: nib.Nifti1Header) -> np.ndarray:
    try:
        affine = header.get_best_affine()
        regular = np.isfinite(affine).all() and np.linalg.cond(affine[:3, :3]) < 1e6
    except (HeaderDataError, ValueError, np.linalg.LinAlgError):
        regular = False
    if not regular:
        raise UserError(f'{name}: its affine cannot be inverted: mend the voxel sizes, the qform or the sform in its header')
    return affine
