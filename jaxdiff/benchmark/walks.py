"""Every solver that walks a grid of times, and how often it calls the network on the way."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxdiff import grids
from jaxdiff.paths import GaussianPath
from jaxdiff.solvers import langevin, named, reverse_sde, runge_kutta
from jaxdiff.solvers.ancestral import ddpm
from jaxdiff.solvers.churn import churn
from jaxdiff.solvers.consistency import consistency
from jaxdiff.solvers.loop import Solver, sample
from jaxdiff.solvers.multistep import s_pndm
from jaxdiff.solvers.resampling import resampling
from jaxdiff.types import Array

SOLVERS: dict[str, Callable[[GaussianPath], Solver]] = {
    **named.SOLVERS,
    's_pndm': s_pndm,
    'milstein': reverse_sde.milstein,
    'stochastic_heun': reverse_sde.heun,
    'sra1': reverse_sde.sra1,
    'reverse_diffusion': reverse_sde.reverse_diffusion,
    'churn': lambda path: churn(path, runge_kutta.heun(path, clock='sigma'), amount=0.02),
    'annealed_langevin': langevin.annealed_langevin,
    'predictor_corrector': lambda path: langevin.predictor_corrector(
        reverse_sde.reverse_diffusion(path), langevin.langevin_corrector(path)
    ),
    'resampling': lambda path: resampling(path, ddpm(path)),
    'consistency': lambda path: consistency(path, grids.last_time(path)),
}
_TWICE = lambda times: langevin.repeat(times, 1)
_MEANT = {'annealed_langevin': _TWICE, 'predictor_corrector': _TWICE, 'resampling': lambda times: grids.repaint(times, len(times) // 4, 2)}


def grid(name: str, path: GaussianPath, steps: int) -> Array:
    """The path's default grid of so many steps, with the visits and returns that the solver of this name is meant for."""
    times = grids.default(path, steps)
    return _MEANT[name](times) if name in _MEANT else times


def network_calls(solver: Solver, times: Array) -> int:
    """Evaluations of the denoiser in one walk along `times`, counted while a compiled one runs."""
    count = 0

    def tell():
        nonlocal count
        count += 1

    def denoise(x, t):
        jax.debug.callback(tell)
        return x / 2

    walk = jax.jit(lambda x, times: sample(jax.random.key(0), x, denoise, solver, times).x)
    jax.block_until_ready(walk(jnp.ones(1), times))
    jax.effects_barrier()
    return count
