"""Score-MRI: predictor and corrector along a variance-exploding path, with what was measured put in after each of their steps.

    python experiments/reconstruction/score_mri.py                        phantoms, random and Gaussian columns at 4x
    python experiments/reconstruction/score_mri.py --prior=parts          as published: the real and the imaginary part each by itself
    python experiments/reconstruction/score_mri.py --coils=4              several coils, whose sensitivities are known
    python experiments/reconstruction/score_mri.py --preset=smoke

The denoiser of complex images that the other systems use serves here too, since a denoiser of one path is one of every path. Beside it stand the
published way, a denoiser of real images asked for each part of a complex one, the predictor alone, and a table over the number of steps. Chung and
Ye, "Score-based diffusion models for accelerated MRI", Medical Image Analysis 2022.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from jaxdiff import experiment, grids, model, plans, predict
from jaxdiff.data import loader
from jaxdiff.data.datasets import Dataset
from jaxdiff.experiment import Bar, option
from jaxdiff.plans import Plan
from jaxdiff.studies import judging, kspace, reconstructing, solving
from jaxdiff.studies.flags import schedule_of
from jaxdiff.studies.judging import OWN, Models, Parts, Rows, Sweep
from jaxdiff.tasks.reconstruction import score_mri

PRIORS = {'complex': 'prior', 'parts': 'parts'}  # flags -> names of models


@dataclass(frozen=True, kw_only=True)
class Config(kspace.Config):
    prior: str = option('complex', 'what the denoiser learnt: complex images, or their parts, asked one by one', choices=tuple(PRIORS))
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
    """The denoiser of complex images, and that of real and imaginary parts along the path that is walked."""
    blank = kspace.blank(config, data, kind='edm', path=exploding(config), channels=1)
    apart = plans.denoiser('parts', blank, kspace.parts(data.train), augment=loader.flip, **schedule_of(config))
    return kspace.prior(config, data), apart


def rows(config: Config, models: Models, data: Dataset) -> Rows:
    """Predictor and corrector, the same by the other prior, the predictor alone, and an untrained denoiser."""
    (other,) = set(PRIORS) - {config.prior}
    walks = {each: walking(config, models, each, config.walk) for each in PRIORS}
    alone = walking(config, models, config.prior, config.walk, corrections=0)
    params = {each: models[name].params for each, name in PRIORS.items()}
    fresh = model.init(models[PRIORS[config.prior]], jax.random.key(config.seed))
    return Rows(
        own=lambda mask: lambda key, at: walks[config.prior](params[config.prior], key, at),
        beside={
            f'prior of {other}': lambda mask: lambda key, at: walks[other](params[other], key, at),
            'no corrector': lambda mask: lambda key, at: alone(params[config.prior], key, at),
        },
        controls={'untrained': lambda mask: lambda key, at: walks[config.prior](fresh, key, at)},
    )


def walking(config: Config, models: Models, prior: str, steps: int, *, corrections: int = 1) -> Callable[..., np.ndarray]:
    """`run(params, key, measured)` -> samples."""
    trained = models[PRIORS[prior]]
    learnt, path, shape = model.make_path(trained.path), model.make_path(exploding(config)), (*trained.card['shape'][:-1], 2)
    times = grids.uniform(path, steps)

    def draw(key, y, operator, denoise):
        denoise = score_mri.by_parts(denoise) if prior == 'parts' else predict.along(denoise, learnt, path)
        return score_mri.reconstruct(
            key, y, operator, denoise, path=path, times=times, shape=shape, snr=config.snr, corrections=corrections, count=config.count
        )

    return solving.sampler(trained, draw, name=f'{prior}, {steps} steps, {corrections} correction(s) each')


def sweeps(config: Config, models: Models, data: Dataset) -> tuple[Sweep, ...]:
    """Over the number of steps."""
    runs = {steps: walking(config, models, config.prior, steps) for steps in numbers(config)}
    params = models[PRIORS[config.prior]].params
    return (Sweep('steps', tuple(runs), lambda steps, mask: lambda key, at: runs[steps](params, key, at)),)


def derive(table: Mapping[str, Mapping[str, float]], mask: str) -> dict[str, float]:
    """What the corrector is worth, and how far it is above the other prior."""
    own = table[OWN]
    other = next(row for name, row in table.items() if name.startswith('prior of'))
    return {'psnr_over_no_corrector': own['psnr'] - table['no corrector']['psnr'], 'psnr_over_other_prior': own['psnr'] - other['psnr']}


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
