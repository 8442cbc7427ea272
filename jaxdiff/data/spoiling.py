"""What is taken from an image to be given back: holes, borders, colours, detail. All of images (X, Y, C) in [-1, 1], C channels shown as colours.

Saharia et al., "Palette: image-to-image diffusion models", SIGGRAPH 2022, whose four tasks these are.
"""

import io

import numpy as np
from scipy.ndimage import binary_dilation


def hole(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """A mask (X, Y), True where the image is missing: a rectangle, strokes of a brush, or both."""
    kind = rng.integers(3)
    missing = np.zeros(shape, bool)
    if kind != 1:
        size = (rng.uniform(0.2, 0.5, 2) * shape).astype(int)
        first = [rng.integers(n - each + 1) for n, each in zip(shape, size, strict=True)]
        missing[first[0] : first[0] + size[0], first[1] : first[1] + size[1]] = True
    if kind != 0:
        missing |= strokes(rng, shape)
    return missing


def strokes(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Two to four bent lines of a brush a tenth of the image wide."""
    drawn = np.zeros(shape, bool)
    for _ in range(rng.integers(2, 5)):
        corners = rng.uniform(0.1, 0.9, (4, 2)) * shape
        ways = np.linspace(corners[:-1], corners[1:], 4 * max(shape)).reshape(-1, 2).astype(int)
        drawn[tuple(ways.T)] = True
    return binary_dilation(drawn, iterations=max(1, min(shape) // 20))


def border(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """A mask (X, Y), True where the image is missing: a quarter to a half along one side, or around."""
    missing = np.zeros(shape, bool)
    share = rng.uniform(0.25, 0.5)
    side = rng.integers(5)
    if side == 4:
        edge = [int(share * n / 2) for n in shape]
        missing[:] = True
        missing[edge[0] : shape[0] - edge[0], edge[1] : shape[1] - edge[1]] = False
        return missing
    axis, back = divmod(int(side), 2)
    cut = int(share * shape[axis])
    np.moveaxis(missing, axis, 0)[slice(-cut, None) if back else slice(cut)] = True
    return missing


def filled(rng: np.random.Generator, image: np.ndarray, missing: np.ndarray) -> np.ndarray:
    """The image with noise where it is missing."""
    return np.where(missing[..., None], rng.standard_normal(image.shape), image).astype(np.float32)


def grey(image: np.ndarray) -> np.ndarray:
    """The mean of the channels, in each of them."""
    return np.broadcast_to(image.mean(-1, keepdims=True), image.shape).astype(np.float32)


def jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    """An image of three channels as it comes back from a JPEG of this quality, 1 to 95."""
    from PIL import Image

    kept = io.BytesIO()
    Image.fromarray(np.rint((np.clip(image, -1, 1) + 1) * 127.5).astype(np.uint8)).save(kept, 'JPEG', quality=quality)
    return (np.asarray(Image.open(kept), np.float32) / 127.5 - 1).astype(np.float32)


def nearest_known(image: np.ndarray, missing: np.ndarray) -> np.ndarray:
    """Every missing pixel as the nearest one that is not."""
    from scipy.ndimage import distance_transform_edt

    places = distance_transform_edt(missing, return_distances=False, return_indices=True)
    return image[tuple(places)]
