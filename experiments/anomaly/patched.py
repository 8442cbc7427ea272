"""Patched diffusion: one box at a time is noised and restored, in sight of the rest of the image.

    python experiments/anomaly/patched.py                    phantoms with a lesion, after healthy ones
    python experiments/anomaly/patched.py --data=brain       virtual brains
    python experiments/anomaly/patched.py --preset=smoke

Beside it stands the same network, taught as long, with the whole image for its only box. Behrendt et al., "Patched diffusion models for unsupervised
anomaly detection in brain MRI", MIDL 2023.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxdiff import experiment, model, plans
from jaxdiff.data import loader
from jaxdiff.experiment import Bar, option
from jaxdiff.noise import named
from jaxdiff.plans import Plan
from jaxdiff.studies import detecting, healthy
from jaxdiff.studies.cohorts import Cohort
from jaxdiff.studies.detecting import OWN, Detectors
from jaxdiff.studies.flags import schedule_of
from jaxdiff.studies.healthy import Models, Parts
from jaxdiff.tasks.anomaly import patched
from jaxdiff.types import UserError


@dataclass(frozen=True, kw_only=True)
class Config(healthy.Config):
    box: int = option(32, 'pixels of a box along each axis, a divisor of the size', low=1)
    noise: str = option('simplex', 'inside a box', choices=('simplex', 'gaussian'))
    levels: tuple = option((0.15, 0.25, 0.35, 0.5), 'depths to choose from, in path time', low=0.01, high=0.99)
    draws: int = option(12, 'of noise in every box, to be averaged: with four boxes as many calls as the walks of other detectors', low=1)


PRESETS = healthy.presets(smoke={'box': 16, 'levels': (0.5,), 'draws': 2, 'noise': 'gaussian'}, gpu={'box': 64}, paper={'box': 128})
BARS = (Bar('ap_over_linear', '>=', 0.05), Bar('ap_over_whole_image', '>=', 0.0))


def noise(config: Config) -> dict[str, Any] | None:
    """As `noise.named` takes it."""
    return {'name': 'simplex', 'wavelength': config.size / 4, 'bank': 512} if config.noise == 'simplex' else None


def plan(config: Config, cohort: Cohort) -> tuple[Plan, ...]:
    """Two restorers: of boxes, and of the whole image."""
    blank = healthy.blank(config, cohort, kind='x0')
    if config.box % 2 or any(n % config.box for n in cohort.shape[:-1]):
        raise UserError(f'--box={config.box}: must be even and divide images of {cohort.shape[:-1]}')
    path, draw, made = model.make_path(blank.path), named(noise(config), cohort.shape), []
    for name, size in (('patched', config.box), ('whole', cohort.shape[0])):
        told = {'what': 'noise in one box', 'box': size, 'noise': noise(config)}
        options = dict(told=told, power=1.0, augment=loader.flip, **schedule_of(config))
        made.append(plans.restorer(name, blank, cohort.healthy, patched.spoil(path, size, draw), **options))
    return tuple(made)


def detectors(config: Config, models: Models, cohort: Cohort) -> Detectors:
    """Boxes side by side, boxes that overlap by half, the whole image, and an untrained network."""

    def find(name: str, size: int, stride: int):
        trained = models[name]
        path, draw = model.make_path(trained.path), named(noise(config), trained.card['shape'])

        def restore(key, image, denoise, time):
            more = dict(path=path, time=time, size=size, stride=stride, repeats=config.draws, noise=draw)
            return patched.restore(key, image, denoise, **more)

        return detecting.finder(trained, restore, name=f'restoring boxes of {size} every {stride}')

    size = cohort.shape[0]
    ways = {
        'boxes': ('patched', config.box, config.box),
        'halves': ('patched', config.box, config.box // 2),
        'whole': ('whole', size, size),
    }
    finds = {name: find(*way) for name, way in ways.items()}
    run = lambda name, params, key, images, time: finds[name](params, key, images, np.float32(time))
    chosen = {}
    for name in ('boxes', 'whole'):
        params = models[ways[name][0]].params
        way = lambda key, images, time, name=name, params=params: run(name, params, key, images, time)
        chosen[name] = healthy.chosen(config, cohort, way, config.levels)
    params, fresh = models['patched'].params, healthy.untrained(config, models['patched'])
    return Detectors(
        own=lambda key, images: run('boxes', params, key, images, chosen['boxes']),
        beside={
            'boxes that overlap': lambda key, images: run('halves', params, key, images, chosen['boxes']),
            'whole image': lambda key, images: run('whole', models['whole'].params, key, images, chosen['whole']),
        },
        controls={'untrained': lambda key, images: run('boxes', fresh, key, images, chosen['boxes'])},
        chosen={'depth': chosen['boxes']},
    )


def derive(table: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """How far it is above one box for the whole image."""
    return {'ap_over_whole_image': table[OWN]['ap'] - table['whole image']['ap']}


PARTS = Parts(plan, detectors, derive, calls=lambda config: config.draws * (config.size // config.box) ** 2)


def run(config: Config) -> dict[str, Any]:
    """Train, judge and write the workdir; returns what result.json holds."""
    return healthy.run('anomaly/patched', config, PARTS, BARS)


if __name__ == '__main__':
    experiment.main(Config, PRESETS, run)
