"""Posterior samples of an image x from a measurement y = A x + n, by a denoiser that was trained without knowing A.

Three ways to lead it, all approximations of p(x | y), which no closed form gives at noisy times:

    dps     x_s <- x_s - zeta grad |y - A x0_hat|        a gradient through the network at every step                      (1)
    ddnm    x0_hat <- x0_hat + A^+ (y - A x0_hat)        what was measured is put in its place; exact data, n = 0          (2)
    dds     x0_hat <- argmin w |y - A x|^2 + |x - x0_hat|^2        a few conjugate gradients, for any A and for noise      (3)

In (3), w = r_t^2 / noise^2, the doubt r_t^2 = sigma^2 / (alpha^2 + sigma^2) about data of variance 1 over the variance of n: the measurement
counts less as the denoiser knows more. Without noise w is large, and (3) is (2) where A A^+ A = A.

(2) and (3) walk, from the x0_hat' that they found and the denoiser's own eps_hat = (x - alpha_t x0_hat) / sigma_t, by

    x_s = alpha_s x0_hat' + sigma_s (eta z + sqrt(1 - eta^2) eps_hat)        z fresh, as published                      (4)

which replaces a share eta^2 of all noise at every step, however short: good for what lies between the measured, but not a walk whose steps
may go to 0. What was not measured loses variance as steps grow in number: of independent elements of variance 1 it tends to
eta^2 / (2 (1 - sqrt(1 - eta^2))), .76 for .85. `ancestral=True` is DDIM with eta times the noise of the ancestral step and eps made anew from
x0_hat', which for eta = 1 draws such elements exactly, and reconstructs phantoms less well.

Samples differ where y says nothing, and their standard deviation tells where; it is to be calibrated (`metrics.calibration`) before anybody
relies on it.

(1) Chung et al., "Diffusion posterior sampling", ICLR 2023; (2) Wang, Yu, Zhang, "DDNM", ICLR 2023; (3) Chung, Lee, Ye, "Decomposed diffusion
sampler for accelerating large-scale inverse problems", ICLR 2024.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from jaxdiff import guidance
from jaxdiff.operators import Operator
from jaxdiff.paths import GaussianPath
from jaxdiff.predict import convert
from jaxdiff.solvers.ancestral import ddim, ddpm
from jaxdiff.solvers.loop import Solver, one_step, sample
from jaxdiff.tasks.reconstruction.draws import Posterior, several
from jaxdiff.types import Array, Denoiser, Key

Lead = Callable[[Denoiser], Denoiser]

ETA = 0.85
EXACT = 1e4  # w of (3) without noise: a residual of one part in 10^4, less at every step


def dps(
    key: Key,
    y: Array,
    operator: Operator,
    denoise: Denoiser,
    *,
    path: GaussianPath,
    times: Array,
    shape: Sequence[int],
    zeta: float | Array = 1.0,
    count: int = 4,
) -> Posterior:
    """By (1), along DDPM's steps, of which it wants hundreds.

    Args:
        y: what `operator.forward` gives, real: `operators.on_channels` makes an operator of real arrays from one of complex.
        operator: A; its adjoint is not used, and it need not be linear.
        times: (steps + 1,) from the path's end to 0.
        shape: of an image (*spatial, C).
        zeta: how far each step goes down the residual, to be tuned on other images: .3 to 10.
        count: samples, static. Sample i is that of fold_in(key, i), whatever the count.
    """
    led = guidance.residual(denoise, operator.forward, y, guidance.per_step(path, times, zeta))
    return _drawn(key, led, ddpm(path), path, times, shape, count)


def ddnm(
    key: Key,
    y: Array,
    operator: Operator,
    denoise: Denoiser,
    *,
    path: GaussianPath,
    times: Array,
    shape: Sequence[int],
    eta: float | Array = ETA,
    ancestral: bool = False,
    count: int = 4,
) -> Posterior:
    """By (2), for measurements without noise: with an exact pseudo-inverse every sample explains y to rounding.

    Args:
        eta: of (4), 0 to 1: how much of the noise is fresh.
        ancestral: eta times the noise of the ancestral step, in place of (4). Others as for `dps`.
    """
    lead = lambda denoise: guidance.project_x0(denoise, operator.forward, operator.pseudo_inverse, y)
    return _drawn(key, *_walk(denoise, lead, path, eta, ancestral), path, times, shape, count)


def dds(
    key: Key,
    y: Array,
    operator: Operator,
    denoise: Denoiser,
    *,
    path: GaussianPath,
    times: Array,
    shape: Sequence[int],
    noise: float = 0.0,
    steps: int = 5,
    eta: float | Array = ETA,
    ancestral: bool = False,
    count: int = 4,
) -> Posterior:
    """By (3); `noise` is the standard deviation of n per real number, static, `steps` are the conjugate gradients. Others as for `ddnm`."""

    def weight(t):
        doubt = jnp.square(path.sigma(t)) / (jnp.square(path.alpha(t)) + jnp.square(path.sigma(t)))
        return doubt / noise**2 if noise else EXACT

    lead = lambda denoise: guidance.proximal_x0(denoise, operator, y, weight, steps=steps)
    return _drawn(key, *_walk(denoise, lead, path, eta, ancestral), path, times, shape, count)


def _walk(denoise: Denoiser, lead: Lead, path: GaussianPath, eta: float | Array, ancestral: bool) -> tuple[Denoiser, Solver]:
    return (lead(denoise), ddim(path, eta=eta)) if ancestral else (denoise, renewed(path, lead, eta))


def renewed(path: GaussianPath, lead: Lead, eta: float | Array) -> Solver:
    """The steps (4), for the denoiser that `lead` is yet to be applied to."""

    def step(key, denoise, x, t, s):
        x0 = denoise(x, t)
        eps = convert(path, x0, x, t, source='x0', target='eps')
        found = lead(lambda x, t: x0)(x, t)
        noise = eta * jax.random.normal(key, x.shape) + jnp.sqrt(1 - jnp.square(eta)) * eps
        return path.alpha(s) * found + path.sigma(s) * noise, found

    return one_step(step)


def _drawn(key: Key, led: Denoiser, solver: Solver, path: GaussianPath, times: Array, shape: Sequence[int], count: int) -> Posterior:
    def one(key: Key) -> Array:
        start, walk = jax.random.split(key)
        return sample(walk, path.sigma(times[0]) * jax.random.normal(start, tuple(shape)), led, solver, times).x

    return several(one, key, count)
