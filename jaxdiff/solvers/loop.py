"""The one loop of every sampler: a solver, scanned along a grid of times.

    for each pair (t, s) of consecutive times:
        x, x0_hat, memory <- solver.step(key, denoise, memory, x, t, s)
        x <- constrain(key, x, x0_hat, s)

Written for one example. A batch is `jax.jit(jax.vmap(lambda key, x: sample(key, x, denoise, solver, times).x))(keys, xs)`: make the jitted
function once and call it often.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxdiff.types import Array, Constraint, Denoiser, Key, Time

Memory = Any  # what a solver remembers between steps; () for one-step methods
Trace = Callable[[Array, Array, Array], Any]  # step number, x, x0_hat -> what to keep


class Solver(NamedTuple):
    """A way of moving x from time t to time s.

    Attributes:
        init: x -> memory before the first step.
        step: (key, denoise, memory, x, t, s) -> (x_s, x0_hat, memory). A step to sigma(s) = 0 returns x0_hat as x_s, exactly.
    """

    init: Callable[[Array], Memory]
    step: Callable[[Key, Denoiser, Memory, Array, Time, Time], tuple[Array, Array, Memory]]


class Sample(NamedTuple):
    """Where a walk ended: x, the last x0_hat, and what `trace` kept, stacked over steps (None without one)."""

    x: Array
    x0: Array
    trace: Any


def sample(
    key: Key,
    x: Array,
    denoise: Denoiser,
    solver: Solver,
    times: Array,
    *,
    constrain: Constraint | None = None,
    trace: Trace | None = None,
    unroll: int = 1,
) -> Sample:
    """Walk x (*spatial, C), one example, along `times` (N + 1,) in N steps.

    Step i draws from fold_in(key, i), one half for the solver and one for the constraint: adding a constraint leaves the solver's
    noise as it was. x keeps its dtype. Nothing is kept along the way unless `trace` asks: a thousand volumes do not fit.
    """

    def move(carry, inputs):
        i, t, s = inputs
        x, _, memory = carry
        solver_key, constraint_key = jax.random.split(jax.random.fold_in(key, i))
        moved, x0, memory = solver.step(solver_key, denoise, memory, x, t, s)
        if constrain is not None:
            moved = constrain(constraint_key, moved, x0, s)
        moved, x0 = moved.astype(x.dtype), x0.astype(x.dtype)
        return (moved, x0, memory), None if trace is None else trace(i, moved, x0)

    pairs = jnp.arange(times.shape[0] - 1), times[:-1], times[1:]
    (x, x0, _), kept = jax.lax.scan(move, (x, x, solver.init(x)), pairs, unroll=unroll)
    return Sample(x, x0, kept)


def one_step(step: Callable[[Key, Denoiser, Array, Time, Time], tuple[Array, Array]]) -> Solver:
    """A solver without memory from (key, denoise, x, t, s) -> (x_s, x0_hat)."""

    def with_memory(key, denoise, memory, x, t, s):
        return *step(key, denoise, x, t, s), memory

    return Solver(lambda x: (), with_memory)
