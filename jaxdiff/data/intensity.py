"""Values: from a scanner's units to [-1, 1] and back, and where the foreground is.

Each channel maps linearly between two of its values,

    v = 2 (u - low) / (high - low) - 1,    clipped to [-1, 1],                                           (1)

which are percentiles of the volume where units have no scale, as in magnetic resonance, and fixed where they do.
"""

from collections.abc import Sequence

import numpy as np

FOREGROUND = -0.8  # mapped values above this are foreground: a tenth of the way from low to high

Ends = Sequence[float] | np.ndarray  # one value per channel


def percentiles(array: np.ndarray, low: float | Ends, high: float | Ends) -> np.ndarray:
    """(2, C): two percentiles of each channel of (*spatial, C), or its extremes where those coincide; the second above the first."""
    flat = array.reshape(-1, array.shape[-1])
    wanted = np.broadcast_to(np.reshape([low, high], (2, -1)), (2, flat.shape[-1]))
    found = np.stack([np.percentile(values, ends) for values, ends in zip(flat.T, wanted.T, strict=True)], axis=-1)
    if (found[0] == found[1]).any():
        found = np.where(found[0] == found[1], [flat.min(axis=0), flat.max(axis=0)], found)
        found[1] += found[0] == found[1]
    return found


def ends(array: np.ndarray, rule: str, low: float | Ends, high: float | Ends) -> np.ndarray:
    """(2, C): what becomes -1 and 1 of one volume (*spatial, C), by percentiles of each channel.

    'percentile' takes them over all voxels, 'brain' over those above 0, of scans whose background is 0, and 'positive' takes 0 and the upper one
    of those. A channel without a voxel above 0 is taken whole.
    """
    if rule == 'percentile':
        return percentiles(array, low, high)
    flat = array.reshape(-1, array.shape[-1])
    low, high = (np.broadcast_to(np.asarray(each), flat.shape[-1:]) for each in (low, high))
    inside = [values[values > 0] if (values > 0).any() else values for values in flat.T]
    found = np.concatenate([percentiles(values[:, None], *pair) for values, *pair in zip(inside, low, high, strict=True)], axis=1)
    return np.stack([0 * found[0], found[1]]) if rule == 'positive' else found


def widest(ranges: Sequence[np.ndarray]) -> np.ndarray:
    """(2, C): the lowest and the highest of several (2, C)."""
    return np.stack([np.min(ranges, axis=0)[0], np.max(ranges, axis=0)[1]])


def scale(array: np.ndarray, low: Ends, high: Ends) -> np.ndarray:
    """Equation (1) on (*spatial, C)."""
    low, high = np.array(low, np.float32), np.array(high, np.float32)
    return np.clip((array - low) / (high - low) * 2 - 1, -1, 1)


def unscale(values: np.ndarray, low: Ends, high: Ends) -> np.ndarray:
    """Undoes equation (1), but for what was clipped."""
    low, high = np.array(low, np.float32), np.array(high, np.float32)
    return low + (values + 1) / 2 * (high - low)


def box(values: np.ndarray) -> np.ndarray:
    """(2, d): the first and last voxel of the foreground of mapped values (*spatial, C) along each axis; the grid's if there is none."""
    foreground = (values > FOREGROUND).any(axis=-1)
    ends = np.array([np.zeros(foreground.ndim, int), np.array(foreground.shape) - 1])
    for axis in range(foreground.ndim):
        found = np.flatnonzero(foreground.any(axis=tuple(other for other in range(foreground.ndim) if other != axis)))
        if found.size:
            ends[:, axis] = found[[0, -1]]
    return ends
