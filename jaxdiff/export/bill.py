"""What a run costs, told before it runs: its programs, how often each is called, and whether they fit."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec

from jaxdiff import model, parallel
from jaxdiff.export import cost
from jaxdiff.model import Model
from jaxdiff.solvers.loop import Solver, sample
from jaxdiff.solvers.named import usual
from jaxdiff.types import Array

PATIENCE = 3.0  # seconds that a dry run spends on running one program


class Job(NamedTuple):
    """A program that a run calls `times` times: a function, or what `jax.jit` made of one, and its arguments, arrays or ShapeDtypeStructs.

    A long program may name a short `unit` (function, arguments), of which it is `units` one after the other: its time is theirs. With `run` a program
    that is short is run to know its time; without, it compiles sooner.
    """

    name: str
    fn: Callable
    args: tuple
    times: int = 1
    unit: tuple[Callable, tuple] | None = None
    units: int = 1
    dtype: str = 'float32'
    run: bool = True


def price(job: Job, patience: float = PATIENCE) -> cost.Cost:
    """Of one call. A unit that would not be run is not looked at either."""
    if job.unit is None:
        return cost.predict(job.fn, *job.args, dtype=job.dtype, patience=patience if job.run else 0.0)
    whole = cost.predict(job.fn, *job.args, dtype=job.dtype)
    if whole.seconds > job.units * patience:
        return whole
    unit = cost.predict(job.unit[0], *job.unit[1], dtype=job.dtype, patience=patience)
    return whole._replace(seconds=job.units * unit.seconds, timed=unit.timed)


def bill(jobs: Sequence[Job], *, patience: float = PATIENCE) -> dict[str, Any]:
    """Print, and return as JSON, what each program costs and what all do: memory on one device, operations, time; whether they fit its memory."""
    rows, lines = {}, [('', 'memory', 'operations', 'time', 'calls', 'in all')]
    for job in jobs:
        each = price(job, patience)
        total = job.times * each.seconds
        rows[job.name] = {
            'memory_bytes': each.memory,
            'resident_bytes': each.resident,
            'flops': each.flops,
            'moved_bytes': each.moved,
            'seconds': each.seconds,
            'timed': each.timed,
            'calls': job.times,
            'devices': each.devices,
        }
        about = '' if each.timed else 'about '
        lines.append(
            (job.name, size(each.memory), operations(each.flops), duration(each.seconds), f'{job.times:,}', about + duration(total))
        )
    first, *widths = (max(map(len, column)) for column in zip(*lines, strict=True))
    for name, *line in lines:
        print('  '.join([name.ljust(first), *map(str.rjust, line, widths)]))
    peak, room = max((row['resident_bytes'] for row in rows.values()), default=0), cost.capacity()
    seconds = sum(row['calls'] * row['seconds'] for row in rows.values())
    device = f'{jax.device_count()} x {jax.devices()[0].device_kind}'
    fits = peak <= room
    verdict = (
        'fits'
        if fits
        else 'DOES NOT FIT: take a smaller batch or size, more devices, or --remat or --accumulate where there are such flags'
    )
    print(f'in all {duration(seconds)} on {device}; at most {size(peak)} of {size(room)}: {verdict}')
    print(f'planned by the compiler for {jax.default_backend()}; on another kind of device memory and time are others')
    return {'programs': rows, 'seconds': seconds, 'peak_bytes': peak, 'capacity_bytes': room, 'fits': fits, 'device': device}


def over(name: str, fn: Callable, shared: Any, example: Any, *, count: int, size: int, unit: tuple | None = None, **options: Any) -> Job:
    """`fn(shared, *example)` over `count` examples, `size` at a time, as `sampling.mapper` runs it.

    Args:
        shared, example: shapes, an example without its leading axis.
        unit: (fn, example), the same for the unit of the job.
    """
    mesh = parallel.make_mesh()
    local = mesh.local_mesh
    hosts = jax.process_count()
    part = -(-size // (hosts * local.size)) * local.size
    whole, split = NamedSharding(local, PartitionSpec()), NamedSharding(local, PartitionSpec(parallel.AXES))
    place = lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=whole)
    many = lambda leaf: jax.ShapeDtypeStruct((part, *leaf.shape), leaf.dtype, sharding=split)

    def program(fn: Callable, example: Any) -> tuple[Callable, tuple]:
        return jax.jit(parallel.over_examples(fn), out_shardings=split), (jax.tree.map(place, shared), jax.tree.map(many, example))

    return Job(name, *program(fn, example), -(-count // (hosts * part)), unit and program(*unit), **options)


def drawing(
    blank: Model, *, count: int, size: int, calls: int, solver: Solver | None = None, times: Array | None = None, name: str = 'drawing'
) -> Job:
    """What `sampling.drawer` runs for `count` images, with `calls` network calls each. The model needs no parameters."""
    path = model.make_path(blank.path)
    solver, times = usual(path, solver, times)

    def one(params: Any, key: Array, told: dict[str, Array]) -> Array:
        start, walk = jax.random.split(key)
        x = path.sigma(times[0]) * jax.random.normal(start, blank.card['shape'])
        return sample(walk, x, model.denoiser(blank._replace(params=params), **told), solver, times).x

    kinds = {'label': jnp.int32, 'words': jnp.int32}
    told = {
        name: jax.ShapeDtypeStruct(tuple(shape), kinds.get(name, jnp.float32)) for name, shape in blank.card.get('conditioning', {}).items()
    }
    example = (jax.eval_shape(lambda: jax.random.key(0)), told)
    return over(name, one, model.shapes(blank), example, count=count, size=size, **network_call(blank, told, calls))


def network_call(blank: Model, told: dict[str, Any], calls: int) -> dict[str, Any]:
    """What a job of `calls` network calls is made of: options of `over`."""

    def call(params: Any, x: Array, t: Array, told: dict[str, Array]) -> Array:
        return model.denoiser(blank._replace(params=params), **told)(x, t)

    dtype = blank.network.get('dtype', 'float32')
    return {'unit': (call, (float32(*blank.card['shape']), float32(), told)), 'units': calls, 'dtype': dtype}


def calling(blank: Model, *, count: int, size: int, calls: int, name: str) -> Job:
    """`calls` network calls on each of `count` images, `size` at a time, and nothing else."""
    (call, example), dtype = network_call(blank, {}, 1)['unit'], blank.network.get('dtype', 'float32')
    job = over(name, call, model.shapes(blank), example, count=count, size=size, dtype=dtype)
    return job._replace(times=job.times * calls)


def float32(*shape: int) -> jax.ShapeDtypeStruct:
    """A float32 array that is not there."""
    return jax.ShapeDtypeStruct(shape, jnp.float32)


# ---- for people


def size(count: float) -> str:
    """Bytes: '812 MiB', '23.5 GiB'."""
    return f'{count / 2**20:,.0f} MiB' if count < 10 * 2**30 else f'{count / 2**30:,.1f} GiB'


def operations(count: float) -> str:
    """'45.2 GFLOP'."""
    for prefix, scale in (('P', 1e15), ('T', 1e12), ('G', 1e9), ('M', 1e6)):
        if count >= scale:
            return f'{count / scale:.3g} {prefix}FLOP'
    return f'{count:,.0f} FLOP'


def duration(seconds: float) -> str:
    """'0.41 s', '3.5 min', '2.1 h', '40 days'."""
    for name, scale, most in (('ms', 1e-3, 1), ('s', 1, 120), ('min', 60, 7200), ('h', 3600, 172800)):
        if seconds < most:
            return f'{seconds / scale:.3g} {name}'
    return f'{seconds / 86400:,.0f} days'
