"""Is a set of generated images like the real thing, as varied, and its own? One answer for every sampler and every baseline.

Kernel distance, precision and recall (`distributions`) in random convolutional features (`features`), memorisation by pixel distance (`privacy`).
"""

from typing import NamedTuple

import numpy as np

from jaxdiff.metrics.distributions import kernel_distance, precision_recall
from jaxdiff.metrics.features import Features, random_convolutions, standardised
from jaxdiff.metrics.privacy import Memorisation, memorisation


class Reference(NamedTuple):
    """What generated images are compared with."""

    train: np.ndarray  # (n, *spatial, channels), all that the model was trained on
    calibration: np.ndarray  # (h, ...), real, unseen: sets the distance below which an image counts as copied
    real: np.ndarray  # (m, ...), real, unseen, of other subjects than `calibration`
    features: Features
    points: np.ndarray  # the features of `real`


def reference(train: np.ndarray, held_out: np.ndarray, *, seed: int = 0) -> Reference:
    """Halve the `held_out` images (n, *spatial, channels) in the order they come, so that no subject is in both halves."""
    calibration, real = np.split(held_out, [len(held_out) // 2])
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
