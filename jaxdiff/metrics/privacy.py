"""Whether generated images are copies of training images: the distance to the closest record, calibrated on held-out real images.

For points phi of any kind (flat pixels, correlation, learned or random features):

    d(g) = min_{x in train} |phi(g) - phi(x)|                                                                    (1)
    tau_p = p-th percentile of d over real images the model has not seen                                        (2)
    M_p = share of generated images with d(g) < tau_p                                                           (3)

A model that has memorised nothing has M_p near p %; one that copies has 100 %. A distance sees only what its points see: pixel
distance alone misses flipped, shifted or rescaled copies, so report several. After Dar et al., "Unconditional latent diffusion
models memorize patient imaging data" (arXiv 2402.01054).
"""

from typing import NamedTuple

import numpy as np

from jaxdiff.metrics.features import squared_distances


class Nearest(NamedTuple):
    """distance (n,) to the closest record and its index (n,) among the records."""

    distance: np.ndarray
    index: np.ndarray


class Memorisation(NamedTuple):
    """fraction: M_p of equation (3) in [0, 1]; threshold: tau_p; median_ratio: median distance of generated over that of
    held-out images (near 1 is good, far below 1 is copying); nearest: the training image of each generated one, for a picture."""

    fraction: float
    threshold: float
    median_ratio: float
    nearest: Nearest


def nearest(queries: np.ndarray, records: np.ndarray, *, chunk: int = 512) -> Nearest:
    """The closest of `records` (m, ...) to each of `queries` (n, ...), both flattened; memory grows with chunk x m only."""
    if not len(queries) or not len(records):
        raise ValueError(f'{len(queries)} queries and {len(records)} records: neither may be empty')
    records = records.reshape(len(records), -1)
    queries = queries.reshape(len(queries), -1)
    distance, index = [], []
    for start in range(0, len(queries), chunk):
        part = queries[start : start + chunk]
        best = squared_distances(part, records).argmin(1)
        index.append(best)  # the winner is measured again by a direct difference: an exact copy is at distance 0 exactly
        distance.append(np.linalg.norm(part.astype(np.float64) - records[best], axis=1))
    return Nearest(np.concatenate(distance), np.concatenate(index))


def memorisation(generated: np.ndarray, train: np.ndarray, held_out: np.ndarray, *, percentile: float = 5.0) -> Memorisation:
    """Equations (1)-(3) for images or points (n, ...); `held_out` are real, of other subjects than `train`.

    With h held-out images tau_p itself is uncertain: M_p scatters by about sqrt(p (1 - p) (1/n + 1/h)) around p when nothing
    is memorised.
    """
    calibration = nearest(held_out, train).distance
    found = nearest(generated, train)
    threshold = float(np.percentile(calibration, percentile))
    median = float(np.median(calibration))
    if median == 0:
        raise ValueError('half of the held-out images are copies of training images: split by subject first')
    return Memorisation(float((found.distance < threshold).mean()), threshold, float(np.median(found.distance)) / median, found)


def correlation_points(images: np.ndarray) -> np.ndarray:
    """Points (n, d) whose squared distance is 2 (1 - r), r the correlation of two images: blind to brightness and contrast."""
    flat = images.reshape(len(images), -1).astype(np.float64)
    centred = flat - flat.mean(1, keepdims=True)
    return centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-12)
