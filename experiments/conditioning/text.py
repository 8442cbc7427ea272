"""Text by cross-attention: images of what a sentence says, read by a small transformer that learns with the denoiser.

    python experiments/conditioning/text.py                                      phantoms, with captions of contrast, ventricles and lesion
    python experiments/conditioning/text.py --say='a T2 slice with wide ventricles and a lesion'
    python experiments/conditioning/text.py --preset=smoke

Rombach et al., "High-resolution image synthesis with latent diffusion models", CVPR 2022; Saharia et al., "Imagen", NeurIPS 2022.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from jaxdiff import experiment, grids, model, report, sampling, study
from jaxdiff.data.datasets import Dataset
from jaxdiff.data.source import stack
from jaxdiff.experiment import Bar, Evaluation, option
from jaxdiff.export import bill
from jaxdiff.model import Model
from jaxdiff.plans import Plan
from jaxdiff.studies import spoken
from jaxdiff.types import UserError
from jaxdiff.workdir import Workdir


@dataclass(frozen=True, kw_only=True)
class Config(spoken.Config):
    weight: float = option(2.0, 'classifier-free guidance: 1 is plain, above 1 exaggerates what is said', low=0)
    say: str = option('', 'a sentence to draw for the page')


PRESETS = spoken.PRESETS
BARS = (Bar('attributes', '>=', 0.9),)


def plan(config: Config, data: Dataset) -> tuple[Plan, ...]:
    """The denoiser that reads, and the classifier."""
    return spoken.denoiser('model', config, data), spoken.judge(config, data)


def evaluate(config: Config, models: Mapping[str, Model], data: Dataset, seed: int) -> Evaluation:
    """Attributes of what was drawn, beside those of real images and of prompts that were shuffled."""
    trained, judging = models['model'], models['judge']
    kinds, told = spoken.asked(config.samples, seed)
    drawn = drawer(config, trained)(trained.params, jax.random.key(seed), config.samples, weight=config.weight, **told)
    found = spoken.shown(judging, drawn)
    shuffled = kinds[np.random.default_rng(seed).permutation(len(kinds))]
    real = stack(data.validation)
    truth = np.array([data.validation.example(n)['label'] for n in range(len(real))])
    return Evaluation(
        dict(spoken.right(found, kinds)),
        {'real': dict(spoken.right(spoken.shown(judging, real), truth))},
        {'shuffled': dict(spoken.right(found, shuffled))},
    )


def drawer(config: Config, trained: Model):
    """What draws."""
    return sampling.drawer(trained, times=grids.default(model.make_path(trained.path), config.sample_steps), guided=True)


def show(config: Config, models: Mapping[str, Model], data: Dataset, folder: Workdir) -> list[report.Section]:
    """A row of draws for each of some sentences, half of them with a lesion."""
    trained, read, across = models['model'], spoken.reader(), 6
    said = [*([config.say] if config.say else []), *(spoken.captions(kind)[5] for kind in (0, 3, 5, 6))]
    words = np.repeat(np.stack([read(each) for each in said]), across, axis=0)
    drawn = drawer(config, trained)(trained.params, jax.random.key(config.seed), len(words), weight=config.weight, words=words)
    figure = report.grid(report.tiles([report.middle(image) for image in drawn], across), labels=[str(n + 1) for n in range(len(said))])
    caption = '; '.join(f'{n + 1}: {each}' for n, each in enumerate(said))
    return [
        report.Section(
            'Drawn as said', caption, [report.picture(figure, caption, alt='rows of samples', path=folder.figures / 'samples.png')]
        )
    ]


def jobs(config: Config, todo: tuple[Plan, ...]) -> tuple[bill.Job, ...]:
    """What judging draws."""
    times = grids.default(model.make_path(todo[0].blank.path), config.sample_steps)
    return (bill.drawing(todo[0].blank, times=times, count=2 * config.evaluations * config.samples, size=60, calls=config.sample_steps),)


def run(config: Config) -> dict[str, Any]:
    """Train, judge and write the workdir; returns what result.json holds."""
    if strange := spoken.reader().unknown(config.say):
        raise UserError(f'--say: the model never read {", ".join(strange)}; use words of its captions, such as "{spoken.captions(3)[0]}"')
    bars = BARS if config.preset in ('cpu', 'gpu') else ()
    return study.run(
        'conditioning/text', config, open_data=spoken.open_data, plan=plan, evaluate=evaluate, show=show, bars=bars,
        evaluations=config.evaluations, save_every=config.save_every, nfe=2 * config.sample_steps, sketch=spoken.sketch, jobs=jobs,
    )  # fmt: skip


if __name__ == '__main__':
    experiment.main(Config, PRESETS, run)
