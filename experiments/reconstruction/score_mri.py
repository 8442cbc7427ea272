"""Score-MRI: predictor and corrector along a variance-exploding path, with what was measured put in after each of their steps.

    python experiments/reconstruction/score_mri.py                        phantoms, random and Gaussian columns at 4x
    python experiments/reconstruction/score_mri.py --prior=parts          as published: the real and the imaginary part each by itself
    python experiments/reconstruction/score_mri.py --coils=4              several coils, whose sensitivities are known
    python experiments/reconstruction/score_mri.py --preset=smoke

The denoiser of complex images that the other systems use serves here too, since a denoiser of one path is one of every path; as published, one of
real images is asked for each part of a complex one. Beside it stand the predictor alone and a table over the number of steps. Chung and Ye,
"Score-based diffusion models for accelerated MRI", Medical Image Analysis 2022.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from jaxdiff import experiment, grids, model, plans, predict
from jaxdiff.data.datasets import Dataset
from jaxdiff.experiment import Bar, option
from jaxdiff.model import Model
from jaxdiff.plans import Plan
from jaxdiff.studies import judging, kspace, reconstructing, solving
from jaxdiff.studies.flags import schedule_of
from jaxdiff.studies.judging import OWN, Models, Parts, Rows, Sweep
from jaxdiff.tasks.reconstruction import score_mri

PRIORS = {'complex': 'prior', 'parts': 'parts'}  # flags -> names of models


@dataclass(frozen=True, kw_only=True)
class Config(kspace.Config):
    prior: str = option('complex', 'what the denoiser learnt: complex images, or parts of them, asked one by one', choices=tuple(PRIORS))
    walk: int = option(200, 'predictions, each after a correction', low=2)
    patients: int = option(12, 'slices to judge by, anew for each seed', low=1)
    largest: float = option(30.0, 'sigma at the end of the path', low=1)
    spread: float = option(0.35, 'standard deviation of the parts of an image', low=0.01)
    snr: float = option(0.16, 'of the corrector', low=0.01)
    fewer: tuple = option((4, 2, 1), 'by what --walk is divided in the table over the number of steps', low=1)


PRESETS = kspace.presets(smoke={'fewer': (2, 1)}, paper={'largest': 378.0, 'walk': 2000})


def exploding(config: Config) -> dict[str, Any]:
    """The path that is walked."""
    return {'name': 've', 'sigma_max': config.largest, 'data_std': config.spread}


def plan(config: Config, data: Dataset) -> tuple[Plan, ...]:
    """The denoiser of complex images, or of real and imaginary parts along the path that is walked."""
    if config.prior == 'complex':
        return (kspace.prior(config, data),)
    blank = kspace.blank(config, data, kind='edm', path=exploding(config), channels=1)
    return (plans.denoiser('parts', blank, kspace.parts(data.train), augment=kspace.mirror(config), **schedule_of(config)),)


def rows(config: Config, models: Models, data: Dataset) -> Rows:
    """Predictor and corrector, the predictor alone in as many steps and in as many calls, and an untrained denoiser."""
    trained = models[PRIORS[config.prior]]
    run, alone = (walking(config, trained, config.walk, corrections=corrections) for corrections in (1, 0))
    longer = walking(config, trained, 2 * config.walk, corrections=0)
    fresh = model.init(trained, jax.random.key(config.seed))
    return Rows(
        own=lambda mask: lambda key, at: run(trained.params, key, at),
        beside={
            'no corrector': lambda mask: lambda key, at: alone(trained.params, key, at),
            'no corrector, twice the steps': lambda mask: lambda key, at: longer(trained.params, key, at),
        },
        controls={'untrained': lambda mask: lambda key, at: run(fresh, key, at)},
    )


def walking(config: Config, trained: Model, steps: int, *, corrections: int = 1) -> Callable[..., np.ndarray]:
    """`run(params, key, measured)` -> samples."""
    learnt, path, shape = model.make_path(trained.path), model.make_path(exploding(config)), (*trained.card['shape'][:-1], 2)
    times = grids.uniform(path, steps)

    def draw(key, y, operator, denoise):
        denoise = score_mri.by_parts(denoise) if config.prior == 'parts' else predict.along(denoise, learnt, path)
        return score_mri.reconstruct(
            key, y, operator, denoise, path=path, times=times, shape=shape, snr=config.snr, corrections=corrections, count=config.count
        )

    return solving.sampler(trained, draw, name=f'{steps} steps, {corrections} correction(s) each')


def sweeps(config: Config, models: Models, data: Dataset) -> tuple[Sweep, ...]:
    """Over the number of steps."""
    trained = models[PRIORS[config.prior]]
    runs = {steps: walking(config, trained, steps) for steps in numbers(config)}
    return (Sweep('steps', tuple(runs), lambda steps, mask: lambda key, at: runs[steps](trained.params, key, at)),)


def derive(table: Mapping[str, Mapping[str, float]], mask: str) -> dict[str, float]:
    """What the corrector is worth, beside as many steps and beside as many calls."""
    own = table[OWN]['psnr']
    return {
        'psnr_over_no_corrector': own - table['no corrector']['psnr'],
        'psnr_over_as_many_calls': own - table['no corrector, twice the steps']['psnr'],
    }


def numbers(config: Config) -> list[int]:
    """Of steps, in the table."""
    return sorted({max(2, config.walk // each) for each in config.fewer})


def calls(config: Config, steps: int) -> int:
    """Of the network, in predictions and in as many corrections; parts are asked for by themselves."""
    return (2 if config.prior == 'parts' else 1) * 2 * steps * config.count


PARTS = Parts(
    plan, rows, nfe=lambda config: calls(config, config.walk), derive=derive, sweeps=sweeps,
    tried=lambda config: sum(calls(config, steps) for steps in numbers(config)),
)  # fmt: skip


def run(config: Config) -> dict[str, Any]:
    """Train, judge and write the workdir; returns what result.json holds."""
    bars = [Bar(f'{mask}_psnr_over_no_corrector', '>=', 0.0) for mask in config.masks]
    return reconstructing.run('reconstruction/score_mri', config, PARTS, (*judging.usual_bars(config), *bars))


if __name__ == '__main__':
    experiment.main(Config, PRESETS, run)
