"""Cropping, padding and resampling in one move along the axes of a grid.

Voxel i of the new grid lies at voxel

    j(i) = offset + step i                                                                               (1)

of the old one, axis by axis. Where a step is above 1 the old grid is first blurred by a Gaussian of standard deviation
(step - 1) / 2 voxels, so that nothing aliases. New voxels out of reach of every old one are background.
"""

import numpy as np
import scipy  # ndimage is imported when it is used

TINY = 1e-6  # of a voxel, for what rounding does to equation (1)


def resample(
    values: np.ndarray, step: np.ndarray, offset: np.ndarray, background: np.ndarray, *, order: int = 1, reach: float | np.ndarray = 0.5
) -> np.ndarray:
    """Moves (*old, C) values onto the grid of `background` (*new, C) by equation (1); float32.

    Where step is 1 and offset whole, values are copied exactly. `order` 1 interpolates linearly, 0 takes the nearest voxel of masks
    and labels, without the blur. The outermost voxels reach as far as `reach`, in old voxels from their centres.
    """
    step, offset, old, new = np.asarray(step), np.asarray(offset), np.array(values.shape[:-1]), background.shape[:-1]
    first = np.clip(np.ceil((TINY - reach - offset) / step), 0, new).astype(int)
    last = np.clip(np.floor((old - 1 + reach - TINY - offset) / step) + 1, first, new).astype(int)
    inside = tuple(map(slice, first, last))
    out = background.astype(np.float32)
    blur = np.maximum(step - 1, 0) / 2
    for channel in range(values.shape[-1]):
        source = values[..., channel].astype(np.float32)
        if order and blur.any():
            source = scipy.ndimage.gaussian_filter(source, blur, mode='nearest')
        options = {'output_shape': tuple(last - first), 'order': order, 'mode': 'nearest', 'prefilter': False}
        out[(*inside, channel)] = scipy.ndimage.affine_transform(source, step, offset + step * first, **options)
    return out
