"""A person before any scan: covariates, a warp of the template, and what the tissue is wherever one looks.

With the warped template's p of grey, white and fluid, a subject of atrophy a and cortical thickness d has

    p_fluid' = p_fluid e^a / Z,    p_grey' = p_grey e^d / Z,    p_white' = p_white / Z,    sum p' = sum p,              (1)

and its ventricles are opened by adding to the velocity of the warp k times the gradient, of maximum 1, of the smoothed
ventricle map. Both a and k grow with age, and scatter.
"""

from functools import cache
from typing import NamedTuple

import numpy as np
from scipy.ndimage import gaussian_filter

from jaxdiff.data import warps
from jaxdiff.data.templates import Templates, templates

RANGES = {'age': (20.0, 90.0), 'sex': (0.0, 1.0), 'ventricles': (0.0, 60.0), 'brain': (800.0, 1600.0)}  # years, -, ml, ml


class Anatomy(NamedTuple):
    """A subject before any scan."""

    warp: warps.Warp
    atrophy: float  # a of equation (1)
    thickness: float  # d of equation (1)
    covariates: dict[str, float]  # of RANGES: age in years, sex 0 or 1, volumes of ventricles and brain (grey and white) in ml


class Tissue(NamedTuple):
    """What a subject is made of at some points."""

    inside: np.ndarray  # (N,) indices of the points inside the head
    probabilities: np.ndarray  # (3, N) grey, white, fluid: equation (1)
    ventricle: np.ndarray  # (N,) the part of fluid that belongs to the ventricles, in [0, 1]
    residual: np.ndarray  # (N,) T1 of the template that its tissues do not explain
    texture: np.ndarray  # (N,) unit-variance grain


def anatomy(rng: np.random.Generator) -> Anatomy:
    """A random subject: its age opens the ventricles and thins the cortex, its sex sets the size of the head."""
    normal = lambda: np.clip(rng.standard_normal(), -2.2, 2.2)
    age, sex = rng.uniform(20, 90), float(rng.integers(2))
    old = (age - 20) / 70
    opening = np.clip(-2 + 7.5 * old**1.5 + 1.5 * normal(), -2.5, 7.5)
    velocity = (
        opening * _outward() + rng.uniform(1.5, 2.5) * warps.noise(rng, rng.uniform(12, 17)) + rng.uniform(0.6, 1.1) * warps.noise(rng, 6)
    )
    matrix, offset = warps.affine(rng, 0.88 + 0.03 * sex)
    warp = warps.Warp(matrix, offset, warps.exponential(velocity))
    body = Anatomy(warp, -0.4 + 1.3 * old**1.5 + 0.2 * normal(), 0.2 * normal(), {})
    return body._replace(covariates={'age': age, 'sex': sex} | _measure(body))


def look(body: Anatomy, points: np.ndarray, template: Templates) -> Tissue:
    """The tissue of a subject at its world points (3, N) in mm."""
    x = (warps.apply(body.warp, points) - template.origin[:, None]) / np.float32(template.step)
    reach = np.array(template.maps.shape[1:])[:, None] - 1
    near = np.flatnonzero(((x > 0) & (x < reach)).all(0))
    grey, white, fluid, ventricle, residual = warps.interpolate(template.maps, x[:, near])
    head = grey + white + fluid
    kept = head > 0.1
    grey, white, fluid, ventricle, residual, head = (m[kept] for m in (grey, white, fluid, ventricle, residual, head))
    part = np.clip(ventricle / np.maximum(fluid, 1e-6), 0, 1)
    weighted = np.stack([grey * np.float32(np.exp(body.thickness)), white, fluid * np.float32(np.exp(body.atrophy))])
    probabilities = weighted * np.minimum(head, 1) / weighted.sum(0)
    texture = warps.interpolate(_grain()[None], x[:, near][:, kept] * np.float32(template.step / 2), mode='grid-wrap')[0]
    return Tissue(near[kept], probabilities, part, residual, texture)


def points(affine: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """World coordinates (3, N) of all voxels, the last axis of the grid fastest."""
    index = np.indices(shape, np.float32).reshape(3, -1)
    return (np.float32(np.diag(affine)[:3, None]) * index + np.float32(affine[:3, 3:])).astype(np.float32)


def _measure(body: Anatomy) -> dict[str, float]:
    """Volumes in ml, on a grid of 6 mm over the whole head."""
    low, step = np.array([-87.0, -117.0, -87.0]), 6.0
    grid = np.diag([step, step, step, 1.0])
    grid[:3, 3] = low
    tissue = look(body, points(grid, (30, 34, 32)), templates(4))
    grey, white, fluid = tissue.probabilities
    millilitres = step**3 / 1000
    return {'ventricles': float(millilitres * (fluid * tissue.ventricle).sum()), 'brain': float(millilitres * (grey + white).sum())}


@cache
def _outward() -> np.ndarray:
    """(3, *warps.SHAPE) gradient, of maximum norm 1, of the ventricle map smoothed by 7 mm, on the velocity grid."""
    template = templates(2)
    smooth = gaussian_filter(template.maps[3], 7 / template.step)
    nodes = np.indices(warps.SHAPE, np.float32) * np.float32(warps.STEP) + warps.ORIGIN[:, None, None, None]
    field = warps.interpolate(smooth[None], (nodes - template.origin[:, None, None, None]) / np.float32(template.step), 'constant')[0]
    gradient = np.stack(np.gradient(field))
    return (gradient / np.linalg.norm(gradient, axis=0).max()).astype(np.float32)


@cache
def _grain() -> np.ndarray:
    """(64, 64, 64) periodic unit-variance white noise: the grain of every brain, deformed with it."""
    return np.random.default_rng(0).standard_normal((64, 64, 64), np.float32)
