"""Images whose k-space is made: what a scanner would have measured of a magnitude, or of a complex image, as examples like those of fastMRI.

A magnitude has lost its phase; it is given a smooth one, exp(i strength f) (`coils.phase`), since reconstruction from real images is
easier than from what scanners measure: half of k-space would tell the other half.

    of_images    any source of images in [-1, 1], such as slices of NIfTI volumes or phantoms
    arrays       folders of .npy files, one slice (X, Y) each, magnitudes of any unit or complex: score-MRI's <folder>/<volume>/<slice>.npy

Everything is drawn from the position in the source (`of_images`) or the file's name (`arrays`): an example is the same whenever it is read.
"""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jaxdiff.data import coils
from jaxdiff.data.source import Source, divided
from jaxdiff.types import UserError

COILS, VARIANCE, STRENGTH = 1, 0.0, 1.0


def example(
    rng: np.random.Generator,
    image: np.ndarray,
    *,
    number: int = COILS,
    variance: float = VARIANCE,
    strength: float = STRENGTH,
) -> dict[str, np.ndarray]:
    """What `fastmri.example` gives, of an image (X, Y): a magnitude, which gets a phase, or complex.

    Args:
        number: of coils; several are a birdcage, whose 'sensitivities' (X, Y, number) the example then has too.
        variance: E |n|^2 of the noise of each coil, where the largest magnitude is 1.
        strength: largest phase, radians.

    Raises ValueError for an image that is 0.
    """
    largest = np.abs(image).max()
    if not largest > 0:
        raise ValueError('the image is 0')
    whole = image / largest
    if not np.iscomplexobj(whole):
        whole = whole * coils.phase(rng, whole.shape, strength=strength)
    whole = whole.astype(np.complex64)
    sensitivities = None if number == 1 else coils.birdcage(whole.shape, number)
    kspace = coils.measured(rng, whole, sensitivities=sensitivities, covariance=variance)
    found = {
        'image': np.stack([whole.real, whole.imag], -1),
        'kspace': kspace,
        'columns': np.ones(whole.shape[1], bool),
        'scale': np.array([largest], np.float32),
    }
    return found if sensitivities is None else {**found, 'sensitivities': sensitivities}


def of_images(images: Source, *, seed: int = 0, number: int = COILS, variance: float = VARIANCE, strength: float = STRENGTH) -> Source:
    """K-space of slices (X, Y, 1) in [-1, 1], whose -1 is no signal. Raises UserError for volumes, and for a slice without signal."""
    _check(number, variance)

    def make(index: int) -> dict[str, np.ndarray]:
        image = images.example(index)['image']
        if image.ndim != 3 or image.shape[-1] != 1:
            raise UserError(f'k-space of images of shape {image.shape}: slices (X, Y, 1) are needed')
        try:
            return example(
                np.random.default_rng([seed, index]), (image[..., 0] + 1) / 2, number=number, variance=variance, strength=strength
            )
        except ValueError as error:
            raise UserError(f'slice {index}: {error}: leave it out') from None

    return Source(images.size, make, {**_said(number, variance, strength), 'seed': seed, 'images': images.manifest})


def arrays(folder: str | os.PathLike, *, number: int = COILS, variance: float = VARIANCE, strength: float = STRENGTH) -> Source:
    """K-space of every .npy file in a folder and its folders, sorted by name.

    Nothing in a file is executed. Raises UserError for a folder without such files, for files that are no numbers of shape (X, Y), that
    differ in size, that are negative, 0 or not finite.
    """
    return _arrays(Path(folder), _paths(folder), number, variance, strength)


def folders(
    folder: str | os.PathLike,
    fractions: Sequence[float],
    seed: int = 0,
    *,
    number: int = COILS,
    variance: float = VARIANCE,
    strength: float = STRENGTH,
) -> tuple[Source, ...]:
    """The same in parts of these fractions, slices of one folder in one of them, see `source.divided`."""
    paths = _paths(folder)
    volumes = [path.parent.relative_to(folder).as_posix() for path in paths]
    if len(set(volumes)) < len(fractions):
        raise UserError(
            f'{folder}: holds slices of {len(set(volumes))} folders: give each volume a folder of its own, {len(fractions)} at least'
        )
    parts = divided(volumes, fractions, seed)
    return tuple(_arrays(Path(folder), [paths[place] for place in part], number, variance, strength) for part in parts)


def _paths(folder: str | os.PathLike) -> list[Path]:
    paths = sorted(path for path in Path(folder).rglob('*.npy') if not path.name.startswith('.'))
    if not paths:
        raise UserError(f'{folder}: holds no file that ends in .npy: check the path')
    shapes = [_opened(path).shape for path in paths]
    for path, shape in zip(paths, shapes, strict=True):
        if shape != shapes[0]:
            raise UserError(f'{path}: of shape {shape}, others {shapes[0]}: keep slices of one size')
    return paths


def _arrays(folder: Path, paths: Sequence[Path], number: int, variance: float, strength: float) -> Source:
    _check(number, variance)

    def make(index: int) -> dict[str, np.ndarray]:
        path = paths[index]
        image, name = np.array(_opened(path)), path.relative_to(folder).as_posix()
        if not np.isfinite(image).all() or (not np.iscomplexobj(image) and image.min() < 0):
            raise UserError(f'{path}: holds NaN, infinite or negative numbers: magnitudes from 0 on, or complex numbers, are needed')
        try:
            return example(np.random.default_rng(list(name.encode())), image, number=number, variance=variance, strength=strength)
        except ValueError as error:
            raise UserError(f'{path}: {error}: leave the file out') from None

    files = [{'name': path.relative_to(folder).as_posix(), 'bytes': path.stat().st_size} for path in paths]
    return Source(len(paths), make, {**_said(number, variance, strength), 'files': files})


def _said(number: int, variance: float, strength: float) -> dict:
    return {'kind': 'simulated k-space', 'coils': number, 'variance': variance, 'strength': strength}


def _check(number: int, variance: float) -> None:
    if number < 1 or not variance >= 0:
        raise UserError(f'k-space of {number} coils with noise of variance {variance}: at least one coil, and at least 0, are needed')


def _opened(path: Path) -> np.ndarray:
    try:
        found = np.load(path, mmap_mode='r', allow_pickle=False)
    except (OSError, ValueError, EOFError):
        raise UserError(f'{path}: is no .npy file of numbers: write it with numpy.save') from None
    if found.ndim != 2 or found.dtype.kind not in 'iufc':
        raise UserError(f'{path}: holds {found.dtype} of shape {found.shape}: numbers of one slice (X, Y) are needed')
    return found
