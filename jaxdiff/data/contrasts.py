"""From tissue to signal: T1, T2, FLAIR and PD images of the same anatomy.

With tissue probabilities p_k, the signal of a voxel is

    s = ( sum_k p_k mu_k + r R + e T (p_grey + p_white) )^g  B / 1.2,    B = exp(quadratic polynomial),                (1)
    image = | s + n_1 + i n_2 |,    n ~ N(0, sd^2)    (Rician; H. Gudbjartsson and S. Patz, MRM 34, 1995),             (2)

where mu are the tissue means of this subject on this scanner, R the template's own residual texture, T a fine texture,
g a scanner's contrast curve and B its coil profile. The division leaves room above white matter for bright lesions.
"""

from typing import NamedTuple

import numpy as np


class Contrast(NamedTuple):
    """Mean signals of the tissues, before the division by 1.2."""

    grey: float
    white: float
    fluid: float
    residual: float  # how the template's T1 residual shows in this contrast
    lesion: dict  # kind of lesion -> its mean signal


CONTRASTS = {
    'T1': Contrast(0.58, 0.84, 0.16, 1.0, {'tumour': 0.98, 'stroke': 0.44, 'white-matter': 0.58}),
    'T2': Contrast(0.56, 0.40, 0.94, -0.6, {'tumour': 0.80, 'stroke': 0.86, 'white-matter': 0.72}),
    'FLAIR': Contrast(0.64, 0.52, 0.14, -0.4, {'tumour': 0.86, 'stroke': 0.90, 'white-matter': 0.92}),
    'PD': Contrast(0.80, 0.64, 0.74, -0.3, {'tumour': 0.90, 'stroke': 0.92, 'white-matter': 0.88}),
}


class Scan(NamedTuple):
    """One acquisition: what equations (1) and (2) need to know about subject and scanner."""

    means: np.ndarray  # (3,) grey, white, fluid
    residual: float
    texture: float
    gamma: float
    bias: np.ndarray  # (9,) coefficients of the quadratic polynomial
    noise: float


def scan(rng: np.random.Generator, name: str) -> Scan:
    """A random acquisition of the named contrast."""
    contrast, normal = CONTRASTS[name], rng.standard_normal
    grey = contrast.grey + 0.035 * normal()
    white = grey + (contrast.white - contrast.grey) + 0.03 * normal()
    return Scan(
        means=np.float32([grey, white, max(contrast.fluid + 0.03 * normal(), 0.06)]),
        residual=contrast.residual * rng.uniform(0.6, 1.2),
        texture=rng.uniform(0.010, 0.025),
        gamma=np.exp(0.05 * normal()),
        bias=0.06 * normal(9),
        noise=rng.uniform(0.008, 0.016),
    )


def signal(scan: Scan, tissues: np.ndarray, residual: np.ndarray, texture: np.ndarray) -> np.ndarray:
    """Noiseless signal (N,) of tissues (3, N) grey, white, fluid in [0, 1]: the bracket of equation (1)."""
    grain = scan.texture * texture * (tissues[0] + tissues[1])
    return np.maximum(np.einsum('k,kn->n', scan.means, tissues) + scan.residual * residual + grain, 0)


def acquire(rng: np.random.Generator, scan: Scan, signal: np.ndarray, points: np.ndarray) -> np.ndarray:
    """The image (N,) in [0, 1] of a signal (N,) at world points (3, N) in mm: contrast curve, coil profile, Rician noise."""
    x, y, z = points * np.float32(1 / 90)
    basis = (x, y + 0.2, z, x * x, y * y, z * z, x * y, y * z, z * x)
    profile = np.exp(sum(np.float32(c) * b for c, b in zip(scan.bias, basis, strict=True)))
    clean = signal ** np.float32(scan.gamma) * profile / np.float32(1.2)
    real, imaginary = np.float32(scan.noise) * rng.standard_normal((2, *clean.shape), np.float32)
    return np.clip(np.hypot(clean + real, imaginary), 0, 1)
