"""Score matching: learning s(x) = grad log p(x), R^d -> R^d, from draws of p.

    explicit     1/2 |s(x) - grad log p(x)|^2                             the Fisher divergence, where the true score is known     (1)
    implicit     1/2 |s(x)|^2 + tr ds/dx                                  equal to (1) in mean, less E 1/2 |grad log p|^2          (2)
    sliced       v ds/dx v + 1/2 (v s(x))^2,    E v v^T = I               equal to (2) in mean over v                              (3)
                 v ds/dx v + 1/2 |s(x)|^2                                 the same, as a rule at less variance
    denoising    1/2 |s(x + sigma z) + z / sigma|^2                       (1) for p blurred by N(0, sigma^2), and a constant       (4)

(2) and (3) need a p that is smooth and vanishes at infinity: data of whole numbers take uniform noise of one level first. (4) learns the
score of blurred data, and its gradient varies as 1 / sigma when the blur is taken away.

NCSN is (4) with weight sigma^2 at a scale drawn from `geometric`, for a network that is told the scale. On the path where time is the noise
itself that is 2 / d of `losses.denoising`, with times drawn from these scales, of kind 'eps', the network's answer being -sigma s:

    losses.denoising(apply, paths.edm(), 'eps', times=lambda key: jax.random.choice(key, geometric(1.0, 0.01, 10)))

Hyvarinen, JMLR 2005 (2); Vincent, Neural Computation 2011 (4); Song, Garg, Shi, Ermon, UAI 2019 (3); Song and Ermon, "Generative modeling
by estimating gradients of the data distribution", NeurIPS 2019 (NCSN), and "Improved techniques", NeurIPS 2020 (`ratio`).
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from jaxdiff.divergence import exact_trace, hutchinson
from jaxdiff.noise import Noise, gaussian, rademacher
from jaxdiff.types import Array, Key

Score = Callable[[Array], Array]  # x -> grad log p(x), of the shape of x, any


def explicit(score: Score, true_score: Score, x: Array) -> Array:
    """(1) at one x; zero where the scores agree."""
    return _half_square(score(x) - true_score(x))


def implicit(score: Score, x: Array) -> Array:
    """(2) at one x. The trace is exact, from the derivatives of s along all d axes, kept at once: for small d."""
    value, trace = exact_trace(score, x)
    return trace + _half_square(value)


def sliced(key: Key, score: Score, x: Array, *, probes: int = 1, noise: Noise = rademacher, variance_reduced: bool = True) -> Array:
    """(3) at one x, the mean over `probes` directions v.

    Args:
        noise: what v is drawn from, (key, shape) -> array of mean 0 and covariance I; on the unit sphere both terms would be 1/d of this.
        variance_reduced: the second line of (3), else the first.
    """
    value, curvature = hutchinson(key, probes, noise=noise)(score, x)
    if variance_reduced:
        return jnp.mean(curvature) + _half_square(value)
    directions = noise(key, (probes, *x.shape)).astype(x.dtype)  # those of the curvature
    return jnp.mean(curvature) + jnp.mean(jnp.square(jax.vmap(lambda v: jnp.sum(v * value))(directions))) / 2


def denoising(key: Key, score: Score, x: Array, sigma: float | Array, *, noise: Noise = gaussian) -> Array:
    """(4) at one x, for one draw of z."""
    z = noise(key, x.shape)
    return _half_square(score(x + sigma * z) + z / sigma)


def geometric(first: float, last: float, levels: int) -> np.ndarray:
    """(levels,) standard deviations from `first`, the largest, to `last`, of constant ratio, float64. NCSN: 1 to 0.01 in 10.

    `first` is best about the largest distance between two examples (Song and Ermon 2020).
    """
    if levels < 2 or not first > last > 0:
        raise ValueError(f'{levels} levels from {first} to {last}: at least 2, from the larger to the smaller above 0')
    return np.geomspace(first, last, levels)


def ratio(size: int) -> float:
    """The ratio r of neighbouring scales for data of `size` elements, such that a scale has seen half of what the one above draws.

    Solves Phi(a + 3 r) - Phi(a - 3 r) = 1/2 with a = sqrt(2 size) (r - 1) (Song and Ermon 2020); below 5 elements no ratio is too large.
    """
    if size < 5:
        raise ValueError(f'no ratio of scales is too large for {size} elements')
    phi = lambda z: math.erfc(-z / math.sqrt(2)) / 2
    low, high = 1.0, 20.0
    for _ in range(60):
        r = (low + high) / 2
        a = math.sqrt(2 * size) * (r - 1)
        low, high = (r, high) if phi(a + 3 * r) - phi(a - 3 * r) > 0.5 else (low, r)
    return high


def _half_square(value: Array) -> Array:
    return jnp.sum(jnp.square(value)) / 2
