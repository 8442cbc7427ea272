"""Conditioning by concatenation: a T2 image drawn beside its T1 image, which the network sees clean at every step.

    python experiments/conditioning/concat.py                      phantoms with both contrasts
    python experiments/conditioning/concat.py --repeats=16
    python experiments/conditioning/concat.py --preset=smoke

One draw has a noise of its own, as the truth has another; the mean of several comes close to the best guess, and is what is judged. Beside it
stand the table that gives every brightness of T1 the mean of T2 where it occurs, and the same network shown the T1 image of somebody else.
Saharia et al., "Image super-resolution via iterative refinement", TPAMI 2022; "Palette", SIGGRAPH 2022.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from jaxdiff import experiment, grids, model, plans, report, sampling, study
from jaxdiff.data import datasets, phantoms
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
from jaxdiff.types import Array, Example, Key
from jaxdiff.workdir import Workdir

CONTRASTS = ('T1', 'T2')


@dataclass(frozen=True, kw_only=True)
class Config(flags.Training):
    subjects: int = option(1000, 'to train on', low=8)
    held_out: int = option(100, 'subjects to validate on and as many to test on', low=8)
    steps: int = option(3000, 'training steps of the denoiser', low=1)
    samples: int = option(60, 'images to judge the model by', low=2)
    repeats: int = option(8, 'draws that are averaged', low=1)


PRESETS = {**flags.PRESETS, 'smoke': {**flags.PRESETS['smoke'], 'repeats': 2}}
BARS = (Bar('psnr_over_table', '>=', 2.0),)


def open_data(config: Config) -> Dataset:
    """Phantoms with both contrasts: 'image' is T2, 'given' T1, both (X, Y, 1)."""
    recipe = phantoms.Recipe(size=config.size, contrasts=CONTRASTS, lesion=True)
    both = datasets.cohort([recipe], subjects=config.subjects, held_out=config.held_out)
    made = datasets.made(2, (config.size, config.size, 1), (1.0, 1.0, 1.0))
    return Dataset(*map(paired, both[:3]), made)


def paired(source: Source) -> Source:
    """The second channel as the image, the first as what is given."""

    def example(index: int) -> dict[str, np.ndarray]:
        image = source.example(index)['image']
        return {'image': image[..., 1:], 'given': image[..., :1]}

    return Source(source.size, example, {**source.manifest, 'drawn': CONTRASTS[1], 'given': CONTRASTS[0]})


def sketch(config: Config) -> Dataset:
    """Zeros in the shape of the data."""
    zeros = np.zeros((config.size, config.size, 1), np.float32)
    source = Source(config.batch, lambda index: {'image': zeros, 'given': zeros}, {})
    return Dataset(source, source, source, datasets.made(2, zeros.shape, (1.0, 1.0, 1.0)))


def plan(config: Config, data: Dataset) -> tuple[Plan, ...]:
    """One denoiser of T2."""
    card = {'shape': list(data.shape), 'conditioning': {'image': list(data.shape)}}
    blank = Model({**network_of(config), 'channels': 1, 'image': 1}, {'name': config.path}, 'v', None, to_json(data.preprocess), card)
    return (plans.denoiser('model', blank, data.train, condition=tell, **schedule_of(config)),)


def tell(key: Key, example: Example) -> dict[str, Array]:
    """The image that is given, clean."""
    return {'image': example['given']}


def evaluate(config: Config, models: Mapping[str, Model], data: Dataset, seed: int) -> Evaluation:
    """Fidelity of the mean draw and of one, of the table, and of draws that were shown somebody else."""
    trained, key = models['model'], jax.random.key(seed)
    rows = np.random.default_rng(seed).choice(data.test.size, config.samples, replace=config.samples > data.test.size)
    truth, given = (np.stack([data.test.example(int(row))[name] for row in rows]) for name in ('image', 'given'))
    draw = drawer(config, trained)
    draws = draw(trained.params, key, given, config.repeats)
    simple = lookup(data)(given)
    fidelity = lambda images: float(np.mean([psnr(b[None, ..., 0], a[None, ..., 0], peak=2.0) for a, b in zip(images, truth, strict=True)]))
    base, wrong = fidelity(simple), draw(trained.params, key, np.roll(given, 1, axis=0), config.repeats).mean(0)
    score = lambda images: {'psnr': fidelity(images), 'psnr_over_table': fidelity(images) - base}
    return Evaluation(
        {**score(draws.mean(0)), 'psnr_of_one_draw': fidelity(draws[0])},
        {'table': {'psnr': base}, 'the image given': {'psnr': fidelity(given)}},
        {'given somebody else': score(wrong)},
    )


def lookup(data: Dataset) -> Callable[[np.ndarray], np.ndarray]:
    """The image (..., 1) from the brightness of what is given, by what goes with it in training."""
    examples = [data.train.example(n) for n in range(min(data.train.size, 200))]
    x, y = (np.concatenate([each[name].ravel() for each in examples]) for name in ('given', 'image'))
    guess = table(x, y[:, None])
    return lambda given: guess(given[..., 0])


def drawer(config: Config, trained: Model):
    """(params, key, given (n, X, Y, 1), repeats) -> draws (repeats, n, X, Y, 1)."""
    draw = sampling.drawer(trained, times=grids.default(model.make_path(trained.path), config.sample_steps))

    def many(params: Any, key: Key, given: np.ndarray, repeats: int) -> np.ndarray:
        return np.stack([draw(params, jax.random.fold_in(key, n), len(given), image=given) for n in range(repeats)])

    return many


def show(config: Config, models: Mapping[str, Model], data: Dataset, folder: Workdir) -> list[report.Section]:
    """Given, one draw, the mean of the draws, the table, the truth."""
    trained, across = models['model'], min(8, data.test.size)
    truth, given = (np.stack([data.test.example(n)[name] for n in range(across)]) for name in ('image', 'given'))
    draws = drawer(config, trained)(trained.params, jax.random.key(config.seed), given, config.repeats)
    rows = {
        'given, T1': given,
        'one draw': draws[0],
        f'mean of {config.repeats}': draws.mean(0),
        'table': lookup(data)(given),
        'truth, T2': truth,
    }
    figure = report.grid(report.tiles([report.middle(image) for row in rows.values() for image in row], across), labels=list(rows))
    caption = 'Subjects the network never saw.'
    return [
        report.Section('T2 from T1', caption, [report.picture(figure, caption, alt='rows of images', path=folder.figures / 'samples.png')])
    ]


def jobs(config: Config, todo: tuple[Plan, ...]) -> tuple[bill.Job, ...]:
    """What judging draws."""
    times = grids.default(model.make_path(todo[0].blank.path), config.sample_steps)
    count = 2 * config.evaluations * config.samples * config.repeats
    return (bill.drawing(todo[0].blank, times=times, count=count, size=60, calls=config.sample_steps),)


def run(config: Config) -> dict[str, Any]:
    """Train, judge and write the workdir; returns what result.json holds."""
    bars = BARS if config.preset in ('cpu', 'gpu') else ()
    return study.run(
        'conditioning/concat', config, open_data=open_data, plan=plan, evaluate=evaluate, show=show, bars=bars, evaluations=config.evaluations,
        save_every=config.save_every, nfe=config.repeats * config.sample_steps, sketch=sketch, jobs=jobs,
    )  # fmt: skip


if __name__ == '__main__':
    experiment.main(Config, PRESETS, run)
