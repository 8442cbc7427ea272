"""Is a set of generated images like the real thing, as varied, and its own? One answer for every sampler and every baseline.

Kernel distance, precision and recall (`distributions`) in random convolutional features (`features`), memorisation by pixel distance (`privacy`).
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from jaxdiff.metrics.distributions import kernel_distance, pca_gaussian, precision_recall
from jaxdiff.metrics.features import Features, random_convolutions, standardised
from jaxdiff.metrics.privacy import Memorisation, memorisation


class Reference(NamedTuple):
    """What generated images are compared with."""

    train: np.ndarray  # (n, *spatial, channels), all that the model was trained on
    calibration: np.ndarray  # (h, ...), real, unseen: sets the distance below which an image counts as copied
    real: np.ndarray  # (m, ...), real, unseen, of other subjects than `calibration`
    features: Features
    points: np.ndarray  # the features of `real`


def unfit(shape: Sequence[int], train: int, held_out: int) -> str:
    """Why images of `shape` (*spatial, channels), so many of them, cannot be judged; empty where they can."""
    if min(shape[:-1]) < 32:
        return f'images of {tuple(shape[:-1])} are smaller than 32 pixels along an axis'
    return f'{train} images to train on and {held_out} of each held-out set are too few' if train < 8 or held_out < 8 else ''


def reference(train: np.ndarray, calibration: np.ndarray, real: np.ndarray, *, seed: int = 0) -> Reference:
    """From images (n, *spatial, channels) that the model was trained on, and two sets of other subjects."""
    features = standardised(random_convolutions(real.shape[1:], seed), calibration)
    return Reference(train, calibration, real, features, features(real))


def assess(generated: np.ndarray, against: Reference) -> tuple[dict[str, float], Memorisation]:
    """Metrics of `generated` (n, *spatial, channels), all finite, and the nearest training images for a picture."""
    points = against.features(generated)
    agreement = precision_recall(against.points, points)
    copies = memorisation(generated, against.train, against.calibration)
    return {
        'kernel_distance': kernel_distance(points, against.points),
        'precision': agreement.precision,
        'recall': agreement.recall,
        'memorised_5': copies.fraction,
        'nearest_ratio': copies.median_ratio,
    }, copies


def unit(beside: Mapping[str, float], gaussian: Mapping[str, float]) -> float:
    """The kernel distance to divide others by: that of the images stood `beside`, as `assess` tells it.

    The distance is unbiased and may fall to 0 and below; at least a hundredth of the `gaussian` baseline's is taken.
    """
    return max(beside['kernel_distance'], gaussian['kernel_distance'] / 100)


def compare(
    drawn: np.ndarray, untrained: np.ndarray, against: Reference, rng: np.random.Generator
) -> tuple[Mapping[str, float], Mapping[str, Mapping[str, float]], Mapping[str, Mapping[str, float]], Memorisation]:
    """Metrics of the images `drawn` by a model; baselines; controls; and the drawn images' nearest training images.

    Baselines: a Gaussian in the leading principal components of the training images, and real images. Controls: images of the `untrained` network,
    which must be far from real ones, and training images issued again, which must count as copies (noise copies nobody: the untrained network
    says nothing of memorisation).
    """
    metrics, copies = assess(drawn, against)
    baselines = {
        'pca_gaussian': assess(pca_gaussian(against.train)(rng, len(drawn)), against)[0],
        'real': assess(against.calibration, against)[0],
    }
    control = assess(untrained, against)[0]
    del control['memorised_5']
    for each in (metrics, control):
        each['kernel_distance_ratio'] = each['kernel_distance'] / baselines['pca_gaussian']['kernel_distance']
    again = against.train[rng.choice(len(against.train), min(len(drawn), len(against.train)), replace=False)]
    controls = {'untrained': control, 'training images again': {'memorised_5': assess(again, against)[0]['memorised_5']}}
    return metrics, baselines, controls, copies
