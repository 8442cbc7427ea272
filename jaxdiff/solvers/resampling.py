"""Resampling: walks that go back up in time, so that what a constraint imposes and what the denoiser makes of it come to agree.

Where a grid rises, from t to s > t, the path itself moves x, by a draw of the forward transition,

    x_s = alpha_s / alpha_t x + sigma_s sqrt(1 - SNR_s / SNR_t) z,                                                    (1)

and the denoiser is not called; elsewhere a solver does. RePaint is `ddpm` wrapped so, along `grids.repaint`, with the constraint
`inpaint`: known voxels are noised afresh at every level the walk comes to, and the others hear of them once more each time they come
back down. Each return costs evaluations and forgets only what lies within the jump, so that with few the others follow their conditional law
the worse, the longer their correlations. In the limit of many returns their mean is right, and their spread where each step down has
the exact variance of the reverse process (`variance.optimal`): that of DDPM is too small, and the more returns, the more it shrinks them.

Lugmayr et al., "RePaint", CVPR 2022.
"""

import jax

from jaxdiff.noise import Noise, gaussian
from jaxdiff.paths import GaussianPath, transition
from jaxdiff.solvers.loop import Solver


def resampling(path: GaussianPath, solver: Solver, *, noise: Noise = gaussian) -> Solver:
    """`solver` where the grid falls, the forward move (1) where it rises; only one of the two is evaluated.

    `noise` draws z, as the denoiser learnt it.

    After a move up x0_hat is still that of the last step down, and the solver begins anew, since what it remembers belongs to an x that is
    no more: a multistep method pays for its start again after every jump.
    """

    def step(key, denoise, memory, x, t, s):
        def up(inner, x0):
            scale, std = transition(path, t, s)
            moved = (scale * x + std * noise(key, x.shape)).astype(x.dtype)
            return moved, x0, solver.init(moved)

        def down(inner, x0):
            moved, x0, inner = solver.step(key, denoise, inner, x, t, s)
            return moved.astype(x.dtype), x0.astype(x.dtype), inner

        moved, x0, inner = jax.lax.cond(s > t, up, down, *memory)
        return moved, x0, (inner, x0)

    return Solver(lambda x: (solver.init(x), x), step)
