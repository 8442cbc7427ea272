"""A class and a number told to a network, by whichever of its ways: what the scripts `spatial` and `adagn` do."""

from collections.abc import Mapping
from dataclasses import dataclass

import jax
import numpy as np

from jaxdiff import grids, model, report, sampling, study
from jaxdiff.data.datasets import Dataset
from jaxdiff.experiment import Bar, Evaluation, option
from jaxdiff.export import bill
from jaxdiff.metrics.agreement import agreement, r_squared
from jaxdiff.model import Model
from jaxdiff.studies import told
from jaxdiff.types import Array
from jaxdiff.workdir import Workdir

LED = ('label',)  # guidance by the size too would exaggerate it: what is asked for is a measure
BARS = (Bar('agreement', '>=', 0.95), Bar('r_squared', '>=', 0.9))


@dataclass(frozen=True, kw_only=True)
class Config(told.Config):
    """The flags."""

    weight: float = option(2.0, 'of guidance along the class alone; 1 is none', low=0)


def run(system: str, config: Config, *, norm: str) -> dict:
    """Train a network whose blocks are told by `norm`, judge it, and write the workdir; returns what result.json holds."""

    def plan(config: Config, data: Dataset):
        return told.denoiser('model', config, data, norm=norm), told.judge(config, data)

    def jobs(config: Config, todo):
        blank = todo[0].blank
        draws = dict(count=2 * config.evaluations * config.samples, size=60, calls=2 * config.sample_steps)
        return (bill.drawing(blank, times=times_of(config, blank), **draws),)

    bars = BARS if config.preset in ('cpu', 'gpu') else ()
    return study.run(
        system, config, open_data=told.open_data, plan=plan, evaluate=evaluate, show=show, bars=bars, evaluations=config.evaluations,
        save_every=config.save_every, nfe=2 * config.sample_steps, sketch=told.sketch, jobs=jobs,
    )  # fmt: skip


def evaluate(config: Config, models: Mapping[str, Model], data: Dataset, seed: int) -> Evaluation:
    """Classes and (where no lesion hides them) sizes of what was drawn, beside real images, guidance left out, and shuffled requests."""
    trained, judging = models['model'], models['judge']
    key, by, wanted = jax.random.key(seed), told.ruler(data), told.asked(data, config.samples, seed)

    def score(images: np.ndarray, wanted: Mapping[str, np.ndarray]) -> dict[str, float]:
        found = told.probabilities(judging, images).argmax(1)
        seen = told.whole(wanted['label'])
        size = told.sizes(by, images[seen], wanted['label'][seen])
        return {'agreement': agreement(found, wanted['label']), 'r_squared': r_squared(size, wanted['vector'][seen, 0])}

    draw = sampling.drawer(trained, times=times_of(config, trained), guided=LED)
    drawn, plain = (draw(trained.params, key, config.samples, weight=weight, **wanted) for weight in (config.weight, 1.0))
    order = np.random.default_rng(seed).permutation(config.samples)
    shuffled = {name: value[order] for name, value in wanted.items()}
    return Evaluation(
        score(drawn, wanted),
        {'real': score(*told.real(data, config.samples)), 'unguided': score(plain, wanted)},
        {'shuffled': score(drawn, shuffled)},
    )


def show(config: Config, models: Mapping[str, Model], data: Dataset, folder: Workdir) -> list[report.Section]:
    """Every class in a row, with ventricles from small to large."""
    trained, across = models['model'], 6
    wanted = {
        'label': np.repeat(np.arange(len(told.KINDS), dtype=np.int32), across),
        'vector': np.tile(np.linspace(0, 1, across, dtype=np.float32), len(told.KINDS))[:, None],
    }
    draw = sampling.drawer(trained, times=times_of(config, trained), guided=LED)
    drawn = draw(trained.params, jax.random.key(config.seed), len(wanted['label']), weight=config.weight, **wanted)
    figure = report.grid(report.tiles([report.middle(image) for image in drawn], across), labels=told.NAMES)
    caption = 'Asked for: a class in each row, ventricles from the smallest on the left to the largest on the right.'
    return [
        report.Section(
            'Drawn as told', caption, [report.picture(figure, caption, alt='rows of samples', path=folder.figures / 'samples.png')]
        )
    ]


def times_of(config: Config, trained: Model) -> Array:
    """The grid of the sampler."""
    return grids.default(model.make_path(trained.path), config.sample_steps)
