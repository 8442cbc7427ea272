"""Examples that are made once and kept: one memory-mapped file of fixed-size records per manifest.

The file `<folder>/<digest of the manifest>.npy` is an uncompressed structured array, written beside its place and renamed
when complete, so that a reader sees all of it or nothing. Images in [-1, 1] are kept as 16-bit integers (a step of 3e-5).
The folder is $JAXDIFF_CACHE, else jaxdiff in $XDG_CACHE_HOME or ~/.cache.
"""

import hashlib
import os
import sys
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from jaxdiff.data.source import Source, digest
from jaxdiff.types import UserError

_LEVELS = np.float32(65535)


def folder() -> Path:
    """Where records are kept."""
    general = os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache'
    return Path(os.environ.get('JAXDIFF_CACHE') or Path(general) / 'jaxdiff')


def stored(manifest: dict, indices: range, make: Callable[[int], dict[str, np.ndarray]], *, title: str, keep: bool = True) -> Source:
    """The examples that `make` gives for each index, in order, made by one thread per core.

    make: pure; index -> arrays with a leading axis of examples, 'image' in [-1, 1], masks bool; the same shapes for every index.
    keep=False makes them anew and in memory. Raises UserError when the folder cannot be written."""
    path = folder() / f'{digest(manifest)[:32]}.npy'
    if not keep:
        table = _fill(lambda dtype, size: np.empty(size, dtype), indices, make, title)
        return Source(len(table), lambda i: _decode(table[i]), manifest)
    table = _open(path)
    if table is None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _write(path, indices, make, title)
        except OSError as error:
            raise UserError(
                f'cannot keep the data in {path.parent} ({error.strerror}); set JAXDIFF_CACHE to a folder with space'
            ) from error
        table = _open(path)
    return Source(len(table), lambda i: _decode(table[i]), manifest)


def save(path: Path, array: np.ndarray) -> None:
    """Keep one array as .npy: afterwards the whole file is there or none. Raises UserError when the folder cannot be written."""
    unfinished = path.with_suffix(f'.{uuid.uuid4().hex}.partial')
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(unfinished, 'wb') as file:
                np.save(file, array)
            os.replace(unfinished, path)
        finally:
            unfinished.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f'{path.parent}: cannot be written ({error.strerror}): set JAXDIFF_CACHE to a folder with space') from error


def sha256(file: str | os.PathLike) -> str:
    """Of a file's content, in hexadecimal. Raises UserError when it cannot be read."""
    try:
        with open(file, 'rb') as stream:
            return hashlib.file_digest(stream, 'sha256').hexdigest()
    except OSError as error:
        raise UserError(f'{file}: {error.strerror}: check the path and its permissions') from error


def _open(path: Path) -> np.ndarray | None:
    try:
        return np.load(path, mmap_mode='r')
    except (OSError, ValueError, EOFError):  # absent, or cut short by a full disk: make it again
        return None


def _write(path: Path, indices: range, make, title: str) -> None:
    partial = path.with_suffix(f'.{uuid.uuid4().hex}.partial')  # processes of several hosts may share a number
    try:
        table = _fill(lambda dtype, size: np.lib.format.open_memmap(partial, 'w+', dtype, (size,)), indices, make, title)
        table.flush()
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _fill(allocate: Callable[[np.dtype, int], np.ndarray], indices: range, make, title: str) -> np.ndarray:
    from tqdm import tqdm

    first = _encode(make(indices[0]))
    n = len(first)
    table = allocate(first.dtype, n * len(indices))
    table[:n] = first

    def place(position: int) -> None:
        table[position * n : (position + 1) * n] = _encode(make(indices[position]))

    bar = tqdm(total=len(indices), initial=1, desc=title, unit='subject', mininterval=0.1 if sys.stderr.isatty() else 30)
    with bar, ThreadPoolExecutor(os.cpu_count()) as pool:
        for _ in pool.map(place, range(1, len(indices))):
            bar.update()
    return table


def _encode(arrays: dict[str, np.ndarray]) -> np.ndarray:
    packed = {name: _pack(name, array) for name, array in arrays.items()}
    size = len(next(iter(packed.values())))
    records = np.empty(size, [(name, array.dtype, array.shape[1:]) for name, array in packed.items()])
    for name, array in packed.items():
        records[name] = array
    return records


def _pack(name: str, array: np.ndarray) -> np.ndarray:
    return np.rint((np.clip(array, -1, 1) + 1) / 2 * _LEVELS).astype(np.uint16) if name == 'image' else array


def _decode(record: np.void) -> dict[str, np.ndarray]:
    return {name: _unpack(name, record[name]) for name in record.dtype.names}


def _unpack(name: str, array: np.ndarray) -> np.ndarray:
    if name == 'image':
        return array.astype(np.float32) * (2 / _LEVELS) - 1
    return array.astype(np.float32) if array.dtype == bool else np.array(array)
