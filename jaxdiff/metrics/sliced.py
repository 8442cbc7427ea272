"""The sliced Wasserstein distance of two sets of points: how far mass must be moved, in the mean over directions.

In one dimension the best plan moves quantiles to quantiles. Along a direction u, with Q the quantile functions of the projected points,

    W^p(u) = int_0^1 |Q_x(q) - Q_y(q)|^p dq,        distance = (mean_u W^p(u))^(1/p).                     (1)

With p = 1 a share of mass in the wrong mode counts as far as it lies; with p = 2 as its square, which the chance of finite sets then rules.
Two sets of n draws of one law are apart too, by a length of the order of 1 / sqrt(n): report that floor.

Rabin, Peyre, Delon, Bernot, "Wasserstein barycenter and its application to texture mixing", 2011; Bonneel et al., 2015.
"""

import numpy as np


def sliced_wasserstein(x: np.ndarray, y: np.ndarray, *, directions: int = 128, power: float = 1.0, seed: int = 0) -> float:
    """Distance (1) of points x (n, d) and y (m, d), in their unit; for d = 2 along directions even in angle, else random ones."""
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1]:
        raise ValueError(f'points of shapes {x.shape} and {y.shape} do not lie in one space')
    along = unit_vectors(x.shape[1], directions, seed).T
    return float(np.mean(wasserstein(x @ along, y @ along, power=power)) ** (1 / power))


def wasserstein(x: np.ndarray, y: np.ndarray, *, power: float = 1.0) -> np.ndarray:
    """W^p of numbers x (n, ...) and y (m, ...), column by column: the integral in (1), exactly, whatever n and m."""
    x, y = np.sort(x, axis=0), np.sort(y, axis=0)
    n, m = len(x), len(y)
    cuts = np.union1d(np.arange(n + 1) * m, np.arange(m + 1) * n)  # where either quantile function jumps, in units of 1 / (n m)
    begin, shares = cuts[:-1], np.diff(cuts) / (n * m)
    return np.tensordot(shares, np.abs(x[begin // m] - y[begin // n]) ** power, 1)


def unit_vectors(d: int, count: int, seed: int = 0) -> np.ndarray:
    """(count, d): directions even in angle over half a turn in the plane, uniform draws of the sphere elsewhere."""
    if d == 2:
        angles = (np.arange(count) + 0.5) * np.pi / count
        return np.stack([np.cos(angles), np.sin(angles)], axis=1)
    drawn = np.random.default_rng(seed).standard_normal((count, d))
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)
