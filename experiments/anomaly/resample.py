"""Mask, stitch, re-sample: what averaged partial diffusion suspects is made anew, and the rest of the image stays.

    python experiments/anomaly/resample.py                    phantoms with a lesion, after healthy ones
    python experiments/anomaly/resample.py --data=brain       virtual brains
    python experiments/anomaly/resample.py --preset=smoke

The row 'stage one' is the first stage alone. Its depth and whether its noise is white or in blobs (`simplex.py`) are chosen on validation patients;
the threshold of the mask is the most precise of those that keep nine tenths of their lesions. Bercea et al., "Mask, stitch, and re-sample", ICML
workshop 2023.
"""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from jaxdiff import experiment, grids, model
from jaxdiff.experiment import Bar, option
from jaxdiff.noise import named
from jaxdiff.plans import Plan
from jaxdiff.solvers.ancestral import ddpm
from jaxdiff.studies import detecting, healthy
from jaxdiff.studies.cohorts import Cohort, cases, scans
from jaxdiff.studies.detecting import OWN, Detectors
from jaxdiff.studies.healthy import Models, Parts
from jaxdiff.tasks.anomaly import partial, resample
from jaxdiff.types import UserError

RECALL = 0.92  # of lesion pixels that the mask of validation patients is to hold, a little more than is asked of it afterwards


@dataclass(frozen=True, kw_only=True)
class Config(healthy.Config):
    noises: tuple = option(('gaussian', 'simplex'), 'of denoisers to choose from')
    shallow: float = option(0.25, 'depth of the second stage, as a share of that of the first', low=0.01, high=1)
    second: int = option(6, 'steps of the second stage', low=1)
    resamplings: int = option(5, 'times that each of its steps is taken', low=1)
    thresholds: tuple = option((0.2, 0.3, 0.4, 0.5, 0.6, 0.7), 'of the mask, to choose from', low=0, high=1)


PRESETS = healthy.presets(smoke={'second': 2, 'resamplings': 2, 'thresholds': (0.1,), 'noises': ('gaussian',)})
NOISES = ('gaussian', 'simplex')
BARS = (
    Bar('ap_over_stage_one', '>=', 0.02),
    Bar('mask_recall', '>=', 0.9),
    Bar('healthy_mae_to_stage_one', '<=', 0.4),
    Bar('ap_over_one_pass', '>=', 0.0),
)


def noise(config: Config, name: str) -> dict[str, Any] | None:
    """As `noise.named` takes it."""
    return healthy.blobs(config) if name == 'simplex' else None


def denoiser_of(name: str) -> str:
    """The model that learnt this noise; that of white noise is the one that all detectors are compared with."""
    return 'healthy' if name == 'gaussian' else name


def plan(config: Config, cohort: Cohort) -> tuple[Plan, ...]:
    """A denoiser of health for each noise. Raises `UserError` for a noise that is none."""
    for name in config.noises:
        if name not in NOISES:
            raise UserError(f'--noises={name}: choose among {", ".join(NOISES)}')
    return tuple(healthy.denoiser(denoiser_of(name), config, cohort, noise=noise(config, name)) for name in config.noises)


def detectors(config: Config, models: Models, cohort: Cohort) -> Detectors:
    """Both stages, the first alone, the second with one pass, and an untrained network."""
    path = model.make_path({'name': config.path})
    of = {name: models[denoiser_of(name)] for name in config.noises}
    walks = {name: healthy.chain(config, each, noise=noise(config, name), name=f'stage one, {name}') for name, each in of.items()}
    way = lambda key, images, each: walks[each[0]](of[each[0]].params, key, images, healthy.times(config, path, each[1]))
    name, depth = healthy.chosen(config, cohort, way, tuple(itertools.product(config.noises, config.depths)))
    trained, draw = of[name], named(noise(config, name), cohort.shape)
    deep, shallow = healthy.times(config, path, depth), grids.uniform(path, config.second, start=config.shallow * depth)

    def both(passes: int):
        def restore(key, image, denoise, threshold):
            one, two = jax.random.split(key)
            common = dict(path=path, solver=ddpm(path, noise=draw), noise=draw)
            first = partial.restore(one, image, denoise, times=deep, repeats=config.repeats, **common)
            return resample.restore(
                two, first, denoise, times=shallow, threshold=threshold, resamplings=passes, perceptual=resample.dissimilar, **common
            )

        return detecting.finder(trained, restore, name=f're-sampling {passes} times')

    many, single = both(config.resamplings), both(1)
    where = cases(cohort.validation)
    seen = {each: many(trained.params, jax.random.key(config.seed), scans(where), np.float32(each)) for each in config.thresholds}
    recall = {each: np.asarray(found.mask)[where.lesions & where.brains].mean() for each, found in seen.items()}
    enough = tuple(each for each in config.thresholds if recall[each] >= RECALL) or (max(recall, key=recall.get),)
    threshold = np.float32(detecting.best(lambda each: np.asarray(seen[each].map), enough, where))
    fresh = healthy.untrained(config, trained)
    return Detectors(
        own=lambda key, images: many(trained.params, key, images, threshold),
        beside={
            'stage one': lambda key, images: way(key, images, (name, depth)),
            'one pass': lambda key, images: single(trained.params, key, images, threshold),
        },
        controls={'untrained': lambda key, images: many(fresh, key, images, threshold)},
        chosen={'depth': depth, 'simplex': float(name == 'simplex'), 'mask_threshold': float(threshold)},
    )


def derive(table: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """How it compares with its first stage, and with one pass."""
    own, first = table[OWN], table['stage one']
    return {
        'ap_over_stage_one': own['ap'] - first['ap'],
        'healthy_mae_to_stage_one': own['healthy_mae'] / first['healthy_mae'],
        'ap_over_one_pass': own['ap'] - table['one pass']['ap'],
    }


PARTS = Parts(
    plan,
    detectors,
    derive,
    calls=lambda config: config.walk * config.repeats + config.second + (config.second - 1) * (config.resamplings - 1),
)


def run(config: Config) -> dict[str, Any]:
    """Train, judge and write the workdir; returns what result.json holds."""
    return healthy.run('anomaly/resample', config, PARTS, BARS)


if __name__ == '__main__':
    experiment.main(Config, PRESETS, run)
