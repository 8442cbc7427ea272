"""Cold diffusion of k-space: frequencies are taken away one after another, without noise, and filled in again from what a restorer says.

    python experiments/reconstruction/cold.py                        phantoms, random and Gaussian columns at 4x
    python experiments/reconstruction/cold.py --preset=smoke

Samples differ by the order in which frequencies are filled in. Beside them stand the restorer asked once, as it is and made consistent, the naive
sampler, which forgets what was measured, and a table over the number of calls. Shen et al., "Learning to reconstruct accelerated MRI through k-space
cold diffusion without noise", Scientific Reports 2024.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdiff import experiment, model, plans, sampling
from jaxdiff.data.datasets import Dataset
from jaxdiff.experiment import Bar, option
from jaxdiff.model import Model
from jaxdiff.plans import Plan
from jaxdiff.studies import judging, kspace, reconstructing
from jaxdiff.studies.flags import schedule_of
from jaxdiff.studies.judging import OWN, Models, Parts, Rows, Sweep
from jaxdiff.tasks.reconstruction import cold
from jaxdiff.types import UserError


@dataclass(frozen=True, kw_only=True)
class Config(kspace.Config):
    walk: int = option(24, 'calls of the restorer', low=1)
    levels: int = option(1000, 'shares of the way that it is taught', low=1)
    calls: tuple = option((1, 2, 4, 8, 24, 48), 'of the table over --walk', low=1)


PRESETS = kspace.presets(smoke={'calls': (1, 2)})
CONSISTENT = 'one call, made consistent'
BESIDE = ('one shot', CONSISTENT, 'naive')


def plan(config: Config, data: Dataset) -> tuple[Plan, ...]:
    """The restorer, taught with the masks of the flags. Raises `UserError` for several coils."""
    if kspace.coils_of(config) > 1:
        raise UserError(
            f'--data={config.data} --coils={config.coils}: cold diffusion takes one coil: leave it out of --systems, or take another script'
        )
    bank = kspace.banked(config, data)

    def spoil(key, x0):
        pick, away = jax.random.split(key)
        x, t = cold.pair(away, x0, kspace.pick_mask(pick, bank), config.levels)
        return x, t, jnp.ones((1, 1, 1))

    told = {'what': 'frequencies taken away', 'masks': config.masks, 'levels': config.levels}
    blank = kspace.blank(config, data, kind='x0')
    options = dict(told=told, power=1.0, augment=kspace.mirror(config), **schedule_of(config))
    return (plans.restorer('restorer', blank, kspace.images(data.train), spoil, **options),)


def rows(config: Config, models: Models, data: Dataset) -> Rows:
    """The improved sampler, the naive one, one call as it is and with what was measured put back, and an untrained restorer."""
    trained = models['restorer']

    def once(params, y, mask):
        return cold.one_shot(y, mask, kspace.denoiser_of(trained, params))[None]

    walk, naive, single = (
        walking(config, trained, config.walk),
        walking(config, trained, config.walk, naive=True),
        walking(config, trained, 1),
    )
    ask = sampling.mapper(once, size=32, name='asking once')
    fresh = model.init(trained, jax.random.key(config.seed))
    return Rows(
        own=lambda mask: lambda key, at: walk(trained.params, key, at),
        beside={
            'one shot': lambda mask: lambda key, at: ask(trained.params, at.y, at.mask),
            'naive': lambda mask: lambda key, at: naive(trained.params, key, at),
            CONSISTENT: lambda mask: lambda key, at: single(trained.params, key, at),
        },
        controls={'untrained': lambda mask: lambda key, at: walk(fresh, key, at)},
    )


def walking(config: Config, trained: Model, calls: int, *, naive: bool = False) -> Callable[..., np.ndarray]:
    """`run(params, key, measured)` -> samples; of one call there is one."""
    times, count = jnp.linspace(1.0, 0.0, calls + 1), config.count if calls > 1 else 1

    def one(params, key, y, mask):
        return cold.restore(key, y, mask, kspace.denoiser_of(trained, params), times=times, count=count, naive=naive).samples

    mapped = sampling.mapper(one, size=8, name=f'{"naive" if naive else "filling in"}, {calls} calls')
    return lambda params, key, at: mapped(params, sampling.keys(key, len(at.y)), at.y, kspace.by_columns(config, at.mask))


def sweeps(config: Config, models: Models, data: Dataset) -> tuple[Sweep, ...]:
    """Over the number of calls."""
    trained = models['restorer']
    runs = {calls: walking(config, trained, calls) for calls in config.calls}
    return (Sweep('calls', config.calls, lambda calls, mask: lambda key, at: runs[calls](trained.params, key, at)),)


def slug(name: str) -> str:
    """Of a row, as figures name it."""
    return name.replace(',', '').replace(' ', '_')


def derive(table: Mapping[str, Mapping[str, float]], mask: str) -> dict[str, float]:
    """How far it is above one call, and above the naive sampler."""
    return {f'psnr_over_{slug(name)}': table[OWN]['psnr'] - table[name]['psnr'] for name in BESIDE if name in table}


PARTS = Parts(
    plan,
    rows,
    nfe=lambda config: config.walk * config.count,
    derive=derive,
    sweeps=sweeps,
    tried=lambda config: sum(config.calls) * config.count,
)


def run(config: Config) -> dict[str, Any]:
    """Train, judge and write the workdir; returns what result.json holds."""
    bars = [Bar(f'{mask}_psnr_over_{name}', '>=', 0.0) for mask in config.masks for name in map(slug, BESIDE)]
    return reconstructing.run('reconstruction/cold', config, PARTS, (*judging.usual_bars(config), *bars))


if __name__ == '__main__':
    experiment.main(Config, PRESETS, run)
