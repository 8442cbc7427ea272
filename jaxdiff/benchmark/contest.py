"""One law at the end of one path: our solvers and the schedulers of diffusers, walked from the same noise, and how far they miss.

The truth is where the probability flow carries the noise, by a fine solution of fourth order. Inside `jax.enable_x64` all of ours is in double
precision.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from itertools import product
from typing import NamedTuple

import jax
import numpy as np

from jaxdiff import exact, grids, paths
from jaxdiff.benchmark import schedulers
from jaxdiff.benchmark.laws import levels
from jaxdiff.benchmark.schedulers import Entry
from jaxdiff.exact import Mixture
from jaxdiff.metrics.sliced import sliced_wasserstein
from jaxdiff.paths import GaussianPath
from jaxdiff.solvers.ancestral import ddim
from jaxdiff.solvers.dpm_solver import dpmpp
from jaxdiff.solvers.loop import Solver, sample
from jaxdiff.solvers.multistep import s_pndm
from jaxdiff.solvers.named import usual
from jaxdiff.solvers.runge_kutta import heun, rk4
from jaxdiff.solvers.unipc import unipc
from jaxdiff.types import Array

Make = Callable[[GaussianPath], Solver]

USUAL: Make = lambda path: usual(path)[0]
OTHERS: dict[str, tuple[Make, Callable[[int], int]]] = {  # solver, and steps for so many network calls
    'ddim': (ddim, lambda calls: calls),
    'heun': (heun, lambda calls: (calls + 1) // 2),
    's-pndm': (s_pndm, lambda calls: calls - 1),
    'dpm++ 2m': (dpmpp, lambda calls: calls),
    'dpm++ 3m': (partial(dpmpp, order=3), lambda calls: calls),
    'unipc 2': (unipc, lambda calls: calls),
    'unipc 3': (partial(unipc, order=3), lambda calls: calls),
}
GRIDS = {'the same grid': grids.default, 'log-SNR': grids.log_snr, 'karras': grids.karras}
FINE, CLEAN = 150, 16.0  # steps of the truth, and the log-SNR from which one more leads to data


class Pair(NamedTuple):
    """Walks along a path to a law: the truth (n, D), draws of the law (5 n, D), and how to walk from the starts.

    Attributes:
        ours: maker of a solver, times -> ends (n, D).
        theirs: entry, network calls, how many of the starts -> their ends, None where the scheduler has no such walk, or it goes astray.
    """

    path: GaussianPath
    truth: np.ndarray
    draws: np.ndarray
    ours: Callable[[Make, Array], np.ndarray]
    theirs: Callable[[Entry, int, int], np.ndarray | None]

    def error(self, ends: np.ndarray) -> float:
        """(1)"""
        return float(np.sqrt(np.mean((ends - self.truth[: len(ends)]) ** 2)))

    def distance(self, ends: np.ndarray) -> float:
        """From the law."""
        return sliced_wasserstein(ends, self.draws)


class Found(NamedTuple):
    """Of one pair and seed: errors of the default and (with its name) of the best scheduler, by network calls; of our other solvers, by name; and
    distances from the law, by what came out there."""

    default: Mapping[int, float]
    best: Mapping[int, tuple[float, str]]
    others: Mapping[str, float]
    distances: Mapping[str, float]


def walks(law: Mixture, path: GaussianPath, walkers: int) -> Callable[[int], Pair]:
    """Seed -> `walkers` starts at the end of the path and all that is known of them; every solver is compiled once for all seeds."""
    denoise, heights = exact.denoiser(path, law), np.asarray(levels(path))
    look = jax.jit(jax.vmap(exact.denoiser(paths.edm(), law), (0, None)))  # of y = x / alpha, by its noise level
    fine = grids.log_snr(path, FINE, last=paths.time_of(path, CLEAN))

    @cache
    def program(make):
        one = lambda x, times: sample(jax.random.key(0), x, denoise, make(path), times).x
        return jax.jit(jax.vmap(one, (0, None)))

    def pair_of(seed):
        start, draw = jax.random.split(jax.random.key(seed))
        noise = jax.random.normal(start, (walkers, law.means.shape[1]))
        draws = jax.lax.map(lambda key: exact.draw(key, law), jax.random.split(draw, 5 * walkers))  # one by one: axes are large

        def ours(make, times):
            return np.asarray(program(make)(path.sigma(path.end) * noise, times))

        def theirs(entry, calls, count):
            try:
                ends = schedulers.walk(
                    entry, heights, lambda y, level: np.asarray(look(y, level)), np.asarray(noise[:count]) * heights[-1], calls, seed
                )
            except schedulers.Impossible:
                return None
            return ends if np.all(np.isfinite(ends)) else None

        return Pair(path, ours(rk4, fine), np.asarray(draws), ours, theirs)

    return pair_of


def screened(pair: Pair, entries: Sequence[Entry], calls: int, finalists: int, judge: Callable[[np.ndarray], float]) -> list[Entry]:
    """The entries that `judge` likes best (least) on a twentieth of the walks."""
    tried = [pair.theirs(entry, calls, max(len(pair.truth) // 20, 2)) for entry in entries]
    scores = {n: judge(ends) for n, ends in enumerate(tried) if ends is not None}
    return [entries[n] for n in sorted(scores, key=scores.get)[:finalists]]


def contest(pair: Pair, flows: Sequence[Entry], drawing: Sequence[Entry], calls: int, curve: Sequence[int]) -> Found:
    """Everything walked in full."""
    path, count = pair.path, len(pair.truth)
    walked = {n: pair.ours(USUAL, grids.default(path, n)) for n in sorted({calls, *curve})}
    others = {
        f'{name}, {where}': pair.error(pair.ours(make, grid(path, steps(calls))))
        for (name, (make, steps)), (where, grid) in product(OTHERS.items(), GRIDS.items())
    }
    theirs = {n: best(pair.error, {entry.name: pair.theirs(entry, n, count) for entry in flows}) for n in walked}
    distances = {}
    if flows:
        noisy = best(pair.distance, {entry.name: pair.theirs(entry, calls, count) for entry in drawing})
        distances = {
            'default': pair.distance(walked[calls]),
            'best scheduler': pair.distance(theirs[calls][2]),
            'best that draws noise': noisy[0],
            'its name': noisy[1],
            'other draws': sliced_wasserstein(pair.draws[:count], pair.draws[count:]),
        }
    beside = {n: each[:2] for n, each in theirs.items() if each[2] is not None}
    return Found({n: pair.error(ends) for n, ends in walked.items()}, beside, others, distances)


def best(judge: Callable[[np.ndarray], float], walked: Mapping[str, np.ndarray | None]) -> tuple[float, str, np.ndarray | None]:
    """The least that `judge` finds, whose, and its ends; nan and None where there is none."""
    ranked = sorted((judge(ends), name) for name, ends in walked.items() if ends is not None)
    return (*ranked[0], walked[ranked[0][1]]) if ranked else (np.nan, '', None)
