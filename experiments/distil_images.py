"""Fewer steps for images by distillation: a denoiser of phantoms, walked in 64 steps of DDIM, teaches students of 32, 16, 8 and 4.

    python experiments/distil_images.py                     halved to 4 steps, and a consistency model
    python experiments/distil_images.py --grid=32 --last=2
    python experiments/distil_images.py --preset=smoke

Everyone draws from the same noise, and is judged by the kernel distance of its images to real ones, as a multiple of that of the teacher with all of
its steps. Beside the students stand a consistency model, and the teacher itself cut to as few steps, by DDIM and by the default solver. Salimans and
Ho, ICLR 2022; Song, Dhariwal, Chen, Sutskever, ICML 2023.
"""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxdiff import experiment, grids, model, report, sampling, study, taught
from jaxdiff.data.datasets import Dataset
from jaxdiff.data.source import stack
from jaxdiff.experiment import Bar, Evaluation, option
from jaxdiff.export import bill
from jaxdiff.metrics import synthesis
from jaxdiff.model import Model
from jaxdiff.plans import Later, Plan
from jaxdiff.solvers.ancestral import ddim
from jaxdiff.solvers.consistency import consistency, consistent
from jaxdiff.studies import flags, plain
from jaxdiff.studies.flags import schedule_of
from jaxdiff.types import UserError
from jaxdiff.workdir import Workdir


@dataclass(frozen=True, kw_only=True)
class Config(flags.Training):
    grid: int = option(64, 'steps of the teacher, a power of two', low=2)
    last: int = option(4, 'steps of the last student, a power of two', low=1)
    halving: int = option(
        800, 'training steps of each halving down to 16 steps; each after it takes twice as many as the one before', low=1
    )
    direct: int = option(1000, 'training steps of the consistency model', low=1)
    student_rate: float = option(2e-4, 'learning rate of students after warm-up, before its decay to 0', low=0)


_SMOKE = {'grid': 4, 'last': 2, 'halving': 2, 'direct': 2}
_LONG = {'gpu': (5000, 10000), 'paper': (50000, 100000)}
PRESETS = {
    **flags.PRESETS,
    'smoke': {**flags.PRESETS['smoke'], **_SMOKE},
    **{
        name: {**flags.PRESETS[name], 'halving': halving, 'direct': direct, 'student_rate': 5e-5}
        for name, (halving, direct) in _LONG.items()
    },
}
BARS = (Bar('distance_to_teacher', '<=', 1.3),)
END = 2e-3  # the time at which consistency models are the identity
FEW = (1, 2, 4)  # calls at which they are judged


class Walk(NamedTuple):
    """One way to draw: which model, and how."""

    name: str
    by: str
    draw: Callable[..., np.ndarray]  # as `sampling.drawer` makes it


def counts(config: Config) -> list[int]:
    """Steps of the students."""
    return [config.grid >> k for k in range(1, (config.grid // config.last).bit_length())]


def plan(config: Config, data: Dataset) -> tuple[Plan | Later, ...]:
    """The teacher, students each begun from and taught by the one before, and the consistency model."""
    teacher = plain.denoiser('teacher', config, data)
    path, own = model.make_path(teacher.blank.path), {**schedule_of(config), 'rate': config.student_rate}
    coarse, fine = grids.uniform(path, config.grid), grids.uniform(path, max(config.grid // 2, 2), last=END)

    def halved(before: str, n: int) -> Later:
        schedule = own | {'steps': config.halving * max(16 // n, 1), 'ema': 0.99}
        return lambda models: taught.halved(f'student-{n}', data.train, models[before], coarse, every=config.grid // (2 * n), **schedule)

    students = [
        halved(before, n) for before, n in zip(['teacher', *(f'student-{n}' for n in counts(config))], counts(config), strict=False)
    ]
    schedule = {name: value for name, value in own.items() if name != 'ema'} | {'steps': config.direct}
    return teacher, *students, lambda models: taught.consistent('consistency', data.train, models['teacher'], fine, **schedule)


def walks(config: Config, models: Mapping[str, Model]) -> list[Walk]:
    """The teacher in all of its steps and in as few as the last student's, students, and the consistency model."""
    teacher = models['teacher']
    path = model.make_path(teacher.path)
    cut = lambda n: sampling.drawer(teacher, solver=ddim(path), times=grids.uniform(path, n))
    whole, few = cut(config.grid), cut(config.last)
    leap = lambda n: sampling.drawer(
        teacher, solver=consistency(path, END), times=grids.uniform(path, n), wrap=lambda denoise: consistent(path, denoise, END)
    )
    default = sampling.drawer(teacher, times=grids.default(path, config.last))
    return [
        Walk(f'teacher, {config.grid}', 'teacher', whole),
        Walk(f'teacher, {config.last}', 'teacher', few),
        Walk(f'teacher, {config.last} of the default solver', 'teacher', default),
        *(Walk(f'student, {n}', f'student-{n}', few if n == config.last else cut(n)) for n in counts(config)),
        *(Walk(f'consistency, {n}', 'consistency', leap(n)) for n in FEW if n <= config.last),
    ]


def evaluate(config: Config, models: Mapping[str, Model], data: Dataset, seed: int, *, tools: Callable[..., list[Walk]]) -> Evaluation:
    """Kernel distances of everyone's images, from the same noise."""
    key, rng, ways = jax.random.key(seed), np.random.default_rng(seed), tools(models)
    against = synthesis.reference(stack(data.train), stack(data.validation), stack(data.test))
    drawn = {way.name: way.draw(models[way.by].params, key, config.samples) for way in ways}
    seen = {name: synthesis.assess(images, against)[0] for name, images in drawn.items()}
    last = f'student, {config.last}'
    few = next(way for way in ways if way.name == last)
    untrained = few.draw(model.init(models['teacher'], key), key, config.samples)
    _, others, controls, _ = synthesis.compare(drawn[last], untrained, against, rng)
    unit = synthesis.unit(seen[f'teacher, {config.grid}'], others['pca_gaussian'])
    controls = {'untrained': controls['untrained']}
    for each in (*seen.values(), *others.values(), *controls.values()):
        each['distance_to_teacher'] = each['kernel_distance'] / unit
    return Evaluation(seen.pop(last), {**seen, **others}, controls)


def show(
    config: Config, models: Mapping[str, Model], data: Dataset, folder: Workdir, *, tools: Callable[..., list[Walk]]
) -> list[report.Section]:
    """The same noise, drawn by everyone."""
    across, ways = 8, tools(models)
    rows = {way.name: way.draw(models[way.by].params, jax.random.key(config.seed), across) for way in ways}
    figure = report.grid(report.tiles([report.middle(image) for images in rows.values() for image in images], across), labels=list(rows))
    caption = 'A column is one start; numbers are calls of the network.'
    return [
        report.Section(
            'The same noise', caption, [report.picture(figure, caption, alt='rows of samples', path=folder.figures / 'samples.png')]
        )
    ]


def jobs(config: Config, todo: tuple[Plan, ...]) -> tuple[bill.Job, ...]:
    """What judging draws, in calls of the network."""
    path = model.make_path(todo[0].blank.path)
    calls = config.grid + 4 * config.last + sum(counts(config)) + sum(n for n in FEW if n <= config.last)
    draws = dict(count=config.evaluations * config.samples, size=60, calls=calls)
    return (bill.drawing(todo[0].blank, times=grids.uniform(path, config.grid), **draws),)


def run(config: Config) -> dict[str, Any]:
    """Train, judge and write the workdir; returns what result.json holds."""
    for name in ('grid', 'last'):
        if (value := getattr(config, name)) & (value - 1):
            raise UserError(f'--{name}={value}: choose a power of two')
    if config.last >= config.grid:
        raise UserError(f'--last={config.last}: must be less than the {config.grid} steps of the teacher')
    bars = BARS if config.preset in ('cpu', 'gpu') else ()
    made: list[Walk] = []  # once, for all evaluations: a drawer made again compiles again
    tools = lambda models: made or made.extend(walks(config, models)) or made
    return study.run(
        'foundations/distillation_of_images', config, open_data=plain.open_data, plan=plan,
        evaluate=functools.partial(evaluate, tools=tools), show=functools.partial(show, tools=tools), bars=bars, evaluations=config.evaluations,
        save_every=config.save_every, nfe=config.last, sketch=plain.sketch, jobs=jobs,
    )  # fmt: skip


if __name__ == '__main__':
    experiment.main(Config, PRESETS, run)
