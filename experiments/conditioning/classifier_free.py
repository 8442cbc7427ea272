"""Classifier-free guidance: the class that a network is told counts for more, and its images differ less, the larger the weight.

    python experiments/conditioning/classifier_free.py                  phantoms of four classes, weights 0, 1, 2 and 4
    python experiments/conditioning/classifier_free.py --weights=0,1,3
    python experiments/conditioning/classifier_free.py --preset=smoke

Agreement is the mean probability that a classifier gives to the class asked for; diversity the mean squared distance of two images of one class, in
random convolutional features. The class alone is told, no size: a size that is asked for would be overshot, which no diversity is.
Ho and Salimans, "Classifier-free diffusion guidance", 2022.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from jaxdiff import experiment, grids, model, report, sampling, study
from jaxdiff.data.datasets import Dataset
from jaxdiff.experiment import Bar, Evaluation, option
from jaxdiff.export import bill
from jaxdiff.model import Model
from jaxdiff.studies import guided, told
from jaxdiff.workdir import Workdir


@dataclass(frozen=True, kw_only=True)
class Config(told.Config):
    weights: tuple = option((0.0, 1.0, 2.0, 4.0), 'of guidance, rising', low=0.0)


PRESETS = told.PRESETS
BARS = (Bar('least_rise_of_agreement', '>=', 0.0), Bar('least_fall_of_diversity', '>=', 0.0), Bar('difference_at_1', '<=', 1e-4))


def plan(config: Config, data: Dataset):
    """The denoiser, told class and size, and the classifier."""
    return told.denoiser('model', config, data, norm='adaptive'), told.judge(config, data)


def evaluate(config: Config, models: Mapping[str, Model], data: Dataset, seed: int) -> Evaluation:
    """Every weight from the same noise; a control of the same network guided towards what was not asked for."""
    trained, key = models['model'], jax.random.key(seed)
    wanted = told.unsized(told.asked(data, config.samples, seed))
    guide, plainly = drawers(config, trained)
    drawn = {weight: guide(trained.params, key, config.samples, weight=weight, **wanted) for weight in config.weights}
    plain = plainly(trained.params, key, config.samples, **wanted)
    features = told.features_of(data)
    order = np.random.default_rng(seed).permutation(config.samples)
    seen = {weight: told.scores(models['judge'], features, images, wanted['label']) for weight, images in drawn.items()}
    other = [told.scores(models['judge'], features, images, wanted['label'][order])[0] for images in drawn.values()]
    metrics = {
        'least_rise_of_agreement': min(np.diff([each[0] for each in seen.values()])),
        'least_fall_of_diversity': min(-np.diff([each[1] for each in seen.values()])),
        **{f'agreement_{weight:g}': each[0] for weight, each in seen.items()},
        **{f'diversity_{weight:g}': each[1] for weight, each in seen.items()},
    }
    if 1.0 in drawn:
        metrics['difference_at_1'] = float(np.abs(drawn[1.0] - plain).max())
    images, shown = told.real(data, config.samples)
    agreed, varied = told.scores(models['judge'], features, images, shown['label'])
    return Evaluation(
        {name: float(value) for name, value in metrics.items()},
        {'real': {'agreement_1': agreed, 'diversity_1': varied}},
        {'shuffled': {'least_rise_of_agreement': float(min(np.diff(other)))}},
    )


def drawers(config: Config, trained: Model) -> list[Callable[..., np.ndarray]]:
    """What draws with a weight, and what draws without."""
    times = grids.default(model.make_path(trained.path), config.sample_steps)
    return [sampling.drawer(trained, times=times, guided=each) for each in (True, False)]


def show(config: Config, models: Mapping[str, Model], data: Dataset, folder: Workdir) -> list[report.Section]:
    """The same noise under every weight, and the two curves."""
    trained, (guide, _) = models['model'], drawers(config, models['model'])
    draw = lambda weight, wanted: guide(trained.params, jax.random.key(config.seed), len(wanted['label']), weight=weight, **wanted)
    return guided.sections(config, config.weights, draw, models['judge'], data, folder)


def jobs(config: Config, todo) -> tuple[bill.Job, ...]:
    """What judging draws."""
    times = grids.default(model.make_path(todo[0].blank.path), config.sample_steps)
    count = config.evaluations * config.samples * len(config.weights)
    return (bill.drawing(todo[0].blank, times=times, count=2 * count, size=60, calls=config.sample_steps),)


def run(config: Config) -> dict[str, Any]:
    """Train, judge and write the workdir; returns what result.json holds."""
    guided.check_rising('weights', config.weights)
    bars = BARS if config.preset in ('cpu', 'gpu') else ()
    return study.run(
        'conditioning/classifier_free', config, open_data=told.open_data, plan=plan, evaluate=evaluate, show=show, bars=bars,
        evaluations=config.evaluations, save_every=config.save_every, nfe=2 * config.sample_steps, sketch=told.sketch, jobs=jobs,
    )  # fmt: skip


if __name__ == '__main__':
    experiment.main(Config, PRESETS, run)
