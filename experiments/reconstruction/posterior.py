"""Posterior sampling by a denoiser that was told of no mask: DDS, DDNM and DPS.

    python experiments/reconstruction/posterior.py                          phantoms, random and Gaussian columns at 4x
    python experiments/reconstruction/posterior.py --masks=random8          another acceleration, the same denoiser
    python experiments/reconstruction/posterior.py --data=fastmri:scans     .h5 files of fastMRI
    python experiments/reconstruction/posterior.py --preset=smoke

Beside the system, which is --way, stand the other two, the same walk without noise of its own and with that of the ancestral step, zero-filled
images, total variation and a U-Net trained for as many steps. Where one coil measured and no noise is allowed for, DDS and DDNM project alike. Chung
et al., "Diffusion posterior sampling", ICLR 2023; Wang et al., "DDNM", ICLR 2023; Chung et al., "DDS", ICLR 2024.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import numpy as np

from jaxdiff import experiment, grids, model
from jaxdiff.data.datasets import Dataset
from jaxdiff.experiment import option
from jaxdiff.model import Model
from jaxdiff.plans import Plan
from jaxdiff.studies import judging, kspace, reconstructing, solving
from jaxdiff.studies.judging import OWN, Models, Parts, Rows, Sweep
from jaxdiff.studies.kspace import Measured
from jaxdiff.studies.solving import Solve
from jaxdiff.tasks.reconstruction import posterior
from jaxdiff.types import Key


@dataclass(frozen=True, kw_only=True)
class Config(kspace.Config):
    way: str = option('dds', 'the system, the other being a row', choices=('dds', 'ddnm'))
    eta: float = option(0.85, 'how much of the noise of a step is fresh', low=0, high=1)
    sigma: float = option(0.0, 'standard deviation of the complex noise that DDS allows for; 0: what was measured is exact', low=0)
    conjugate: int = option(5, 'conjugate gradients of each step of DDS', low=1)
    dps_steps: int = option(200, 'steps of DPS, which draws one sample', low=1)
    zetas: tuple = option((0.3, 1.0, 3.0, 10.0), 'how far a step of DPS goes, to choose from', low=0)
    etas: tuple = option((0.0, 0.25, 0.5, 0.85, 1.0), 'of the table over --eta', low=0, high=1)


PRESETS = kspace.presets(smoke={'dps_steps': 2, 'zetas': (1.0,), 'etas': (1.0,)})


def plan(config: Config, data: Dataset) -> tuple[Plan, ...]:
    """The denoiser of complex images."""
    return (kspace.prior(config, data),)


def rows(config: Config, models: Models, data: Dataset) -> Rows:
    """Three ways, the system without noise of its own and with that of the ancestral step, and an untrained denoiser."""
    trained, ways = models['prior'], ways_of(config)
    run = {name: sampler(config, trained, name.upper(), way) for name, way in ways.items()}
    fresh, (other,) = model.init(trained, jax.random.key(config.seed)), set(ways) - {config.way, 'ancestral'}
    of = lambda name, params, eta: lambda mask: lambda key, at: run[name](params, key, at, np.float32(eta))
    return Rows(
        own=of(config.way, trained.params, config.eta),
        beside={
            other.upper(): of(other, trained.params, config.eta),
            f'{config.way.upper()}, eta 0': of(config.way, trained.params, 0.0),
            f'{config.way.upper()}, ancestral noise': of('ancestral', trained.params, config.eta),
            'DPS': tuned(config, models, data),
        },
        controls={'untrained': of(config.way, fresh, config.eta)},
    )


def ways_of(config: Config) -> dict[str, Callable[..., Any]]:
    """Samplers that take a step in the same form, by name."""
    ways = {'dds': partial(posterior.dds, steps=config.conjugate, noise=config.sigma / np.sqrt(2)), 'ddnm': posterior.ddnm}
    return {**ways, 'ancestral': partial(ways[config.way], ancestral=True)}


def sampler(config: Config, trained: Model, name: str, way: Callable[..., Any]) -> Callable[..., np.ndarray]:
    """`run(params, key, measured, eta)` -> samples."""
    path, shape = model.make_path(trained.path), tuple(trained.card['shape'])
    common = dict(path=path, times=grids.default(path, config.walk), shape=shape, count=config.count)
    draw = lambda key, y, operator, denoise, eta: way(key, y, operator, denoise, eta=eta, **common)
    return solving.sampler(trained, draw, name=name)


def sweeps(config: Config, models: Models, data: Dataset) -> tuple[Sweep, ...]:
    """Over the share of fresh noise, and over the step of DPS."""
    trained = models['prior']
    run, dps = sampler(config, trained, config.way.upper(), ways_of(config)[config.way]), descent(config, models)
    return (
        Sweep('eta', config.etas, lambda eta, mask: lambda key, at: run(trained.params, key, at, np.float32(eta))),
        Sweep('zeta of DPS', config.zetas, lambda zeta, mask: lambda key, at: dps(key, at, zeta)),
    )


def descent(config: Config, models: Models) -> Callable[[Key, Measured, float], np.ndarray]:
    """DPS of the same denoiser: (key, measured, zeta) -> samples."""
    trained = models['prior']
    path, shape = model.make_path(trained.path), tuple(trained.card['shape'])
    times = grids.default(path, config.dps_steps)

    def draw(key, y, operator, denoise, zeta):
        return posterior.dps(key, y, operator, denoise, path=path, times=times, shape=shape, zeta=zeta, count=1)

    run = solving.sampler(trained, draw, name='DPS')
    return lambda key, at, zeta: run(trained.params, key, at, np.float32(zeta))


def tuned(config: Config, models: Models, data: Dataset) -> Callable[[str], Solve]:
    """DPS, under each mask with the step that is best on validation slices."""
    walk, bench, chosen = descent(config, models), solving.Bench(config, data), {}

    def make(mask: str) -> Solve:
        if mask not in chosen:
            chosen[mask] = solving.best(config.zetas, walk, bench.tuning(mask), jax.random.key(config.seed))
        return lambda key, at: walk(key, at, chosen[mask])

    return make


def derive(table: Mapping[str, Mapping[str, float]], mask: str) -> dict[str, float]:
    """What its noise is worth, and how far it is above the U-Net."""
    own = table[OWN]
    still = next(row for name, row in table.items() if name.endswith('eta 0'))
    return {
        'psnr_over_eta_0': own['psnr'] - still['psnr'],
        'psnr_of_mean_over_unet': own.get('psnr_of_mean', own['psnr']) - table['U-Net']['psnr'],
    }


def tried(config: Config) -> int:
    """DPS draws one sample."""
    return len(config.etas) * config.walk * config.count + len(config.zetas) * config.dps_steps


PARTS = Parts(plan, rows, nfe=lambda config: config.walk * config.count, derive=derive, sweeps=sweeps, tried=tried)


def run(config: Config) -> dict[str, Any]:
    """Train, judge and write the workdir; returns what result.json holds."""
    exact = not config.sigma or config.way == 'ddnm'
    bars = [bar for bar in judging.usual_bars(config) if exact or not bar.name.endswith('residual')]
    return reconstructing.run('reconstruction/posterior', config, PARTS, bars)


if __name__ == '__main__':
    experiment.main(Config, PRESETS, run)
