"""ControlNet: a trained denoiser steered by a map of the ventricles, itself frozen, by a copy of its encoder.

    python experiments/conditioning/controlnet.py                   phantoms; the hint is where the ventricles are to be
    python experiments/conditioning/controlnet.py --control_steps=4000
    python experiments/conditioning/controlnet.py --preset=smoke

What is drawn is thresholded where tissue and ventricle are equally far, and its overlap with the hint is the Dice coefficient; beside it that of real
images with their own maps, of the same noise with the control off, and of the hints of others. Zhang, Rao, Agrawala, ICCV 2023.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdiff import experiment, grids, model, plans, report, sampling, study, taught
from jaxdiff.data import phantoms
from jaxdiff.data.datasets import Dataset
from jaxdiff.experiment import Bar, Evaluation, option
from jaxdiff.export import bill
from jaxdiff.model import Model
from jaxdiff.nets import control
from jaxdiff.plans import Plan
from jaxdiff.studies import flags, plain
from jaxdiff.studies.flags import schedule_of
from jaxdiff.types import Array, Example, Key
from jaxdiff.workdir import Workdir

VENTRICLE = phantoms.LABELS.index('ventricle')


@dataclass(frozen=True, kw_only=True)
class Config(flags.Training):
    control_steps: int = option(2500, 'training steps of the control', low=1)
    strength: float = option(1.0, 'by which all that the control adds is multiplied', low=0)


_STEPS = {'smoke': 4, 'cpu': 2500, 'gpu': 10000, 'paper': 100000}
PRESETS = {name: {**flags.PRESETS[name], 'control_steps': steps} for name, steps in _STEPS.items()}
BARS = (Bar('dice', '>=', 0.9), Bar('dice_over_off', '>=', 0.5), Bar('trunk_unchanged', '>=', 1.0))


def plan(config: Config, data: Dataset) -> tuple[Plan | plans.Later, ...]:
    """The trunk, told nothing, and then its control."""
    trunk, blank = plain.denoiser('trunk', config, data), plain.blank(config, data)

    def steered(models: Mapping[str, Model]) -> Plan:
        own = {name: value for name, value in blank.network.items() if name != 'name'}
        network = {'name': 'controlled', 'trunk': own, 'hint': 1, 'hint_widths': [8, 16] if config.patch == 2 else [16]}
        whole = blank._replace(network=network, card={**blank.card, 'conditioning': {'hint': list(data.shape)}})
        fresh = model.init(whole, jax.random.key(config.seed)) if model.concrete(models['trunk']) else model.shapes(whole)
        begin = control.begin(fresh, models['trunk'].params)
        schedule = schedule_of(config) | {'steps': config.control_steps}
        return taught.steered('model', whole, data.train, models['trunk'], begin=begin, condition=tell, **schedule)

    return trunk, steered


def tell(key: Key, example: Example) -> dict[str, Array]:
    """Where the ventricles are."""
    return {'hint': (example['labels'] == VENTRICLE)[..., None].astype(jnp.float32)}


def evaluate(config: Config, models: Mapping[str, Model], data: Dataset, seed: int) -> Evaluation:
    """Overlap with the hints of subjects of the test set."""
    trained, key = models['model'], jax.random.key(seed)
    rows = np.random.default_rng(seed).integers(data.test.size, size=config.samples)
    examples = [data.test.example(int(row)) for row in rows]
    hints = np.stack([each['labels'] == VENTRICLE for each in examples])
    drawn, off = both(config, trained, key, hints)
    other = np.roll(hints, 1, axis=0)
    same = jax.tree.map(np.array_equal, trained.params['params']['trunk'], models['trunk'].params['params'])
    metrics = {
        'dice': dice(drawn, hints),
        'dice_over_off': dice(drawn, hints) - dice(off, hints),
        'trunk_unchanged': float(all(jax.tree.leaves(same))),
    }
    real = dice(np.stack([each['image'] for each in examples]), hints)
    return Evaluation(
        metrics,
        {'real': {'dice': real}},
        {'control off': {'dice': dice(off, hints), 'dice_over_off': 0.0}, 'hints of others': {'dice': dice(drawn, other)}},
    )


def both(config: Config, trained: Model, key: Key, hints: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Draws steered by hints (n, X, Y), and draws of the same noise that are not."""
    draw = sampling.drawer(trained, times=grids.default(model.make_path(trained.path), config.sample_steps))
    told = {'hint': hints[..., None].astype(np.float32)}
    strengths = (np.full(len(hints), each, np.float32) for each in (config.strength, 0.0))
    steered, off = (draw(trained.params, key, len(hints), strength=strength, **told) for strength in strengths)
    return steered, off


def dice(images: np.ndarray, hints: np.ndarray) -> float:
    """The mean overlap of the ventricles of images (n, X, Y, 1) with hints (n, X, Y)."""
    found = np.stack([phantoms.ventricles((image[..., 0] + 1) / 2, plain.CONTRAST) for image in images])
    pixels = (1, 2)
    return float(np.mean(2 * (found & hints).sum(pixels) / np.maximum(found.sum(pixels) + hints.sum(pixels), 1)))


def show(config: Config, models: Mapping[str, Model], data: Dataset, folder: Workdir) -> list[report.Section]:
    """Hints, what is drawn with them, and from the same noise without."""
    across = min(8, data.test.size)
    hints = np.stack([data.test.example(n)['labels'] == VENTRICLE for n in range(across)])
    drawn, off = both(config, models['model'], jax.random.key(config.seed), hints)
    rows = [*(2.0 * hints - 1), *drawn[..., 0], *off[..., 0]]
    figure = report.grid(report.tiles(rows, across), labels=['hint', 'with control', 'without'])
    caption = 'Above where ventricles are to be; below draws of the same noise, with the control and without.'
    return [
        report.Section('Steered', caption, [report.picture(figure, caption, alt='rows of images', path=folder.figures / 'samples.png')])
    ]


def jobs(config: Config, todo: tuple[Plan, ...]) -> tuple[bill.Job, ...]:
    """What judging draws."""
    times = grids.default(model.make_path(todo[1].blank.path), config.sample_steps)
    return (bill.drawing(todo[1].blank, times=times, count=2 * config.evaluations * config.samples, size=60, calls=config.sample_steps),)


def run(config: Config) -> dict[str, Any]:
    """Train, judge and write the workdir; returns what result.json holds."""
    bars = BARS if config.preset in ('cpu', 'gpu') else ()
    return study.run(
        'conditioning/controlnet', config, open_data=plain.open_data, plan=plan, evaluate=evaluate, show=show, bars=bars,
        evaluations=config.evaluations, save_every=config.save_every, nfe=config.sample_steps, sketch=plain.sketch, jobs=jobs,
    )  # fmt: skip


if __name__ == '__main__':
    experiment.main(Config, PRESETS, run)
