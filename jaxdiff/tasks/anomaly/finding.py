"""What every detector answers: an image, what health would look like there, and how far the one is from the other.

With K restorations r_k of an image y of C channels,

    restored = mean_k r_k,        map = mean_c |y - restored|,        score = the mean of the map        (1)

The mean is taken before the absolute value: what one r_k invented is not what the next invents, and |.| would count both.

Where a detector makes no mask of its own the map is cut in two where the classes' means lie farthest apart for their sizes (Otsu, IEEE
Transactions on Systems, Man, and Cybernetics 1979), which always finds something: `cut` takes a threshold chosen on validation images.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxdiff.types import Array


class Finding(NamedTuple):
    """Of one image (*spatial, C).

    Attributes:
        image: as it came.
        restored: the mean of its restorations, (*spatial, C).
        map: the anomaly score, (*spatial,), at least 0.
        mask: what is taken for a lesion, (*spatial,) of bool.
        score: of the whole image, a scalar.
        spread: the standard deviation of the restorations, (*spatial, C); 0 where there is one.
        healthy_error: mean |image - restored| outside `mask`, a scalar: 0 where all that is held healthy was kept.
        inversion: mean |x - decode(encode(x))| without guidance, a scalar, which a lesion must exceed; NaN where nothing is inverted.
    """

    image: Array
    restored: Array
    map: Array
    mask: Array
    score: Array
    spread: Array
    healthy_error: Array
    inversion: Array


def finding(
    image: Array, restorations: Array, *, weight: float | Array = 1.0, mask: Array | None = None, inversion: float | Array = jnp.nan
) -> Finding:
    """Equation (1) from restorations (K, *spatial, C) of an image (*spatial, C).

    Args:
        weight: of the map, a number or (*spatial,), at least 0.
        mask: the detector's own, (*spatial,) of bool; None takes the map above `otsu`.
        inversion: as `Finding` has it.
    """
    restored = restorations.mean(0)
    score = weight * jnp.abs(image - restored).mean(-1)
    mask = score > otsu(score) if mask is None else mask
    inversion = jnp.asarray(inversion, score.dtype)
    return Finding(image, restored, score, mask, score.mean(), restorations.std(0), _outside(image, restored, mask), inversion)


def cut(found: Finding, threshold: float | Array) -> Finding:
    """The same finding with the mask map > threshold, a number or (*spatial,), and the healthy error that goes with it."""
    mask = found.map > threshold
    return found._replace(mask=mask, healthy_error=_outside(found.image, found.restored, mask))


def otsu(score: Array) -> Array:
    """The threshold, a scalar among the scores (any shape), that divides them, as score > threshold, with most variance between the parts."""
    ordered = jnp.sort(score.ravel())
    n = ordered.size
    below = jnp.arange(1, n + 1, dtype=ordered.dtype)  # whose products overflow as integers
    sums = jnp.cumsum(ordered - ordered.mean())
    between = jnp.square(sums[:-1]) / (below[:-1] * (n - below[:-1]))
    distinct = ordered[1:] > ordered[:-1]  # equal scores are on one side
    return jnp.where(distinct.any(), ordered[jnp.argmax(jnp.where(distinct, between, -1.0))], ordered[-1])


def dilate(mask: Array) -> Array:
    """A mask (*spatial,) of bool made larger by one pixel in every direction, diagonals too."""
    return jax.lax.reduce_window(jnp.asarray(mask, bool), False, jax.lax.bitwise_or, (3,) * mask.ndim, (1,) * mask.ndim, 'SAME')


def _outside(image, restored, mask):
    """Mean |image - restored| where `mask` is not; 0 where it is everywhere."""
    error = jnp.abs(image - restored).mean(-1)
    return jnp.where(mask, 0.0, error).sum() / jnp.maximum((~mask).sum(), 1)
