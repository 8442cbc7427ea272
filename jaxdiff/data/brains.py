"""A virtual population of brains, warped out of the MNI152 head that nilearn carries: real anatomy without a download.

Subject i of population s is a pure function of (s, i): a person (`anatomy`), images synthesised from its tissues (`contrasts`)
and if asked a lesion (`lesions`). Only the voxels asked for are computed. World coordinates are millimetres, RAS+.
"""

from typing import NamedTuple

import numpy as np

from jaxdiff.data import contrasts, lesions
from jaxdiff.data.anatomy import RANGES, Anatomy, Tissue, anatomy, look, points
from jaxdiff.data.source import Source
from jaxdiff.data.store import stored
from jaxdiff.data.templates import fingerprint, templates
from jaxdiff.types import UserError

GENERATOR = 1  # to be raised when the same recipe gives other brains
LABELS = ('background', 'fluid', 'grey', 'white', 'ventricle')
LESIONS = (*lesions.KINDS, 'mixed')


class Recipe(NamedTuple):
    """What to make of every subject. The default field of view holds every head and the ventricles."""

    seed: int = 0  # of the population
    contrasts: tuple[str, ...] = ('T1',)  # names of contrasts.CONTRASTS, one channel each
    spacing: tuple[float, ...] = (3.0, 3.0, 3.0)  # mm
    shape: tuple[int, ...] = (64, 64, 12)  # voxels
    centre: tuple[float, ...] = (0.0, -17.0, 10.5)  # world coordinates of the middle of the field of view, mm
    lesion: str | None = None  # of LESIONS; 'mixed' is a tumour (bright on T1) or a stroke (dark) with equal chance


class Subject(NamedTuple):
    """A subject on the recipe's grid (X, Y, Z)."""

    image: np.ndarray  # (X, Y, Z, C) float32 in [0, 1], exactly 0 outside the head
    tissues: np.ndarray  # (X, Y, Z, 3) float32 probabilities of grey, white and fluid, as before the lesion; sum at most 1
    labels: np.ndarray  # (X, Y, Z) uint8, indices of LABELS, as before the lesion
    lesion: np.ndarray  # (X, Y, Z) bool
    affine: np.ndarray  # (4, 4) from voxel to world
    covariates: dict[str, float]  # as in Anatomy


def subject(recipe: Recipe, index: int) -> Subject:
    """Subject `index` of the recipe's population, whatever else was asked for before; with and without a lesion it is the same person.

    Raises UserError without nilearn or for a value that a recipe cannot have."""
    recipe = checked(recipe)
    build, injury, *streams = np.random.default_rng([recipe.seed, index]).spawn(2 + len(contrasts.CONTRASTS))
    body = anatomy(build)
    field = points(affine(recipe), recipe.shape)
    tissue = look(body, field, templates(_step(recipe.spacing)))
    there = field[:, tissue.inside]
    lesion = _injure(injury, recipe, body) if recipe.lesion else None
    covered = lesions.extent(lesion, there) * (tissue.probabilities.sum(0) > 0.5) if lesion else np.zeros(there.shape[1], np.float32)

    def channel(name: str, rng: np.random.Generator) -> np.ndarray:
        scan = contrasts.scan(rng, name)
        signal = contrasts.signal(scan, tissue.probabilities, tissue.residual, tissue.texture)
        if lesion:
            signal = lesions.draw(lesion, signal, covered, contrasts.CONTRASTS[name].lesion[lesion.kind], there)
        return contrasts.acquire(rng, scan, signal, there)

    def whole(values: np.ndarray) -> np.ndarray:
        """Values (N, ...) of the head's voxels on the full grid, zero around."""
        grid = np.zeros((np.prod(recipe.shape), *values.shape[1:]), values.dtype)
        grid[tissue.inside] = values
        return grid.reshape(*recipe.shape, *values.shape[1:])

    generators = dict(zip(contrasts.CONTRASTS, streams, strict=True))
    return Subject(
        image=whole(np.stack([channel(name, generators[name]) for name in recipe.contrasts], -1)),
        tissues=whole(tissue.probabilities.T),
        labels=whole(_label(tissue)),
        lesion=whole(covered > 0.5),
        affine=affine(recipe),
        covariates=body.covariates,
    )


def affine(recipe: Recipe) -> np.ndarray:
    """(4, 4) float64 from voxel indices to world coordinates in mm."""
    spacing, middle = np.asarray(recipe.spacing, float), (np.asarray(recipe.shape) - 1) / 2
    matrix = np.diag([*spacing, 1.0])
    matrix[:3, 3] = recipe.centre - spacing * middle
    return matrix


def slices(recipe: Recipe, first: int, count: int, *, keep: bool = True) -> Source:
    """Axial slices of subjects first to first + count - 1: example n is slice n % Z of subject first + n // Z.

    Each has 'image' (X, Y, C) in [-1, 1], 'labels' (X, Y) uint8, 'covariates' float32 of about [0, 1] (the manifest names them;
    the last is the height of the slice in the field of view) and, when the recipe has a lesion, 'mask' (X, Y, 1), 1 in the lesion."""

    def make(index: int) -> dict[str, np.ndarray]:
        depth = recipe.shape[2]
        arrays = _arrays(recipe, index)
        known = np.repeat(arrays.pop('covariates')[None], depth, 0)
        height = np.linspace(0, 1, depth, dtype=np.float32)[:, None]
        return {name: np.moveaxis(array, 2, 0) for name, array in arrays.items()} | {'covariates': np.concatenate([known, height], 1)}

    return _source(recipe, first, count, make, 'axial slices', {**RANGES, 'height': (0.0, 1.0)}, keep)


def volumes(recipe: Recipe, first: int, count: int, *, keep: bool = True) -> Source:
    """The same subjects whole: 'image' (X, Y, Z, C), 'labels' (X, Y, Z), 'covariates' without the height, 'mask' (X, Y, Z, 1)."""
    make = lambda index: {name: array[None] for name, array in _arrays(recipe, index).items()}
    return _source(recipe, first, count, make, 'volumes', RANGES, keep)


def checked(recipe: Recipe) -> Recipe:
    """The recipe with its numbers in their own types, as JSON or flags may not give them. Raises UserError for a value it cannot have."""
    unknown = set(recipe.contrasts) - set(contrasts.CONTRASTS)
    if unknown or not recipe.contrasts:
        raise UserError(f'brain contrasts {", ".join(sorted(unknown)) or "(none)"} unknown; choose from {", ".join(contrasts.CONTRASTS)}')
    if recipe.lesion is not None and recipe.lesion not in LESIONS:
        raise UserError(f'brain lesion {recipe.lesion!r} unknown; choose from {", ".join(LESIONS)}')
    sizes = (recipe.spacing, recipe.shape, recipe.centre)
    if any(len(size) != 3 for size in sizes) or min(*recipe.spacing, *recipe.shape) <= 0 or recipe.seed < 0:
        raise UserError(
            'brains need three positive spacings in mm, three positive sizes in voxels, three centre coordinates and a seed >= 0'
        )
    numbers = {
        'spacing': tuple(map(float, recipe.spacing)),
        'shape': tuple(map(int, recipe.shape)),
        'centre': tuple(map(float, recipe.centre)),
    }
    return recipe._replace(seed=int(recipe.seed), contrasts=tuple(recipe.contrasts), **numbers)


def _source(recipe: Recipe, first: int, count: int, make, form: str, ranges: dict, keep: bool) -> Source:
    recipe = checked(recipe)
    if first < 0 or count < 1:
        raise UserError(f'brains: {count} subjects from number {first}: ask for at least one, from 0 or later')
    manifest = {
        'kind': 'virtual brains',
        'generator': GENERATOR,
        'templates': fingerprint(),
        'form': form,
        'recipe': recipe._asdict(),
        'first': first,
        'count': count,
        'covariates': ranges,
        'labels': LABELS,
    }
    return stored(manifest, range(first, first + count), make, title=f'brains {first} to {first + count - 1}', keep=keep)


def _arrays(recipe: Recipe, index: int) -> dict[str, np.ndarray]:
    person = subject(recipe, index)
    scaled = [(person.covariates[name] - low) / (high - low) for name, (low, high) in RANGES.items()]
    mask = {'mask': person.lesion[..., None]} if recipe.lesion else {}
    return {'image': 2 * person.image - 1, 'labels': person.labels, 'covariates': np.float32(scaled)} | mask


def _label(tissue: Tissue) -> np.ndarray:
    grey, white, fluid = tissue.probabilities
    label = np.where((fluid >= grey) & (fluid >= white), 1, np.where(grey >= white, 2, 3))
    label = np.where((label == 1) & (tissue.ventricle > 0.5), 4, label)
    return np.where(grey + white + fluid > 0.5, label, 0).astype(np.uint8)


def _step(spacing: tuple[float, ...]) -> int:
    """Resolution in mm of the template to sample at this spacing: coarser ones keep gyri from aliasing."""
    return 1 if min(spacing) < 2.5 else 2 if min(spacing) < 5 else 4


def _injure(rng: np.random.Generator, recipe: Recipe, body: Anatomy) -> lesions.Lesion:
    """A lesion whose centre lies in the field of view, a tenth of it away from its ends."""
    kind = ('tumour', 'stroke')[rng.integers(2)] if recipe.lesion == 'mixed' else recipe.lesion
    extent = np.asarray(recipe.spacing) * recipe.shape
    shape = np.maximum(np.rint(0.8 * extent / 6), 1).astype(int)
    grid = affine(recipe._replace(spacing=tuple(0.8 * extent / shape), shape=tuple(shape)))
    candidates = points(grid, shape)
    tissue = look(body, candidates, templates(4))
    if not tissue.inside.size:
        raise UserError('no brain in the field of view to place a lesion in; move the centre or enlarge shape x spacing')
    return lesions.lesion(rng, kind, candidates[:, tissue.inside], tissue.probabilities)
