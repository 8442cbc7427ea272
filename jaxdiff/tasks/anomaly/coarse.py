"""A denoiser of coarse noise, asked once (Kascenas et al., "Denoising autoencoders", MIDL 2022; "The role of noise", MedIA 2023).

It learnt to remove `noise.coarse` at one time t, and is given the image itself as if it were noised:

    r = E[x0 | x_t = alpha_t y],        map = |y - r|                                                    (1)

where there is signal; the background, of which it learnt nothing, returns as it is. What is a lesion looks to it like noise of the size it
learnt. The diffusion variant is `partial.restore` with `noise.coarse`.
"""

from collections.abc import Callable

import jax.numpy as jnp

from jaxdiff.noise import Noise
from jaxdiff.paths import GaussianPath
from jaxdiff.tasks.anomaly.finding import Finding, finding
from jaxdiff.types import Array, Denoiser, Key, Time

DARK = -0.98  # what is darker in every channel is background, and stays as it is


def restore(image: Array, denoise: Denoiser, *, path: GaussianPath, time: Time) -> Finding:
    """One image (*spatial, channels) by (1), `time` being that whose noise the denoiser learnt. Nothing is drawn."""
    answer = denoise(path.alpha(time) * image, time)
    return finding(image, jnp.where(seen(image), answer, image)[None])


def seen(image: Array) -> Array:
    """Where an image (*spatial, C) in [-1, 1] has signal, (*spatial, 1) of bool."""
    return image.max(-1, keepdims=True) > DARK


def spoil(path: GaussianPath, time: Time, noise: Noise) -> Callable[[Key, Array], tuple[Array, Time, Array]]:
    """What the denoiser learns from: x_t with noise where the image (*spatial, C) in [-1, 1] has signal, t, and where it does, (*spatial, 1)."""

    def spoilt(key: Key, x0: Array) -> tuple[Array, Time, Array]:
        signal = seen(x0).astype(x0.dtype)
        return path.alpha(time) * x0 + path.sigma(time) * signal * noise(key, x0.shape), time, signal

    return spoilt
