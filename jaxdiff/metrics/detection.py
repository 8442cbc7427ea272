"""Finding lesions: how well a score map separates lesion from healthy pixels, the maps to beat, and the usual post-processing.

Scores are any arrays, pooled over all pixels given (index with the brain mask first), masks are boolean of the same shape:

    AP = sum_k (R_k - R_{k-1}) P_k   over the distinct scores, descending (steps, not trapezoids)                (1)
    AUROC = P(s+ > s-) + P(s+ = s-) / 2                                                                          (2)
    Dice(theta) = 2 |{s > theta} and y| / (|{s > theta}| + |y|)                                                  (3)

A threshold is chosen on validation subjects (`best_threshold`) and used on test subjects (`dice`); the best Dice over thresholds
of the test set itself is an upper bound and must be reported as one. The AP of chance is the prevalence.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy import ndimage
from scipy.stats import rankdata


class Threshold(NamedTuple):
    """A threshold (predict where score > threshold) and the Dice it reaches on the data it was chosen on."""

    threshold: float
    dice: float


def average_precision(score: np.ndarray, lesion: np.ndarray) -> float:
    """Equation (1); tied scores enter together, so that constant scores give the prevalence."""
    _, true, predicted, total = _counts(score, lesion)
    return float(np.sum(np.diff(true, prepend=0) / total * true / predicted))


def auroc(score: np.ndarray, lesion: np.ndarray) -> float:
    """Equation (2), the Mann-Whitney statistic; 0.5 is chance."""
    score, lesion = _flat(score, lesion)
    positive = int(lesion.sum())
    negative = lesion.size - positive
    if not negative:
        raise ValueError('no healthy pixel among those scored')
    return float((rankdata(score)[lesion].sum() - positive * (positive + 1) / 2) / (positive * negative))


def dice(prediction: np.ndarray, lesion: np.ndarray) -> float:
    """Equation (3) for a boolean prediction, e.g. `score > threshold`; two empty masks agree: 1."""
    prediction, lesion = np.asarray(prediction, bool), np.asarray(lesion, bool)
    size = prediction.sum() + lesion.sum()
    return float(2 * (prediction & lesion).sum() / size) if size else 1.0


def best_threshold(score: np.ndarray, lesion: np.ndarray) -> Threshold:
    """The threshold of the largest Dice over all distinct scores: for validation data, never for the data it will be judged on."""
    values, true, predicted, total = _counts(score, lesion)
    overlap = 2 * true / (predicted + total)
    best = int(overlap.argmax())
    below = values[best + 1] if best + 1 < len(values) else np.nextafter(values[best], -np.inf)
    return Threshold(float(below), float(overlap[best]))  # s > below is s >= values[best]


def best_dice_upper_bound(score: np.ndarray, lesion: np.ndarray) -> float:
    """The largest Dice that any threshold reaches on these very data: an upper bound, not a result."""
    return best_threshold(score, lesion).dice


def intensity(images: np.ndarray) -> np.ndarray:
    """The trivial map: brightness itself. (n, *spatial, channels) -> (n, *spatial)."""
    return images.mean(-1)


def contrast(images: np.ndarray, brain: np.ndarray) -> np.ndarray:
    """Brightness made two-sided for dark and bright lesions: |x - median of the image's own brain|, (n, *spatial)."""
    bright = images.mean(-1)
    median = np.array([np.median(image[mask]) if mask.any() else 0.0 for image, mask in zip(bright, brain.astype(bool), strict=True)])
    return np.abs(bright - median.reshape(-1, *[1] * (bright.ndim - 1)))


def z_score(healthy: np.ndarray, *, floor: float = 0.02) -> Callable[[np.ndarray], np.ndarray]:
    """The map |x - mean| / sd with mean and sd per pixel of healthy images (n, *spatial, channels), the largest over channels.

    `floor` bounds sd from below (in the images' units), for pixels that hardly vary. Maps (m, *spatial, channels) -> (m, *spatial).
    """
    mean, std = healthy.mean(0), np.maximum(healthy.std(0), floor)
    return lambda images: (np.abs(images - mean) / std).max(-1)


def erode(mask: np.ndarray, iterations: int = 2) -> np.ndarray:
    """Each mask of (n, *spatial) eroded by the cross-shaped structuring element; what lies outside the array is background."""
    mask = np.asarray(mask, bool)
    if not iterations:
        return mask
    return ndimage.binary_erosion(mask, ndimage.generate_binary_structure(mask.ndim - 1, 1)[None], iterations=iterations)


def median_filter(score: np.ndarray, size: int = 5) -> np.ndarray:
    """Each map of (n, *spatial) replaced by its median over a cube of `size` pixels, reflected at the borders."""
    return ndimage.median_filter(score, size=(1, *[size] * (score.ndim - 1)), mode='reflect')


def postprocess(score: np.ndarray, brain: np.ndarray, *, erosion: int = 2, median: int = 5) -> np.ndarray:
    """The same treatment for every method's map (n, *spatial): zero outside the eroded brain, then the median filter.

    Scores are afterwards pooled over the *un-eroded* brain: `average_precision(postprocess(s, brain)[brain], lesion[brain])`.
    """
    score = np.where(erode(brain, erosion), score, 0)
    return median_filter(score, median) if median > 1 else score


def _counts(score, lesion):
    """Distinct scores descending; true positives and positives predicted at each (score >= it); number of lesion pixels."""
    score, lesion = _flat(score, lesion)
    order = np.argsort(-score, kind='stable')
    score, lesion = score[order], lesion[order]
    last = np.append(np.flatnonzero(np.diff(score)), score.size - 1)
    true = np.cumsum(lesion)
    return score[last], true[last], last + 1, int(true[-1])


def _flat(score, lesion):
    score, lesion = np.asarray(score).ravel(), np.asarray(lesion, bool).ravel()
    if score.shape != lesion.shape:
        raise ValueError(f'{score.size} scores for {lesion.size} pixels')
    if not np.isfinite(score).all():
        raise ValueError('scores must be finite')
    if not lesion.any():
        raise ValueError('no lesion pixel among those scored: precision and recall are undefined')
    return score, lesion
