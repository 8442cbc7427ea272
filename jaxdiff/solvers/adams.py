"""The method of Adams in the angle between noise and data, predicted and corrected: the solver to take where nothing else is asked for.

With theta = atan(sigma / (alpha d)), d the standard deviation of the data, and r^2 = alpha^2 d^2 + sigma^2, the probability flow is

    d(x / r) / dtheta = -F,    F the prediction of kind 'edm' (`predict`),                                             (1)

what is left of it once data of one Gaussian N(0, d^2) are taken care of: for them F = 0, and any step is exact. The angle runs from pi/2 to 0
and F is bounded, so that (1) is smooth from end to end where a clock of log-SNR is infinitely long. With h = theta_s - theta_t, the steps before
it h', h'', and divided differences F[..] from t backwards, one evaluation a step predicts by Adams and Bashforth, of second order,

    (x / r)_s = (x / r)_t - h F[t] - h^2 / 2 F[t, t'],                                                                 (2)

and as soon as F is known at the new time, corrects the step that led there to that of Adams and Moulton, of third order, which adds

    -h'^2 (h' / 3 + h'' / 2) F[t, t', t'']                                                                             (3)

before it goes on; F is not evaluated again. The first step is Euler's, corrected to the trapezoid. With constraints between steps (3) corrects what
they left. The step to data is (2) too: where it has a past, x0_hat is extrapolated to the clean end, which costs nothing and is of second order.

Butcher, "Numerical methods for ordinary differential equations", 2016 (2), (3); Karras et al., NeurIPS 2022 (1).
"""

import jax.numpy as jnp

from jaxdiff.paths import GaussianPath
from jaxdiff.predict import convert
from jaxdiff.solvers.loop import Solver


def adams(path: GaussianPath, *, data_std: float | None = None) -> Solver:
    """Adams' predictor and corrector in the angle; N evaluations in N steps, of third order on the grids of `grids.default`.

    Args:
        data_std: d, by default the path's, or 0.5 where it names none, as in `grids.default`.
    """
    std = data_std or path.data_std or 0.5
    path = path._replace(data_std=std)
    angle = lambda t: jnp.arctan2(path.sigma(t), std * path.alpha(t))
    size = lambda t: jnp.hypot(path.sigma(t), std * path.alpha(t))

    def init(x):
        nothing = jnp.zeros(())
        return jnp.int32(0), (nothing, nothing), (jnp.zeros_like(x), jnp.zeros_like(x))

    def step(key, denoise, memory, x, t, s):
        known, (before, earlier), (first, second) = memory
        here, x0 = angle(t), denoise(x, t)
        slope = -convert(path, x0, x, t, source='x0', target='edm')
        g, past = here - before, before - earlier
        rise = _over(slope - first, g)  # F[t, t']
        bend = _over(rise - _over(first - second, past), g + past)  # F[t, t', t'']
        mended = jnp.where(known > 1, g**2 * (g / 3 + past / 2) * bend, g**2 / 2 * rise)
        y = x / size(t) + jnp.where(known > 0, mended, 0.0)
        h = angle(s) - here
        ahead = h * slope + jnp.where(known > 0, h**2 / 2 * rise, 0.0)
        moved = size(s) * (y + ahead)
        data = path.sigma(s) == 0
        moved = jnp.where(data & (known == 0), x0, moved).astype(x.dtype)
        after = known + 1, (here, before), (slope.astype(x.dtype), first)
        return moved, jnp.where(data, moved, x0), after

    return Solver(init, step)


def _over(change, gap):
    """A divided difference; 0 where two times coincide."""
    return jnp.where(gap == 0, 0.0, change / jnp.where(gap == 0, 1.0, gap))
