"""Seconds that can be compared: contenders take turns, A B A B, so that whatever else the machine does falls on all of them alike.

Ratios are taken round by round (`ratio`) and then summarized, never from seconds of different moments.
"""

import time
from collections.abc import Callable, Mapping
from statistics import median
from typing import Any, NamedTuple

import jax


class Timing(NamedTuple):
    """Seconds per call, one figure for each round, in the order of the rounds."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle round."""
        return median(self.seconds)

    @property
    def low(self) -> float:
        """The fastest round."""
        return min(self.seconds)

    @property
    def high(self) -> float:
        """The slowest round."""
        return max(self.seconds)


def alternate(contenders: Mapping[str, Callable[[], Any]], *, rounds: int, least: float = 0.2) -> dict[str, Timing]:
    """Seconds per call of each contender, taking turns for `rounds` rounds.

    Each is called once untimed, which compiles and warms caches; JAX results are waited for. Within a round a call is repeated until `least` seconds
    have passed, and the round's figure is their mean. Every other round runs in reverse, so that none always follows the same neighbour.
    Raises `ValueError` for no rounds.
    """
    if rounds < 1:
        raise ValueError(f'rounds {rounds}: at least one')
    for call in contenders.values():
        jax.block_until_ready(call())
    seconds = {name: [] for name in contenders}
    for n in range(rounds):
        for name in tuple(contenders)[:: -1 if n % 2 else 1]:
            seconds[name].append(_once(contenders[name], least))
    return {name: Timing(tuple(each)) for name, each in seconds.items()}


def ratio(above: Timing, below: Timing, *, scale: float = 1.0) -> Timing:
    """`above` in units of `scale` times `below`, round by round: what the two shared in a round cancels."""
    return Timing(tuple(a / (scale * b) for a, b in zip(above.seconds, below.seconds, strict=True)))


def compiled(fn: Callable, *args: Any, **options: Any) -> tuple[Any, float]:
    """The program of `fn` for arguments like `args` (arrays or shapes), ready to be called, and the seconds that tracing and compiling it took.

    `options` are those of `jax.jit`.
    """
    start = time.perf_counter()
    program = jax.jit(fn, **options).lower(*args).compile()
    return program, time.perf_counter() - start


def _once(call: Callable[[], Any], least: float) -> float:
    calls, start = 0, time.perf_counter()
    while True:
        jax.block_until_ready(call())
        calls, passed = calls + 1, time.perf_counter() - start
        if passed >= least:
            return passed / calls
