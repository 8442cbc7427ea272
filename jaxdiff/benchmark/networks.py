"""Suite `networks`: the same network with the same weights here and in PyTorch, forward and trained, and what guidance by gradients costs.

Speeds are taken in every round against the better of MONAI's eager layouts in that round:

    forward, train   seconds of the better of theirs / seconds of ours                                              (1)
    train_remat      seconds of our step that stores nothing within a level / seconds of our step                   (2)
    guidance         seconds of a sampler with the gradient of a measurement through the network / seconds without  (3)

FLOPs are those of our programs, and for PyTorch those of ours that does the same.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax

from jaxdiff import parallel, report
from jaxdiff.benchmark import peers as others
from jaxdiff.benchmark import profile, timing, twins
from jaxdiff.benchmark.ceiling import ceiling
from jaxdiff.benchmark.measured import Measured
from jaxdiff.benchmark.timing import Timing
from jaxdiff.benchmark.twins import Case, Work
from jaxdiff.experiment import Bar, Evaluation
from jaxdiff.training.log import Progress
from jaxdiff.types import UserError

BARS = (
    Bar('forward_2d', '>=', 1.1),
    Bar('train_2d', '>=', 1.0),
    Bar('forward_3d', '>=', 2.0),
    Bar('train_3d', '>=', 2.0),
    Bar('guidance_2d', '<=', 3.5),
    Bar('guidance_3d', '<=', 3.5),
)
STANDARD = {2: Case(2, 64, (64, 128, 128), 4), 3: Case(3, 32, (32, 64, 64), 2)}


class Row(NamedTuple):
    """One way to do one thing: seconds, and how many times the speed of MONAI's better eager layout, round by round."""

    case: Case
    work: Work
    contender: str
    seconds: Timing
    speed: Timing | None


def measure(
    *,
    dims: Sequence[int] = (2, 3),
    size: int = 0,
    widths: Sequence[int] = (),
    batch: int = 0,
    dtype: str = 'float32',
    rounds: int = 3,
    peers: bool = True,
    torch_compile: bool = True,
    train: bool = True,
    remat: bool = True,
    steps: int = 20,
) -> Measured:
    """Time everything in `rounds` rounds, each of which is one evaluation.

    Args:
        dims: spatial axes, 2, 3 or both.
        size, widths, batch: by default those of `STANDARD`.
        peers: whether PyTorch takes part, where it and MONAI are installed; torch_compile: also compiled, where it can.
        train, remat: whether to train, and with remat too; where training is timed on a CPU, where its time goes is told too.
        steps: of the sampler that is guided; 0 is none.

    Raises `UserError` for a network that cannot be, and `ValueError` where the two sides do not agree.
    """
    if unknown := [each for each in dims if each not in STANDARD]:
        raise UserError(f'--dims={unknown[0]}: MONAI has networks of 2 and 3 axes; choose among them')
    absent = others.missing('torch', 'monai') if peers else []
    if beside := peers and not absent:
        others.use_threads(parallel.cores())
    notes = [f'not installed, so ours was timed alone: {", ".join(absent)}'] if absent else []
    notes += ['no accelerator here: measured on the cores of a CPU'] if jax.default_backend() == 'cpu' else []
    rows, profiles = [], []
    with Progress(len(dims), name='networks') as progress:
        for n, axes in enumerate(dims):
            standard = STANDARD[axes]
            case = Case(axes, size or standard.size, tuple(widths) or standard.widths, batch or standard.batch, dtype)
            for work, said in works(case, beside, torch_compile, train, remat, steps):
                rows += timed(case, work, rounds)
                notes += [f'{axes}-D {work.name}, {each}' for each in said]
            if train and jax.default_backend() == 'cpu':
                profiles.append(profile.table(case))
            progress.update(n + 1)
    seen = [Evaluation(figures(rows, n), baselines(rows, n), {}) for n in range(rounds)]
    return Measured(seen, [table(rows), *profiles], [*map(line, rows)], [section(rows)], notes)


def works(case: Case, beside: bool, torch_compile: bool, train: bool, remat: bool, steps: int) -> Iterator[tuple[Work, list[str]]]:
    """What there is to do, one after the other, so that only one thing at a time is in memory; and what could not be done."""
    both = twins.make(case, beside=beside)
    yield twins.forward(both, torch_compile=torch_compile)
    if train:
        yield twins.train(both, remat=remat, torch_compile=torch_compile)
    if steps:
        yield twins.guided(both, steps), []


def timed(case: Case, work: Work, rounds: int) -> list[Row]:
    """All ways of doing it, taking turns."""
    found = timing.alternate(work.calls, rounds=rounds)
    eager = [each.seconds for name, each in found.items() if 'eager' in name]
    best = Timing(tuple(map(min, zip(*eager, strict=True)))) if eager else None
    done = work._replace(calls={})  # so that nothing of it stays in memory
    return [Row(case, done, name, each, best and timing.ratio(best, each)) for name, each in found.items()]


def figures(rows: Sequence[Row], n: int) -> dict[str, float]:
    """(1) to (3) in round n, of ours."""
    found = {(row.case.dims, row.work.name, row.contender): row for row in rows}
    metrics = {}
    for (dims, work, contender), row in found.items():
        if contender == 'jaxdiff' and row.speed:
            metrics[f'{work}_{dims}d'] = row.speed.seconds[n]
        if contender == 'jaxdiff, remat':
            metrics[f'train_remat_{dims}d'] = timing.ratio(row.seconds, found[dims, work, 'jaxdiff'].seconds).seconds[n]
        if contender == 'guided':
            metrics[f'guidance_{dims}d'] = timing.ratio(row.seconds, found[dims, work, 'unguided'].seconds).seconds[n]
    return metrics


def baselines(rows: Sequence[Row], n: int) -> dict[str, dict[str, float]]:
    """(1) in round n with another contender in our place, by name."""
    found = {}
    for row in rows:
        if row.speed and row.contender != 'jaxdiff':
            found.setdefault(row.contender, {})[f'{row.work.name}_{row.case.dims}d'] = row.speed.seconds[n]
    return found


# ---- what is told


def line(row: Row) -> dict[str, Any]:
    """A case for measurements.jsonl, with the seconds of every round."""
    rounds = {'seconds': row.seconds.seconds, 'speed': row.speed and row.speed.seconds}
    return {**row.case._asdict(), 'work': row.work.name, 'contender': row.contender, **rounds, 'flops': flops(row), **own(row)}


def flops(row: Row) -> float:
    """Of one call, on all devices."""
    return (row.work.programs.get(row.contender) or row.work.programs['jaxdiff']).cost.flops


def own(row: Row) -> dict[str, float | None]:
    """What is known of our programs alone; memory is of all devices."""
    program = row.work.programs.get(row.contender)
    return {
        'compile_s': program and program.seconds,
        'memory_bytes': program and program.cost.memory * program.cost.devices,
    }


def table(rows: Sequence[Row]) -> dict[str, Any]:
    """Medians over the rounds."""
    rate = lambda row: flops(row) / row.seconds.median
    columns = {
        'network': lambda row: f'{row.case.dims}-D {row.work.name}',
        'contender': lambda row: row.contender,
        'ms': lambda row: 1e3 * row.seconds.median,
        'least to most': lambda row: f'{1e3 * row.seconds.low:.4g} to {1e3 * row.seconds.high:.4g}',
        'speed, 1 is the better eager layout': lambda row: row.speed and row.speed.median,
        'examples/s': lambda row: row.case.batch / row.seconds.median,
        'GFLOP/s': lambda row: rate(row) / 1e9,
        'share of the ceiling': lambda row: rate(row) / ceiling(row.case.dtype),
        'compilation, s': lambda row: own(row)['compile_s'],
        'memory of the program, MiB': lambda row: own(row)['memory_bytes'] and own(row)['memory_bytes'] / 2**20,
    }
    cases = {row.case.dims: row.case for row in rows}.values()
    shapes = ' and '.join(
        f'{each.batch} x {"x".join([str(each.size)] * each.dims)} with widths {", ".join(map(str, each.widths))}' for each in cases
    )
    caption = (
        f'DiffusionModelUNet of MONAI with the same weights on both sides, {shapes}, {rows[0].case.dtype}, {jax.device_count()} devices; '
        f'medians of {len(rows[0].seconds.seconds)} rounds. A matrix product reaches {ceiling(rows[0].case.dtype) / 1e9:.0f} GFLOP/s.'
    )
    return {'caption': caption, 'header': [*columns], 'rows': [[of(row) for of in columns.values()] for row in rows]}


def section(rows: Sequence[Row]) -> report.Section:
    """The speeds, in a table of their own for the page."""
    told = [[f'{row.case.dims}-D {row.work.name}', row.contender, 1e3 * row.seconds.median, row.speed.median] for row in rows if row.speed]
    text = 'The same network with the same weights; a speed of 1 is that of MONAI in the better of its eager layouts, in the same round.'
    columns = ['work', 'contender', 'ms', 'speed']
    return report.Section('Side by side', text, tables=[report.Table('Medians over the rounds.', columns, told)] if told else [])
