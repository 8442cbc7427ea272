"""How long until the first network call: compiling a sampler of many steps and of few, and starting a script with a full and an empty cache.

A walk is a loop, so that its number of steps should not matter to the compiler: `compile_ratio` is the time that the longer walk takes over
that of the shorter, the worst of all solvers on either side of 1; a walk whose loop is written out is the control. `start_ratio` is the time from
the start of a process to the moment its last program is ready, with a cache that an earlier run has filled, over that of the earlier run; a run
without a cache is the control. The moment is read from the lines that JAX logs as it compiles.
"""

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxdiff import grids, model, predict
from jaxdiff.benchmark import timing
from jaxdiff.benchmark.measured import Measured
from jaxdiff.experiment import Bar, Evaluation
from jaxdiff.paths import GaussianPath
from jaxdiff.solvers import named
from jaxdiff.solvers.loop import Solver, sample
from jaxdiff.types import UserError

BARS = (Bar('compile_ratio_most', '<=', 1.2), Bar('compile_ratio_least', '>=', 0.8), Bar('start_ratio', '<=', 0.25))
SOLVERS = ('ddim', 'adams', 'heun', 'rk4', 'pndm', 'dpmpp_3m', 'unipc', 'ddpm', 'sde_dpmpp_2m')  # stages, memory, a start of its own, noise
NETWORK = {'name': 'unet', 'channels': 1, 'widths': [64, 128, 128], 'blocks': 1, 'attention': [False, False, True]}
SCRIPT = Path(__file__).parents[2] / 'experiments' / 'sample.py'
FLAGS = ('--count=2', '--size=2')
FINISHED = re.compile(r'Finished (tracing|jaxpr|XLA compilation).* in ([\d.e-]+) sec')


class Start(NamedTuple):
    """Seconds of a process until its first program is traced and its last is ready, what it traced, lowered, and compiled or read in between,
    and the number of its programs."""

    ready: float
    begin: float
    tracing: float
    lowering: float
    compiling: float
    programs: int


def measure(
    *,
    network: Mapping[str, Any] = NETWORK,
    size: int = 64,
    steps: tuple[int, int] = (10, 1000),
    solvers: Sequence[str] = SOLVERS,
    unrolled: tuple[int, int] = (2, 6),
    rounds: int = 3,
    script: str | os.PathLike = SCRIPT,
    flags: Sequence[str] = FLAGS,
) -> Measured:
    """Compile a 2-D sampler of `size` px at both numbers of `steps` with each solver, and start `script` with `flags`, `rounds` times.

    `unrolled` are the numbers of steps of the control, a written-out walk of the first solver. Raises `UserError` where the script fails, where
    this process itself keeps compiled programs, and for other solvers or numbers of steps.
    """
    if jax.config.jax_compilation_cache_dir:
        raise UserError('--compilation_cache: would hide what this suite measures; leave the flag out')
    if len(steps) != 2 or steps[0] >= steps[1]:
        raise UserError(f'--steps={",".join(map(str, steps))}: this suite compares two numbers of steps; give the smaller and the larger')
    if unknown := sorted(set(solvers) - set(named.SOLVERS)):
        raise UserError(f'--solvers={",".join(solvers)}: unknown {", ".join(unknown)}; choose of {", ".join(named.SOLVERS)}')
    seconds = compile_seconds(network, size, steps, solvers, unrolled, rounds)
    ratios = {name: timing.ratio(seconds[name, steps[1]], seconds[name, steps[0]]) for name in solvers}
    written_out = timing.ratio(seconds['unrolled', unrolled[1]], seconds['unrolled', unrolled[0]])
    starts = [started(script, flags) for _ in range(rounds)]
    seen = []
    for n, (first, second, without) in enumerate(starts):
        each = [ratio.seconds[n] for ratio in ratios.values()]
        seen.append(
            Evaluation(
                {'compile_ratio_most': max(each), 'compile_ratio_least': min(each), 'start_ratio': second.ready / first.ready},
                {},
                {
                    'loop written out': {'compile_ratio_most': written_out.seconds[n]},
                    'without a cache': {'start_ratio': without.ready / first.ready},
                },
            )
        )
    lines = [{'case': f'{name} {count}', 'compile_s': list(each.seconds)} for (name, count), each in seconds.items()]
    lines += [{'case': f'start, {kind}', **start._asdict()} for runs in starts for kind, start in zip(KINDS, runs, strict=True)]
    return Measured(seen, (compile_table(seconds, ratios, steps), start_table(starts)), lines)


# ---- compiling


def compile_seconds(
    network: Mapping[str, Any], size: int, steps: tuple[int, int], solvers: Sequence[str], unrolled: tuple[int, int], rounds: int
) -> dict[tuple[str, int], timing.Timing]:
    """Seconds to trace and compile one walk, by solver and number of steps; every cache is emptied before each."""
    path = model.make_path({'name': 'cosine'})
    made = model.make_network({**network, 'dims': 2})
    image = jax.ShapeDtypeStruct((size, size, 1), jnp.float32)
    params = jax.eval_shape(made.init, jax.eval_shape(lambda: jax.random.key(0)), image.update(shape=(1, *image.shape)), jnp.zeros(1))

    def contender(make: Callable[[GaussianPath], Solver], count: int, unroll: int = 1) -> Callable[[], None]:
        times = grids.default(path, count)

        def walk(params: Any, key: Any, x: Any) -> Any:
            denoise = predict.as_denoiser(lambda x, t: made.apply(params, x, t), path, 'v')
            return sample(key, x, denoise, make(path), times, unroll=unroll).x

        def build() -> None:
            jax.clear_caches()
            timing.compiled(walk, params, jax.eval_shape(lambda: jax.random.key(0)), image)

        return build

    contenders = {(name, count): contender(named.SOLVERS[name], count) for name in solvers for count in steps}
    contenders |= {('unrolled', count): contender(named.SOLVERS[solvers[0]], count, unroll=count) for count in unrolled}
    return timing.alternate(contenders, rounds=rounds, least=0)


def compile_table(
    seconds: Mapping[tuple[str, int], timing.Timing], ratios: Mapping[str, timing.Timing], steps: tuple[int, int]
) -> dict[str, Any]:
    rows = [
        [name, *(f'{seconds[name, count].median:.2f}' for count in steps), f'{ratio.median:.3f}', f'{ratio.low:.3f} to {ratio.high:.3f}']
        for name, ratio in ratios.items()
    ]
    header = ['solver', *(f'{count} steps, s' for count in steps), 'ratio', 'spread']
    return {'caption': 'Seconds to trace and compile a sampler, median.', 'header': header, 'rows': rows}


# ---- starting

KINDS = ('empty cache', 'full cache', 'no cache')


def started(script: str | os.PathLike, flags: Sequence[str]) -> tuple[Start, Start, Start]:
    """Three runs of a script: with an empty cache, with the same cache, and without one."""
    with tempfile.TemporaryDirectory() as folder:
        cache = f'--compilation_cache={folder}/cache'
        return tuple(start(script, (*flags, f'--workdir={folder}/{n}', *more)) for n, more in enumerate(((cache,), (cache,), ())))


def start(script: str | os.PathLike, flags: Sequence[str]) -> Start:
    """Run a script, and hear when its programs are ready."""
    environment = {**os.environ, 'JAX_LOG_COMPILES': '1'}
    begin, ready, spent, programs, last = 0.0, 0.0, {'tracing': 0.0, 'jaxpr': 0.0, 'XLA compilation': 0.0}, 0, ''
    launched = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, str(script), *flags], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        for line in process.stderr:
            now = time.perf_counter() - launched
            if found := FINISHED.search(line):
                begin, phase = begin or now, found[1]
                spent[phase] += float(found[2])
                if phase == 'XLA compilation':
                    ready, programs = now, programs + 1
            elif line.strip():
                last = line.strip()
    if process.returncode or not programs:
        raise UserError(f'{script}: {last[:200] or "compiled nothing"}; run it by itself to see why')
    return Start(ready, begin, *spent.values(), programs)


def start_table(starts: Sequence[tuple[Start, Start, Start]]) -> dict[str, Any]:
    middle = lambda kind, name: sorted(getattr(runs[kind], name) for runs in starts)[len(starts) // 2]
    rows = [[kind, *(f'{middle(n, name):.2f}' for name in Start._fields[:-1]), str(middle(n, 'programs'))] for n, kind in enumerate(KINDS)]
    header = ['', 'ready, s', 'first program, s', 'tracing, s', 'lowering, s', 'compiling or reading, s', 'programs']
    return {'caption': 'From the start of a process until its last program is ready, median.', 'header': header, 'rows': rows}
