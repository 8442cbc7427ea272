"""Whether the memory that programs are predicted to take is what they take; and what volumes of any size would take.

Each case runs in a process of its own, from which every trace of compilation has been returned: the peak of the memory that is resident on a CPU, or
in use on an accelerator, while the program runs, less what there was before, arguments included. On Linux, freed blocks go back to the system at
once there; left to itself the C library keeps some tens of MiB of them for every thread.

    python -m jaxdiff.benchmark.memory page results/performance/memory.json > docs/memory.md

writes the page from a receipt of the suite.
"""

import ctypes
import gc
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdiff import grids, model, parallel, plans
from jaxdiff.benchmark.measured import Measured
from jaxdiff.data.source import Source
from jaxdiff.experiment import Bar, Evaluation
from jaxdiff.export import bill, cost
from jaxdiff.types import UserError

BARS = (Bar('worst_memory_error', '<=', 0.15),)


class Case(NamedTuple):
    """A program: a training step or a sampler of `batch` images of `size` pixels along each of `dims` axes."""

    dims: int
    mode: str  # 'training' or 'sampling'
    size: int
    batch: int
    widths: Sequence[int] = (32, 64)
    attention: Sequence[bool] = (False, False)
    channels: int = 1
    steps: int = 2  # of the sampler
    dtype: str = 'float32'
    remat: bool = False

    @property
    def name(self) -> str:
        return f'{self.dims}-D {self.mode}, {self.batch} x {" x ".join(self.dims * [str(self.size)])}'


CASES = (
    Case(2, 'training', 64, 32),
    Case(2, 'training', 64, 16, widths=(48, 96), attention=(False, True)),
    Case(2, 'sampling', 128, 32),
    Case(3, 'training', 32, 2),
    Case(3, 'sampling', 64, 2),
)
SIDES = (64, 128, 256, 512)
WIDTHS, LATENT, CALLS = (32, 64, 128, 256), 4, 30  # of the networks of the table; the latent's factor and channels; network calls


def measure(*, cases: Sequence[Case] = CASES, sides: Sequence[int] = SIDES, widths: Sequence[int] = WIDTHS, runs: int = 3) -> Measured:
    """Every case `runs` times, beside its prediction; and the table of volumes of these `sides`, predicted only.

    Raises `UserError` where a case does not run.
    """
    lines = [alone(case, runs) for case in cases]
    error = lambda line, run, what: abs(line[what] - line['measured_bytes'][run]) / line['measured_bytes'][run]
    worst = lambda run, what: {'worst_memory_error': max(error(line, run, what) for line in lines)}
    seen = [
        Evaluation(
            worst(run, 'predicted_bytes'),
            {'without scratch': worst(run, 'planned_bytes')},
            {'arguments and results alone': worst(run, 'given_bytes')},
        )
        for run in range(runs)
    ]
    return Measured(seen, (case_table(lines), volume_table(sides, widths)), lines, notes=notes())


def notes() -> tuple[str, ...]:
    """What was not measured."""
    device = jax.devices()[0].device_kind
    return (f'Volumes are predictions for {device}, planned by the compiler; none of that table was run.',)


# ---- programs


def job(case: Case) -> bill.Job:
    """The program of a case, as training and sampling run it."""
    spec = {
        'name': 'unet', 'channels': case.channels, 'dims': case.dims, 'widths': tuple(case.widths), 'blocks': 1, 'norm': 'adaptive', 'groups': 8,
        'attention': tuple(case.attention), 'dtype': case.dtype, 'remat': (True,) * len(case.widths) if case.remat else (),
    }  # fmt: skip
    blank = model.Model(spec, {'name': 'cosine'}, 'v', None, {}, {'shape': [*(case.size,) * case.dims, case.channels]})
    if case.mode == 'sampling':
        times = grids.default(model.make_path(blank.path), case.steps)
        return bill.drawing(blank, count=case.batch, size=case.batch, calls=case.steps, times=times)
    zeros = np.broadcast_to(np.float32(0), blank.card['shape'])
    source = Source(case.batch, lambda index: {'image': zeros}, {})
    return plans.training(plans.denoiser('network', blank, source, batch=case.batch, steps=1, rate=1e-3))


# ---- measured


def alone(case: Case, runs: int) -> dict[str, Any]:
    """What `observe` says of a case, from a process of its own."""
    child = {**os.environ, 'XLA_PYTHON_CLIENT_PREALLOCATE': 'false', 'MALLOC_MMAP_THRESHOLD_': str(2**20), 'JAX_TRACEBACK_FILTERING': 'off'}
    command = [sys.executable, '-m', 'jaxdiff.benchmark.memory', 'observe', json.dumps(case), str(runs)]
    done = subprocess.run(command, capture_output=True, text=True, env=child)
    if done.returncode:
        raise UserError(f'{case.name}: {(done.stderr.strip() or f"ended with {done.returncode}").splitlines()[-1]}; choose smaller cases')
    return {'case': case.name, **json.loads(done.stdout.splitlines()[-1])}


def observe(case: Case, runs: int) -> dict[str, Any]:
    """Predicted and measured bytes of all local devices together on a CPU, of the first device otherwise."""
    program = job(case)
    traced = program.fn.trace(*program.args)
    lowered = traced.lower()
    compiled = lowered.compile()
    told = cost.account(traced, lowered, compiled)
    devices = told.resident // told.memory
    settle()
    before, measured = in_use(), []
    for _ in range(runs):
        settle()
        arguments = jax.block_until_ready(jax.tree.map(made, program.args))
        jax.block_until_ready(compiled(*arguments))
        measured.append(highest() - before)
        del arguments
    return {
        'predicted_bytes': told.resident,
        'planned_bytes': devices * (told.memory - told.scratch),
        'given_bytes': devices * (told.arguments + told.outputs - told.aliased),
        'measured_bytes': measured,
    }


def made(leaf: jax.ShapeDtypeStruct) -> jax.Array:
    """An array of this shape, where the program wants it."""
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        key = jax.random.key(0)
        return jax.device_put(jnp.broadcast_to(key, leaf.shape), leaf.sharding)
    return jax.device_put(np.ones(leaf.shape, leaf.dtype), leaf.sharding)


def settle() -> None:
    """Return freed memory to the system and forget the peak so far, where the backend is a CPU."""
    gc.collect()
    if jax.default_backend() == 'cpu':
        ctypes.CDLL(None).malloc_trim(0)
        Path('/proc/self/clear_refs').write_text('5')


def in_use() -> int:
    return status('VmRSS') if jax.default_backend() == 'cpu' else jax.devices()[0].memory_stats()['bytes_in_use']


def highest() -> int:
    return status('VmHWM') if jax.default_backend() == 'cpu' else jax.devices()[0].memory_stats()['peak_bytes_in_use']


def status(name: str) -> int:
    """Bytes, from /proc/self/status."""
    (line,) = (line for line in Path('/proc/self/status').read_text().splitlines() if line.startswith(name + ':'))
    return int(line.split()[1]) * 1024


# ---- told


def case_table(lines: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    rows = []
    for line in lines:
        predicted, measured = line['predicted_bytes'] / 2**20, float(np.median(line['measured_bytes'])) / 2**20
        rows.append([line['case'], round(predicted), round(measured), predicted / measured])
    caption = 'Peak memory of one program, arguments included, predicted from the compiled program and measured, median of the runs.'
    return {'caption': caption, 'header': ['program', 'predicted, MiB', 'measured, MiB', 'predicted / measured'], 'rows': rows}


def volume_table(sides: Sequence[int], widths: Sequence[int]) -> dict[str, Any]:
    """One volume of each side: in voxels, or in the latent of an autoencoder that makes four times smaller axes of four channels."""
    rows, names = [], ' '.join(map(str, widths))
    attention = (False,) * (len(widths) - 1) + (True,)
    for side in sides:
        for space, size, channels in (('voxels', side, 1), ('latent', side // LATENT, LATENT)):
            attend = attention if size // 2 ** (len(widths) - 1) <= 16 else (False,) * len(widths)
            common = dict(dims=3, size=size, batch=1, channels=channels, widths=widths, attention=attend, dtype='bfloat16')
            told = [price(Case(mode=mode, remat=mode == 'training', **common)) for mode in ('sampling', 'training')]
            (drawing, training) = told
            calls = 3  # of the two steps of Heun that were compiled
            rows.append([
                f'{side}^3', space, drawing.memory / 2**30, CALLS * drawing.seconds / calls, training.memory / 2**30, training.seconds,
            ])  # fmt: skip
    caption = (
        f'Predicted for one volume on one {jax.devices()[0].device_kind}: a U-Net of widths {names} in bfloat16, on the voxels or on a latent of '
        f'{LATENT} channels and axes {LATENT} times shorter, without its autoencoder; attention where the coarsest level has at most 16^3 positions; '
        f'sampling in {CALLS} network calls, training with every level recomputed. Seconds are operations and bytes over the rates of the device.'
    )
    header = ['volume', 'space', 'sampling, GiB', 'sampling, s', 'training step, GiB', 'training step, s']
    return {'caption': caption, 'header': header, 'rows': rows}


def price(case: Case) -> cost.Cost:
    """Predicted only."""
    program = job(case)
    return cost.predict(program.fn, *program.args, dtype=case.dtype)


def page(receipt: Mapping[str, Any]) -> str:
    """Markdown of the tables of a receipt."""
    shown = lambda cell: f'{cell:.3g}' if isinstance(cell, float) else str(cell)
    parts = [
        '# Memory and time, told before running',
        f'{receipt["device"]}; jax {receipt["versions"]["jax"]}. Generated from `results/performance/memory.json`.',
    ]
    for table in receipt['tables']:
        head = [table['header'], ['---'] * len(table['header'])]
        rows = '\n'.join(f'| {" | ".join(map(shown, row))} |' for row in [*head, *table['rows']])
        parts += [table['caption'], rows]
    return '\n\n'.join([*parts, *receipt.get('notes', ())]) + '\n'


if __name__ == '__main__':
    if sys.argv[1] == 'observe':
        parallel.use_cores()
        print(json.dumps(observe(Case(*json.loads(sys.argv[2])), int(sys.argv[3]))))
    else:
        print(page(json.loads(Path(sys.argv[2]).read_text())), end='')
