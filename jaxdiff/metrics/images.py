"""Fidelity of one image or volume to another, by the conventions of fastMRI (Zbontar et al., arXiv 1811.08839).

Arrays are (slices, X, Y). The peak of PSNR and SSIM is a convention worth one to three decibels, so it is named: `peak` is
'volume' (largest value of the true volume, fastMRI's), 'slice' (of each true slice) or a number (1.0 for images in [0, 1]).
"""

import numpy as np
from scipy.ndimage import uniform_filter

Peak = str | float


def mae(truth: np.ndarray, image: np.ndarray) -> float:
    """Mean absolute error, in the images' units."""
    return float(np.abs(_difference(truth, image)).mean())


def nmse(truth: np.ndarray, image: np.ndarray) -> float:
    """|truth - image|^2 / |truth|^2 over the whole volume."""
    return float(np.square(_difference(truth, image)).sum() / np.square(truth.astype(np.float64)).sum())


def psnr(truth: np.ndarray, image: np.ndarray, *, peak: Peak = 'volume') -> float:
    """10 log10(peak^2 / mean squared error) in dB: of the volume, or averaged over slices if `peak` is 'slice'."""
    square = np.square(_difference(truth, image))
    error = square.mean((1, 2)) if peak == 'slice' else square.mean()
    with np.errstate(divide='ignore'):
        return float(np.mean(10 * np.log10(np.square(_peaks(truth, peak)[:, 0, 0]) / error)))


def ssim(truth: np.ndarray, image: np.ndarray, *, peak: Peak = 'volume', window: int = 7) -> float:
    """Structural similarity (Wang et al. 2004) averaged over slices: uniform window, sample covariance, K1 .01, K2 .03, borders cut."""
    _difference(truth, image)
    x, y = truth.astype(np.float64), image.astype(np.float64)
    blur = lambda values: uniform_filter(values, (1, window, window))
    unbiased = window**2 / (window**2 - 1)
    mean_x, mean_y = blur(x), blur(y)
    var_x, var_y = (unbiased * (blur(v * v) - m * m) for v, m in ((x, mean_x), (y, mean_y)))
    cov = unbiased * (blur(x * y) - mean_x * mean_y)
    c1, c2 = np.square(0.01 * _peaks(truth, peak)), np.square(0.03 * _peaks(truth, peak))
    similarity = (2 * mean_x * mean_y + c1) * (2 * cov + c2) / ((mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2))
    cut = (window - 1) // 2
    return float(similarity[:, cut:-cut, cut:-cut].mean())


def _difference(truth, image):
    if truth.shape != image.shape or truth.ndim != 3:
        raise ValueError(f'two volumes (slices, X, Y) of one shape are needed, got {truth.shape} and {image.shape}')
    return truth.astype(np.float64) - image.astype(np.float64)


def _peaks(truth, peak):
    """The peak value of each slice, (slices, 1, 1)."""
    if peak == 'slice':
        return truth.astype(np.float64).max((1, 2), keepdims=True)
    value = float(truth.max()) if peak == 'volume' else float(peak)
    return np.full((len(truth), 1, 1), value)
