"""DPM-Solver++: multistep methods that extrapolate x0_hat over lambda = log(alpha / sigma), one evaluation a step.

The flow is that of `exponential`, with the polynomial through the last one, two or three x0_hat. Of first order it is DDIM. The 2M of the
paper holds the extrapolation to the middle of the step constant ('bh2' there), or integrates it exactly. For 3M the sums in use elsewhere
take half the second derivative and so are of second order; `peer_compat` does as they do.

The stochastic version draws from the bridge (`paths.bridge`) with x0_hat extrapolated to the middle of the step; of first order it is DDPM.

Lu et al., "DPM-Solver++: fast solver for guided sampling of diffusion probabilistic models", 2022.
"""

import jax.numpy as jnp

from jaxdiff.noise import gaussian
from jaxdiff.paths import GaussianPath, bridge
from jaxdiff.solvers.exponential import SLOPES, advance, blank, half_log_snr, mix, remember, weights
from jaxdiff.solvers.loop import Solver

VARIANTS = {'midpoint': SLOPES['bh2'], 'heun': SLOPES['exact']}


def dpmpp(path: GaussianPath, order: int = 2, *, variant: str = 'midpoint', peer_compat: bool = False) -> Solver:
    """DPM-Solver++ of order 1, 2 (2M) or 3 (3M); its first steps are of orders 1, 2, ..., that to data of order 1.

    Args:
        variant: 'midpoint' or 'heun', how steps of second order integrate.
        peer_compat: for 3M, the coefficients of other libraries, of second order.

    Raises ValueError for other orders and variants.
    """
    _check(order, 3)
    if variant not in VARIANTS:
        raise ValueError(f'unknown variant {variant!r}: one of {", ".join(VARIANTS)}')

    def step(key, denoise, history, x, t, s):
        x0, here, there = denoise(x, t), half_log_snr(path, t), half_log_snr(path, s)
        offsets = [node - here for node in (here, *history.nodes)]
        w = weights(there - here, offsets, history.count + 1, VARIANTS[variant], half=peer_compat)
        moved = advance(path, x, mix(w, (x0, *history.values)), x0, t, s)
        return moved, x0, remember(history, here, x0)

    return Solver(lambda x: blank(order - 1, x), step)


def sde_dpmpp(path: GaussianPath, order: int = 2) -> Solver:
    """The stochastic DPM-Solver++ of order 1, which is DDPM with its small variance, or 2 (SDE-2M); ValueError for another."""
    _check(order, 2)

    def step(key, denoise, history, x, t, s):
        x0, here, there = denoise(x, t), half_log_snr(path, t), half_log_snr(path, s)
        middle = x0
        if order == 2:
            gap = here - history.nodes[0]
            reach = jnp.where((history.count > 0) & (gap > 0), (there - here) / 2 / jnp.where(gap > 0, gap, 1.0), 0.0)
            middle = x0 + reach * (x0 - history.values[0])
        mean, std = bridge(path, middle, x, t, s)
        moved = jnp.where(path.sigma(s) > 0, mean + std * gaussian(key, x.shape), x0)
        return moved, x0, remember(history, here, x0)

    return Solver(lambda x: blank(order - 1, x), step)


def _check(order, most):
    if order not in range(1, most + 1):
        raise ValueError(f'no DPM-Solver++ of order {order}: 1 to {most}')
