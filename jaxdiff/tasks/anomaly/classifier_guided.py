"""Encoding, then decoding guided by a classifier (Wolleb et al., "Diffusion models for medical anomaly detection", MICCAI 2022).

    x_L = encode(y) without guidance,        r = decode(x_L),    eps = eps_hat - s sigma_t grad log p(healthy | x_t, t)      (1)

The deterministic walk remembers what the classifier does not object to. `Finding.inversion` says how well: the error of decoding
without guidance, to be far below the contrast of a lesion.
"""

import jax.numpy as jnp

from jaxdiff.guidance import LogLikelihood, Weight, energy
from jaxdiff.inversion import decode, encode
from jaxdiff.paths import GaussianPath
from jaxdiff.tasks.anomaly.finding import Finding, finding
from jaxdiff.types import Array, Denoiser


def restore(
    image: Array,
    denoise: Denoiser,
    log_likelihood: LogLikelihood,
    *,
    path: GaussianPath,
    times: Array,
    scale: Weight = 1.0,
    iterations: int = 0,
) -> Finding:
    """One image (*spatial, channels) in [-1, 1] by (1). Nothing is drawn.

    Args:
        denoise: without a class.
        log_likelihood: of health, such as `guidance.class_log_likelihood(classifier, path, healthy)`.
        times: fall from L to near 0, see `inversion.ddim_encoder`, as do `iterations`.
        scale: s of (1).
    """
    latent = encode(image, denoise, path, times, iterations=iterations)
    restored = decode(latent, energy(denoise, path, log_likelihood, scale), path, times)
    error = jnp.abs(image - decode(latent, denoise, path, times)).mean()
    return finding(image, restored[None], inversion=error)
