"""Solvers by the names that scripts know them by, and the one to take where nothing else is asked for."""

from collections.abc import Callable
from functools import partial

from jaxdiff import grids
from jaxdiff.paths import GaussianPath
from jaxdiff.solvers.adams import adams
from jaxdiff.solvers.ancestral import ddim, ddpm
from jaxdiff.solvers.dpm_solver import dpmpp, sde_dpmpp
from jaxdiff.solvers.loop import Solver
from jaxdiff.solvers.multistep import plms, pndm
from jaxdiff.solvers.reverse_sde import euler_maruyama
from jaxdiff.solvers.runge_kutta import euler, heun, midpoint, rk4
from jaxdiff.solvers.unipc import unipc
from jaxdiff.types import Array

STEPS = 20
SOLVERS: dict[str, Callable[[GaussianPath], Solver]] = {
    'adams': adams,
    'heun': heun,
    'euler': euler,
    'midpoint': midpoint,
    'rk4': rk4,
    'ddim': ddim,
    'pndm': pndm,
    'plms': plms,
    'dpmpp_2m': dpmpp,
    'dpmpp_3m': partial(dpmpp, order=3),
    'unipc': partial(unipc, order=3),
    'ddpm': ddpm,
    'sde_dpmpp_2m': sde_dpmpp,
    'euler_maruyama': euler_maruyama,
}
_CALLS = {
    'heun': lambda steps: 2 * steps - 1,
    'midpoint': lambda steps: 2 * steps - 1,
    'rk4': lambda steps: 4 * steps - 3,
    'pndm': lambda steps: steps + 3 * min(steps - 1, 3),
    'plms': lambda steps: steps + min(steps - 1, 1),
}


def calls(name: str, steps: int) -> int:
    """Evaluations of the denoiser by the solver of this name, on a grid of so many steps down to data."""
    return _CALLS.get(name, lambda steps: steps)(steps)


def usual(path: GaussianPath, solver: Solver | None = None, times: Array | None = None) -> tuple[Solver, Array]:
    """The solver and the grid, each of them, where there is none, the one to take: `adams`, over `STEPS` steps of `grids.default`."""
    return solver or adams(path), grids.default(path, STEPS) if times is None else times
