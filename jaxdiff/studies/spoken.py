"""Networks that read: phantoms with captions in many words for the same, and whether what was drawn is what was said.

A caption tells the contrast, whether ventricles are small or large, and whether there is a lesion. A classifier of all eight kinds, which learns from
clean images alone, says what an image shows; every attribute counts for itself.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np

from jaxdiff import plans, sampling
from jaxdiff.data import datasets, loader, phantoms
from jaxdiff.data.datasets import Dataset
from jaxdiff.data.preprocess import to_json
from jaxdiff.data.source import Source
from jaxdiff.experiment import option
from jaxdiff.model import Model
from jaxdiff.nets import captioned, text
from jaxdiff.plans import Plan
from jaxdiff.studies import flags
from jaxdiff.studies.flags import Training, network_of, schedule_of
from jaxdiff.types import Array, Example, Key

KINDS = tuple(product(('T1', 'T2'), ('small', 'large'), (False, True)))  # contrast, ventricles, lesion
FACTORS = {'small': (0.6, 0.75), 'large': (1.25, 1.5)}  # of the semi-axes of ventricles
RARE = 'sks'  # a word that no caption has, kept for a subject to come
ATTRIBUTES = ('contrast', 'ventricles', 'lesion')
_LESION = {True: ('with a lesion', 'showing a lesion', 'and a lesion'), False: ('without a lesion', 'and no lesion', 'free of lesions')}
_SIZE = {'small': ('small', 'narrow'), 'large': ('large', 'wide')}
_FRAMES = (
    'a {contrast} slice of a brain, {size} ventricles, {lesion}',
    '{contrast} image with {size} ventricles {lesion}',
    '{size} ventricles in {contrast} {lesion}',
)


@dataclass(frozen=True, kw_only=True)
class Config(Training):
    """The flags of scripts whose network reads."""

    steps: int = option(6000, 'training steps of the denoiser', low=1)
    rate: float = option(2e-3, 'learning rate after warm-up, before its decay to 0', low=0)
    judge_steps: int = option(1500, 'training steps of the classifier that judges', low=1)
    text_width: int = option(64, 'width of the tokens of the text', low=4)
    text_depth: int = option(2, 'blocks of the text encoder', low=1)


_JUDGES = {'smoke': 4, 'cpu': 1500, 'gpu': 6000, 'paper': 20000}
PRESETS = {name: {**flags.PRESETS[name], 'judge_steps': steps} for name, steps in _JUDGES.items()}
PRESETS['smoke'] |= {'text_width': 8, 'text_depth': 1}


def captions(kind: int) -> list[str]:
    """All that is said of a kind."""
    contrast, size, lesion = KINDS[kind]
    return [frame.format(contrast=contrast, size=word, lesion=said) for frame, word, said in product(_FRAMES, _SIZE[size], _LESION[lesion])]


def reader() -> text.Tokenizer:
    """Of every word of the captions, and the rare one."""
    every = [caption for kind in range(len(KINDS)) for caption in captions(kind)]
    return text.tokenizer(every, extra=(RARE,), length=24)


def open_data(config: Config) -> Dataset:
    """Aligned phantoms of every kind in turn."""
    common = dict(size=config.size, aligned=True, **flags.LESIONS)
    recipes = [
        phantoms.Recipe(contrasts=(contrast,), lesion=lesion, ventricles=FACTORS[size], **common) for contrast, size, lesion in KINDS
    ]
    return datasets.cohort(recipes, subjects=config.subjects, held_out=config.held_out)


def sketch(config: Config) -> Dataset:
    """Zeros in the shape of the data."""
    example = {'image': np.zeros((config.size, config.size, 1), np.float32), 'label': np.int32(0)}
    source = Source(config.batch, lambda index: example, {})
    return Dataset(source, source, source, datasets.made(2, (config.size, config.size, 1), (1.0, 1.0, 1.0)))


def network(config: Config) -> dict:
    """A U-Net that reads."""
    read = reader()
    fields = {name: value for name, value in network_of(config).items() if name != 'name'} | {'channels': 1, 'norm': 'adaptive'}
    words = {'words': len(read.words), 'length': read.length, 'width': config.text_width, 'depth': config.text_depth}
    return {'name': 'captioned', 'unet': fields, 'text': words}


def denoiser(name: str, config: Config, data: Dataset) -> Plan:
    """Told a caption of every image, another at every step, and one time in ten none."""
    read = reader()
    card = {'shape': list(data.shape), 'conditioning': {'words': [read.length]}, 'tokenizer': text.to_json(read)}
    blank = Model(network(config), {'name': config.path}, 'v', None, to_json(data.preprocess), card)
    return plans.denoiser(name, blank, data.train, condition=tell, augment=loader.flip, **schedule_of(config))


def judge(config: Config, data: Dataset) -> Plan:
    """The classifier of the kinds."""
    fields = {**network_of(config), 'name': 'classifier', 'channels': len(KINDS)}
    blank = Model(fields, {'name': config.path}, 'class', None, to_json(data.preprocess), {'shape': list(data.shape)})
    return plans.classifier(
        'judge', blank, data.train, clean=True, batch=config.batch, steps=config.judge_steps, rate=config.rate / 2, seed=config.seed
    )


def sentences() -> np.ndarray:
    """Every caption of every kind as numbers, (kinds, captions, length) int32."""
    read = reader()
    return np.stack([np.stack([read(caption) for caption in captions(kind)]) for kind in range(len(KINDS))])


def tell(key: Key, example: Example) -> dict[str, Array]:
    """A caption of its kind, or none."""
    which, drop = jax.random.split(key)
    every = jnp.asarray(sentences())
    words = every[example['label'], jax.random.randint(which, (), 0, every.shape[1])]
    return {'words': jnp.where(jax.random.bernoulli(drop, 0.1), captioned.silence(words), words)}


def asked(count: int, seed: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Kinds (n,), every one as often, and a caption of each."""
    rng, every = np.random.default_rng(seed), sentences()
    kinds = rng.permutation(np.arange(count) % len(KINDS))
    return kinds, {'words': every[kinds, rng.integers(every.shape[1], size=count)]}


def shown(judging: Model, images: np.ndarray) -> np.ndarray:
    """The kinds (n,) that the classifier sees."""
    return sampling.answers(judging)(judging.params, images).argmax(1)


def right(found: np.ndarray, wanted: np.ndarray) -> Mapping[str, float]:
    """The share of images (n,) whose attributes are those of the kinds that were asked for: each, and all of them together as one mean."""
    same = {name: np.mean([KINDS[a][n] == KINDS[b][n] for a, b in zip(found, wanted, strict=True)]) for n, name in enumerate(ATTRIBUTES)}
    return {'attributes': float(np.mean(list(same.values()))), **{name: float(each) for name, each in same.items()}}
