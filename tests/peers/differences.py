"""Where a peer answers otherwise, and by how much: figures against closed forms, of the peer and of this library.

Networks are exact, so that what is off is the sampler. Where nothing else is said the data are N(0, 1/4) and x starts one standard
deviation out, from where the exact flow ends one standard deviation out, at 1/2. `theirs` imports torch, `ours` does not.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import oracles
from cases import T
from orders import compiled, our_stochastic_step, our_third_order, their_stochastic_step, their_third_order, walk
from walks import ABAR, PATHS

from jaxdiff import grids
from jaxdiff.solvers.ancestral import ddim, ddpm
from jaxdiff.solvers.multistep import pndm
from jaxdiff.solvers.unipc import unipc

LINEAR, STD = PATHS['linear'], 0.5


class Difference(NamedTuple):
    """A figure of a peer and of ours as functions of one argument.

    Attributes:
        peer, what: who, and what is compared. measure: what the figures are; heading: what the argument is.
        over: the arguments.
        theirs, ours: argument -> figure.
    """

    peer: str
    what: str
    measure: str
    heading: str
    over: tuple[float, ...]
    theirs: Callable[[float], float]
    ours: Callable[[float], float]


def spread(index: int, std: float = STD) -> float:
    """Standard deviation at an index of the table of data N(0, std^2)."""
    return float(np.sqrt(ABAR['linear'][index] * std**2 + 1 - ABAR['linear'][index]))


def peer_walk(scheduler, steps, x=None, std=STD, **stepping):
    """Where a peer's scheduler of that many steps takes x, told the exact noise."""
    import torch

    scheduler.set_timesteps(steps)
    timesteps = scheduler.timesteps.tolist()
    x = torch.full((1, 1, 1, 1), spread(timesteps[0], std)) if x is None else x
    for t in timesteps:
        eps = np.sqrt(1 - ABAR['linear'][t]) / spread(t, std) ** 2 * x
        moved = scheduler.step(eps, t, x, **stepping)
        x = moved[0] if isinstance(moved, tuple) else moved.prev_sample
    return x


GAUSSIAN = oracles.denoiser(LINEAR, oracles.Mixture((1.0,), (0.0,), (STD,)))
DDIM, DDPM = (compiled(solver(LINEAR), GAUSSIAN) for solver in (ddim, ddpm))
NOTHING = compiled(ddpm(LINEAR, variance='large'), lambda x, t: jnp.zeros_like(x))  # the data are all 0
PNDM = compiled(pndm(LINEAR), GAUSSIAN)


def our_ddim(grid):
    def error(steps):
        times = np.asarray(grid(T, steps))
        return float(walk(DDIM, jnp.float32(spread(int(times[0]) - 1)), times)[-1]) / STD - 1

    return error


def their_ddim(spacing):
    def error(steps):
        from diffusers import DDIMScheduler

        return float(peer_walk(DDIMScheduler(timestep_spacing=spacing, clip_sample=False), steps)) / STD - 1

    return error


def monai_ddim(steps):
    from monai.networks.schedulers import DDIMScheduler

    return float(peer_walk(DDIMScheduler(clip_sample=False), steps)) / STD - 1


def monai_pndm(steps):
    from monai.networks.schedulers import PNDMScheduler

    return float(peer_walk(PNDMScheduler(), steps)) / STD - 1


def our_pndm(steps):
    x, times = jnp.float32(spread(T - T // steps)), np.asarray(grids.leading(T, steps))
    return float(walk(PNDM, x, times, pndm(LINEAR).init(x))[-1]) / STD - 1


def their_unipc(steps):
    from diffusers import UniPCMultistepScheduler

    return float(peer_walk(UniPCMultistepScheduler(solver_type='bh1'), steps)) / STD - 1


def our_unipc(steps):
    solver = unipc(LINEAR, b='bh1')
    times = np.append(np.round(np.linspace(0, T - 1, steps + 1))[:0:-1] + 1, 0)
    x = jnp.float32(spread(T - 1))
    return float(walk(compiled(solver, GAUSSIAN), x, times, solver.init(x))[-1]) / STD - 1


def monai_ddpm(steps):
    import torch
    from monai.networks.schedulers import DDPMScheduler

    start, noise = (torch.Generator().manual_seed(seed) for seed in (0, 1))
    x = torch.randn(1, 1, 1, 20000, generator=start)
    return float(peer_walk(DDPMScheduler(clip_sample=False), steps, x, generator=noise).std())


def our_ddpm(steps):
    return float(walk(DDPM, jax.random.normal(jax.random.key(0), (20000,)), np.asarray(grids.linspace(T, steps)))[-1].std())


def their_last_noise(steps):
    import torch
    from diffusers import DDPMScheduler

    start, noise = (torch.Generator().manual_seed(seed) for seed in (0, 1))
    scheduler = DDPMScheduler(timestep_spacing='trailing', variance_type='fixed_large', clip_sample=False)
    return float(peer_walk(scheduler, steps, torch.randn(1, 1, 1, 20000, generator=start), std=0.0, generator=noise).std())


def our_last_noise(steps):
    return float(walk(NOTHING, jax.random.normal(jax.random.key(0), (20000,)), np.asarray(grids.trailing(T, steps)))[-1].std())


DIFFERENCES = {
    'ddim linspace': Difference(
        'diffusers',
        "`DDIMScheduler(timestep_spacing='linspace')`",
        'Relative error of the end of a DDIM walk through the same timesteps',
        'steps',
        (20, 50, 150, 300, 600),
        their_ddim('linspace'),
        our_ddim(grids.linspace),
    ),
    'ddim trailing': Difference(
        'diffusers',
        "`DDIMScheduler(timestep_spacing='trailing')` where the steps do not divide T",
        'As above',
        'steps',
        (20, 50, 150, 300, 600),
        their_ddim('trailing'),
        our_ddim(grids.trailing),
    ),
    'monai ddim': Difference(
        'MONAI', '`DDIMScheduler()`', 'As above', 'steps', (20, 50, 150, 300, 600), monai_ddim, our_ddim(grids.linspace)
    ),
    'monai ddpm': Difference(
        'MONAI',
        '`DDPMScheduler` with fewer steps than T',
        'Standard deviation of 20000 draws, 0.5 if exact',
        'steps',
        (50, 100, 500, 1000),
        monai_ddpm,
        our_ddpm,
    ),
    'last noise': Difference(
        'diffusers',
        "`DDPMScheduler(timestep_spacing='trailing', variance_type='fixed_large')`",
        'Standard deviation of 20000 draws where every datum is 0',
        'steps',
        (10, 50, 100),
        their_last_noise,
        our_last_noise,
    ),
    'monai pndm': Difference('MONAI', '`PNDMScheduler()`', 'Relative error of the end', 'steps', (10, 20, 50, 100), monai_pndm, our_pndm),
    'third order': Difference(
        'diffusers',
        '`DPMSolverMultistepScheduler(solver_order=3)`',
        'Root mean square error of the flow of a mixture, down to the first index',
        'steps',
        (20, 40, 80, 160),
        their_third_order,
        our_third_order(),
    ),
    'stochastic third order': Difference(
        'diffusers',
        "`DPMSolverMultistepScheduler(algorithm_type='sde-dpmsolver++', solver_order=3)` against our second order",
        'Error of the mean of one step of length h in lambda where x0_hat = lambda^2',
        'h',
        (0.4, 0.2, 0.1, 0.05),
        their_stochastic_step,
        our_stochastic_step,
    ),
    'bh1': Difference(
        'diffusers', "`UniPCMultistepScheduler(solver_type='bh1')`", 'Relative error of the end', 'steps', (10, 20), their_unipc, our_unipc
    ),
}
