"""DiffuseRecon: an unconditional walk whose measured frequencies are replaced, averaged over samples, and refined from the average.

    x_s <- x_s + A^+ (alpha_s y + sigma_s A eps_hat - A x_s)        after every step, eps_hat being what the network said at t        (1)
    x_s <- x_s + A^+ (y - A x_s)                                    while refining                                                    (2)

(1) noises the measurement with the network's own eps_hat, so that what is put in agrees with what surrounds it; noise drawn anew leaves streaks.
At s = 0 it puts in y itself. The average of several samples is nearer to the truth than each, but smooth: the last steps of the chain, from the
average as it is, without noise and under (2), give it back what an image has (coarse to fine).

Peng et al., "Towards performant and reliable undersampled MR reconstruction via diffusion model sampling", MICCAI 2022.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from jaxdiff.constraints import consistent
from jaxdiff.operators import Operator
from jaxdiff.paths import GaussianPath
from jaxdiff.predict import convert
from jaxdiff.solvers.ancestral import ddpm
from jaxdiff.solvers.loop import Solver, sample
from jaxdiff.tasks.reconstruction.draws import Posterior, several
from jaxdiff.types import Array, Denoiser, Key


def guided(solver: Solver, path: GaussianPath, operator: Operator, y: Array) -> Solver:
    """`solver` with (1) after every step; its step to data is x0_hat with what was measured put in."""

    def step(key, denoise, memory, x, t, s):
        moved, x0, memory = solver.step(key, denoise, memory, x, t, s)
        eps = convert(path, x0, x, t, source='x0', target='eps')
        wanted = path.alpha(s) * y + path.sigma(s) * operator.forward(eps)
        return moved + operator.pseudo_inverse(wanted - operator.forward(moved)), x0, memory

    return Solver(solver.init, step)


def reconstruct(
    key: Key,
    y: Array,
    operator: Operator,
    denoise: Denoiser,
    *,
    path: GaussianPath,
    times: Array,
    shape: Sequence[int],
    count: int = 8,
    solver: Callable[[GaussianPath], Solver] = ddpm,
) -> Posterior:
    """Samples by (1), with their mean and standard deviation.

    Args:
        y: what `operator.forward` gives, real, without noise.
        operator: A, with a pseudo-inverse: exact, every sample explains y to rounding.
        times: (steps + 1,) from the path's end to 0.
        shape: of an image (*spatial, C).
        count: samples, static. Sample i is that of fold_in(key, i), whatever the count.
    """
    walker = guided(solver(path), path, operator, y)

    def one(key):
        start, walk = jax.random.split(key)
        return sample(walk, path.sigma(times[0]) * jax.random.normal(start, tuple(shape)), denoise, walker, times).x

    return several(one, key, count)


def refine(image: Array, y: Array, operator: Operator, denoise: Denoiser, *, path: GaussianPath, times: Array) -> Array:
    """The average made an image again: `times` (steps + 1,), the last of a chain, walked down to 0 from `image` by DDPM's means and (2).

    The published chain is of 500 steps, of which the last 20 are walked.
    """
    still = ddpm(path, variance=lambda x, t, s: jnp.zeros_like(x))
    hold = consistent(operator.forward, operator.pseudo_inverse, y)
    return sample(jax.random.key(0), image, denoise, still, times, constrain=hold).x  # the key draws nothing that is used
