"""Lesions drawn into a healthy head: compact masses, infarcts and scattered white-matter lesions.

A focus with centre c, half-axes R S and a rough surface covers the point y with the soft membership

    m(y) = logistic( (1 - rho(y)) R / w ),    rho(y) = | S^-1 (y - c) | / R + a sum_k cos(k . (y - c) + phi_k),      (1)

w = 0.9 mm, and a lesion of level l and opacity o turns the signal s into (1 - o m) s + o m (l + heterogeneity). The mask is m > 1/2.
Levels overlap those of healthy tissue, so that no threshold separates a lesion from the anatomy around it.
"""

from typing import NamedTuple

import numpy as np
from scipy.special import expit

KINDS = ('tumour', 'stroke', 'white-matter')
EDGE = np.float32(0.9)  # mm


class Waves(NamedTuple):
    """A band-limited random function of unit variance: the same at any sampling."""

    vectors: np.ndarray  # (K, 3) radians per mm
    phases: np.ndarray  # (K,)


class Lesion(NamedTuple):
    kind: str
    centres: np.ndarray  # (F, 3) mm
    radii: np.ndarray  # (F,) mm
    axes: np.ndarray  # (3,) relative half-axes, product 1
    surface: Waves
    inside: Waves
    shade: float  # added to the level of every contrast
    opacity: float


def lesion(rng: np.random.Generator, kind: str, points: np.ndarray, tissues: np.ndarray) -> Lesion:
    """A random lesion of a kind of KINDS, placed among candidate points (3, N) in mm with tissues (3, N) grey, white, fluid.

    Masses and infarcts: one focus of radius 9 to 18 mm in grey or white matter; white-matter lesions: 5 to 12 of 2.5 to 6 mm."""
    scattered = kind == 'white-matter'
    suitable = tissues[1] if scattered else np.where(tissues[2] < 0.3, tissues[0] + tissues[1], 0)
    count = rng.integers(5, 13) if scattered else 1
    chance = np.cumsum(suitable.astype(np.float64) ** 2)
    if not chance[-1] > 0:
        raise ValueError('no brain tissue among the candidate points')
    centres = points[:, np.searchsorted(chance, rng.uniform(0, chance[-1], count))].T
    radii = rng.uniform(2.5, 6, count) if scattered else rng.uniform(9, 18, count)
    stretch = np.clip(0.15 * rng.standard_normal(3), -0.3, 0.3)
    return Lesion(
        kind=kind,
        centres=np.float32(centres),
        radii=np.float32(radii),
        axes=np.exp(stretch - stretch.mean()).astype(np.float32),
        surface=_waves(rng, 1.2 * radii.mean()),
        inside=_waves(rng, 8.0),
        shade=0.07 * np.clip(rng.standard_normal(), -2, 2),
        opacity=rng.uniform(0.75, 1.0),
    )


def extent(lesion: Lesion, points: np.ndarray) -> np.ndarray:
    """Soft membership (N,) in [0, 1] of world points (3, N) in mm, equation (1); the largest over the foci."""
    covered = np.zeros(points.shape[1], np.float32)
    for centre, radius in zip(lesion.centres, lesion.radii, strict=True):
        away = points - centre[:, None]
        near = np.flatnonzero((np.abs(away) < 2.2 * radius).all(0))
        away = away[:, near]
        rho = np.linalg.norm(away / lesion.axes[:, None], axis=0) / radius + np.float32(0.13) * _evaluate(lesion.surface, away)
        covered[near] = np.maximum(covered[near], expit((1 - rho) * radius / EDGE))
    return np.where(covered > 1e-3, covered, 0)


def draw(lesion: Lesion, signal: np.ndarray, covered: np.ndarray, level: float, points: np.ndarray) -> np.ndarray:
    """The signal (N,) with the lesion of mean signal `level` where it covers (N,) the points (3, N)."""
    there = np.flatnonzero(covered)
    varied = level + lesion.shade + np.float32(0.05) * _evaluate(lesion.inside, points[:, there])
    weight = np.float32(lesion.opacity) * covered[there]
    result = signal.copy()
    result[there] += weight * (np.maximum(varied, 0.05) - signal[there])
    return result


def _waves(rng: np.random.Generator, length: float, count: int = 8) -> Waves:
    directions = rng.standard_normal((count, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    lengths = length * rng.uniform(0.7, 2.0, (count, 1))
    return Waves(np.float32(2 * np.pi / lengths * directions), np.float32(rng.uniform(0, 2 * np.pi, count)))


def _evaluate(waves: Waves, points: np.ndarray) -> np.ndarray:
    cosines = np.cos(np.einsum('kj,jn->kn', waves.vectors, points) + waves.phases[:, None])
    return np.sqrt(np.float32(2 / len(waves.phases))) * cosines.sum(0)
