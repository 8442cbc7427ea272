"""Suite `samplers`: what a sampler costs beyond its network.

    overhead = whole sampler / (network calls x one jitted forward)                                                (1)

The forward is one call of the denoiser on the same batch, compiled alike and placed alike on the devices, timed before and after the sampler
in every round. FLOPs are those of the compiled forward times the calls, since the analysis of a compiled program counts the body of a loop once;
the calls are counted while a walk of the solver runs. Peers walk MONAI's U-Net of the same widths over as many numbers, the patches folded into
channels, and their overhead is (1) with one forward of that network.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax

from jaxdiff import model, parallel, report
from jaxdiff.benchmark import loops, peers, timing, walks
from jaxdiff.benchmark.cases import Case, cases, unet
from jaxdiff.benchmark.ceiling import ceiling
from jaxdiff.benchmark.measured import Measured
from jaxdiff.benchmark.timing import Timing
from jaxdiff.experiment import Bar, Evaluation
from jaxdiff.export import bill
from jaxdiff.model import Model
from jaxdiff.solvers.loop import sample
from jaxdiff.training.log import Progress
from jaxdiff.workdir import peak_memory

BARS = (Bar('overhead', '<=', 1.05),)
BARS_ON_ACCELERATORS = (Bar('overhead', '<=', 1.03),)


class Row(NamedTuple):
    """What was found of a case: the seconds of the sampler and of one forward, round by round, and (1). What follows is known of ours alone:
    seconds of compilation, bytes that the sampler's program holds on all devices, and its FLOPs."""

    software: str
    case: Case
    calls: int
    walk: Timing
    forward: Timing
    overhead: Timing
    compile_s: float | None = None
    memory_bytes: int | None = None
    flops: float | None = None


class Placed(NamedTuple):
    """A network whose parameters lie on the devices, and where batches (`split`) and shared arrays (`whole`) go."""

    model: Model
    split: jax.NamedSharding
    whole: jax.NamedSharding


def measure(
    *,
    shapes: Sequence[str] = ('64x64',),
    solvers: Sequence[str] = tuple(walks.SOLVERS),
    steps: Sequence[int] = (20, 1000),
    batches: Sequence[int] = (2,),
    dtypes: Sequence[str] = ('float32',),
    widths: Sequence[int] = (40, 64, 80),
    patch: int = 2,
    rounds: int = 3,
    least: float = 1.0,
    rivals: Sequence[str] = (),
    seed: int = 0,
) -> Measured:
    """Time every case in `rounds` rounds, each of which is one evaluation: of all cases, the worst overhead.

    Args:
        shapes: of images, such as '64x64' or '32x32x32'; those after the first are walked by the first solver with the fewest steps only.
        widths, patch: of the U-Net, which attends at its last resolution.
        least: seconds for which the forward is repeated, before and after the sampler.
        rivals: of 'diffusers' and 'monai', those to be timed beside.

    Raises `UserError` for a shape, a solver or a network that cannot be.
    """
    todo = check(shapes=shapes, solvers=solvers, steps=steps, batches=batches, dtypes=dtypes, widths=widths, patch=patch)
    absent = peers.missing('torch', 'monai', *rivals) if rivals else []
    rivals = () if absent else tuple(rivals)
    rows, placed = [], {}
    with Progress(len(todo), name='samplers') as progress:
        for n, (case, blank) in enumerate(todo):
            if case[:3] not in placed:
                placed = {case[:3]: place(blank, case, seed)}
            beside = loops.contest(blank.network, case, rivals) if rivals else {}
            rows += timed(placed[case[:3]], case, rounds, least, beside)
            progress.update(n + 1)
    found = {name: [row for row in rows if row.software == name] for name in ('jaxdiff', *rivals)}
    worst = lambda n: {name: {'overhead': max(row.overhead.seconds[n] for row in those)} for name, those in found.items() if those}
    seen = [Evaluation(each.pop('jaxdiff'), each, {}) for each in map(worst, range(rounds))]
    notes = [f'not installed, so not timed beside: {", ".join(absent)}'] if absent else []
    notes += ['no accelerator here: measured on the cores of a CPU'] if jax.default_backend() == 'cpu' else []
    notes += ['programs were kept between runs: compilation took what it takes with them'] if jax.config.jax_compilation_cache_dir else []
    return Measured(seen, [table(rows, widths, patch)], [*map(line, rows)], [section(found['jaxdiff'])], notes)


def place(blank: Model, case: Case, seed: int) -> Placed:
    """The model with parameters, none of them zero."""
    params = model.init(blank, jax.random.key(seed))
    mesh = parallel.make_mesh(batch=case.batch)
    whole, split = jax.NamedSharding(mesh, jax.P()), jax.NamedSharding(mesh, jax.P(parallel.AXES))
    return Placed(blank._replace(params=jax.device_put(jax.tree.map(lambda leaf: leaf + 0.01, params), whole)), split, whole)


def timed(placed: Placed, case: Case, rounds: int, least: float, beside: Mapping[str, tuple[Callable, Callable, int]]) -> list[Row]:
    """The case, taking turns with what is to be timed beside it: name -> (walk, one forward, network calls)."""
    path = model.make_path(placed.model.path)
    solver, times = walks.SOLVERS[case.solver](path), walks.grid(case.solver, path, case.steps)
    denoise = lambda params: model.denoiser(placed.model._replace(params=params))
    keys, x = jax.random.split(jax.random.key(1), case.batch), jax.random.normal(jax.random.key(2), (case.batch, *case.shape, 1))
    keys, x = jax.device_put((keys, x), placed.split)
    params, times, t = jax.device_put((placed.model.params, times, times[1]), placed.whole)

    def build(fn, shared, *examples):
        program, seconds = timing.compiled(parallel.over_examples(fn), shared, examples, out_shardings=placed.split)
        return program, seconds, lambda: program(shared, examples)

    forward, _, forward_call = build(lambda shared, x: denoise(shared[0])(x, shared[1]), (params, t), x)
    walk = lambda shared, key, x: sample(key, x, denoise(shared[0]), solver, shared[1]).x
    whole, seconds, whole_call = build(walk, (params, times), keys, x)
    contenders = {'jaxdiff': (whole_call, forward_call, walks.network_calls(solver, times)), **beside}

    turns = {}
    for name, (walk, call, _) in contenders.items():
        turns |= {(name, 'before'): call, (name, 'walk'): walk, (name, 'after'): call}
    seen = timing.alternate(turns, rounds=rounds, least=least)
    rows = []
    for name, (_, _, calls) in contenders.items():
        around = zip(seen[name, 'before'].seconds, seen[name, 'after'].seconds, strict=True)
        call, walk = Timing(tuple(sum(pair) / 2 for pair in around)), seen[name, 'walk']
        rows.append(Row(name, case, calls, walk, call, timing.ratio(walk, call, scale=calls)))
    devices = placed.split.mesh.size
    flops = (forward.cost_analysis() or {}).get('flops', math.nan) * devices * rows[0].calls
    return [rows[0]._replace(compile_s=seconds, memory_bytes=_bytes(whole) * devices, flops=flops), *rows[1:]]


def _bytes(program):
    """What a compiled program holds on one device at its fullest: arguments, results and temporaries."""
    memory = program.memory_analysis()
    return memory.argument_size_in_bytes + memory.output_size_in_bytes + memory.temp_size_in_bytes - memory.alias_size_in_bytes


def check(
    *,
    shapes: Sequence[str],
    solvers: Sequence[str],
    steps: Sequence[int],
    batches: Sequence[int],
    dtypes: Sequence[str],
    widths: Sequence[int],
    patch: int,
    **_: Any,
) -> list[tuple[Case, Model]]:
    """Every case that `measure` would time of the same arguments, and its network without parameters; the same errors."""
    todo = cases(shapes, solvers, steps, batches, dtypes)
    return [(case, unet(case.shape, case.dtype, tuple(widths), patch)) for case in todo]


def jobs(*, rounds: int, **arguments: Any) -> list[bill.Job]:
    """The network calls that `measure` would make of the same arguments in our samplers, a job for each network."""
    found = {}
    for case, blank in check(**arguments):
        path = model.make_path(blank.path)
        calls = walks.network_calls(walks.SOLVERS[case.solver](path), walks.grid(case.solver, path, case.steps))
        name = f'{"x".join(map(str, case.shape))}, {case.batch} at once, {case.dtype}'
        before = found.get(name, bill.calling(blank, count=case.batch, size=case.batch, calls=0, name=name))
        found[name] = before._replace(times=before.times + (rounds + 1) * calls)
    return [*found.values()]


# ---- what is told


def line(row: Row) -> dict[str, Any]:
    """A case for measurements.jsonl, with the seconds of every round and the highest memory of the run so far."""
    rounds = {name: getattr(row, name).seconds for name in ('walk', 'forward', 'overhead')}
    plain = {name: value for name, value in row._asdict().items() if name != 'case'}
    return {**row.case._asdict(), **plain, **rounds, 'peak_memory_bytes': peak_memory()}


def table(rows: Sequence[Row], widths: Sequence[int], patch: int) -> dict[str, Any]:
    """Medians over the rounds."""
    columns = {
        'software': lambda row: row.software,
        'solver': lambda row: row.case.solver,
        'image': lambda row: 'x'.join(map(str, row.case.shape)),
        'batch': lambda row: row.case.batch,
        'dtype': lambda row: row.case.dtype,
        'steps': lambda row: row.case.steps,
        'network calls': lambda row: row.calls,
        'overhead': lambda row: row.overhead.median,
        'overhead, least to most': lambda row: f'{row.overhead.low:.3f} to {row.overhead.high:.3f}',
        'forward, ms': lambda row: 1e3 * row.forward.median,
        'forward, least to most': lambda row: f'{1e3 * row.forward.low:.4g} to {1e3 * row.forward.high:.4g}',
        'sampler, s': lambda row: row.walk.median,
        'examples/s': lambda row: row.case.batch / row.walk.median,
        'network calls/s': lambda row: row.calls / row.walk.median,
        'GFLOP/s': lambda row: row.flops and row.flops / row.walk.median / 1e9,
        'share of the ceiling': lambda row: row.flops and row.flops / row.walk.median / ceiling(row.case.dtype),
        'compilation, s': lambda row: row.compile_s,
        'memory of the program, MiB': lambda row: row.memory_bytes and row.memory_bytes / 2**20,
    }
    ceilings = {row.case.dtype: ceiling(row.case.dtype) / 1e9 for row in rows}
    caption = (
        f'Samplers with a U-Net of widths {", ".join(map(str, widths))} on patches of {patch}, {jax.device_count()} devices; overhead is the whole '
        f'sampler over network calls times one jitted forward, median of {len(rows[0].walk.seconds)} rounds. A matrix product reaches '
        f'{" and ".join(f"{value:.0f} GFLOP/s in {dtype}" for dtype, value in ceilings.items())}.'
    )
    return {'caption': caption, 'header': [*columns], 'rows': [[of(row) for of in columns.values()] for row in rows]}


def section(rows: Sequence[Row]) -> report.Section:
    """Overhead against network calls, a line for each solver."""
    first = [row for row in rows if row.case[:3] == rows[0].case[:3]]
    series = {row.case.solver: [] for row in first}
    for row in sorted(first, key=lambda row: row.calls):
        series[row.case.solver].append((row.calls, row.overhead.median))
    series = {name: tuple(zip(*points, strict=True)) for name, points in series.items()}
    figure = report.curves(series, x='network calls', y='overhead', log='x', size=(8.5, 4.6))
    text = (
        'A whole sampler in units of its network calls, each at the price of one jitted forward: 1 is a sampler that costs nothing itself.'
    )
    return report.Section('Overhead', text, [report.picture(figure, '', alt='overhead against network calls')])
