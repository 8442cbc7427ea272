"""Averaged partial diffusion with simplex noise: what is not healthy does not come back from it.

    python experiments/anomaly/simplex.py                    phantoms with a lesion, after healthy ones
    python experiments/anomaly/simplex.py --data=brain       virtual brains
    python experiments/anomaly/simplex.py --preset=smoke

Noise whose blobs are as large as lesions hides them at depths that white noise leaves them visible at. Beside it stand the same walk with white
noise, one call in place of a walk, and the precision of both noises over depths and over restorations. Wyatt et al., "AnoDDPM", CVPR workshops 2022.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from jaxdiff import experiment, model, report
from jaxdiff.experiment import Bar, option
from jaxdiff.plans import Plan
from jaxdiff.studies import cohorts, detecting, healthy
from jaxdiff.studies.cohorts import Cohort, cases, scans
from jaxdiff.studies.detecting import OWN, Detectors
from jaxdiff.studies.healthy import Models, Parts
from jaxdiff.workdir import Workdir


@dataclass(frozen=True, kw_only=True)
class Config(healthy.Config):
    wavelength: float = option(16.0, 'pixels between what is unlike in the first octave of the noise', low=1)
    octaves: int = option(6, 'of the noise, each half as wide as the one before', low=1)
    persistence: float = option(0.8, 'share of its size that each octave has of the one before', low=0, high=1)
    bank: int = option(512, 'fields of noise made before training, from which draws are cut', low=1)
    sweep: tuple = option((0.05, 0.1, 0.15, 0.25, 0.4, 0.6), 'depths of the curves', low=0.01, high=0.99)


PRESETS = healthy.presets(smoke={'bank': 8, 'sweep': (0.35,)}, gpu={'wavelength': 32.0}, paper={'wavelength': 64.0})
BARS = (Bar('ap_over_linear', '>=', 0.05),)


def noise(config: Config) -> dict[str, Any]:
    """As `noise.named` takes it."""
    shape = {name: getattr(config, name) for name in ('wavelength', 'octaves', 'persistence', 'bank')}
    return {'name': 'simplex', **shape}


def plan(config: Config, cohort: Cohort) -> tuple[Plan, ...]:
    """The denoiser of simplex noise."""
    return (healthy.denoiser('simplex', config, cohort, noise=noise(config)),)


def detectors(config: Config, models: Models, cohort: Cohort) -> Detectors:
    """The walk, one call, and an untrained network."""
    trained = models['simplex']
    path = model.make_path(trained.path)
    walk, ask = (make(config, trained, noise=noise(config)) for make in (healthy.chain, healthy.once))
    walked = lambda key, images, depth: walk(trained.params, key, images, healthy.times(config, path, depth))
    asked = lambda key, images, depth: ask(trained.params, key, images, np.float32(depth))
    depth, shallow = (healthy.chosen(config, cohort, way) for way in (walked, asked))
    fresh = healthy.untrained(config, trained)
    return Detectors(
        own=lambda key, images: walked(key, images, depth),
        beside={'simplex, single step': lambda key, images: asked(key, images, shallow)},
        controls={'untrained': lambda key, images: walk(fresh, key, images, healthy.times(config, path, depth))},
        chosen={'depth': depth},
    )


def derive(table: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """How far it is above the walk with white noise."""
    return {'ap_over_white_noise': table[OWN]['ap'] - table['chain']['ap']}


def show(config: Config, models: Models, cohort: Cohort, folder: Workdir) -> list[report.Section]:
    """Precision over noising depth and over the number of restorations, of both noises."""
    where = cohorts.few(cohort.validation, 64) if cohort.well is None else cases(cohort.validation)
    depths, counts = {}, {}
    for name, spec in (('healthy', None), ('simplex', noise(config))):
        trained, label = models[name], 'white' if spec is None else 'simplex'
        path = model.make_path(trained.path)
        walk = healthy.chain(config, trained, noise=spec, repeats=1, name=f'{label} noise')
        seen = []
        for depth in config.sweep:
            times = healthy.times(config, path, depth)
            draws = [walk(trained.params, jax.random.key(k), scans(where), times).restored for k in range(config.repeats)]
            maps = [np.abs(scans(where) - np.mean(draws[: k + 1], 0)).mean(-1) for k in range(config.repeats)]
            seen.append([detecting.precision(each, where) for each in maps])
        ratio = [float(path.sigma(depth) / path.alpha(depth)) for depth in config.sweep]
        for k in sorted({1, config.repeats}):
            depths[f'{label}, mean of {k}'] = ratio, [row[k - 1] for row in seen]
        counts[label] = range(1, config.repeats + 1), np.max(seen, axis=0)
    by_depth = report.curves(depths, x='noise / signal at the depth', y='average precision', log='x')
    by_count = report.curves(counts, x='restorations averaged', y='average precision, best depth')
    draw, text = report.picture, 'On validation patients, by the treatment that every map gets.'
    return [
        report.Section('Depth and repeats', text, [
            draw(by_depth, 'Too shallow a walk copies the lesion, too deep a one invents the rest.', alt='average precision against depth',
                 path=folder.figures / 'depth.png'),
            draw(by_count, 'What one restoration invents the next does not.', alt='average precision against restorations',
                 path=folder.figures / 'repeats.png'),
        ]),
    ]  # fmt: skip


PARTS = Parts(plan, detectors, derive, show)


def run(config: Config) -> dict[str, Any]:
    """Train, judge and write the workdir; returns what result.json holds."""
    return healthy.run('anomaly/simplex', config, PARTS, BARS)


if __name__ == '__main__':
    experiment.main(Config, PRESETS, run)
