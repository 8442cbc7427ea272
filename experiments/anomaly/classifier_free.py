"""Encoding without a class, then decoding guided to the healthy one by the denoiser itself, which was told which slices show a lesion.

    python experiments/anomaly/classifier_free.py                    phantoms, half of them with a lesion
    python experiments/anomaly/classifier_free.py --data=brain       virtual brains
    python experiments/anomaly/classifier_free.py --preset=smoke

The class is a token, in copies, among the pixels that attention sees, at the two coarsest resolutions. Beside it stand decoding with weight 0, which
shows what encoding alone loses of a lesion, with weight 1, which does not exaggerate, and with the other choice of dynamic normalisation. Depth,
weight and whether to normalise are chosen on validation patients. Sanchez et al., "What is healthy? Generative counterfactual diffusion for lesion
localization", DGM4MICCAI 2022.
"""

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdiff import experiment, grids, model
from jaxdiff.experiment import Bar, option
from jaxdiff.metrics.anomalies import Cases
from jaxdiff.model import Model
from jaxdiff.plans import Plan
from jaxdiff.studies import cohorts, detecting, healthy
from jaxdiff.studies.cohorts import Cohort, cases, scans
from jaxdiff.studies.detecting import OWN, Detectors
from jaxdiff.studies.healthy import Models, Parts
from jaxdiff.tasks.anomaly import classifier_free
from jaxdiff.tasks.anomaly.finding import Finding
from jaxdiff.types import Array, Example, Key, Params

WIDTH = 8  # of the token: attention normalises it, which leaves of two numbers a sign, and 'no class' would be the same as a class
CODES = np.eye(WIDTH, dtype=np.float32)[:2]
COPIES = 32  # of the token, beside 256 and 64 pixels: one alone is hardly heard, nor does it learn to be
HEALTHY, ILL, NONE = (np.tile(code, (COPIES, 1)) for code in (*CODES, np.full(WIDTH, np.nan, np.float32)))


@dataclass(frozen=True, kw_only=True)
class Config(healthy.Config):
    depths: tuple = option((0.5, 0.75), 'to which slices are encoded, to choose from, in path time', low=0.01, high=0.99)
    weights: tuple = option((1.5, 3.0), 'of guidance, to choose from', low=1)
    told_steps: int = option(
        0,
        'training steps of the denoiser that is told the class; 0: twice --steps, for it is slow to heed it, or --steps on virtual brains',
        low=0,
    )
    encode: int = option(30, 'steps of encoding, and as many of decoding', low=1)
    finer: tuple = option((2,), 'times as many steps, for the table of what encoding loses', low=1)
    fixed_points: tuple = option((2, 6), 'iterations of each step of encoding, for the same table', low=1)
    quantile: float = option(0.99, 'of the size of a denoised image, by which it is divided where that exceeds 1', low=0.5, high=1)


PRESETS = healthy.presets(
    smoke={'told_steps': 4, 'weights': (3.0,), 'encode': 2, 'finer': (2,), 'fixed_points': (1,)},
    gpu={'told_steps': 20000, 'encode': 100},
    paper={'told_steps': 500000, 'encode': 75, 'depths': (0.75,), 'weights': (3.0,)},
)
BARS = (
    Bar('ap_over_linear', '>=', 0.05),
    Bar('ap_over_weight_0', '>=', 0.0),
    Bar('ap_over_weight_1', '>=', 0.0),
    Bar('inversion', '<=', 0.02),  # images are -1 to 1 here
    Bar('healthy_to_ill_at_weight_1', '<=', 0.333),
)


def tell_in_copies(key: Key, example: Example) -> dict[str, Array]:
    """The class of an example as 'tokens' (COPIES, WIDTH), NaN three times in ten, where it is left out."""
    told = jnp.asarray(np.stack([HEALTHY, ILL]))[example['label']]
    return {'tokens': jnp.where(jax.random.bernoulli(key, 0.3), jnp.nan, told)}


def plan(config: Config, cohort: Cohort) -> tuple[Plan, ...]:
    """The denoiser that is told the class."""
    widths = len(config.widths)
    fields = {
        'attention': tuple(n >= widths - 2 for n in range(widths)),
        'tokens': WIDTH,
        'joint': True,
    }  # the class is seen by attention alone
    steps = config.told_steps or (1 if config.data == 'brain' else 2) * config.steps  # of brains more steps have not taught a class
    return (healthy.denoiser('told', config, cohort, source=cohort.train, condition=tell_in_copies, network=fields, steps=steps),)


def walker(trained: Model, quantile: float | None, name: str, iterations: int = 0) -> Callable[..., Finding]:
    """`walk(params, key, images, times, weight)` -> findings."""
    path = model.make_path(trained.path)

    def restore(shared, key, image):
        params, (times, weight) = shared
        told = lambda token: model.denoiser(trained._replace(params=params), tokens=token)
        options = dict(path=path, times=times, weight=weight, quantile=quantile, iterations=iterations)
        found = classifier_free.restore(image, told, HEALTHY, NONE, **options)
        return found._replace(inversion=jnp.nan)  # a quarter of the calls, which weight 0 answers for all weights

    return detecting.found_by(restore, name=name)


def detectors(config: Config, models: Models, cohort: Cohort) -> Detectors:
    """Guided decoding; weight 1, no dynamic normalisation, and an untrained network."""
    trained = models['told']
    path = model.make_path(trained.path)

    walks = {True: walker(trained, config.quantile, 'encoding and decoding'), False: walker(trained, None, 'without dynamic normalisation')}
    grid = lambda depth: grids.uniform(path, config.encode, start=depth, last=0.01)

    def way(key: Key, images: np.ndarray, each: tuple[float, float, bool], params: Params = trained.params):
        depth, weight, normalised = each
        return walks[normalised](params, key, images, grid(depth), np.float32(weight))

    depth, weight, normalised = healthy.chosen(config, cohort, way, tuple(itertools.product(config.depths, config.weights, walks)))
    fresh = healthy.untrained(config, trained)
    where = scans(cases(cohort.validation))
    copied = np.asarray(way(jax.random.key(config.seed), where, (depth, 0.0, False)).restored)
    return Detectors(
        own=lambda key, images: way(key, images, (depth, weight, normalised)),
        beside={
            'weight 0': lambda key, images: way(key, images, (depth, 0.0, normalised)),
            'weight 1': lambda key, images: way(key, images, (depth, 1.0, normalised)),
            f'{"no " if normalised else ""}dynamic normalisation': lambda key, images: way(key, images, (depth, weight, not normalised)),
        },
        controls={'untrained': lambda key, images: way(key, images, (depth, weight, normalised), fresh)},
        chosen={'depth': depth, 'weight': weight, 'normalised': float(normalised), 'inversion': float(np.abs(where - copied).mean())},
    )


def derive(table: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """How far it is above weights 0 and 1, and how much weight 1 changes healthy slices for what it changes ill ones."""
    found = {f'ap_over_weight_{n}': table[OWN]['ap'] - table[f'weight {n}']['ap'] for n in (0, 1)}
    if 'healthy_to_ill' in table['weight 1']:
        found['healthy_to_ill_at_weight_1'] = table['weight 1']['healthy_to_ill']
    return found


def tables(config: Config, models: Models, cohort: Cohort, chosen: Mapping[str, float]) -> list[dict[str, Any]]:
    """How weight 1 changes healthy and ill validation slices, by how exactly slices are encoded, with normalisation and without."""
    trained, key = models['told'], jax.random.key(config.seed)
    ill, well = cohorts.few(cohort.validation, 32), cohorts.few(cohort.calm, 32)
    ill = Cases(*(each[ill.lesions.any((1, 2))] for each in ill))

    def row(steps: int, iterations: int, quantile: float | None) -> list[Any]:
        walk = walker(trained, quantile, 'weights 0 and 1', iterations)
        times = grids.uniform(model.make_path(trained.path), steps, start=chosen['depth'], last=0.01)
        maps = lambda where, weight: np.asarray(walk(trained.params, key, scans(where), times, np.float32(weight)).map)
        copied, kept, healed = maps(well, 0.0), maps(well, 1.0), maps(ill, 1.0)
        moved = [float(detecting.changes(*each).mean()) for each in ((copied, well.brains), (kept, well.brains), (healed, ill.brains))]
        return [steps, iterations, quantile is not None, *moved, moved[1] / moved[2], detecting.precision(healed, ill)]

    ways = [(config.encode, 0, config.quantile), (config.encode, 0, None)]
    ways += [(factor * config.encode, 0, None) for factor in config.finer] + [(config.encode, each, None) for each in config.fixed_points]
    caption = (
        'Validation slices encoded to the chosen depth and decoded: the mean change of a brain. What weight 0 changes is lost by encoding, '
        'whatever the class.'
    )
    header = [
        'steps',
        'fixed points',
        'normalised',
        'healthy, weight 0',
        'healthy, weight 1',
        'ill, weight 1',
        'healthy to ill',
        'AP, weight 1',
    ]
    return [{'caption': caption, 'header': header, 'rows': [row(*each) for each in ways]}]


PARTS = Parts(plan, detectors, derive, tables=tables, labelled=True, calls=lambda config: 3 * config.encode)


def run(config: Config) -> dict[str, Any]:
    """Train, judge and write the workdir; returns what result.json holds."""
    return healthy.run('anomaly/classifier_free', config, PARTS, BARS)


if __name__ == '__main__':
    experiment.main(Config, PRESETS, run)
