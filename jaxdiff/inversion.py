"""Ways from an image to its noise and back.

Noising forgets: x_L = alpha_L x0 + sigma_L eps is brought back by any solver, and the later L, the less of the image returns (SDEdit).
Encoding remembers: the deterministic step of DDIM from s down to t, turned round,

    x_s = A x_t + B eps_hat,    A = alpha_s / alpha_t,    B = sigma_s - A sigma_t,                                     (1)

is exact with eps_hat = eps(x_s, s), which only the answer x_s tells. The explicit encoder takes eps(x_t, t) for it, an error of first
order that leaves the latents with too little variance. Iterating eps_hat <- eps(x_s, s) from x_s = x_t finds the inverse of the decoder
wherever (1) is a contraction. The first iteration is the encoder of diffusers, which labels the image with the time it goes to, again of
first order; with 100 steps even in the log-SNR four of them invert the decoder to 1e-5, and twelve to rounding.

Encode without guidance: a guided field is steeper, and its errors larger. Decoding with guidance edits what was encoded, decoding by
another model translates it.

Meng et al., "SDEdit", ICLR 2022; Song, Meng, Ermon, "Denoising diffusion implicit models", ICLR 2021 (1); Pan et al., "Effective real image
editing with accelerated iterative diffusion inversion", ICCV 2023 (fixed points); Su et al., "Dual diffusion implicit bridges", ICLR 2023
(translation); Shoemake, SIGGRAPH 1985 (slerp).
"""

import jax
import jax.numpy as jnp

from jaxdiff.noise import Noise, gaussian
from jaxdiff.paths import GaussianPath, perturb
from jaxdiff.predict import convert
from jaxdiff.solvers.ancestral import ddim
from jaxdiff.solvers.loop import Solver, one_step, sample
from jaxdiff.types import Array, Constraint, Denoiser, Key


def image_to_image(
    key: Key,
    x0: Array,
    denoise: Denoiser,
    path: GaussianPath,
    solver: Solver,
    times: Array,
    *,
    constrain: Constraint | None = None,
    noise: Noise = gaussian,
) -> Array:
    """An image (*spatial, C) noised to times[0] and brought back along `times`, such as `grids.partial(times, depth)`.

    At depth 0 the image returns as it is. On tables depth L is L steps of noise, index L - 1.
    """
    start, walk = jax.random.split(key)
    x = perturb(path, x0, noise(start, x0.shape), times[0])
    return sample(walk, x, denoise, solver, times, constrain=constrain).x


def ddim_encoder(path: GaussianPath, *, iterations: int = 0) -> Solver:
    """The inverse of `ddim(path)`, for grids that increase: explicit with 0 iterations, else (1) iterated, one evaluation each.

    At t = 0 eps is 0 by convention, so that an explicit step from there only scales: begin a little above, or iterate.
    """

    def step(key, denoise, x, t, s):
        scale = path.alpha(s) / path.alpha(t)

        def move(x0, at, time):
            eps = convert(path, x0, at, time, source='x0', target='eps')
            return scale * x + (path.sigma(s) - scale * path.sigma(t)) * eps

        def iterate(_, state):
            x_s, _ = state
            x0 = denoise(x_s, s)
            return move(x0, x_s, s), x0

        if iterations:
            return jax.lax.fori_loop(0, iterations, iterate, (x, x))
        x0 = denoise(x, t)
        return move(x0, x, t), x0

    return one_step(step)


def encode(x: Array, denoise: Denoiser, path: GaussianPath, times: Array, *, iterations: int = 0) -> Array:
    """The latent of x at times[0], where x (*spatial, C) is at times[-1]: `decode` walked backwards, with the options of `ddim_encoder`."""
    return sample(jax.random.key(0), x, denoise, ddim_encoder(path, iterations=iterations), times[::-1]).x


def decode(x: Array, denoise: Denoiser, path: GaussianPath, times: Array) -> Array:
    """x at times[-1] from the latent x (*spatial, C) at times[0], by DDIM without noise. A guided denoiser edits what was encoded."""
    return sample(jax.random.key(0), x, denoise, ddim(path), times).x


def translate(x: Array, source: Denoiser, target: Denoiser, path: GaussianPath, times: Array, *, iterations: int = 0) -> Array:
    """x (*spatial, C) of one model's domain in another's: encoded by `source`, decoded by `target`. Exchange the two to return."""
    return decode(encode(x, source, path, times, iterations=iterations), target, path, times)


def lerp(a: Array, b: Array, weight: float | Array) -> Array:
    """(1 - weight) a + weight b. Between independent latents the middle has 1/sqrt(2) of their norm, and decodes to something blurred."""
    return (1 - weight) * a + weight * b


def slerp(a: Array, b: Array, weight: float | Array) -> Array:
    """From a at weight 0 to b at 1 along the great circle, over the whole array: the norm stays where those of a and b agree.

    Where they are parallel or opposed, |cos| > 0.9995, there is no one circle, and it is `lerp`.
    """
    cos = jnp.vdot(a, b, precision='highest') / (jnp.linalg.norm(a) * jnp.linalg.norm(b))
    straight = ~(jnp.abs(cos) <= 0.9995)  # also where one of the two is 0
    angle = jnp.arccos(jnp.where(straight, 0.0, cos))
    round_ = (jnp.sin((1 - weight) * angle) * a + jnp.sin(weight * angle) * b) / jnp.sin(angle)
    return jnp.where(straight, lerp(a, b, weight), round_)
