"""How solvers converge to the exact probability flow of the test-bed, and what they cost: shared by the tests of this folder."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import oracles

from jaxdiff import grids
from jaxdiff.solvers.loop import sample

STEPS = np.array([10, 20, 40, 80, 160, 320])


def errors(path, solver, grid, count=2000):
    """RMSE at STEPS of the walk from the path's end to a thousandth of it, in one compilation; to be called in float64."""
    denoise, times, (x, exact) = oracles.denoiser(path, oracles.TEST_BED), grid(path), _exact(path, count)
    walk = lambda times: sample(jax.random.key(0), x, denoise, solver, times, trace=lambda i, x, x0: x).trace
    rmse = lambda times, n: jnp.sqrt(jnp.mean((walk(times)[n - 1] - exact) ** 2))
    return np.asarray(jax.jit(jax.vmap(rmse))(times, STEPS))


def orders(rmse):
    return np.log2(rmse[:-1] / rmse[1:])


@functools.cache
def _exact(path, count):
    """Starts, and where the flow takes them."""
    x = path.sigma(path.end) * jax.random.normal(jax.random.key(0), (count,))
    carry = lambda x: oracles.flow(path, oracles.denoiser(path, oracles.TEST_BED), x, path.end, 1e-3 * path.end, 2000)
    return x, jax.jit(carry)(x)


def _padded(grid):
    """path -> times (6, 321), float64: shorter grids are filled up with their last time."""
    return functools.cache(lambda path: np.array([np.pad(grid(path, n), (0, STEPS[-1] - n), mode='edge') for n in STEPS]))


uniform = _padded(lambda path, n: grids.uniform(path, n, last=1e-3 * path.end))
log_snr = _padded(lambda path, n: grids.log_snr(path, n, last=1e-3 * path.end, zero=False))
karras = _padded(lambda path, n: grids.karras(path, n, last=1e-3 * path.end, zero=False))


def evaluations(path, solver, steps):
    """How often a walk of so many steps to data evaluates the denoiser."""
    calls = []

    def denoise(x, t):
        jax.debug.callback(lambda: calls.append(0))
        return 0.5 * x

    walk = jax.jit(lambda x: sample(jax.random.key(0), x, denoise, solver, grids.uniform(path, steps)).x)
    jax.block_until_ready(walk(jnp.ones(3)))
    jax.effects_barrier()
    return len(calls)
