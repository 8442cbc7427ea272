"""Folders of files as sources of examples.

An index is the frames of the files, every header checked; subjects are split, never their files or slices, so that nobody is on both sides.
Reading a compressed file takes seconds and a training run asks for every example many times: each file is therefore prepared once
and kept, uncompressed, under a name that is the digest of its content and of how it was prepared.
"""

import os
import re
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from jaxdiff.data import preprocess, store, volumes
from jaxdiff.data.intensity import FOREGROUND
from jaxdiff.data.preprocess import Preprocess
from jaxdiff.data.source import Source, digest, divided
from jaxdiff.data.volumes import Frame
from jaxdiff.types import UserError

Index = tuple[Frame, ...]

MOST_WORKERS = 4  # each holds a volume and a few copies of it
LEAST = 0.01  # of a slice that must be foreground for a model of slices to learn from it


def nifti(folder: str | os.PathLike) -> Index:
    """The frames of all .nii and .nii.gz files in a folder and its subfolders, sorted by name; hidden files and folders are left out.

    Links are followed. The path of one file is an index of one.

    Raises:
      UserError: for a folder that is missing or empty, a header that is wrong, or files of different numbers of channels.
    """
    folder = Path(folder)
    if not folder.exists():
        raise UserError(f'{folder}: no such folder: check the path after nifti:')
    paths = _files(folder) if folder.is_dir() else [folder]
    if not paths:
        raise UserError(f'{folder}: holds no file that ends in {" or ".join(volumes.SUFFIXES)}: check the path after nifti:')
    index = tuple(map(volumes.inspect, paths))
    first = index[0]
    for other in index:
        if other.channels != first.channels:
            counts = f'{first.name} has {first.channels}, {other.name} has {other.channels}'
            raise UserError(f'{folder}: mixed channel counts, {counts}: keep files of one kind in the folder')
    return index


def split(index: Index, fractions: Sequence[float], seed: int = 0) -> tuple[Index, ...]:
    """Parts of an index in the given fractions, disjoint by subject, at least one subject each.

    A subject's place follows from the seed and its name, so that adding files moves few of the others.

    Raises:
      UserError: for fewer files than parts.
    """
    return tuple(tuple(index[place] for place in part) for part in divided(subjects(index), fractions, seed))


def subjects(index: Index) -> list[str]:
    """Who each file shows: the first 'sub-<label>' in its path below the folder that holds all, as BIDS has it, or else the file itself."""
    return [match[0] if (match := re.search(r'(?<![^/_])sub-[A-Za-z0-9]+', name)) else name for name in _names(index)]


def source(index: Index, pre: Preprocess, *, dtype: str = 'float32') -> Source:
    """The examples of the files: whole volumes, or slices but for those with next to no foreground.

    Every file is read before this returns, so that what is wrong with any of them is told before anything is started.

    Args:
      dtype: of the files that are kept, 'float32' or, in half the space, 'float16'.

    Raises:
      UserError: for a file that cannot be read, is outside what `pre` was fitted on, or has no slice with foreground; and for a
        cache folder that cannot be written.
    """
    from tqdm import tqdm

    quiet = 0.1 if sys.stderr.isatty() else 30
    with ThreadPoolExecutor(min(MOST_WORKERS, os.cpu_count() or 1)) as pool:
        prepared = pool.map(lambda frame: _prepared(frame, pre, dtype), index)
        files, kept = zip(*tqdm(prepared, desc='preparing', total=len(index), unit='file', mininterval=quiet), strict=True)
    starts = np.cumsum([0, *(file['examples'] for file in files)])

    def example(position: int) -> dict[str, np.ndarray]:
        if not 0 <= position < starts[-1]:
            raise IndexError(f'example {position} of {starts[-1]}')
        place = int(np.searchsorted(starts, position, side='right')) - 1
        return {'image': np.load(kept[place], mmap_mode='r')[position - starts[place]].astype(np.float32)}

    named = [{'name': name, **file} for name, file in zip(_names(index), files, strict=True)]
    manifest = {'kind': 'nifti', 'files': named, 'preprocess': preprocess.to_json(pre), 'dtype': dtype}
    return Source(int(starts[-1]), example, manifest)


def _files(folder: Path) -> list[Path]:
    found, seen = [], set()
    for here, folders, names in os.walk(folder, followlinks=True):
        if os.path.realpath(here) in seen:  # a link to a folder above
            folders.clear()
            continue
        seen.add(os.path.realpath(here))
        folders[:] = sorted(name for name in folders if not name.startswith('.'))
        found += [Path(here, name) for name in names if name.lower().endswith(volumes.SUFFIXES) and not name.startswith('.')]
    return sorted(found)


def _names(index: Index) -> list[str]:
    """The files' names below the folder that holds them all, so that a moved folder keeps its digest."""
    root = os.path.commonpath([os.path.dirname(os.path.abspath(frame.name)) for frame in index])
    return [Path(os.path.relpath(os.path.abspath(frame.name), root)).as_posix() for frame in index]


def _prepared(frame: Frame, pre: Preprocess, dtype: str) -> tuple[dict, Path]:
    """What the manifest says of one file, and where its examples are kept: made if they are not there."""
    sha256 = store.sha256(frame.name)
    key = digest({'content': sha256, 'preprocess': preprocess.to_json(pre), 'dtype': dtype, 'least': LEAST})
    path = store.folder() / 'nifti' / f'{key[:32]}.npy'
    try:
        count = len(np.load(path, mmap_mode='r'))
    except (OSError, ValueError):  # absent, or damaged: make it again
        examples, _ = preprocess.apply(pre, volumes.read(frame.name))
        if pre.dims == 2:
            examples = examples[(examples > FOREGROUND).any(axis=-1).mean(axis=(1, 2)) >= LEAST]
        count = len(examples)
        if not count:
            raise UserError(f'{frame.name}: no slice has foreground: give an image that has, or other intensity limits') from None
        store.save(path, examples.astype(dtype))
    return {'bytes': os.path.getsize(frame.name), 'sha256': sha256, 'examples': count}, path
