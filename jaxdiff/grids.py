"""Grids of times: where a sampler evaluates the denoiser. Each is (n + 1,), decreasing, for n steps; a walk ends at its last time.

Those of tables (`leading`, `trailing`, `linspace`, `quad`) visit n of the integers 1..T, time i + 1 being index i of the table, then 0.
Those of `log_snr` and `karras` are even in the logarithm, or a power, of the noise-to-signal ratio, where 0 is out of reach: n times
down to `last`, then 0. Grids are built outside `jit`; passing them in as arrays, other times of the same number compile nothing.

Song, Meng, Ermon, ICLR 2021 (quad); Lu et al., "DPM-Solver", NeurIPS 2022 (log_snr); Karras et al., NeurIPS 2022 (karras); Lin et al.,
"Common diffusion noise schedules are flawed", WACV 2024 (trailing); Meng et al., "SDEdit", ICLR 2022 (partial).
"""

import jax.numpy as jnp
import numpy as np

from jaxdiff.paths import GaussianPath, time_of
from jaxdiff.types import Array


def uniform(path: GaussianPath, n: int, *, start: float | None = None, last: float = 0.0) -> Array:
    """Even in time, from `start` (the path's end) to `last`."""
    return jnp.linspace(_start(path, start), last, n + 1)


def leading(steps: int, n: int) -> Array:
    """Indices 0, c, 2c, ..., c = T // n: the first is visited, the noisiest is not. Not for tables with zero terminal SNR."""
    return _table(np.arange(n) * (steps // n), steps, n)


def trailing(steps: int, n: int) -> Array:
    """Even in time, rounded, from T down: the noisiest is visited. The one to take unless there is a reason."""
    return _table(np.round(steps - np.arange(n) * steps / n)[::-1] - 1, steps, n)


def linspace(steps: int, n: int) -> Array:
    """Indices evenly from 0 to T - 1, both visited, rounded."""
    return _table(np.round(np.linspace(0, steps - 1, n)), steps, n)


def quad(steps: int, n: int) -> Array:
    """Indices growing as squares up to 0.8 T, denser near data. Where the original repeats an index the next free one is taken."""
    index = np.floor(np.linspace(0, np.sqrt(0.8 * steps), n) ** 2)
    order = np.arange(n)
    return _table(np.maximum.accumulate(index - order) + order, steps, n)


def log_snr(path: GaussianPath, n: int, *, start: float | None = None, last: float | None = None, zero: bool = True) -> Array:
    """Even in the log-SNR, from the time `start` (default the path's end) down to `last`, then 0.

    `last` is by default index 0 of a table, a thousandth of a continuous path. Without `zero` the grid ends at `last`, after n steps.
    """
    first, final = path.log_snr(_start(path, start)), path.log_snr(_last(path, last))
    return _through(path, jnp.linspace(first, final, n + 1 - zero), start, last, zero)


def karras(
    path: GaussianPath, n: int, *, rho: float = 7.0, start: float | None = None, last: float | None = None, zero: bool = True
) -> Array:
    """Even in (sigma / alpha)^(1 / rho); ends as in `log_snr`.

    Meant for sigma / alpha of about 100 at the start. Cosine paths end in the thousands: give a `start` there, or take another grid.
    """
    root = lambda t: jnp.exp(-path.log_snr(t) / (2 * rho))
    values = jnp.linspace(root(_start(path, start)), root(_last(path, last)), n + 1 - zero)
    return _through(path, -2 * rho * jnp.log(values), start, last, zero)


def partial(times: Array, depth: float) -> Array:
    """The part of a grid below the time `depth`, begun at `depth` itself: for walks that start from noised data.

    A `depth` of 0 leaves no step at all. For indices of a table, noised L times means depth = L.
    """
    times = np.asarray(times)
    if not 0 <= depth <= times[0]:
        raise ValueError(f'depth {depth} is outside the grid, 0 to {times[0]}')
    return jnp.asarray(np.concatenate([[depth], times[times < depth]]), float)


def _table(index: np.ndarray, steps: int, n: int) -> Array:
    """Times from increasing indices of a table."""
    if not 1 <= n <= steps:
        raise ValueError(f'{n} steps of a table of {steps}: take 1 to {steps}')
    return jnp.asarray(np.append(index[::-1] + 1, 0), float)


def _through(path, log_snrs, start, last, zero) -> Array:
    """Times at these log-SNRs, the ends set exactly."""
    times = time_of(path, log_snrs).at[-1].set(_last(path, last)).at[0].set(_start(path, start))
    return jnp.append(times, 0.0) if zero else times


def _start(path: GaussianPath, start: float | None) -> float:
    return path.end if start is None else start


def _last(path: GaussianPath, last: float | None) -> float:
    if last is None:
        return 1e-3 * path.end if path.steps is None else 1.0
    return last
