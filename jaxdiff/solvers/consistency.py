"""Consistency models: one call takes any point of the probability flow to where the flow ends.

With l the last time above data, f(x, t) is the point at l of the flow through x at t, so that f(x, l) = x. Any denoiser becomes a function
that keeps this exactly, by one step of DDIM to l,

    f = alpha_l x0_hat + sigma_l eps_hat                                                                             (1)

or, with s = sigma / alpha, e = s(l) and data of standard deviation d, by

    f / alpha_l = c_skip x / alpha + c_out F,    c_skip = d^2 / ((s - e)^2 + d^2),    c_out = d (s - e) / sqrt(s^2 + d^2),        (2)

where F is what Karras et al. have a network predict, x0_hat = d^2 / (s^2 + d^2) x / alpha + s d / sqrt(s^2 + d^2) F. The share of x0_hat is
1 - e / s in both, and what they give x differs by a part of the order of e. Several steps return to noise in between (their algorithm 1),

    x_s ~ q(x_s | x_l = f(x, t)).                                                                                    (3)

Song, Dhariwal, Chen, Sutskever, "Consistency models", ICML 2023 (2, 3); Kim et al., "Consistency trajectory models", ICLR 2024 (1); Karras
et al., NeurIPS 2022.
"""

import jax.numpy as jnp

from jaxdiff.noise import gaussian
from jaxdiff.paths import GaussianPath, perturb, transition
from jaxdiff.predict import convert
from jaxdiff.solvers.loop import Solver, one_step
from jaxdiff.types import Array, Denoiser, Time


def jump(path: GaussianPath, x0: Array, x: Array, t: Time, s: Time) -> Array:
    """The step of DDIM from x at t to s, given x0_hat: the noise that is left is the noise that was there."""
    return perturb(path, x0, convert(path, x0, x, t, source='x0', target='eps'), s)


def consistent(path: GaussianPath, denoise: Denoiser, last: Time, *, std: float | Array | None = None) -> Denoiser:
    """A denoiser as f: (x, t) -> x at the time `last`, by (1), or with the data's `std` by (2). At t <= last it returns x, exactly."""

    def f(x, t):
        inner = jnp.maximum(t, last)
        x0 = denoise(x, inner)
        moved = jump(path, x0, x, inner, last) if std is None else path.alpha(last) * _scaled(path, x0, x, inner, last, std)
        return jnp.where(t <= last, x, moved)

    return f


def consistency(path: GaussianPath, last: Time) -> Solver:
    """Multistep sampling (3) of a consistency function, given as the denoiser: `consistent`, with the same `last`. One evaluation a step.

    A step to any s <= last returns f(x, t). Noise is drawn at every other time of the grid, so a few times are enough.
    """

    def step(key, denoise, x, t, s):
        end = denoise(x, t)
        scale, std = transition(path, last, jnp.maximum(s, last))
        return jnp.where(s > last, scale * end + std * gaussian(key, x.shape), end), end

    return one_step(step)


def _scaled(path, x0, x, t, last, std) -> Array:
    """(2) from x0_hat; everything is multiplied by alpha^2 so that alpha may be 0."""
    alpha, sigma, e = path.alpha(t), path.sigma(t), path.sigma(last) / path.alpha(last)
    data, share = jnp.square(std * alpha), 1 - e * alpha / sigma
    skip = 1 / (jnp.square(sigma - e * alpha) + data) - share / (jnp.square(sigma) + data)
    return share * x0 + jnp.square(std) * alpha * skip * x
