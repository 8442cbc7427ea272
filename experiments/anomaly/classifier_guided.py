"""Encoding, then decoding guided to the healthy class by a classifier: lesions are found by people who only said which slices have one.

    python experiments/anomaly/classifier_guided.py                    phantoms, half of them with a lesion
    python experiments/anomaly/classifier_guided.py --data=brain       virtual brains
    python experiments/anomaly/classifier_guided.py --preset=smoke

Beside it stand the classifier's own gradient, which says what it looks at, and decoding without guidance. Depth and scale are chosen on validation
patients. Wolleb et al., "Diffusion models for medical anomaly detection", MICCAI 2022.
"""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdiff import experiment, grids, guidance, model, plans
from jaxdiff.data import loader
from jaxdiff.data.preprocess import to_json
from jaxdiff.experiment import Bar, option
from jaxdiff.model import Model
from jaxdiff.plans import Plan
from jaxdiff.studies import detecting, healthy
from jaxdiff.studies.cohorts import Cohort, cases, scans
from jaxdiff.studies.detecting import OWN, Detectors
from jaxdiff.studies.flags import network_of
from jaxdiff.studies.healthy import Models, Parts
from jaxdiff.tasks.anomaly import classifier_guided
from jaxdiff.tasks.anomaly.finding import finding

HEALTHY = 0


@dataclass(frozen=True, kw_only=True)
class Config(healthy.Config):
    depths: tuple = option((0.25, 0.5, 0.75), 'to which slices are encoded, to choose from, in path time', low=0.01, high=0.99)
    guide_steps: int = option(4000, 'training steps of the classifier', low=1)
    scales: tuple = option((10.0, 30.0, 100.0), 'of guidance, to choose from', low=0)
    encode: int = option(30, 'steps of encoding, and as many of decoding', low=1)


PRESETS = healthy.presets(
    smoke={'guide_steps': 4, 'scales': (10.0,), 'encode': 2}, gpu={'guide_steps': 10000, 'encode': 100},
    paper={'guide_steps': 150000, 'encode': 500, 'scales': (100.0,), 'depths': (0.5,)},
)  # fmt: skip
BARS = (
    Bar('ap_over_linear', '>=', 0.05),
    Bar('ap_over_saliency', '>=', 0.0),
    Bar('ap_over_no_guidance', '>=', 0.0),
    Bar('healthy_to_ill', '<=', 0.5),
    Bar('inversion', '<=', 0.02),  # images are -1 to 1 here
    Bar('accuracy', '>=', 0.95),
)


def plan(config: Config, cohort: Cohort) -> tuple[Plan, ...]:
    """A denoiser of slices of either class, told nothing, and the classifier of noised slices."""
    network = {**network_of(config), 'name': 'classifier', 'channels': 2}
    blank = Model(network, {'name': config.path}, 'class', None, to_json(cohort.preprocess), {'shape': list(cohort.shape)})
    schedule = {name: getattr(config, name) for name in ('batch', 'seed')}
    guide = plans.classifier('guide', blank, cohort.train, steps=config.guide_steps, rate=config.rate / 2, augment=loader.flip, **schedule)
    return healthy.denoiser('either', config, cohort, source=cohort.train), guide


def detectors(config: Config, models: Models, cohort: Cohort) -> Detectors:
    """Guided decoding; saliency, decoding without guidance, and a classifier that has learnt nothing."""
    trained, guide = models['either'], models['guide']
    path, seen = model.make_path(trained.path), model.make_network(guide.network).apply
    likelihood = lambda params, label: guidance.class_log_likelihood(lambda *args: seen(params, *args), path, label)

    def restore(shared, key, image):
        (inner, guiding), (times, scale) = shared
        denoise = model.denoiser(trained._replace(params=inner))
        found = classifier_guided.restore(image, denoise, likelihood(guiding, HEALTHY), path=path, times=times, scale=scale)
        return found._replace(inversion=jnp.nan)  # a third of the denoiser's calls, which scale 0 answers for all scales

    def look(shared, key, image):
        (guiding, time), _ = shared
        # of the class that guides: the gradient of the other is 0 where the classifier is sure of it
        slope = jax.grad(likelihood(guiding, HEALTHY))(path.alpha(time) * image, time)
        return finding(image, (image + slope)[None])

    walk, gaze = detecting.found_by(restore, name='encoding and decoding'), detecting.found_by(look, name='saliency')
    grid = lambda depth: grids.uniform(path, config.encode, start=depth, last=0.01)
    way = lambda key, images, each: walk((trained.params, guide.params), key, images, grid(each[0]), np.float32(each[1]))
    pairs = tuple(itertools.product(config.depths, config.scales))
    depth, scale = healthy.chosen(config, cohort, way, pairs)
    fresh = healthy.untrained(config, guide)
    time = np.float32(0.05)
    return Detectors(
        own=lambda key, images: way(key, images, (depth, scale)),
        beside={
            'saliency': lambda key, images: gaze((guide.params, time), key, images),
            'no guidance': lambda key, images: way(key, images, (depth, 0.0)),
        },
        controls={'guide untrained': lambda key, images: walk((trained.params, fresh), key, images, grid(depth), np.float32(scale))},
        chosen={'depth': depth, 'scale': scale, **checked(config, way, depth, guide, cohort)},
    )


def checked(config: Config, way: Any, depth: float, guide: Model, cohort: Cohort) -> dict[str, float]:
    """On validation patients: the error of encoding and decoding without guidance, and how often the classifier is right, up to half the depth, the
    mean over the classes."""
    where, calm = cases(cohort.validation), cases(cohort.calm)
    key, path = jax.random.key(config.seed), model.make_path(guide.path)
    error = np.abs(scans(where) - np.asarray(way(key, scans(where), (depth, 0.0)).restored)).mean()
    images = np.concatenate([scans(where), scans(calm)])
    labels = np.concatenate([where.lesions.any((1, 2)), np.zeros(len(calm.images), bool)])
    seen = model.make_network(guide.network).apply

    def ask(shared, key, image):
        (params, half), _ = shared
        when, what = jax.random.split(key)
        t = half * jax.random.uniform(when)
        x = path.alpha(t) * image + path.sigma(t) * jax.random.normal(what, image.shape)
        return jnp.argmax(seen(params, x[None], path.embed(t)[None])[0])

    answers = np.asarray(detecting.found_by(ask, name='asking the classifier')((guide.params, np.float32(depth / 2)), key, images))
    recalls = [(answers == labels)[labels == each].mean() for each in (False, True)]
    return {'inversion': float(error), 'accuracy': float(np.mean(recalls))}


def derive(table: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """How far it is above what the classifier looks at, and above decoding without it."""
    own = table[OWN]['ap']
    return {'ap_over_saliency': own - table['saliency']['ap'], 'ap_over_no_guidance': own - table['no guidance']['ap']}


PARTS = Parts(plan, detectors, derive, labelled=True, calls=lambda config: 3 * config.encode)


def run(config: Config) -> dict[str, Any]:
    """Train, judge and write the workdir; returns what result.json holds."""
    return healthy.run('anomaly/classifier_guided', config, PARTS, BARS)


if __name__ == '__main__':
    experiment.main(Config, PRESETS, run)
