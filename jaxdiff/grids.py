"""Grids of times: where a sampler evaluates the denoiser. Each is (n + 1,), decreasing, for n steps; a walk ends at its last time.

Those of tables (`leading`, `trailing`, `linspace`, `quad`, and guided-diffusion's `sections` and `stride`) visit n of the integers 1..T,
time i + 1 being index i of the table, then 0. Those of `log_snr` and `karras` are even in the logarithm, or a power, of the noise-to-signal
ratio, where 0 is out of reach: n times down to `last`, then 0. `angle` is even in the angle between noise and data of standard deviation d,

    theta = atan(sigma / (alpha d)),                                                                              (1)

from data to noise alike on every path; it reaches 0, and needs no `last`. Grids are built outside `jit`; passing them in as arrays, other
times of the same number compile nothing. More steps than a table has, or none, raise ValueError.

Song, Meng, Ermon, ICLR 2021 (quad); Lu et al., "DPM-Solver", NeurIPS 2022 (log_snr); Karras et al., NeurIPS 2022 (karras); Lin et al.,
"Common diffusion noise schedules are flawed", WACV 2024 (trailing); Nichol and Dhariwal, ICML 2021 (sections); Meng et al., "SDEdit", ICLR
2022 (partial); Lugmayr et al., "RePaint", CVPR 2022 (repaint).
"""

from collections.abc import Sequence

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


def sections(steps: int, counts: Sequence[int]) -> Array:
    """A table cut into as many equal sections as there are counts, the first of `counts[0]` steps nearest to data, each evenly visited.

    Both ends of every section are visited, and halves are rounded to even, as published.
    """
    if not counts or min(counts) < 1:
        raise ValueError('every section needs at least one step')
    sizes = [steps // len(counts) + (i < steps % len(counts)) for i in range(len(counts))]
    parts = []
    for size, count, begin in zip(sizes, counts, np.cumsum([0, *sizes]), strict=False):
        if count > size:
            raise ValueError(f'{count} steps of a section of {size}')
        strides = np.full(count, (size - 1) / max(count - 1, 1))
        strides[0] = 0
        parts.append(begin + np.round(np.cumsum(strides)))
    return _table(np.concatenate(parts), steps, sum(counts))


def stride(steps: int, n: int) -> Array:
    """Indices 0, c, 2c, ... over the whole table, "ddim n": c is the least stride that makes n of them, and there may be none."""
    for c in range(1, steps + 1):
        if len(range(0, steps, c)) == n:
            return _table(np.arange(0, steps, c), steps, n)
    raise ValueError(f'no stride takes {n} steps of a table of {steps}')


def default(path: GaussianPath, n: int, start: float | None = None) -> Array:
    """The grid to take where nothing else is asked for: `angle` with a power of 0.8, the last time before data at least `last_time(path)`.

    Eight steps of Heun on the exact mixture of the tests err by 0.008 on every path; with even times by 0.015 to 0.5, even log-SNR by 0.012
    to 0.3, each according to the path. The advantage over `log_snr` shrinks with more steps. A step to data from closer than `last_time`
    is a call of the network for nothing: there data are as good as seen.
    """
    times = angle(path, n, power=0.8, start=start)
    if n == 1:
        return times
    kept_off = jnp.append(angle(path, n - 1, power=0.8, start=start, last=last_time(path)), 0.0)
    return jnp.where(times[-2] < last_time(path), kept_off, times)


def angle(
    path: GaussianPath, n: int, *, data_std: float | None = None, power: float = 1.0, start: float | None = None, last: float = 0.0
) -> Array:
    """Even in the angle (1), or in atan((sigma / (alpha d))^power), from `start` (the path's end) to `last`.

    `data_std` is by default the path's, or 0.5 where it names none. A `power` below 1 takes shorter steps near both ends.
    """
    if data_std is None:
        data_std = 0.5 if path.data_std is None else path.data_std
    first = _start(path, start)
    ends = jnp.array([first, last])
    theta = jnp.arctan2(path.sigma(ends) ** power, (data_std * path.alpha(ends)) ** power)
    times = time_of(path, -2 * jnp.log(data_std) - 2 / power * jnp.log(jnp.tan(jnp.linspace(*theta, n + 1))))
    return times.at[0].set(first).at[-1].set(last)


def log_snr(path: GaussianPath, n: int, *, start: float | None = None, last: float | None = None, zero: bool = True) -> Array:
    """Even in the log-SNR, from the time `start` (default the path's end) down to `last`, then 0.

    `last` is by default index 0 of a table, t = 0.001 of a continuous path, 0.002 where time is the noise itself. Without `zero` the
    grid ends at `last`, after n steps. Paths that end in pure noise (cosine, flow) spend many steps there: give a `start`.
    """
    first, final = path.log_snr(_start(path, start)), path.log_snr(last_time(path, last))
    return _through(path, jnp.linspace(first, final, n + 1 - zero), start, last, zero)


def karras(
    path: GaussianPath, n: int, *, rho: float = 7.0, start: float | None = None, last: float | None = None, zero: bool = True
) -> Array:
    """Even in (sigma / alpha)^(1 / rho); ends as in `log_snr`.

    Meant for sigma / alpha of about 100 at the start. Cosine paths end in the thousands: give a `start` there, or take another grid.
    """
    root = lambda t: jnp.exp(-path.log_snr(t) / (2 * rho))
    values = jnp.linspace(root(_start(path, start)), root(last_time(path, last)), n + 1 - zero)
    return _through(path, -2 * rho * jnp.log(values), start, last, zero)


def partial(times: Array, depth: float) -> Array:
    """The part of a grid below the time `depth`, begun at `depth` itself: for walks that start from noised data.

    A `depth` of 0 leaves no step at all. For indices of a table, noised L times means depth = L.
    """
    times = np.asarray(times)
    if not 0 <= depth <= times[0]:
        raise ValueError(f'depth {depth} is outside the grid, 0 to {times[0]}')
    return jnp.asarray(np.concatenate([[depth], times[times < depth]]), float)


def repaint(times: Array, jump: int = 10, resamplings: int = 10) -> Array:
    """A grid (n + 1,) walked down with jumps back up: every stretch of `jump` steps `resamplings` times, as a sequence of times.

    A jump up is one move, of the same law as `jump` single ones; solvers move down only, so a walk along these times must noise anew where
    they rise. As published, the first is taken 2 jump steps down, and the last from the last step but one: (250, 10, 10) make 2410 steps
    down and 216 moves up. One resampling is the grid itself.
    """
    n = len(times) - 1
    if jump < 1 or resamplings < 1:
        raise ValueError('jumps and resamplings are at least 1')
    left = dict.fromkeys(range(1, n - jump + 1, jump), resamplings - 1)
    walk, step = [n], n  # steps still to go
    while step > 0:
        step -= 1
        walk.append(step)
        if left.get(step, 0) > 0:
            left[step] -= 1
            step += jump
            walk.append(step)
    return jnp.asarray(times)[n - np.array(walk)]


def last_time(path: GaussianPath, last: float | Array | None = None) -> float | Array:
    """`last`, or where a walk is to end before its step to data: index 0 of a table, t = 0.001, or 0.002 where time is the noise itself."""
    if last is None:
        return 1e-3 * min(path.end, 2.0) if path.steps is None else 1.0
    return last


def _table(index: np.ndarray, steps: int, n: int) -> Array:
    """Times from increasing indices of a table."""
    if not 1 <= n <= steps:
        raise ValueError(f'{n} steps of a table of {steps}: take 1 to {steps}')
    return jnp.asarray(np.append(index[::-1] + 1, 0), float)


def _through(path, log_snrs, start, last, zero) -> Array:
    """Times at these log-SNRs, the ends set exactly."""
    times = time_of(path, log_snrs).at[-1].set(last_time(path, last)).at[0].set(_start(path, start))
    return jnp.append(times, 0.0) if zero else times


def _start(path: GaussianPath, start: float | None) -> float:
    return path.end if start is None else start
