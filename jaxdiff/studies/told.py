"""Networks that are told what to draw: a class and a size, of phantoms, and whether they drew it.

A class is a contrast with or without a lesion; the size is the area of the ventricles, a number from 0 to 1, and independent of the class. A
classifier that never meets the denoiser, and learns from clean images alone, says what class an image shows; the pixels of the ventricles are
counted, and counts become areas by a straight line through real images of each contrast.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np

from jaxdiff import plans, sampling
from jaxdiff.data import datasets, loader, phantoms
from jaxdiff.data.datasets import Dataset
from jaxdiff.data.preprocess import to_json
from jaxdiff.data.source import Source, stack
from jaxdiff.experiment import option
from jaxdiff.metrics.agreement import diversity
from jaxdiff.metrics.features import Features, random_convolutions, standardised
from jaxdiff.model import Model
from jaxdiff.plans import Plan
from jaxdiff.studies import flags
from jaxdiff.studies.flags import Training, network_of, schedule_of
from jaxdiff.types import Array, Example, Key

KINDS = tuple(product(('T1', 'T2'), (False, True)))  # contrast, lesion
NAMES = tuple(f'{contrast}{", lesion" if lesion else ""}' for contrast, lesion in KINDS)
FACTORS = (0.6, 1.5)  # of the semi-axes of ventricles
LEAST, LARGEST = FACTORS[0] ** 2, FACTORS[1] ** 2


@dataclass(frozen=True, kw_only=True)
class Config(Training):
    """The flags of scripts whose network is told something."""

    steps: int = option(6000, 'training steps of the denoiser', low=1)
    rate: float = option(2e-3, 'learning rate after warm-up, before its decay to 0', low=0)
    judge_steps: int = option(1000, 'training steps of the classifier that judges', low=1)


_JUDGES = {'smoke': 4, 'cpu': 1000, 'gpu': 6000, 'paper': 20000}
PRESETS = {name: {**flags.PRESETS[name], 'judge_steps': steps} for name, steps in _JUDGES.items()}


def open_data(config: Config) -> Dataset:
    """Aligned phantoms of every class in turn."""
    common = dict(size=config.size, aligned=True, ventricles=FACTORS, paired=True, **flags.LESIONS)
    recipes = [phantoms.Recipe(contrasts=(contrast,), lesion=lesion, **common) for contrast, lesion in KINDS]
    return datasets.cohort(recipes, subjects=config.subjects, held_out=config.held_out)


def sketch(config: Config) -> Dataset:
    """Zeros in the shape of the data."""
    example = {
        'image': np.zeros((config.size, config.size, 1), np.float32), 'label': np.int32(0), 'covariates': np.zeros(1, np.float32),
    }  # fmt: skip
    source = Source(config.batch, lambda index: example, {})
    return Dataset(source, source, source, datasets.made(2, (config.size, config.size, 1), (1.0, 1.0, 1.0)))


def denoiser(name: str, config: Config, data: Dataset, **fields: object) -> Plan:
    """A U-Net told class and size; `fields` are more of its own."""
    network = {**network_of(config), 'channels': 1, 'labels': len(KINDS), 'vector': 1, **fields}
    card = {'shape': list(data.shape), 'conditioning': {'label': [], 'vector': [1]}, 'classes': NAMES}
    blank = Model(network, {'name': config.path}, 'v', None, to_json(data.preprocess), card)
    return plans.denoiser(name, blank, data.train, condition=tell, augment=loader.flip, **schedule_of(config))


def judge(config: Config, data: Dataset) -> Plan:
    """The classifier."""
    network = {**network_of(config), 'name': 'classifier', 'channels': len(KINDS)}
    blank = Model(network, {'name': config.path}, 'class', None, to_json(data.preprocess), {'shape': list(data.shape), 'classes': NAMES})
    return plans.classifier(
        'judge', blank, data.train, clean=True, batch=config.batch, steps=config.judge_steps, rate=config.rate / 2, seed=config.seed
    )


def tell(key: Key, example: Example) -> dict[str, Array]:
    """Class and size, both left out one time in ten, and each of them one time in ten."""
    both, first, second = jax.random.bernoulli(key, 0.1, (3,))
    label = jnp.where(both | first, len(KINDS), example['label'])
    return {'label': label, 'vector': jnp.where(both | second, jnp.nan, relative(example['covariates']))}


def relative(area: Array) -> Array:
    """Areas as the network is told them, 0 to 1."""
    return (area - LEAST) / (LARGEST - LEAST)


def asked(data: Dataset, count: int, seed: int) -> dict[str, np.ndarray]:
    """What to ask for: what subjects of the test set have."""
    rows = np.random.default_rng(seed).integers(data.test.size, size=count)
    examples = [data.test.example(int(row)) for row in rows]
    sizes = np.stack([relative(each['covariates']) for each in examples]).astype(np.float32)
    return {'label': np.array([each['label'] for each in examples], np.int32), 'vector': sizes}


def unsized(wanted: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The classes of what is asked for, and any size."""
    return {**wanted, 'vector': np.full_like(wanted['vector'], np.nan)}


def probabilities(judging: Model, images: np.ndarray) -> np.ndarray:
    """Of every class (n, classes), as the classifier sees images (n, X, Y, 1)."""
    scores = sampling.answers(judging)(judging.params, images)
    shifted = np.exp(scores - scores.max(1, keepdims=True))
    return shifted / shifted.sum(1, keepdims=True)


def scores(judging: Model, features: Features, images: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """Agreement of images asked to be of these classes, the mean probability that the classifier gives them, and diversity."""
    chosen = np.take_along_axis(probabilities(judging, images), labels[:, None].astype(int), axis=1)
    return float(chosen.mean()), diversity(features(images), labels)


def features_of(data: Dataset) -> Features:
    """Random convolutions, in units of their spread over real images."""
    return standardised(random_convolutions(data.shape), stack(data.validation))


def ruler(data: Dataset) -> Mapping[str, np.ndarray]:
    """For each contrast the line from a count of ventricle pixels to a size from 0 to 1, through images of the training set."""
    examples = [data.train.example(n) for n in range(min(data.train.size, 400))]
    examples = [each for each in examples if not KINDS[int(each['label'])][1]]
    found = {}
    for contrast in dict(KINDS):
        those = [each for each in examples if KINDS[int(each['label'])][0] == contrast]
        counts = [phantoms.ventricles((each['image'][..., 0] + 1) / 2, contrast, 0.6).sum() for each in those]
        found[contrast] = np.polyfit(counts, [float(relative(each['covariates'])[0]) for each in those], 1)
    return found


def whole(labels: Sequence[int]) -> np.ndarray:
    """Which of these classes (n,) have no lesion, which may hide part of a ventricle: (n,) bool."""
    return np.array([not KINDS[int(label)][1] for label in labels])


def sizes(by: Mapping[str, np.ndarray], images: np.ndarray, labels: Sequence[int]) -> np.ndarray:
    """The sizes (n,) of the ventricles of images (n, X, Y, 1), of the contrasts of these classes."""
    contrasts = [KINDS[int(label)][0] for label in labels]
    counts = [phantoms.ventricles((image[..., 0] + 1) / 2, each, 0.6).sum() for image, each in zip(images, contrasts, strict=True)]
    return np.array([np.polyval(by[each], count) for each, count in zip(contrasts, counts, strict=True)])


def real(data: Dataset, count: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Images of the validation set and what they show."""
    examples = [data.validation.example(n) for n in range(min(count, data.validation.size))]
    told = {
        'label': np.array([each['label'] for each in examples]),
        'vector': np.stack([relative(each['covariates']) for each in examples]),
    }
    return stack(data.validation)[: len(examples)], told
