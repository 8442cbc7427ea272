"""Encoding without a class, then decoding guided to the healthy one (Sanchez et al., "What is healthy?", DGM4MICCAI 2022).

    x_L = encode(y) under null,        r = decode(x_L),    x0_hat = N((1 - w) D(null) + w D(healthy))                (1)

N, dynamic normalisation, clips x0_hat at a high quantile of its size and divides by it where that exceeds 1: guidance drives x0_hat out of
the range of images. `Finding.inversion` is the error of decoding under null.
"""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from jaxdiff.guidance import Weight, classifier_free, dynamic_threshold
from jaxdiff.inversion import decode, encode
from jaxdiff.paths import GaussianPath
from jaxdiff.tasks.anomaly.finding import Finding, finding
from jaxdiff.types import Array, Denoiser


def restore(
    image: Array,
    conditioned: Callable[[Any], Denoiser],
    healthy: Any,
    null: Any,
    *,
    path: GaussianPath,
    times: Array,
    weight: Weight = 3.0,
    quantile: float | None = 0.99,
    iterations: int = 0,
) -> Finding:
    """One image (*spatial, channels) in [-1, 1] by (1). Nothing is drawn.

    Args:
        conditioned, healthy, null: as `guidance.classifier_free` takes them.
        times: fall from L to near 0, see `inversion.ddim_encoder`, as do `iterations`.
        weight: w of (1).
        quantile: of |x0_hat|, of each channel; None leaves out N.
    """
    free = conditioned(null)
    guided = classifier_free(conditioned, healthy, null, weight)
    if quantile is not None:
        guided = dynamic_threshold(guided, quantile, axis=tuple(range(image.ndim - 1)))
    latent = encode(image, free, path, times, iterations=iterations)
    error = jnp.abs(image - decode(latent, free, path, times)).mean()
    return finding(image, decode(latent, guided, path, times)[None], inversion=error)
