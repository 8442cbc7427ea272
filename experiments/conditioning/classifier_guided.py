"""Classifier guidance: a denoiser told nothing, led to a class by the gradient of a classifier that has learned from noised images.

    python experiments/conditioning/classifier_guided.py                 phantoms of four classes, scales 0, 1, 2 and 4
    python experiments/conditioning/classifier_guided.py --scales=0,1,8
    python experiments/conditioning/classifier_guided.py --preset=smoke

    D = clip(D(null) + w sigma^2 / alpha grad_x log p(class | x, t), -1, 1),    w = 0 where log SNR < -6

Another classifier, of clean images, says whether the class was met: agreement is the mean probability that it gives to the class asked for, and
diversity the mean squared distance of two images of one class, in random convolutional features. Dhariwal and Nichol, "Diffusion models beat GANs on
image synthesis", NeurIPS 2021.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdiff import experiment, grids, guidance, model, plans, report, sampling, study
from jaxdiff.data.datasets import Dataset
from jaxdiff.experiment import Bar, Evaluation, option
from jaxdiff.export import bill
from jaxdiff.model import Model
from jaxdiff.plans import Plan
from jaxdiff.solvers.loop import sample
from jaxdiff.solvers.named import usual
from jaxdiff.studies import guided, told
from jaxdiff.types import Array, Denoiser, Key, Params
from jaxdiff.workdir import Workdir

Shared = tuple[Params, Params, Array]  # of the denoiser, of its guide, and the scale
FAINT = -6.0  # log SNR below which nothing can be seen, and a gradient divided by alpha would make something of it


@dataclass(frozen=True, kw_only=True)
class Config(told.Config):
    guide_steps: int = option(1500, 'training steps of the classifier that guides', low=1)
    scales: tuple = option((0.0, 1.0, 2.0, 4.0), 'of guidance, rising', low=0.0)


_STEPS = {'smoke': 4, 'cpu': 1500, 'gpu': 10000, 'paper': 300000}
PRESETS = {name: {**told.PRESETS[name], 'guide_steps': steps} for name, steps in _STEPS.items()}
BARS = (Bar('least_rise_of_agreement', '>=', 0.0), Bar('agreement', '>=', 0.9))


def plan(config: Config, data: Dataset) -> tuple[Plan, ...]:
    """The denoiser, the classifier that guides and the one that judges."""
    judging = told.judge(config, data)
    schedule = {name: getattr(config, name) for name in ('batch', 'rate', 'seed')}
    guide = plans.classifier('guide', judging.blank, data.train, steps=config.guide_steps, **schedule)
    return told.denoiser('model', config, data, norm='adaptive'), guide, judging


def leading(trained: Model, guide: Model) -> Callable[[Shared, Array], Denoiser]:
    """(parameters of both and the scale, class) -> the denoiser that is led there."""
    path, seen = model.make_path(trained.path), model.make_network(guide.network).apply

    def led(shared: Shared, label: Array) -> Denoiser:
        params, guiding, scale = shared
        likelihood = guidance.class_log_likelihood(lambda *args: seen(guiding, *args), path, label)
        weight = lambda t: jnp.where(path.log_snr(t) < FAINT, 0.0, scale)
        return guidance.static_threshold(guidance.energy(model.denoiser(trained._replace(params=params)), path, likelihood, weight))

    return led


def walking(config: Config, trained: Model, guide: Model) -> Callable[[Shared, Key, Array], Array]:
    """(parameters of both and the scale, key, class) -> an image."""
    path, led = model.make_path(trained.path), leading(trained, guide)
    solver, times = usual(path, times=grids.default(path, config.sample_steps))

    def one(shared: Shared, key: Key, label: Array) -> Array:
        start, walk = jax.random.split(key)
        x = path.sigma(times[0]) * jax.random.normal(start, trained.card['shape'])
        return sample(walk, x, led(shared, label), solver, times).x

    return one


def drawer(config: Config, trained: Model, guide: Model) -> Callable[..., np.ndarray]:
    """`draw(params, guide's params, scale, key, labels)` -> images (n, X, Y, 1); other parameters and scales compile nothing."""
    mapped = sampling.mapper(walking(config, trained, guide), name='sampling')

    def draw(params: Params, guiding: Params, scale: float, key: Key, labels: np.ndarray) -> np.ndarray:
        return np.clip(mapped((params, guiding, np.float32(scale)), sampling.keys(key, len(labels)), labels), -1, 1)

    return draw


def evaluate(config: Config, models: Mapping[str, Model], data: Dataset, seed: int) -> Evaluation:
    """Every scale from the same noise; controls of other classes than were asked for, and of a guide that has learned nothing."""
    trained, guide, judging = (models[name] for name in ('model', 'guide', 'judge'))
    key, labels, features = jax.random.key(seed), told.asked(data, config.samples, seed)['label'], told.features_of(data)
    draw = drawer(config, trained, guide)
    drawn = [draw(trained.params, guide.params, scale, key, labels) for scale in config.scales]
    blind = draw(trained.params, model.init(guide, key), config.scales[-1], key, labels)
    other = labels[np.random.default_rng(seed).permutation(config.samples)]
    agreed, varied = zip(*(told.scores(judging, features, images, labels) for images in drawn), strict=True)
    metrics = {
        'least_rise_of_agreement': float(min(np.diff(agreed))),
        'agreement': agreed[-1],
        **{f'agreement_{scale:g}': each for scale, each in zip(config.scales, agreed, strict=True)},
        **{f'diversity_{scale:g}': each for scale, each in zip(config.scales, varied, strict=True)},
    }
    images, shown = told.real(data, config.samples)
    score = lambda images, labels: {'agreement': told.scores(judging, features, images, labels)[0]}
    return Evaluation(
        metrics,
        {'real': score(images, shown['label'])},
        {'classes of others': score(drawn[-1], other), 'guide untrained': score(blind, labels)},
    )


def show(config: Config, models: Mapping[str, Model], data: Dataset, folder: Workdir) -> list[report.Section]:
    """The same noise under every scale, and the two curves."""
    trained, guide = models['model'], models['guide']
    led = drawer(config, trained, guide)
    draw = lambda scale, wanted: led(trained.params, guide.params, scale, jax.random.key(config.seed), wanted['label'])
    return guided.sections(config, config.scales, draw, models['judge'], data, folder)


def jobs(config: Config, todo: tuple[Plan, ...]) -> tuple[bill.Job, ...]:
    """What judging draws."""
    trained, guide = todo[0].blank, todo[1].blank
    led, number, label = leading(trained, guide), bill.float32(), jax.ShapeDtypeStruct((), jnp.int32)
    shared = (model.shapes(trained), model.shapes(guide), number)
    call = lambda shared, x, t, label: led(shared, label)(x, t)
    job = bill.over(
        'drawing', walking(config, trained, guide), shared, (jax.eval_shape(lambda: jax.random.key(0)), label), size=60,
        count=config.samples * (config.evaluations * (len(config.scales) + 1) + len(config.scales)),
        unit=(call, (bill.float32(*trained.card['shape']), number, label)), units=config.sample_steps, dtype=config.dtype,
    )  # fmt: skip
    return (job,)


def run(config: Config) -> dict[str, Any]:
    """Train, judge and write the workdir; returns what result.json holds."""
    guided.check_rising('scales', config.scales)
    bars = BARS if config.preset in ('cpu', 'gpu') else ()
    return study.run(
        'conditioning/classifier_guided', config, open_data=told.open_data, plan=plan, evaluate=evaluate, show=show, bars=bars,
        evaluations=config.evaluations, save_every=config.save_every, nfe=config.sample_steps, sketch=told.sketch, jobs=jobs,
    )  # fmt: skip


if __name__ == '__main__':
    experiment.main(Config, PRESETS, run)
