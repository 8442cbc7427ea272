"""What a scanner measures of an image: phase, coils, noise.

    y_c = F (S_c x) + n_c,        n ~ N_C(0, Psi) across coils, independent between frequencies             (1)
    L L^H = Psi:    L^-1 y and L^-1 S have noise of covariance I                                            (2)

F is the orthonormal Fourier transform over the axes of an image (X, Y), zero frequency in the middle. Images and k-space are (X, Y, coils)
complex64, a single coil being one channel. Noise is complex: E |n|^2 = 1 where Psi is 1.
"""

import numpy as np
from scipy.ndimage import gaussian_filter

AXES = (0, 1)


def transform(image: np.ndarray) -> np.ndarray:
    """F of (X, Y, ...)."""
    return np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(image, AXES), axes=AXES, norm='ortho'), AXES).astype(np.complex64)


def inverse_transform(kspace: np.ndarray) -> np.ndarray:
    """F^-1 of (X, Y, ...)."""
    return np.fft.fftshift(np.fft.ifft2(np.fft.ifftshift(kspace, AXES), axes=AXES, norm='ortho'), AXES).astype(np.complex64)


def root_sum_of_squares(images: np.ndarray) -> np.ndarray:
    """(X, Y, coils) complex -> (X, Y) float32."""
    return np.sqrt(np.sum(np.square(np.abs(images)), -1)).astype(np.float32)


def birdcage(shape: tuple[int, int], coils: int, *, radius: float = 1.5) -> np.ndarray:
    """Sensitivities (X, Y, coils) of coils evenly around the image, at `radius` half widths from its middle, with sum_c |S_c|^2 = 1."""
    angles = 2 * np.pi * np.arange(coils) / coils
    y, x = (((np.arange(n) - n / 2) / (n / 2)) for n in shape)
    x = x[None, :, None] - radius * np.cos(angles)
    y = y[:, None, None] - radius * np.sin(angles)
    fields = np.exp(1j * (np.arctan2(x, -y) - angles)) / np.hypot(x, y)
    return (fields / np.linalg.norm(fields, axis=-1, keepdims=True)).astype(np.complex64)


def estimated(kspace: np.ndarray, lines: int, *, least: float = 0.05) -> np.ndarray:
    """Sensitivities (X, Y, coils) from the `lines` fully sampled central columns of k-space: coil images of that resolution over their root
    sum of squares, 0 where this is below `least` of its maximum, so that sum_c |S_c|^2 is 1 or 0.

    They hold the smooth phase of the image too: what is reconstructed with them has lost it. Central rows are cut to the same number, and a
    Hann window keeps the edges of the cut from ringing (McKenzie et al., MRM 2002). Raises ValueError for fewer than 2 lines.
    """
    if not 2 <= lines <= kspace.shape[1]:
        raise ValueError(f'{lines} calibration lines of {kspace.shape[1]} columns: at least 2 are needed')
    window = np.ones((1, 1, 1))
    for axis in AXES:
        n = kspace.shape[axis]
        count = min(lines, n)
        first = (n - count + 1) // 2
        taper = np.zeros(n)
        taper[first : first + count] = np.hanning(count + 2)[1:-1]
        window = window * np.expand_dims(taper, tuple(each for each in range(3) if each != axis))
    images = inverse_transform(window * kspace)
    size = root_sum_of_squares(images)[..., None]
    return np.where(size > least * size.max(), images / np.maximum(size, np.finfo(np.float32).tiny), 0).astype(np.complex64)


def combined(images: np.ndarray, sensitivities: np.ndarray) -> np.ndarray:
    """One image (X, Y, 1) from those of the coils, sum_c conj(S_c) x_c."""
    return np.sum(sensitivities.conj() * images, -1, keepdims=True).astype(np.complex64)


def phase(rng: np.random.Generator, shape: tuple[int, int], *, strength: float = 1.0) -> np.ndarray:
    """A smooth phase factor exp(i strength f) (X, Y) complex64: f is noise smoothed over a sixth of the image, its largest value 1."""
    field = gaussian_filter(rng.standard_normal(shape), [n / 6 for n in shape])
    return np.exp(1j * strength * field / np.abs(field).max()).astype(np.complex64)


def noise(rng: np.random.Generator, shape: tuple[int, ...], covariance: np.ndarray | float) -> np.ndarray:
    """Complex noise (..., coils) with the covariance E n n^H between coils: (coils, coils), or the variance of every coil.

    Raises ValueError for a covariance that is not Hermitian and positive."""
    white = (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)) / np.sqrt(2)
    return (white @ _root(covariance, shape[-1]).T).astype(np.complex64)


def whitened(array: np.ndarray, covariance: np.ndarray | float) -> np.ndarray:
    """L^-1 over the coils of k-space or of sensitivities (..., coils), equation (2); both, or neither, must be."""
    inverse = np.linalg.inv(_root(covariance, array.shape[-1]))
    return (array @ inverse.T).astype(np.complex64)


def covariance(samples: np.ndarray) -> np.ndarray:
    """E n n^H (coils, coils) of samples (..., coils) of noise alone, such as a scan without excitation or the border of k-space."""
    flat = samples.reshape(-1, samples.shape[-1])
    return (flat.T @ flat.conj() / len(flat)).astype(np.complex64)


def measured(
    rng: np.random.Generator,
    image: np.ndarray,
    *,
    sensitivities: np.ndarray | None = None,
    covariance: np.ndarray | float = 0.0,
) -> np.ndarray:
    """K-space (X, Y, coils) of an image (X, Y), real or complex, by equation (1); without sensitivities by one coil that sees all alike."""
    seen = image[..., None] * (1 if sensitivities is None else sensitivities)
    kspace = transform(seen)
    return kspace + noise(rng, kspace.shape, covariance) if np.any(covariance) else kspace


def _root(covariance, coils: int) -> np.ndarray:
    """L of equation (2), lower triangular."""
    matrix = np.asarray(covariance, np.complex128)
    if matrix.ndim == 0:
        matrix = matrix * np.eye(coils)
    if matrix.shape != (coils, coils) or not np.allclose(matrix, matrix.conj().T):
        raise ValueError(f'a covariance of {coils} coils must be Hermitian ({coils}, {coils}), not {matrix.shape}')
    try:
        return np.linalg.cholesky(matrix)
    except np.linalg.LinAlgError:
        raise ValueError('the covariance of the coils is not positive definite') from None
