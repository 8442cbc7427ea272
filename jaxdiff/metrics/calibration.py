"""Whether posterior samples are as spread as they should be: the rank of the truth among them.

If truth and N samples are draws of one posterior law, the truth's rank r = number of samples below it is uniform on 0 .. N, whatever the
law. The interval between the k-th smallest and the k-th largest sample then holds the truth with probability

    1 - 2 k / (N + 1),        k = max(1, round((1 - level) (N + 1) / 2))                                  (1)

exactly: the nearest to `level` that N samples can say (95 % needs 39). More is found where samples are too spread, less where they are too
alike; then ranks pile up at both ends. (Talagrand diagram: Hamill, Monthly Weather Review 2001; Talts et al., arXiv 1804.06788.)

Few samples do not tell their spread well, and samplers are approximate: `fitted` finds on other images the one number that deviations are to be
multiplied by before `held` is asked.

The test takes ranks for independent, which neighbouring pixels are not: give it one value for each image, or pixels far apart.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.stats import chi2, norm

LEVELS = (0.5, 0.8, 0.95)


class Coverage(NamedTuple):
    """A level asked for, the probability (1) of the interval used, and the share of truths inside it."""

    level: float
    expected: float
    found: float


def fitted(mean: np.ndarray, deviation: np.ndarray, truth: np.ndarray, level: float = 0.8) -> float:
    """The factor f for which mean +- z f deviation, z of a Gaussian, holds the share `level` of truths (any one shape): the step of calibration.

    To be fitted on images that nothing is judged by. Raises ValueError where every deviation is 0.
    """
    spread = deviation > 0
    if not spread.any():
        raise ValueError('samples that do not differ cannot be calibrated')
    ratios = np.where(spread, np.abs(truth - mean) / np.where(spread, deviation, 1), np.inf)
    return float(np.quantile(ratios, level, method='higher') / norm.ppf((1 + level) / 2))


def held(mean: np.ndarray, deviation: np.ndarray, truth: np.ndarray, levels: Sequence[float] = LEVELS) -> tuple[float, ...]:
    """The share of truths within mean +- z deviation, z of a Gaussian for each level."""
    away = np.abs(truth - mean)
    return tuple(float((away <= norm.ppf((1 + level) / 2) * deviation).mean()) for level in levels)


def ranks(samples: np.ndarray, truth: np.ndarray, *, seed: int = 0) -> np.ndarray:
    """Ranks, 0 to N, of truths (...) among samples (N, ...); a tie is broken at random."""
    samples, truth = np.asarray(samples), np.asarray(truth)
    if samples.shape[1:] != truth.shape or not len(samples):
        raise ValueError(f'samples (N, *{truth.shape}) are needed, got {samples.shape}')
    if not (np.isfinite(samples).all() and np.isfinite(truth).all()):
        raise ValueError('samples and truth must be finite')
    ties = np.sum(samples == truth, 0)
    return np.sum(samples < truth, 0) + np.random.default_rng(seed).integers(0, ties + 1)


def coverage(ranks: np.ndarray, samples: int, levels: Sequence[float] = LEVELS) -> tuple[Coverage, ...]:
    """The share of ranks among `samples` that lie in the central interval of each level, equation (1)."""
    ranks = _checked(ranks, samples)
    found = []
    for level in levels:
        if not 0 < level < 1:
            raise ValueError(f'a level between 0 and 1 is needed, not {level}')
        k = min(max(1, round((1 - level) * (samples + 1) / 2)), (samples + 1) // 2)
        inside = (k <= ranks) & (ranks <= samples - k)
        found.append(Coverage(float(level), 1 - 2 * k / (samples + 1), float(inside.mean())))
    return tuple(found)


def histogram(ranks: np.ndarray, samples: int, bins: int | None = None) -> np.ndarray:
    """Counts (bins,) of the ranks 0 .. `samples`; `bins` divides samples + 1, which it is by default. Flat where samples are calibrated."""
    bins = samples + 1 if bins is None else bins
    if bins < 1 or (samples + 1) % bins:
        raise ValueError(f'{bins} bins do not divide the {samples + 1} ranks')
    return np.bincount(_checked(ranks, samples) * bins // (samples + 1), minlength=bins)


def p_value(ranks: np.ndarray, samples: int, bins: int | None = None) -> float:
    """The probability that uniform ranks are as uneven as these, by the chi-square of their histogram.

    Raises ValueError for fewer than five ranks a bin, or a single bin: chi-square needs more.
    """
    counts = histogram(ranks, samples, bins)
    expected = counts.mean()
    if expected < 5 or len(counts) < 2:
        raise ValueError(f'{counts.sum()} ranks in {len(counts)} bins are too few: five a bin are needed, in two bins or more')
    return float(chi2.sf(np.sum(np.square(counts - expected) / expected), len(counts) - 1))


def _checked(ranks, samples: int) -> np.ndarray:
    ranks = np.asarray(ranks).ravel()
    if samples < 1 or not ranks.size or ranks.min() < 0 or ranks.max() > samples:
        raise ValueError(f'ranks from 0 to {samples} are needed')
    return ranks
