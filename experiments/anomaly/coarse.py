"""A denoiser of coarse noise, asked once about the image as it is: the cheap and strong detector that others must be seen beside.

    python experiments/anomaly/coarse.py                    phantoms with a lesion, after healthy ones
    python experiments/anomaly/coarse.py --data=brain       virtual brains
    python experiments/anomaly/coarse.py --preset=smoke

Beside it stand the same network taught with noise of single pixels, and the diffusion variant: partial diffusion with coarse noise. Kascenas et al.,
"Denoising autoencoders for unsupervised anomaly detection in brain MRI", MIDL 2022; "The role of noise in denoising models", MedIA 2023.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from jaxdiff import experiment, model, plans
from jaxdiff.data import loader
from jaxdiff.experiment import Bar, option
from jaxdiff.noise import named
from jaxdiff.paths import time_of
from jaxdiff.plans import Plan
from jaxdiff.studies import detecting, healthy
from jaxdiff.studies.cohorts import Cohort
from jaxdiff.studies.detecting import OWN, Detectors
from jaxdiff.studies.flags import schedule_of
from jaxdiff.studies.healthy import Models, Parts
from jaxdiff.tasks.anomaly import coarse


@dataclass(frozen=True, kw_only=True)
class Config(healthy.Config):
    pixels: int = option(8, 'of the coarse noise along each axis', low=1)
    strength: float = option(0.25, 'standard deviation of the noise, where images are 0 to 1', low=0.01)
    once_steps: int = option(1000, 'training steps of a denoiser that is asked once', low=1)


PRESETS = healthy.presets(
    smoke={'once_steps': 4}, gpu={'pixels': 16, 'once_steps': 8000}, paper={'pixels': 16, 'strength': 0.2, 'once_steps': 67200}
)
BARS = (Bar('ap', '>=', 0.85), Bar('ap_over_linear', '>=', 0.1), Bar('raw_ap_over_pixel_noise', '>=', 0.1))


def noise(config: Config) -> dict[str, Any]:
    """As `noise.named` takes it."""
    return {'name': 'coarse', 'pixels': config.pixels}


def plan(config: Config, cohort: Cohort) -> tuple[Plan, ...]:
    """Two denoisers of one noise level, of coarse and of white noise, and the denoiser of all levels of coarse noise."""
    blank = healthy.blank(config, cohort, kind='x0')
    path = model.make_path(blank.path)
    time = float(level(config, path))
    made = []
    for name, spec in (('coarse', noise(config)), ('pixel', None)):
        spoil = coarse.spoil(path, time, named(spec, cohort.shape))
        told = {'what': 'noise where there is signal', 'time': round(time, 6), 'noise': spec}
        schedule = {**schedule_of(config), 'steps': config.once_steps}
        made.append(plans.restorer(name, blank, cohort.healthy, spoil, told=told, augment=loader.flip, **schedule))
    return (*made, healthy.denoiser('walked', config, cohort, noise=noise(config)))


def level(config: Config, path) -> jax.Array:
    """The time at which noise has the strength asked for; images are -1 to 1 there."""
    return time_of(path, -2 * np.log(2 * config.strength))


def detectors(config: Config, models: Models, cohort: Cohort) -> Detectors:
    """The coarse denoiser, that of pixels, the walk with coarse noise, and an untrained network."""
    trained, pixel, walked = models['coarse'], models['pixel'], models['walked']
    path = model.make_path(trained.path)
    time = level(config, path)
    ask = detecting.finder(trained, lambda key, image, denoise: coarse.restore(image, denoise, path=path, time=time), name='asking once')
    walk = healthy.chain(config, walked, noise=noise(config))
    way = lambda key, images, depth: walk(walked.params, key, images, healthy.times(config, path, depth))
    depth = healthy.chosen(config, cohort, way)
    fresh = healthy.untrained(config, trained)
    return Detectors(
        own=lambda key, images: ask(trained.params, key, images),
        beside={
            'pixel noise': lambda key, images: ask(pixel.params, key, images),
            'coarse chain': lambda key, images: way(key, images, depth),
        },
        controls={'untrained': lambda key, images: ask(fresh, key, images)},
        chosen={'depth_of_coarse_chain': depth},
    )


def derive(table: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """How far it is above the same network taught with noise of single pixels, without the median filter."""
    return {'raw_ap_over_pixel_noise': table[OWN]['ap_raw'] - table['pixel noise']['ap_raw']}


PARTS = Parts(plan, detectors, derive, calls=lambda config: 1)


def run(config: Config) -> dict[str, Any]:
    """Train, judge and write the workdir; returns what result.json holds."""
    return healthy.run('anomaly/coarse', config, PARTS, BARS)


if __name__ == '__main__':
    experiment.main(Config, PRESETS, run)
