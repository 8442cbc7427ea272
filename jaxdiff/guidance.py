"""Guidance: a denoiser made from denoisers.

    classifier-free    D = (1 - w) D(null) + w D(condition):    w = 0 unconditional, 1 conditional, above 1 guided         (1)
    static threshold   D = clip(D, low, high)                                                                               (2)
    dynamic threshold  D = clip(D, -c, c) / c * limit,    c = max(limit, a high quantile of |D|)                            (3)

(1) in x0_hat equals (1) in eps, v or score at the same x and t, since all are linear in x0_hat. Papers that write 1 + w' mean w = 1 + w'.
A threshold goes outermost: solvers derive the noise anew from the x0_hat they are given.

(1) Ho and Salimans, 2022; (3) Saharia et al., "Imagen", NeurIPS 2022; interval: Kynkaanniemi et al., NeurIPS 2024.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxdiff.types import Array, Denoiser, Time


def classifier_free(
    conditioned: Callable[[Any], Denoiser], condition: Any, null: Any, weight: float | Array | Callable[[Time], Array]
) -> Denoiser:
    """Classifier-free guidance (1) in one evaluation of two examples.

    Args:
        conditioned: condition -> denoiser, such as `lambda label: as_denoiser(apply, path, 'v', label=label)`.
        condition, null: trees of arrays of the same shapes.
        weight: w, or a function of t.
    """
    both = jax.tree.map(lambda a, b: jnp.stack([jnp.asarray(a), jnp.asarray(b)]), null, condition)

    def denoise(x, t):
        free, bound = jax.vmap(lambda condition: conditioned(condition)(x, t))(both)
        w = weight(t) if callable(weight) else weight
        return (1 - w) * free + w * bound  # exact at w = 0 and w = 1

    return denoise


def interval(inside: Denoiser, outside: Denoiser, low: float | Array, high: float | Array) -> Denoiser:
    """`inside` at times low < t <= high and `outside` elsewhere; only one of the two is evaluated."""
    return lambda x, t: jax.lax.cond((low < t) & (t <= high), inside, outside, x, t)


def static_threshold(denoise: Denoiser, low: float | Array = -1.0, high: float | Array = 1.0) -> Denoiser:
    """Clip x0_hat to the range of the data (2)."""
    return lambda x, t: jnp.clip(denoise(x, t), low, high)


def dynamic_threshold(denoise: Denoiser, quantile: float | Array = 0.995, limit: float | Array = 1.0) -> Denoiser:
    """Scale x0_hat back to [-limit, limit] where more than 1 - quantile of its elements leave it (3)."""

    def thresholded(x, t):
        x0 = denoise(x, t)
        bound = jnp.maximum(jnp.quantile(jnp.abs(x0), quantile), limit)
        return jnp.clip(x0, -bound, bound) * (limit / bound)

    return thresholded
