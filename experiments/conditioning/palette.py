"""Palette: one network that fills holes, gives colours back, extends the view and mends what JPEG has spoiled, told nothing but the spoiled image.

    python experiments/conditioning/palette.py                     phantoms whose three contrasts are colours
    python experiments/conditioning/palette.py --tasks=inpaint,uncrop
    python experiments/conditioning/palette.py --preset=smoke

What is known is put back at the end. The mean of several draws is judged by its PSNR over the whole image, beside a biharmonic fill, the mean colour
of every brightness, the nearest known pixel, and the JPEG itself. Saharia et al., "Palette: image-to-image diffusion models", SIGGRAPH 2022.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxdiff import experiment, grids, model, plans, report, sampling, study
from jaxdiff.data import datasets, phantoms, spoiling
from jaxdiff.data.datasets import Dataset
from jaxdiff.data.preprocess import to_json
from jaxdiff.data.source import Source
from jaxdiff.experiment import Bar, Evaluation, option
from jaxdiff.export import bill
from jaxdiff.metrics.images import psnr
from jaxdiff.metrics.table import table
from jaxdiff.model import Model
from jaxdiff.plans import Plan
from jaxdiff.studies import flags
from jaxdiff.studies.flags import network_of, schedule_of
from jaxdiff.types import Array, Example, Key, UserError
from jaxdiff.workdir import Workdir

CONTRASTS = ('T1', 'T2', 'PD')
TASKS = ('inpaint', 'colour', 'uncrop', 'jpeg')


@dataclass(frozen=True, kw_only=True)
class Config(flags.Training):
    tasks: tuple = option(TASKS, 'that the network learns, all of them as one')
    subjects: int = option(1000, 'to train on', low=8)
    held_out: int = option(100, 'subjects to validate on and as many to test on', low=8)
    samples: int = option(40, 'images of each task to judge the model by', low=2)
    repeats: int = option(8, 'draws that are averaged', low=1)


PRESETS = {**flags.PRESETS, 'smoke': {**flags.PRESETS['smoke'], 'samples': 2, 'repeats': 2}}
BARS = tuple(Bar(f'{task}_gain', '>=', 0.0) for task in TASKS)


class Spoiled(NamedTuple):
    """A spoiled image (X, Y, 3), and where it is missing (X, Y)."""

    image: np.ndarray
    missing: np.ndarray


def open_data(config: Config) -> Dataset:
    """Phantoms of three contrasts."""
    recipe = phantoms.Recipe(size=config.size, contrasts=CONTRASTS, lesion=True)
    return datasets.cohort([recipe], subjects=config.subjects, held_out=config.held_out)


def sketch(config: Config) -> Dataset:
    """Zeros in the shape of the data."""
    zeros = np.zeros((config.size, config.size, len(CONTRASTS)), np.float32)
    source = Source(config.batch, lambda index: {'image': zeros}, {})
    return Dataset(source, source, source, datasets.made(2, zeros.shape, (1.0, 1.0, 1.0)))


def spoil(task: str, rng: np.random.Generator, image: np.ndarray) -> Spoiled:
    """An image as the task gives it to the network."""
    everywhere = np.ones(image.shape[:2], bool)
    if task == 'colour':
        return Spoiled(spoiling.grey(image), everywhere)
    if task == 'jpeg':
        return Spoiled(spoiling.jpeg(image, int(rng.integers(5, 31))), everywhere)
    missing = (spoiling.hole if task == 'inpaint' else spoiling.border)(rng, image.shape[:2])
    return Spoiled(spoiling.filled(rng, image, missing), missing)


def plan(config: Config, data: Dataset) -> tuple[Plan, ...]:
    """One denoiser for all the tasks."""

    def spoiled(rng: np.random.Generator, example: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        image = example['image']
        return {'image': image, 'given': spoil(config.tasks[rng.integers(len(config.tasks))], rng, image).image}

    spoiled.__name__ = f'spoiled by {", ".join(config.tasks)}'
    card = {'shape': list(data.shape), 'conditioning': {'image': list(data.shape)}, 'tasks': config.tasks}
    network = {**network_of(config), 'channels': len(CONTRASTS), 'image': len(CONTRASTS)}
    blank = Model(network, {'name': config.path}, 'v', None, to_json(data.preprocess), card)
    return (plans.denoiser('model', blank, data.train, condition=tell, augment=spoiled, **schedule_of(config)),)


def tell(key: Key, example: Example) -> dict[str, Array]:
    """The image that is given."""
    return {'image': example['given']}


def evaluate(config: Config, models: Mapping[str, Model], data: Dataset, seed: int) -> Evaluation:
    """Every task beside its classical answer and beside the same network given somebody else's image, as a control untrained."""
    trained, draw = models['model'], drawer(config, models['model'])
    rng = np.random.default_rng(seed)
    rows = rng.choice(data.test.size, config.samples, replace=config.samples > data.test.size)
    truth = np.stack([data.test.example(int(row))['image'] for row in rows])
    fidelity = lambda images: float(
        np.mean([psnr(np.moveaxis(b, -1, 0), np.moveaxis(a, -1, 0), peak=2.0) for a, b in zip(images, truth, strict=True)])
    )
    metrics, base, wrong, control = {}, {}, {}, {}
    fresh = trained._replace(params=model.init(trained, jax.random.key(seed)))
    for n, task in enumerate(config.tasks):
        given = [spoil(task, rng, image) for image in truth]
        key = jax.random.fold_in(jax.random.key(seed), n)
        simple = fidelity(classical(task, given, data))
        metrics[f'{task}_psnr'] = fidelity(restored(draw, trained, key, given, given))
        metrics[f'{task}_gain'] = metrics[f'{task}_psnr'] - simple
        wrong[f'{task}_gain'] = fidelity(restored(draw, trained, key, given, given[1:] + given[:1])) - simple
        control[f'{task}_gain'] = fidelity(restored(draw, fresh, key, given, given)) - simple
        base[f'{task}_psnr'] = simple
    return Evaluation(metrics, {'classical': base, 'given somebody else': wrong}, {'untrained': control})


def classical(task: str, given: list[Spoiled], data: Dataset) -> np.ndarray:
    """What one would do without a network."""
    if task == 'colour':
        return np.stack([colours(data)(each.image) for each in given])
    if task == 'uncrop':
        return np.stack([spoiling.nearest_known(*each) for each in given])
    if task == 'jpeg':
        return np.stack([each.image for each in given])
    from skimage.restoration import inpaint_biharmonic

    return np.stack([inpaint_biharmonic(np.where(each.missing[..., None], 0, each.image), each.missing, channel_axis=-1) for each in given])


def colours(data: Dataset) -> Callable[[np.ndarray], np.ndarray]:
    """The mean colour that the brightness of a grey image (X, Y, 3) has in training."""
    images = np.concatenate([data.train.example(n)['image'].reshape(-1, len(CONTRASTS)) for n in range(min(data.train.size, 200))])
    guess = table(images.mean(1), images)
    return lambda image: guess(image[..., 0])


def restored(draw, trained: Model, key: Key, given: list[Spoiled], shown: list[Spoiled]) -> np.ndarray:
    """The mean draw (n, X, Y, 3) where pixels are missing, what is given elsewhere."""
    missing = np.stack([each.missing for each in given])[..., None]
    return np.where(missing, draw(trained.params, key, np.stack([each.image for each in shown])), np.stack([each.image for each in given]))


def drawer(config: Config, trained: Model):
    """(params, key, given (n, X, Y, 3)) -> the mean of the draws, alike."""
    draw = sampling.drawer(trained, times=grids.default(model.make_path(trained.path), config.sample_steps))

    def mean(params: Any, key: Key, given: np.ndarray) -> np.ndarray:
        return np.mean([draw(params, jax.random.fold_in(key, n), len(given), image=given) for n in range(config.repeats)], axis=0)

    return mean


def show(config: Config, models: Mapping[str, Model], data: Dataset, folder: Workdir) -> list[report.Section]:
    """For each task what is given, what is restored, the classical answer and the truth: the first contrast."""
    trained, draw, across = models['model'], drawer(config, models['model']), min(8, data.test.size)
    truth, sections = np.stack([data.test.example(n)['image'] for n in range(across)]), []
    for task in config.tasks:
        given = [spoil(task, np.random.default_rng(config.seed), image) for image in truth]
        rows = {
            'given': np.stack([each.image for each in given]),
            'restored': restored(draw, trained, jax.random.key(config.seed), given, given),
            'classical': classical(task, given, data),
            'truth': truth,
        }
        figure = report.grid(report.tiles([image[..., 1] for images in rows.values() for image in images], across), labels=list(rows))
        caption = f'{CONTRASTS[1]} of three contrasts; the mean of {config.repeats} draws.'
        sections.append(
            report.Section(task, caption, [report.picture(figure, caption, alt=f'rows of {task}', path=folder.figures / f'{task}.png')])
        )
    return sections


def jobs(config: Config, todo: tuple[Plan, ...]) -> tuple[bill.Job, ...]:
    """What judging draws."""
    times = grids.default(model.make_path(todo[0].blank.path), config.sample_steps)
    count = 3 * config.evaluations * config.samples * config.repeats * len(config.tasks)
    return (bill.drawing(todo[0].blank, times=times, count=count, size=60, calls=config.sample_steps),)


def run(config: Config) -> dict[str, Any]:
    """Train, judge and write the workdir; returns what result.json holds."""
    if unknown := set(config.tasks) - set(TASKS):
        raise UserError(f'--tasks={",".join(config.tasks)}: unknown {", ".join(sorted(unknown))}; choose of {", ".join(TASKS)}')
    bars = [bar for bar in BARS if bar.name.removesuffix('_gain') in config.tasks] if config.preset in ('cpu', 'gpu') else ()
    return study.run(
        'conditioning/palette', config, open_data=open_data, plan=plan, evaluate=evaluate, show=show, bars=bars, evaluations=config.evaluations,
        save_every=config.save_every, nfe=config.repeats * config.sample_steps, sketch=sketch, jobs=jobs,
    )  # fmt: skip


if __name__ == '__main__':
    experiment.main(Config, PRESETS, run)
