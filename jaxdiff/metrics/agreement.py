"""Whether images show what they were asked to show, and how varied they are when they do."""

import numpy as np


def agreement(found: np.ndarray, wanted: np.ndarray) -> float:
    """The share of images whose class (n,) is the one that was asked for."""
    return float(np.mean(np.asarray(found) == np.asarray(wanted)))


def r_squared(found: np.ndarray, wanted: np.ndarray) -> float:
    """1 - |found - wanted|^2 / |wanted - mean|^2, of values (n,): 1 where all are right, 0 where the mean would do as well; may be negative."""
    found, wanted = np.asarray(found, float), np.asarray(wanted, float)
    return float(1 - np.sum((found - wanted) ** 2) / np.sum((wanted - wanted.mean()) ** 2))


def diversity(points: np.ndarray, classes: np.ndarray) -> float:
    """The mean squared distance between two images of one class, in features (n, d): twice their variance, averaged over classes of at least two."""
    several = [each for each, count in zip(*np.unique(classes, return_counts=True), strict=True) if count > 1]
    spread = [2 * points[classes == each].var(axis=0, ddof=1).sum() for each in several]
    return float(np.mean(spread))
