"""The one evaluation of every anomaly detector, and the rows that it must beat.

Maps (n, *spatial) of validation and of test subjects get the same treatment (`detection.postprocess`) and are pooled over the un-eroded
brains. The threshold of a Dice is chosen on validation subjects; the best over the test subjects is reported as the upper bound it is.

    principal components   |x - m - U U^T (x - m)|,              U the first k axes of healthy images      (1)
    linear denoiser        |x - m - C (C + s^2 I)^-1 (x - m)|,   m, C of healthy images                    (2)

(2) is E[x0 | x0 + s eps = x] of Gaussian data: partial diffusion in one step without a network. The chance of AP is the prevalence.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from jaxdiff.metrics import detection


class Cases(NamedTuple):
    """Subjects with the truth known: images (n, *spatial, C), and brains and lesions (n, *spatial) of bool; some may have no lesion."""

    images: np.ndarray
    brains: np.ndarray
    lesions: np.ndarray


class Evaluation(NamedTuple):
    """Figures of one detector on test subjects; NaN where the data do not define one.

    Attributes:
        chance: the prevalence, AP of a constant map.
        ap, auroc: over the pixels of the brains.
        dice: at `threshold`, from validation subjects.
        dice_upper_bound: of the best threshold of these very subjects.
        small, large: mean Dice at `threshold` of the subjects whose lesion is below, or at least, the median size.
        healthy_mae: mean |x - restored| over the brains outside lesions.
        image_auroc: of the mean of a map over its brain, for subjects with a lesion against those without.
        mask_recall: share of lesion pixels in the detector's own mask.
    """

    chance: float
    ap: float
    auroc: float
    threshold: float
    dice: float
    dice_upper_bound: float
    small: float
    large: float
    healthy_mae: float
    image_auroc: float
    mask_recall: float


def evaluate(
    validation_maps: np.ndarray,
    validation: Cases,
    maps: np.ndarray,
    test: Cases,
    *,
    restored: np.ndarray | None = None,
    masks: np.ndarray | None = None,
    erosion: int = 2,
    median: int = 5,
    smallest: int = 0,
) -> Evaluation:
    """The figures of a detector from its untreated maps (n, *spatial); `restored` (n, *spatial, C) and `masks` (n, *spatial) are of the test.

    Components of fewer than `smallest` pixels are removed from a map above its threshold before its Dice. Raises ValueError where no
    lesion pixel lies in a brain.
    """
    treat = lambda score, cases: detection.postprocess(score, cases.brains, erosion=erosion, median=median)
    validation_maps, maps = treat(validation_maps, validation), treat(maps, test)
    inside, lesions = test.brains.astype(bool), test.lesions.astype(bool)
    threshold, _ = detection.best_threshold(
        validation_maps[validation.brains.astype(bool)], validation.lesions[validation.brains.astype(bool)]
    )
    score, truth = maps[inside], lesions[inside]
    predicted = remove_small(maps > threshold, smallest) & inside
    axes = tuple(range(1, maps.ndim))
    sizes = (lesions & inside).sum(axes)
    ill = sizes > 0
    each = 2 * (predicted & lesions).sum(axes)[ill] / (predicted.sum(axes) + sizes)[ill]
    large = sizes[ill] >= np.median(sizes[ill])
    means = np.where(inside, maps, 0).sum(axes) / inside.sum(axes)
    healthy = inside & ~lesions
    return Evaluation(
        chance=float(truth.mean()),
        ap=detection.average_precision(score, truth),
        auroc=detection.auroc(score, truth),
        threshold=threshold,
        dice=detection.dice(predicted[inside], truth),
        dice_upper_bound=detection.best_dice_upper_bound(score, truth),
        small=float(each[~large].mean()) if not large.all() else np.nan,
        large=float(each[large].mean()),
        healthy_mae=np.nan if restored is None else float(np.abs(test.images - restored).mean(-1)[healthy].mean()),
        image_auroc=np.nan if ill.all() else detection.auroc(means, ill),
        mask_recall=np.nan if masks is None else float(masks.astype(bool)[lesions & inside].mean()),
    )


class Spectrum(NamedTuple):
    """Of healthy images as vectors: mean (D,), and variances (r,) and axes (r, D), the largest variance first."""

    mean: np.ndarray
    variances: np.ndarray
    axes: np.ndarray


def spectrum(healthy: np.ndarray) -> Spectrum:
    """Of images (n, *spatial, C), from their Gram matrix: n^3 operations."""
    flat = healthy.reshape(len(healthy), -1).astype(np.float64)
    mean = flat.mean(0)
    away = flat - mean
    squares, left = np.linalg.eigh(away @ away.T)
    squares, left = squares[::-1], left[:, ::-1]
    kept = squares > squares[0] * 1e-10
    axes = (left[:, kept].T @ away) / np.sqrt(squares[kept])[:, None]
    return Spectrum(mean, squares[kept] / (len(flat) - 1), axes)


def principal_components(known: Spectrum, count: int = 16) -> Callable[[np.ndarray], np.ndarray]:
    """The map (1), the mean over channels. Maps (m, *spatial, C) -> (m, *spatial)."""
    return _residual(known.mean, known.axes[:count], np.ones(min(count, len(known.axes))))


def linear_denoiser(known: Spectrum, noise: float = 0.6) -> Callable[[np.ndarray], np.ndarray]:
    """The map (2), the mean over channels, at s = `noise` in units of the images. Maps (m, *spatial, C) -> (m, *spatial)."""
    return _residual(known.mean, known.axes, known.variances / (known.variances + noise**2))


def baselines(healthy: np.ndarray, most: int = 2048) -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    """The rows without a network, from healthy images (n, *spatial, C) in [0, 1]: name -> map. Chance is a figure of `Evaluation`.

    Of more than `most` images, PCA and the linear denoiser take so many, evenly spread.
    """
    known = spectrum(healthy[np.linspace(0, len(healthy) - 1, min(most, len(healthy))).astype(int)])
    return {
        'intensity': detection.intensity,
        'z-score': detection.z_score(healthy),
        'PCA': principal_components(known),
        'linear denoiser': linear_denoiser(known),
    }


def remove_small(masks: np.ndarray, smallest: int) -> np.ndarray:
    """Masks (n, *spatial) of bool without connected components (diagonals too: 8 or 26 neighbours) of fewer than `smallest` pixels."""
    neighbours = ndimage.generate_binary_structure(masks.ndim - 1, masks.ndim - 1)
    kept = np.zeros(masks.shape, bool)
    for out, mask in zip(kept, masks, strict=True):
        labels, _ = ndimage.label(mask, neighbours)
        large = np.bincount(labels.ravel()) >= smallest
        large[0] = False
        out[:] = large[labels]
    return kept


def _residual(mean, axes, gains):
    """Images -> |x - mean - axes^T gains axes (x - mean)|, the mean over channels."""

    def score(images):
        away = images.reshape(len(images), -1) - mean
        left = away - (away @ axes.T * gains) @ axes
        return np.abs(left).reshape(images.shape).mean(-1)

    return score
