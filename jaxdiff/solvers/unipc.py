"""UniPC: a predictor and a corrector over lambda = log(alpha / sigma) that share one evaluation a step.

The predictor of order p moves from t to s with weights w of the last p values of x0_hat, as in `exponential`. Once x0_hat is known at s, the
corrector repeats that step with it among the values, and as x_s is linear in them, what it adds is

    x_s <- x_s + alpha_s (sum_i w'_i D_i - sum_i w_i D_i),                                                                        (1)

applied when the next step begins; x0_hat is not evaluated again. The order is p + 1, since the corrector also mends the first steps. With
constraints between steps (1) corrects what they left.

Zhao et al., "UniPC: a unified predictor-corrector framework for fast sampling of diffusion models", NeurIPS 2023.
"""

from collections.abc import Callable

import jax.numpy as jnp

from jaxdiff.paths import GaussianPath
from jaxdiff.solvers.exponential import SLOPES, advance, blank, half_log_snr, mix, remember, weights
from jaxdiff.solvers.loop import Solver


def unipc(path: GaussianPath, order: int = 2, *, b: str = 'bh2', corrector: bool = True) -> Solver:
    """UniPC of order 1, 2 or 3; its first steps are of orders 1, 2, ... Of order 1 and without its corrector it is DDIM.

    Args:
        b: 'bh1' or 'bh2', B(h) = h or 1 - exp(-h) of the paper; they differ only where one difference is all there is.
        corrector: whether to correct (1).

    Raises ValueError for other orders and another b.
    """
    if order not in (1, 2, 3):
        raise ValueError(f'no UniPC of order {order}: 1 to 3')
    if b not in ('bh1', 'bh2'):
        raise ValueError(f"B is 'bh1' or 'bh2', not {b!r}")
    slope = SLOPES[b]

    def step(key, denoise, history, x, t, s):
        x0, here, there = denoise(x, t), half_log_snr(path, t), half_log_snr(path, s)
        if corrector:
            x = x + path.alpha(t) * _correction(history, x0, here, slope)
        after = remember(history, here, x0)
        nodes, values = (here, *history.nodes[: order - 1]), (x0, *history.values[: order - 1])
        w = weights(there - here, [node - here for node in nodes], after.count, slope)
        return advance(path, x, mix(w, values), x0, t, s), x0, after

    return Solver(lambda x: blank(order, x), step)


def _correction(history, x0, here, slope: Callable):
    """The integral over the last step with x0 at its end, less that without; 0 before the first step."""
    begin = history.nodes[0]
    h, known = here - begin, jnp.minimum(history.count, len(history.nodes))
    offsets = [node - begin for node in history.nodes]
    predicted = mix(weights(h, offsets, known, slope), history.values)
    w = weights(h, [offsets[0], h, *offsets[1:]], known + 1, slope)
    corrected = mix(w, (history.values[0], x0, *history.values[1:]))
    return jnp.where(history.count > 0, corrected - predicted, 0.0)
