"""What `--data` names: sources to train, validate and test on, split by subject, with how they were prepared.

brain            a virtual population warped from the MNI152 head (brains)
phantom          parametric ellipses with known truth (phantoms)
nifti:<folder>   the user's own files (layouts)
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jaxdiff.data import brains, layouts, phantoms, preprocess, scope
from jaxdiff.data.source import Source
from jaxdiff.types import UserError

SLICES = 12  # of each virtual brain, around the ventricles
HEAD = (0.0, -17.0, 9.0)  # mm, the middle of the head
VALIDATION, TEST = (
    100_000,
    200_000,
)  # first subject of each split of a population: whatever the size of the others up to that, they share nobody


class Dataset(NamedTuple):
    """Three sources of disjoint subjects."""

    train: Source
    validation: Source
    test: Source
    preprocess: preprocess.Preprocess

    @property
    def manifest(self) -> dict[str, Any]:
        """What the three are, JSON."""
        return {split: getattr(self, split).manifest for split in ('train', 'validation', 'test')}

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one image, channels last."""
        return self.train.example(0)['image'].shape


def open_dataset(
    spec: str,
    *,
    dims: int = 2,
    size: int = 64,
    spacing: float = 3.0,
    contrast: str = 'T1',
    subjects: int = 500,
    held_out: int = 60,
    seed: int = 0,
) -> Dataset:
    """Open what `spec` names, for models of `dims` axes of `size` voxels each.

    `spacing` (mm), `contrast` and the numbers of subjects are for populations that are made; files bring their own, and `size=0` takes theirs too.
    Raises `UserError` for an unknown spec and for whatever is wrong with the files.
    """
    name, _, where = spec.partition(':')
    if name == 'brain' and not where:
        return brain(dims=dims, size=size, spacing=spacing, contrast=contrast, subjects=subjects, held_out=held_out, seed=seed)
    if name == 'phantom' and not where and dims == 2:
        return phantom(size=size, contrast=contrast, subjects=subjects, held_out=held_out, seed=seed)
    if name == 'nifti' and where:
        return nifti(Path(where), dims=dims, size=size, seed=seed)
    raise UserError(f"--data={spec}: choose 'brain', 'phantom' (2-D only) or nifti:<folder>")


def brain(*, dims: int, size: int, spacing: float, contrast: str, subjects: int, held_out: int, seed: int) -> Dataset:
    """Virtual brains: axial slices of (size, size), or volumes of size^3; intensities are 0 to 1."""
    common = dict(seed=seed, contrasts=(contrast,), spacing=(spacing,) * 3)
    shape, centre = ((size, size, SLICES), brains.Recipe().centre) if dims == 2 else ((size,) * 3, HEAD)
    recipe = brains.Recipe(**common, shape=shape, centre=centre)
    make = brains.slices if dims == 2 else brains.volumes
    sources = make(recipe, 0, subjects), make(recipe, VALIDATION, held_out), make(recipe, TEST, held_out)
    return Dataset(*sources, made(dims, recipe.shape, recipe.spacing))


def phantom(*, size: int, contrast: str, subjects: int, held_out: int, seed: int) -> Dataset:
    """Healthy phantom slices of (size, size); intensities are 0 to 1."""
    make = lambda first, count: phantoms.slices(phantoms.Recipe(seed=seed, size=size, contrasts=(contrast,)), first, count)
    return Dataset(make(0, subjects), make(VALIDATION, held_out), make(TEST, held_out), made(2, (size, size, 1), (1.0, 1.0, 1.0)))


def cohort(recipes: Sequence[phantoms.Recipe], *, subjects: int, held_out: int) -> Dataset:
    """Phantoms of several kinds in turn, see `phantoms.cohort`; intensities are 0 to 1."""
    size, channels = recipes[0].size, len(recipes[0].contrasts)
    sources = [phantoms.cohort(recipes, first, count) for first, count in ((0, subjects), (VALIDATION, held_out), (TEST, held_out))]
    one = made(2, (size, size, 1), (1.0, 1.0, 1.0))
    return Dataset(*sources, one._replace(channels=channels, low=one.low * channels, high=one.high * channels))


def nifti(folder: Path, *, dims: int, size: int, seed: int) -> Dataset:
    """The user's files, three quarters to train on; every one is read and checked before this returns."""
    index = layouts.nifti(folder)
    parts = layouts.split(index, (0.75, 0.1, 0.15), seed)
    pre = preprocess.fit(parts[0], dims=dims, shape=(size,) * dims if size else None, spacing='cover' if size else 'median')
    return Dataset(*(layouts.source(part, pre) for part in parts), pre)


def made(dims: int, shape: tuple[int, ...], spacing: tuple[float, ...]) -> preprocess.Preprocess:
    """What files of generated subjects look like: fixed units, one field of view."""
    extent = tuple(n * mm for n, mm in zip(shape, spacing, strict=True))
    seen = scope.Seen((spacing, spacing), (extent, extent), ((0.0, 1.0),))
    return preprocess.Preprocess(dims, shape[:dims], 1, spacing[:dims], 'field', 'fixed', (0.0,), (1.0,), seen)
