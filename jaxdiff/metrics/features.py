"""Where an image becomes a point: a fixed random convolutional map, and distances between points.

Three strided convolutions with fixed random kernels W_l, each followed by a leaky rectifier (image h_0 = x):

    h_l = max(W_l * h_{l-1}, 0.1 W_l * h_{l-1}),   W_l ~ N(0, 2 / fan-in)                                       (1)

Kernels of the first layer have zero mean per channel except one in four, so that most of them see edges and texture and the
rest brightness. At every scale the maps are pooled by mean and standard deviation over the cells of a coarse grid, which keeps
*where* something is (anatomy) and how rough it is (texture):

    phi(x) = [ mean_{u in cell} h_l(u), sd_{u in cell} h_l(u) ]   for all l, cells, channels                     (2)

Random embeddings need no download and bring no bias of a training set into a medical question; Naeem et al. (ICML 2020) found them
as good as ImageNet's, or better, for images unlike ImageNet's. Distances in them compare samplers of one kind of image and mean
something only beside another distance of the same map and reference: the real-real floor, and a baseline.
"""

from collections.abc import Callable, Sequence

import numpy as np

Features = Callable[[np.ndarray], np.ndarray]  # (n, *spatial, channels) -> (n, d)


def random_convolutions(
    shape: Sequence[int],
    seed: int = 0,
    *,
    widths: Sequence[int] = (16, 32, 64),
    kernels: Sequence[int] = (5, 3, 3),
    cells: int = 4,
    batch: int = 64,
) -> Features:
    """The random map of equations (1) and (2) for images of `shape` (*spatial, channels), 2-D or 3-D.

    The result maps (n, *shape) in any fixed range (images here are in [-1, 1]) to float32 (n, d), d = 2 sum(widths) cells^dims.
    It depends on `seed` and the options alone, and an image's features do not depend on what is beside it.
    """
    *spatial, channels = shape
    dims = len(spatial)
    if min(spatial) < cells * 2 ** len(widths):
        raise ValueError(f'{tuple(spatial)} is too small for {len(widths)} strided layers and {cells} cells a side')
    rng = np.random.default_rng(seed)
    layers = []
    for layer, (width, kernel) in enumerate(zip(widths, kernels, strict=True)):
        weights = rng.standard_normal((channels, kernel**dims, width)) * np.sqrt(2 / (channels * kernel**dims))
        if layer == 0:
            weights -= weights.mean(1, keepdims=True) * (np.arange(width) % 4 > 0)
        layers.append((kernel, weights.reshape(-1, width).astype(np.float32)))
        channels = width

    def forward(x):
        pooled = []
        for kernel, weights in layers:
            x = _convolve(x, weights, kernel, dims)
            x = np.maximum(x, 0.1 * x)
            pooled += _pool(x, cells, dims)
        return np.concatenate(pooled, 1)

    def features(images: np.ndarray) -> np.ndarray:
        if images.shape[1:] != tuple(shape):
            raise ValueError(f'features of {tuple(shape)} asked for images of {images.shape[1:]}')
        return np.concatenate([forward(images[i : i + batch].astype(np.float32)) for i in range(0, len(images), batch)])

    return features


def standardised(features: Features, reference: np.ndarray, *, floor: float = 0.1) -> Features:
    """`features` with mean 0 and standard deviation 1 on the `reference` images (n, *spatial, channels), which are real data.

    Features whose deviation on the reference is below `floor` times the median deviation (empty background, dead kernels) are
    dropped: divided by next to nothing they would drown the others.
    """
    points = features(reference).astype(np.float64)
    mean, std = points.mean(0), points.std(0)
    alive = std > max(floor * float(np.median(std)), 1e-7)
    if not alive.any():
        raise ValueError('every feature is constant on the reference images: is the reference one image?')
    return lambda images: ((features(images)[:, alive] - mean[alive]) / std[alive]).astype(np.float32)


def squared_distances(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Squared Euclidean distances (n, m) between the points x (n, d) and y (m, d), in float64, never negative."""
    x, y = x.astype(np.float64), y.astype(np.float64)
    square = np.square(x).sum(1)[:, None] + np.square(y).sum(1)[None] - 2 * (x @ y.T)
    return np.maximum(square, 0)


def _convolve(x, weights, kernel, dims):
    """Stride-2 convolution of x (n, *spatial, c), borders repeated, as one matrix product over the unfolded windows."""
    pad = [(0, 0), *[((kernel - 1) // 2, kernel // 2)] * dims, (0, 0)]
    axes = tuple(range(1, dims + 1))
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(x, pad, mode='edge'), (kernel,) * dims, axes)
    windows = windows[(slice(None), *[slice(None, None, 2)] * dims)]  # (n, *half, c, *kernel)
    return windows.reshape(*windows.shape[: dims + 1], -1) @ weights


def _pool(x, cells, dims):
    """Mean and standard deviation of x (n, *spatial, c) over a grid of `cells` a side: two arrays (n, cells^dims c)."""
    mean, square = x, np.square(x)
    for axis in range(1, dims + 1):
        starts = np.arange(cells) * x.shape[axis] // cells
        size = np.diff([*starts, x.shape[axis]]).astype(np.float32)
        scale = size.reshape([-1 if a == axis else 1 for a in range(dims + 2)])
        mean = np.add.reduceat(mean, starts, axis) / scale
        square = np.add.reduceat(square, starts, axis) / scale
    deviation = np.sqrt(np.maximum(square - np.square(mean), 0))
    return [mean.reshape(len(x), -1), deviation.reshape(len(x), -1)]
