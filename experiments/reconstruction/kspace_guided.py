"""DiffuseRecon: an unconditional walk whose measured frequencies are replaced, averaged over samples, and refined from the average.

    python experiments/reconstruction/kspace_guided.py                        phantoms, random and Gaussian columns at 4x
    python experiments/reconstruction/kspace_guided.py --masks=random8        another acceleration, the same denoiser
    python experiments/reconstruction/kspace_guided.py --preset=smoke

Peng et al., "Towards performant and reliable undersampled MR reconstruction via diffusion model sampling", MICCAI 2022.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax

from jaxdiff import experiment, grids, model
from jaxdiff.data.datasets import Dataset
from jaxdiff.experiment import Bar, option
from jaxdiff.plans import Plan
from jaxdiff.studies import judging, kspace, reconstructing, solving
from jaxdiff.studies.judging import OWN, Models, Parts, Rows
from jaxdiff.tasks.reconstruction import kspace_guided


@dataclass(frozen=True, kw_only=True)
class Config(kspace.Config):
    refine: int = option(20, 'steps from the average, the last of a chain of --chain', low=1)
    chain: int = option(500, 'steps of the chain that these are the last of', low=1)


PRESETS = kspace.presets(smoke={'refine': 2})


def plan(config: Config, data: Dataset) -> tuple[Plan, ...]:
    """The denoiser of complex images."""
    return (kspace.prior(config, data),)


def rows(config: Config, models: Models, data: Dataset) -> Rows:
    """Samples, the average refined, and samples of an untrained denoiser."""
    trained = models['prior']
    path, shape = model.make_path(trained.path), tuple(trained.card['shape'])
    times, last = grids.default(path, config.walk), grids.uniform(path, config.chain)[-config.refine - 1 :]

    def draw(key, y, operator, denoise):
        return kspace_guided.reconstruct(key, y, operator, denoise, path=path, times=times, shape=shape, count=config.count)

    def refined(params, key, y, operator):
        denoise = kspace.denoiser_of(trained, params)
        mean = draw(key, y, operator, denoise).mean
        return kspace_guided.refine(mean, y, operator, denoise, path=path, times=last)[None]

    run, again = solving.sampler(trained, draw, name='k-space guided'), solving.solver(refined, name='refining')
    fresh = model.init(trained, jax.random.key(config.seed))
    return Rows(
        own=lambda mask: lambda key, at: run(trained.params, key, at),
        beside={'refined': lambda mask: lambda key, at: again(trained.params, key, at)},
        controls={'untrained': lambda mask: lambda key, at: run(fresh, key, at)},
    )


def derive(table: Mapping[str, Mapping[str, float]], mask: str) -> dict[str, float]:
    """What refining the average is worth."""
    refined, own = table['refined'], table[OWN]
    return {'gain_of_refining': refined['psnr'] - own.get('psnr_of_mean', own['psnr']), 'refined_psnr': refined['psnr']}


PARTS = Parts(plan, rows, nfe=lambda config: config.walk * config.count + config.refine, derive=derive)


def run(config: Config) -> dict[str, Any]:
    """Train, judge and write the workdir; returns what result.json holds."""
    bars = [Bar(f'{mask}_gain_of_refining', '>=', 0.0) for mask in config.masks]
    return reconstructing.run('reconstruction/kspace_guided', config, PARTS, (*judging.usual_bars(config), *bars))


if __name__ == '__main__':
    experiment.main(Config, PRESETS, run)
