"""Healing the latents of an autoencoder (Pinaya et al., "Fast unsupervised brain anomaly detection", MICCAI 2022).

How unlikely a latent z is to a denoiser of healthy ones is told per position by the error of its noise, over a band of middle times,

    l = mean_t mean_c |eps - eps_hat(alpha_t z + sigma_t eps, t)|^2,                                     (1)

the divergence of the model's step from the true one but for a weight of t. Where it exceeds what healthy latents reach at that position,

    m = dilate(l > threshold),                                                                           (2)

the latent is made anew from a middle time, the others being held (`constraints.inpaint`), and decoded. The map counts only what was healed:

    map = |y - decode(healed)| upsample(m).                                                              (3)
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxdiff.constraints import inpaint
from jaxdiff.inversion import image_to_image
from jaxdiff.paths import GaussianPath, perturb
from jaxdiff.predict import convert
from jaxdiff.solvers.loop import Solver
from jaxdiff.tasks.anomaly.finding import Finding, dilate, finding
from jaxdiff.types import Array, Denoiser, Key


def unlikely(key: Key, latent: Array, denoise: Denoiser, *, path: GaussianPath, band: Array, draws: int = 4) -> Array:
    """The map (1) of a latent (*spatial, C), (*spatial,); the mean over the times `band` (n,) above 0 and over `draws` of noise (static)."""

    def error(n):
        t = jnp.asarray(band)[n // draws]
        eps = jax.random.normal(jax.random.fold_in(key, n), latent.shape)
        x = perturb(path, latent, eps, t)
        guess = convert(path, denoise(x, t), x, t, source='x0', target='eps')
        return jnp.square(eps - guess).mean(-1)

    return jax.lax.map(error, jnp.arange(len(band) * draws)).mean(0)


def restore(
    key: Key,
    image: Array,
    denoise: Denoiser,
    encode: Callable[[Array], Array],
    decode: Callable[[Array], Array],
    *,
    path: GaussianPath,
    solver: Solver,
    times: Array,
    band: Array,
    threshold: float | Array,
    draws: int = 4,
    repeats: int = 1,
) -> Finding:
    """One image (*spatial, channels) by (1) to (3), the mean of `repeats` healings (static).

    Its mask is (2) made as large as the image, its `inversion` the autoencoder's own error.

    Args:
        denoise: of latents (*smaller, C).
        encode, decode: between images and latents; what is to be quantised `decode` quantises.
        times: of the healing, falling from its depth to 0.
        threshold: of (2), a number or one per latent position, such as the 97.5th percentile of `unlikely` over healthy validation images.
    """
    ask, heal = jax.random.split(key)
    latent = encode(image)
    mask = dilate(unlikely(ask, latent, denoise, path=path, band=band, draws=draws) > threshold)
    hold = inpaint(path, latent, ~mask[..., None])

    def once(k: Array) -> Array:
        return decode(image_to_image(jax.random.fold_in(heal, k), latent, denoise, path, solver, times, constrain=hold))

    enlarge = lambda method: jax.image.resize(mask.astype(image.dtype), image.shape[:-1], method)
    error = jnp.abs(image - decode(latent)).mean()
    return finding(image, jax.vmap(once)(jnp.arange(repeats)), weight=enlarge('linear'), mask=enlarge('nearest') > 0, inversion=error)
