"""Whom a detector of anomalies learns from, is tuned on and is judged by: phantoms, virtual brains, or slices of the user's own scans.

The train split is healthy, or for detectors that are told which slices show a lesion half of it is. Thresholds and depths are chosen on
validation patients, whom nothing learns from, and figures come from others again. Nobody is in two splits.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxdiff.data import archives, brains, datasets, patients, phantoms
from jaxdiff.data.datasets import TEST, VALIDATION
from jaxdiff.data.patients import Patient
from jaxdiff.data.preprocess import Preprocess
from jaxdiff.data.source import Source
from jaxdiff.experiment import option
from jaxdiff.metrics.anomalies import Cases
from jaxdiff.studies.flags import Training
from jaxdiff.types import UserError

CONTRASTS = ('T1',)  # of what is made
HEALTHY_ONES = 50_000  # first of the healthy subjects of a split, counted from the first of its patients
MADE = {'phantom': (1024, 64, 128), 'brain': (400, 8, 16)}  # subjects to train on, patients to tune on, patients to judge by


@dataclass(frozen=True, kw_only=True)
class Config(Training):
    """The flags that name a cohort."""

    data: str = option('phantom', "'phantom', 'brain' or '<layout>:<folder>', such as brats2021:scans")
    healthy: str = option(
        '', "'<layout>:<folder>' of healthy people to learn from, where --data are scans of patients, such as ixi:controls"
    )
    contrasts: tuple = option((), 'channels of an image, in order; by default T1 of what is made, and all that a layout has')
    subjects: int = option(
        0, 'healthy, to train on, where they are made, and as many patients where detectors are told; 0: 1024 phantoms or 400 brains', low=0
    )
    tuning: int = option(0, 'patients to choose on; 0: 64 phantoms or 8 virtual brains', low=0)
    patients: int = option(0, 'patients to judge by, anew for each seed; 0: 128 phantoms or 16 virtual brains', low=0)


class Cohort(NamedTuple):
    """Sources of slices. 'image' is (X, Y, C) in [-1, 1]; those of patients have 'mask' and 'brain' (X, Y, 1) too.

    Attributes:
        train: with 'label', 0 for healthy and 1 for a lesion, where it was asked for.
        healthy: what rows without a network learn from.
        validation, calm: patients to tune on, and healthy slices of no patient to judge by.
        tests: patients to judge by, for each seed in turn.
        well: healthy people to compare them with, None where patients have healthy slices of their own.
        preprocess: how files become such slices.
        scans: the files of those to judge by, in whose frames findings are written; () of what is made.
    """

    train: Source
    healthy: Source
    validation: Source
    calm: Source
    tests: tuple[Source, ...]
    well: Source | None
    preprocess: Preprocess
    scans: tuple[Patient, ...] = ()

    @property
    def manifest(self) -> dict[str, Any]:
        """What they are, JSON."""
        told = {name: getattr(self, name).manifest for name in ('train', 'healthy', 'validation', 'calm')}
        return told | {'tests': [each.manifest for each in self.tests], 'well': self.well and self.well.manifest}

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one image, channels last."""
        return self.train.example(0)['image'].shape


def open_cohort(config: Config, *, labelled: bool = False) -> Cohort:
    """The cohort that the flags name; `labelled` asks for patients among those to train on. Raises `UserError` as the data do."""
    if config.data in MADE and config.healthy:
        raise UserError(f'--healthy={config.healthy}: {config.data} has healthy people of its own; give --data=<layout>:<folder> too')
    if config.data in MADE:
        return made(config, labelled)
    if ':' not in config.data:
        raise UserError(
            f"--data={config.data}: choose 'phantom', 'brain' or one of {', '.join(f'{each}:<folder>' for each in archives.LAYOUTS)}"
        )
    return filed(config, labelled)


def filed(config: Config, labelled: bool) -> Cohort:
    """Of the user's own scans, split by person: health is learnt from slices without a lesion, with --healthy of those people alone.

    Slices are made alike, whether detectors are told which show a lesion or not, since a comparison judges both by the same.
    """
    scans = archives.patients(config.data, config.contrasts)
    parts = patients.split(scans, seed=config.seed)
    well = patients.split(unmarked(config, scans), seed=config.seed) if config.healthy else parts
    taught = (*well[0], *parts[0]) if config.healthy else parts[0]
    for part in parts[1:]:
        if not any(each.mask for each in part):
            raise UserError(f'{config.data}: no scan comes with a mask, to choose or judge by: give such scans, and these as --healthy')
        for each in part:
            if each.label == 1 and each.mask is None:
                raise UserError(
                    f'{each.files[0]}: diseased, and no mask says where: give one, for maps are judged by it, or leave the scan out'
                )
    pre = patients.fit(taught, size=config.size)
    healthy = [patients.slices(part, pre, healthy=True) for part in (well if config.healthy else well[:2])]
    whole = [patients.slices(part, pre) for part in parts[1:]]
    for part, source in zip(parts[1:], whole, strict=True):
        if not any(source.example(n)['mask'].any() for n in range(source.size)):
            names = ', '.join(sorted({each.name for each in part}))
            raise UserError(f'{config.data}: no lesion is marked in slices of {names}, to choose or judge by: give more scans with masks')
    train = patients.slices(taught, pre) if labelled else healthy[0]
    others = healthy[2] if config.healthy else None
    return Cohort(train, healthy[0], whole[0], healthy[1], (whole[1],), others, pre, parts[2])


def unmarked(config: Config, scans: Sequence[Patient]) -> tuple[Patient, ...]:
    """Of --healthy, everyone but the diseased without a mask. Raises `UserError` where nobody is left, and for a file of `scans` too."""
    every = archives.patients(config.healthy, config.contrasts, flag='healthy')
    judged = {Path(file).resolve() for each in scans for file in each.files}
    if both := sorted(file for each in every for file in each.files if Path(file).resolve() in judged):
        raise UserError(
            f'--healthy={config.healthy}: {both[0]} is among --data too, so that its person may be learnt and judged: leave it out'
        )
    found = tuple(each for each in every if each.mask or each.label != 1)
    if not found:
        raise UserError(f'--healthy={config.healthy}: holds the diseased alone, without masks: give healthy people')
    return found


def made(config: Config, labelled: bool) -> Cohort:
    """Of a population that is made."""
    counts = zip((config.subjects, config.tuning, config.patients), MADE[config.data], strict=True)
    subjects, tuning, judged = (given or usual for given, usual in counts)
    make = {'phantom': _phantoms, 'brain': _brains}[config.data]
    slices, pre = make(config)
    train = healthy = slices(False, 0, subjects)
    if labelled:
        train = _both(healthy, slices(True, subjects, subjects))
    return Cohort(
        train=train,
        healthy=healthy,
        validation=slices(True, VALIDATION, tuning),
        calm=slices(False, VALIDATION + HEALTHY_ONES, tuning),
        tests=tuple(slices(True, TEST + n * judged, judged) for n in range(config.evaluations)),
        well=slices(False, TEST + HEALTHY_ONES, -(-judged // 2)) if config.data == 'phantom' else None,
        preprocess=pre,
    )


def _phantoms(config: Config):
    recipe = phantoms.Recipe(size=config.size, contrasts=config.contrasts or CONTRASTS)

    def slices(lesion: bool, first: int, count: int) -> Source:
        source = phantoms.slices(recipe._replace(lesion=lesion), first, count)
        return _marked(source, lambda example: example['labels'][..., None] > 0)

    return slices, _unit(config, (config.size, config.size, 1), (1.0, 1.0, 1.0))


def _brains(config: Config):
    spacing = 192 / config.size
    shape = (config.size, config.size, datasets.SLICES)
    recipe = brains.Recipe(contrasts=config.contrasts or CONTRASTS, shape=shape, spacing=(spacing, spacing, 3.0))

    def slices(lesion: bool, first: int, count: int) -> Source:
        source = brains.slices(recipe._replace(lesion='mixed' if lesion else None), first, count)
        return _marked(source, lambda example: example['image'].max(-1, keepdims=True) > -1 + 1e-3)

    return slices, _unit(config, shape, recipe.spacing)


def _unit(config: Config, shape: tuple[int, ...], spacing: tuple[float, ...]) -> Preprocess:
    """Of made slices, whose values are 0 to 1."""
    channels, one = len(config.contrasts or CONTRASTS), datasets.made(2, shape, spacing)
    return one._replace(channels=channels, low=one.low * channels, high=one.high * channels)


def _marked(source: Source, brain) -> Source:
    """Only image, mask (of nothing where there is none) and brain."""

    def example(index: int) -> dict[str, np.ndarray]:
        found = source.example(index)
        head = brain(found)
        return {'image': found['image'], 'mask': found['mask'] > 0 if 'mask' in found else np.zeros_like(head), 'brain': head}

    return Source(source.size, example, source.manifest)


def _both(healthy: Source, patients: Source) -> Source:
    """Healthy slices and slices that show a lesion in turn, as long as both last, with 'label', which of them it is.

    Slices of patients that show none are left out: a detector that is told would see lesions in a third of its slices, not in half. The healthy ones
    are of the same places in their source, of which the slices of a head lie in order: no height tells the classes apart.
    """
    ill = [n for n in range(patients.size) if patients.example(n)['mask'].any()]
    told = {'healthy': healthy.manifest, 'patients': patients.manifest, **({'ill': len(ill)} if len(ill) < patients.size else {})}

    def example(index: int) -> dict[str, np.ndarray]:
        found = (healthy, patients)[index % 2].example(ill[index // 2])
        return {'image': found['image'], 'label': np.int32(index % 2)}

    return Source(2 * len(ill), example, told)


def sketch(config: Config, *, labelled: bool = False) -> Cohort:
    """Zeros in the shape of the data, where they are made."""
    if config.data not in MADE or config.healthy:
        return open_cohort(config, labelled=labelled)
    shape = (config.size, config.size, len(config.contrasts or CONTRASTS))
    zeros = {'image': np.zeros(shape, np.float32), 'mask': np.zeros((*shape[:2], 1), bool), 'brain': np.ones((*shape[:2], 1), bool)}
    source = Source(config.batch, lambda index: {**zeros, 'label': np.int32(0)} if labelled else zeros, {})
    pre = _unit(config, (*shape[:2], 1), (1.0, 1.0, 1.0))
    return Cohort(source, source, source, source, (source,) * config.evaluations, None, pre)


# ---- as arrays


def cases(source: Source) -> Cases:
    """Images in [0, 1], as figures take them, with brains and lesions."""
    found = [source.example(n) for n in range(source.size)]
    pick = lambda name: np.stack([each[name] for each in found])
    return Cases((pick('image') + 1) / 2, pick('brain')[..., 0] > 0, pick('mask')[..., 0] > 0)


def scans(found: Cases) -> np.ndarray:
    """The same images in [-1, 1], as networks take them."""
    return 2 * found.images - 1


def few(source: Source, count: int) -> Cases:
    """The slices that show most of a lesion, `count` of them, spread over the source."""
    every = cases(source)
    sizes = every.lesions.sum((1, 2))
    parts: Sequence[np.ndarray] = np.array_split(np.arange(source.size), min(count, source.size))
    rows = [part[sizes[part].argmax()] for part in parts]
    return Cases(*(each[rows] for each in every))
