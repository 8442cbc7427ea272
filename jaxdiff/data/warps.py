"""Smooth invertible deformations of the head, sampled wherever they are asked for.

A stationary velocity v (mm per unit time, on a coarse grid) is integrated to a diffeomorphism by scaling and squaring,

    u_0 = v / 2^n,    u_{k+1}(x) = u_k(x) + u_k(x + u_k(x)),    exp(v)(x) = x + u_n(x),                             (1)

and composed with an affine map, so that a point y of the subject sees the template at

    x = exp(v)(A (y - c) + c + b).                                                                                  (2)

Velocities are Gaussian noise convolved with Gaussians (V. Arsigny et al., A log-Euclidean framework for statistics on
diffeomorphisms, MICCAI 2006). All lengths are millimetres in the world frame of the template (RAS+).
"""

from typing import NamedTuple

import numpy as np
from scipy.ndimage import map_coordinates

STEP = 5.0  # mm between the nodes of the velocity grid
ORIGIN = np.float32([-80, -115, -80])  # world coordinates of its first node
SHAPE = (33, 40, 35)  # the head of the template and a margin of 8 mm; displacements go on unchanged beyond
CENTRE = np.float32([0, -17, 8])  # the middle of the template's head: rotations and scalings leave it in place


class Warp(NamedTuple):
    """Where in the template a subject's points lie, equation (2)."""

    matrix: np.ndarray  # (3, 3) A
    offset: np.ndarray  # (3,) b
    displacement: np.ndarray  # (3, *SHAPE) u_n on the velocity grid, mm


def noise(rng: np.random.Generator, width: float) -> np.ndarray:
    """Three independent components (3, *SHAPE) of smooth noise: standard deviation 1 at every node, Gaussian width in mm."""
    x, y, z = (_smoother(n, width / STEP) for n in SHAPE)
    white = rng.standard_normal((3, *SHAPE), np.float32)
    plane = np.matmul(y, np.matmul(white, z.T))
    return np.matmul(x, plane.swapaxes(1, 2)).swapaxes(1, 2)


def _smoother(n: int, width: float) -> np.ndarray:
    """(n, n) Gaussian convolution whose rows have norm 1, so that white noise keeps its variance up to the border."""
    i = np.arange(n)
    rows = np.exp(-0.5 * ((i[:, None] - i) / width) ** 2)
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def exponential(velocity: np.ndarray, steps: int = 4) -> np.ndarray:
    """The displacement (3, *SHAPE) in mm of exp(velocity), equation (1)."""
    nodes = np.indices(SHAPE, dtype=np.float32)
    u = velocity.astype(np.float32) / np.float32(2**steps * STEP)
    for _ in range(steps):
        u = u + interpolate(u, nodes + u)
    return u * np.float32(STEP)


def affine(rng: np.random.Generator, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """A random (matrix, offset) of equation (2): rotations of 4 degrees, scalings of 3.5 % (2.5 % in length) and 1.5 % in all
    about `scale` (a head of half the size has scale 0.5), shears of 0.03, shifts of 1.2 mm (standard deviations, cut at two)."""
    draw = lambda spread, size: spread * np.clip(rng.standard_normal(size), -2, 2)
    tilt, size = np.deg2rad(draw(4.0, 3)), scale * np.exp(draw(np.array([0.035, 0.025, 0.035]), 3) + draw(0.015, 1))
    shear = np.eye(3)
    shear[np.triu_indices(3, 1)] = draw(0.03, 3)
    head = _rotation(tilt) @ shear @ np.diag(size)
    matrix = np.linalg.inv(head)
    return matrix.astype(np.float32), (matrix @ draw(1.2, 3)).astype(np.float32)


def _rotation(angles: np.ndarray) -> np.ndarray:
    (cx, cy, cz), (sx, sy, sz) = np.cos(angles), np.sin(angles)
    x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    return z @ y @ x


def apply(warp: Warp, points: np.ndarray) -> np.ndarray:
    """Template coordinates (3, *N) in mm of the subject's points (3, *N) in mm, equation (2)."""
    shape = (3,) + (1,) * (points.ndim - 1)
    x = np.einsum('ij,j...->i...', warp.matrix, points - CENTRE.reshape(shape)) + (CENTRE + warp.offset).reshape(shape)
    return x + interpolate(warp.displacement, (x - ORIGIN.reshape(shape)) / np.float32(STEP))


def interpolate(fields: np.ndarray, coordinates: np.ndarray, mode: str = 'nearest') -> np.ndarray:
    """Trilinear values (K, *N) of the fields (K, X, Y, Z) at coordinates (3, *N) in voxels."""
    return np.stack([map_coordinates(f, coordinates, order=1, mode=mode, prefilter=False, output=np.float32) for f in fields])
