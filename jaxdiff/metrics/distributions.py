"""How far a set of generated images is from a set of real ones, both given as points (n, d) of one feature map.

Kernel distance (KID; Binkowski, Sutherland, Arbel & Gretton, ICLR 2018), the unbiased squared maximum mean discrepancy with
k(x, y) = (x.y / d + 1)^3:

    1/(m(m-1)) sum_{i!=j} k(x_i, x_j) + 1/(n(n-1)) sum_{i!=j} k(y_i, y_j) - 2/(mn) sum_ij k(x_i, y_j)           (1)

It is unbiased at any n (and so may be slightly negative), hence the first choice below a few thousand images. Frechet distance
(FID; Heusel et al., NeurIPS 2017) of the Gaussians with the same moments, biased upwards unless n >> d:

    |mu_x - mu_y|^2 + tr(S_x) + tr(S_y) - 2 sum_i sqrt(lambda_i),   lambda_i eigenvalues of S_x^1/2 S_y S_x^1/2   (2)

Precision and recall (Kynkaanniemi et al., NeurIPS 2019), density and coverage (Naeem et al., ICML 2020) count points inside the
balls around real (or fake) points that reach to their k-th neighbour of the same set.

Images of one subject are not independent draws: split halves and subsets by subject.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.sparse.linalg import svds

from jaxdiff.metrics.features import squared_distances


class Estimate(NamedTuple):
    """A mean over subsets and the standard deviation between subsets."""

    mean: float
    sd: float


class PrecisionRecall(NamedTuple):
    """precision: share of fakes near a real; recall: share of reals near a fake; density, coverage: their robust kin."""

    precision: float
    recall: float
    density: float
    coverage: float


def kernel_distance(x: np.ndarray, y: np.ndarray) -> float:
    """Equation (1) for points x (m, d) and y (n, d), m, n >= 2. Zero on average for two sets of one law; unit-free."""
    _same_space(x, y)
    return _unbiased(_cubic(x, x), _cubic(y, y), _cubic(x, y))


def kernel_distances(x: np.ndarray, y: np.ndarray, *, subsets: int = 100, size: int = 1000, seed: int = 0) -> Estimate:
    """Equation (1) over `subsets` pairs of random subsets of at most `size` points, drawn without replacement.

    The standard deviation is the spread between subsets, not the error of the mean: subsets overlap. Where `size` reaches the
    whole of both sets every subset is the same set, so at most half of each set is drawn.
    """
    _same_space(x, y)
    rng = np.random.default_rng(seed)
    size = min(size, len(x) // 2, len(y) // 2)
    xx, yy, xy = _cubic(x, x), _cubic(y, y), _cubic(x, y)
    values = []
    for _ in range(subsets):
        i, j = rng.choice(len(x), size, replace=False), rng.choice(len(y), size, replace=False)
        values.append(_unbiased(xx[np.ix_(i, i)], yy[np.ix_(j, j)], xy[np.ix_(i, j)]))
    return Estimate(float(np.mean(values)), float(np.std(values)))


def frechet(x: np.ndarray, y: np.ndarray) -> float:
    """Equation (2) for points x (m, d) and y (n, d), float64, unbiased covariances. Report m, n and the real-real floor beside it."""
    _same_space(x, y)
    (mean_x, cov_x), (mean_y, cov_y) = _moments(x), _moments(y)
    values, vectors = np.linalg.eigh(cov_x)
    root = vectors * np.sqrt(np.maximum(values, 0)) @ vectors.T
    cross = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ cov_y @ root), 0)).sum()
    return float(np.square(mean_x - mean_y).sum() + np.trace(cov_x) + np.trace(cov_y) - 2 * cross)


def precision_recall(real: np.ndarray, fake: np.ndarray, *, k: int = 3) -> PrecisionRecall:
    """Precision, recall, density and coverage of the points `fake` (m, d) against `real` (n, d); n, m > k.

    A point is inside a ball if strictly nearer than its radius, the distance to the k-th neighbour (itself not counted).
    Precision, recall and coverage are in [0, 1]; density may exceed 1.
    """
    _same_space(real, fake)
    if min(len(real), len(fake)) <= k:
        raise ValueError(f'{len(real)} real and {len(fake)} fake points are too few for k={k} neighbours')
    between = squared_distances(real, fake)
    in_real = between < _radius(real, k)[:, None]
    in_fake = between < _radius(fake, k)[None]
    return PrecisionRecall(
        precision=float(in_real.any(0).mean()),
        recall=float(in_fake.any(1).mean()),
        density=float(in_real.sum() / (k * len(fake))),
        coverage=float(in_real.any(1).mean()),
    )


def pca_gaussian(
    train: np.ndarray, components: int = 64, *, low: float = -1.0, high: float = 1.0
) -> Callable[[np.random.Generator, int], np.ndarray]:
    """The sampler that a generative model must beat: a Gaussian in the leading principal components of `train` (n, *shape).

    Returns sample(rng, m) -> float32 (m, *shape), clipped to [low, high].
    """
    flat = train.reshape(len(train), -1).astype(np.float32)
    mean = flat.mean(0)
    centred = flat - mean
    components = min(components, min(centred.shape) - 1)
    _, scale, basis = svds(centred, components, v0=np.ones(min(centred.shape), np.float32))  # v0: the same basis at every call
    spread = (scale / np.sqrt(len(train) - 1))[:, None] * basis

    def sample(rng: np.random.Generator, m: int) -> np.ndarray:
        draws = mean + rng.standard_normal((m, components), np.float32) @ spread
        return np.clip(draws, low, high).astype(np.float32).reshape(m, *train.shape[1:])

    return sample


def _cubic(x, y):
    return (x.astype(np.float64) @ y.astype(np.float64).T / x.shape[1] + 1) ** 3


def _unbiased(xx, yy, xy):
    within = [(gram.sum() - np.trace(gram)) / (len(gram) * (len(gram) - 1)) for gram in (xx, yy)]
    return float(sum(within) - 2 * xy.mean())


def _moments(x):
    x = x.astype(np.float64)
    return x.mean(0), np.cov(x, rowvar=False).reshape(x.shape[1], x.shape[1])


def _radius(points, k):
    """Squared distance of each point to its k-th neighbour; the nearest of all is the point itself."""
    return np.partition(squared_distances(points, points), k, axis=1)[:, k]


def _same_space(x, y):
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1] or min(len(x), len(y)) < 2:
        raise ValueError(f'two sets of at least 2 points of one space are needed, got {x.shape} and {y.shape}')
