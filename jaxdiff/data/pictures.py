"""Pictures of one slice: grey .jpg and .png files, and .npy arrays of numbers from 0 to 1, as volumes of one slice.

Rows run downwards in a picture and forwards in a patient, so that a picture is turned: its top is the front, its left the patient's left (as
drawn, the neurological convention). Nothing in a file is executed.
"""

import os
from pathlib import Path

import numpy as np

from jaxdiff.data import volumes
from jaxdiff.data.volumes import Volume
from jaxdiff.types import UserError

PAINTED, NUMBERS = ('.jpg', '.jpeg', '.png'), '.npy'
MOST = 2**26  # pixels
ROUNDING = 1e-3  # by which numbers may leave 0 to 1


def known(file: str | os.PathLike) -> bool:
    """Whether a name is that of a picture."""
    return Path(file).suffix.lower() in (*PAINTED, NUMBERS)


def read(file: str | os.PathLike) -> Volume:
    """(X, Y, 1, 1) float32 from 0 to 1. Raises `UserError` for what is no grey picture, and for numbers outside 0 to 1."""
    path = Path(file)
    rows = _numbers(path) if path.suffix.lower() == NUMBERS else _painted(path)
    array = np.ascontiguousarray(rows[::-1].T, np.float32)[..., None, None]
    frame = volumes.frame(array.shape[:3], np.eye(4), name=str(file))
    return Volume(array, np.eye(4), frame)


def _painted(path: Path) -> np.ndarray:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            mode, (width, height) = image.mode, image.size
            rows = np.asarray(image.convert('L') if mode == '1' else image, np.float32) if width * height <= MOST else None
    except FileNotFoundError:
        raise UserError(f'{path}: no such file: check the path') from None
    except Image.DecompressionBombError:
        raise UserError(f'{path}: of too many pixels, more than {MOST}: give a smaller picture') from None
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError):
        raise UserError(f'{path}: is no picture that can be read: copy or export it again') from None
    if rows is None:
        raise UserError(f'{path}: of {width} x {height} pixels: give a smaller picture')
    if mode not in ('L', '1', 'I', 'I;16'):
        raise UserError(f'{path}: has colours ({mode}): convert it to grey')
    return rows / (65535 if mode.startswith('I') else 255)


def _numbers(path: Path) -> np.ndarray:
    try:
        found = np.load(path, mmap_mode='r', allow_pickle=False)
    except FileNotFoundError:
        raise UserError(f'{path}: no such file: check the path') from None
    except (OSError, ValueError, EOFError):
        raise UserError(f'{path}: is no .npy file of numbers: write it with numpy.save') from None
    if not isinstance(found, np.ndarray):
        raise UserError(f'{path}: is an archive of arrays: write one array with numpy.save')
    if not found.size or found.ndim != 2 or found.dtype.kind not in 'biuf' or found.size > MOST:
        raise UserError(f'{path}: holds {found.dtype} of shape {found.shape}: numbers of one slice (rows, columns) are needed')
    values = np.array(found, np.float32)
    if not np.isfinite(values).all():
        raise UserError(f'{path}: holds NaN or infinite numbers: replace them')
    low, high = values.min(), values.max()
    if low < -ROUNDING or high > 1 + ROUNDING:
        raise UserError(f'{path}: holds values from {low:.4g} to {high:.4g}: normalise them to 0 to 1')
    return np.clip(values, 0, 1)
