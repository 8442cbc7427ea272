"""Suite `accuracy`: how far from the exact end of the flow a walk of few network calls comes out, beside the schedulers of diffusers.

Data are mixtures of Gaussians, whose denoiser is a closed form, so that all error is the solver's. All walks start from the same noise, in double
precision; the truth is where the probability flow carries it, by a fine solution of fourth order, and the error of n walks in D dimensions

    error = sqrt(sum |x - truth|^2 / (n D)),    ratio = error of ours / error of the best scheduler.                     (1)

The library's default is one for all laws and paths, while the best scheduler is sought anew for each of them, with every seed, among all that there
are in all their options: those that do best on a part of the walks are walked in full. Schedulers that draw noise have no truth to miss; they and
the winners are compared by the sliced Wasserstein distance of their ends from draws of the law, beside that of other draws of as many points.
"""

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import jax
import numpy as np

from jaxdiff import report
from jaxdiff.benchmark import schedulers
from jaxdiff.benchmark.contest import Found, contest, screened, walks
from jaxdiff.benchmark.laws import LAWS, PATHS
from jaxdiff.benchmark.measured import Measured
from jaxdiff.benchmark.peers import missing
from jaxdiff.benchmark.schedulers import Entry
from jaxdiff.experiment import Bar, Evaluation
from jaxdiff.training.log import Progress

BARS = (Bar('error_ratio', '<=', 1.0),)
CONTROL = 'ddim, the same grid'


def measure(
    *,
    calls: int = 10,
    walkers: int = 4000,
    seeds: int = 3,
    peers: bool = True,
    laws: Sequence[str] = tuple(LAWS),
    on: Sequence[str] = tuple(PATHS),
    curve: Sequence[int] = (5, 8, 15, 20, 50),
    finalists: int = 20,
    flows: Sequence[Entry] = (),
    drawing: Sequence[Entry] = (),
) -> Measured:
    """Compare at `calls` network calls; each seed of the noise is an evaluation: of all laws and paths, the largest ratio (1).

    Args:
        walkers: walks of each; the schedulers are tried on a twentieth of them, with the first seed. A few walks between two modes make up most of
            the error in many dimensions: some hundreds do not tell who errs less.
        laws, on: names of laws and of paths.
        curve: further numbers of calls, with the first seed.
        finalists: schedulers that are walked in full.
        flows, drawing: those that are tried, without and with noise on the way; by default all.
    """
    absent = missing('torch', 'diffusers') if peers else []
    able = peers and not absent
    field = (flows or tuple(schedulers.flows()), drawing or tuple(schedulers.draws())) if able else ((), ())
    pairs, found = tuple(product(laws, on)), {}
    with jax.enable_x64(True), Progress(len(pairs) * seeds, name='accuracy') as progress:
        for n, (law, path) in enumerate(pairs):
            pair_of = walks(LAWS[law](), PATHS[path](), walkers)
            first = pair_of(0)
            flowing = screened(first, field[0], calls, finalists, first.error)
            noisy = screened(first, field[1], calls, finalists, first.distance)
            for seed in range(seeds):
                found[law, path, seed] = contest(pair_of(seed), flowing, noisy, calls, () if seed else curve)
                progress.update(n * seeds + seed + 1)
    notes = [f'{" and ".join(absent)} not installed: nothing was walked beside'] if absent else []
    if able:
        notes = [f'the best of {len(field[0])} ways of following the flow, and of {len(field[1])} with noise']
    seen = [evaluation({pair: found[*pair, seed] for pair in pairs}, calls) for seed in range(seeds)]
    lines = [
        {'law': law, 'path': path, 'seed': seed, 'calls': count, 'default': error, 'best': each.best.get(count), 'others': each.others}
        for (law, path, seed), each in found.items()
        for count, error in each.default.items()
    ]
    tables = [error_table(found, pairs, seeds, calls, walkers), *([law_table(found, pairs, seeds, calls)] if able else [])]
    return Measured(seen, tables, lines, [section({pair: found[*pair, 0] for pair in pairs}, laws)], notes)


# ---- what is told


def evaluation(found: Mapping[Any, Found], calls: int) -> Evaluation:
    """The largest ratios of the default, of our other solvers, and of the control; without schedulers the default's largest error alone."""
    metrics = {'error': max(each.default[calls] for each in found.values())}
    if not all(calls in each.best for each in found.values()):
        return Evaluation(metrics, {}, {})
    worst = lambda of: {'error_ratio': max(of(each) / each.best[calls][0] for each in found.values())}
    names = next(iter(found.values())).others
    beside = {name: worst(lambda each, name=name: each.others[name]) for name in names}
    control = {CONTROL: beside.pop(CONTROL)}
    return Evaluation({**metrics, **worst(lambda each: each.default[calls])}, beside, control)


def error_table(found: Mapping[Any, Found], pairs: Sequence[tuple], seeds: int, calls: int, walkers: int) -> dict[str, Any]:
    rows = []
    for pair in pairs:
        those = [found[*pair, seed] for seed in range(seeds)]
        names = those[0].others
        other = min(names, key=lambda name: np.mean([each.others[name] for each in those]))
        mean = lambda values: float(np.mean([*values]))
        beside = [None, None, '']
        if all(calls in each.best for each in those):
            ratios = [each.default[calls] / each.best[calls][0] for each in those]
            beside = [mean(each.best[calls][0] for each in those), max(ratios), those[0].best[calls][1]]
        ours = [mean(each.default[calls] for each in those), mean(each.others[other] for each in those), other]
        rows.append([*pair, *ours, mean(each.others[CONTROL] for each in those), *beside])
    return {
        'caption': f'RMSE to the exact end of the probability flow from the same {walkers} starts, {calls} network calls, means over {seeds} seeds. '
        'The scheduler is the best for the row.',
        'header': ['law', 'path', 'default', 'best other', 'which', CONTROL, 'best scheduler', 'largest ratio', 'which scheduler'],
        'rows': rows,
    }


def law_table(found: Mapping[Any, Found], pairs: Sequence[tuple], seeds: int, calls: int) -> dict[str, Any]:
    names = ('default', 'best scheduler', 'best that draws noise', 'other draws')
    rows = []
    for pair in pairs:
        those = [found[*pair, seed].distances for seed in range(seeds)]
        rows.append([*pair, *(float(np.mean([each[name] for each in those])) for name in names), those[0]['its name']])
    return {
        'caption': f'Sliced Wasserstein distance from the law, {calls} network calls, means over {seeds} seeds. Other draws are of as many points.',
        'header': ['law', 'path', *names, 'which draws noise'],
        'rows': rows,
    }


def section(found: Mapping[tuple, Found], laws: Sequence[str]) -> report.Section:
    """The curves of every law, geometric means over the paths."""
    series = {}
    for law in laws:
        those = [each for (name, _), each in found.items() if name == law]
        mean = lambda values: float(np.exp(np.mean(np.log([*values]))))
        counts = sorted(those[0].default)
        series[f'{law}, default'] = counts, [mean(each.default[n] for each in those) for n in counts]
        shared = [n for n in counts if all(n in each.best for each in those)]
        if shared:
            series[f'{law}, best scheduler'] = shared, [mean(each.best[n][0] for each in those) for n in shared]
    figure = report.curves(series, x='network calls', y='RMSE to the exact flow', log='xy', size=(8.5, 4.6))
    text = 'Geometric means over the paths. The scheduler is another at every point: the best of the finalists there.'
    return report.Section('Error against network calls', text, [report.picture(figure, '', alt='error against network calls')])
