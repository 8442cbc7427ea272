"""What a program costs, told before it runs: compiled for shapes, nothing allocated.

    memory     = arguments + outputs - aliased + temporaries + scratch, of one device                    (1)
    operations = count(program) + sum over scans of (length - 1) operations(body)                         (2)
    seconds    = (operations / rate + moved / bandwidth) / devices                                        (3)

Equation (1) is the compiler's plan, but for `scratch`: the libraries that run convolutions on a CPU copy their operands, which no plan holds.
In (2) `count` is XLA's own, in which the body of a loop counts once; bodies of `while`, whose length nobody knows, do count once. The bytes `moved`
are those of the compiled program, raised by the loops as the operations are. Equation (3) takes rate and bandwidth from a short calibration
(`rates`); where the program is short it is run instead, on zeros, and `timed` says so.
"""

import functools
import math
import os
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, jaxpr_as_fun
from jax.sharding import NamedSharding, PartitionSpec

BITS = {'pred': 8, 'bf16': 16, 'f16': 16, 'f32': 32, 'f64': 64}
NAMED = re.compile(r'(%[\w.-]+) = (\w+)\[([\d,]*)\]')
CONVOLUTION = re.compile(r' convolution\((%[\w.-]+), (%[\w.-]+)\)')


class Cost(NamedTuple):
    """Of one call of a program. Bytes are of one device, operations, bytes moved and seconds of all `devices` together.

    Attributes:
        timed: whether `seconds` was measured by running the program; otherwise it is equation (3).
    """

    arguments: int
    outputs: int
    aliased: int
    temporaries: int
    scratch: int
    flops: float
    moved: float
    seconds: float
    timed: bool
    devices: int

    @property
    def memory(self) -> int:
        """Bytes at the highest moment, on one device, equation (1)."""
        return self.arguments + self.outputs - self.aliased + self.temporaries + self.scratch

    @property
    def resident(self) -> int:
        """Bytes at the highest moment, of what `capacity` measures: the CPU devices of one process share its memory."""
        local = min(self.devices, jax.local_device_count())
        return self.memory * (local if jax.default_backend() == 'cpu' else 1)


class Rates(NamedTuple):
    """Of one device, all of them being busy."""

    flops: float  # operations per second of a large matrix product
    bandwidth: float  # bytes per second, read and written


def predict(fn: Callable, *args: Any, dtype: str = 'float32', patience: float = 0.0) -> Cost:
    """The cost of `fn(*args)` on the devices of this process's backend.

    Args:
        fn: a function, or what `jax.jit` made of one, with its donated arguments and shardings.
        args: arrays or ShapeDtypeStructs, whose shardings say how many devices take part.
        dtype: of its products, for their rate.
        patience: a program that (3) says takes at most so many seconds, and that fits in half of the free memory, is run instead.
    """
    traced = (fn if hasattr(fn, 'trace') else jax.jit(fn)).trace(*args)
    lowered = traced.lower()
    runs = patience > 0 and _count(lowered) <= patience * rates(dtype).flops * jax.device_count()
    # a plan of memory is the same however little its code is optimised, and is made in half the time
    quick = {} if runs or jax.default_backend() != 'cpu' else {'xla_backend_optimization_level': 0}
    compiled = lowered.compile(compiler_options=quick)
    cost = account(traced, lowered, compiled, dtype)
    if runs and cost.seconds <= patience and 2 * cost.resident <= capacity():
        cost = cost._replace(seconds=_timed(compiled, args), timed=True)
    return cost


def account(traced: jax.stages.Traced, lowered: jax.stages.Lowered, compiled: jax.stages.Compiled, dtype: str = 'float32') -> Cost:
    """The cost of a program that was compiled already."""
    plan, devices, once = compiled.memory_analysis(), _devices(compiled), _count(lowered)
    flops = once + _repeated(traced.jaxpr)
    moved = devices * compiled.cost_analysis().get('bytes accessed', 0.0) * (flops / once if once else 1.0)
    return Cost(
        plan.argument_size_in_bytes,
        plan.output_size_in_bytes,
        plan.alias_size_in_bytes,
        plan.temp_size_in_bytes,
        _scratch(compiled.as_text()) if jax.default_backend() == 'cpu' else 0,
        flops,
        moved,
        estimate(flops, moved, devices, dtype),
        False,
        devices,
    )


def estimate(flops: float, moved: float, devices: int, dtype: str = 'float32') -> float:
    """Seconds by (3)."""
    rate = rates(dtype)
    return (flops / rate.flops + moved / rate.bandwidth) / devices


@functools.cache
def rates(dtype: str = 'float32') -> Rates:
    """Measured on this process's devices, once, in about a second: a matrix product, and one reading and writing of a large array."""
    devices, small = jax.local_devices(), jax.default_backend() == 'cpu'
    side, length = (768, 2**23) if small else (8192, 2**28)
    mesh = jax.make_mesh((len(devices),), ('device',), axis_types=(jax.sharding.AxisType.Auto,), devices=devices)
    split = NamedSharding(mesh, PartitionSpec('device'))
    run = functools.partial(jax.jit, out_shardings=split)
    matrices = run(lambda: jnp.full((len(devices), side, side), 1 / side, dtype))()
    numbers = run(lambda: jnp.ones((len(devices), length), jnp.float32))()
    product = run(lambda x: x @ x)
    copy = run(lambda x: jax.lax.fori_loop(0, 8, lambda _, x: x + 1, x))  # again and again: new pages cost more than what is moved
    return Rates(2 * side**3 / _fastest(lambda: product(matrices)), 8 * 8 * length / _fastest(lambda: copy(numbers)))


def capacity() -> int:
    """Bytes of memory: of an accelerator, what a program may take; of a CPU, what this machine or its container has for all."""
    limit = (jax.local_devices()[0].memory_stats() or {}).get('bytes_limit')
    if limit:
        return int(limit)
    whole = os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE')
    group = Path('/sys/fs/cgroup/memory.max')
    bound = group.read_text().strip() if group.exists() else 'max'
    return min(whole, int(bound)) if bound.isdecimal() else whole


# ---- operations


def _count(lowered: Any) -> float:
    return float((lowered.cost_analysis() or {}).get('flops', 0.0))


def _repeated(jaxpr: Any) -> float:
    """The second term of (2)."""
    total = 0.0
    for equation in getattr(jaxpr, 'jaxpr', jaxpr).eqns:
        inner = sum(map(_repeated, _inside(equation.params)))
        if equation.primitive.name == 'scan':
            again = equation.params['length'] - 1
            inner += again * (inner + _body(equation.params['jaxpr']) if again else 0.0)
        total += inner
    return total


def _body(jaxpr: ClosedJaxpr) -> float:
    """XLA's count of one turn of a loop, loops in it once."""
    shapes = [jax.ShapeDtypeStruct(each.shape, each.dtype) for each in jaxpr.in_avals]
    return _count(jax.jit(jaxpr_as_fun(jaxpr)).lower(*shapes))


def _inside(params: dict[str, Any]) -> Iterator[Any]:
    """The programs within an equation."""
    for value in params.values():
        yield from (each for each in (value if isinstance(value, tuple) else (value,)) if hasattr(each, 'eqns'))


# ---- memory


def _scratch(program: str) -> int:
    """Bytes of the largest operands that one convolution of the compiled program copies."""
    sizes = {name: _bytes(kind, shape) for name, kind, shape in NAMED.findall(program)} if ' convolution(' in program else {}
    # names are unique in a compiled program
    return max((sizes[a] + sizes[b] for a, b in CONVOLUTION.findall(program)), default=0)


def _bytes(kind: str, shape: str) -> int:
    return math.prod(int(size) for size in shape.split(',') if size) * BITS.get(kind, 32) // 8


def _devices(compiled: Any) -> int:
    shardings = jax.tree.leaves((compiled.input_shardings, compiled.output_shardings))
    return max((each.num_devices for each in shardings), default=1)


# ---- time


def _timed(compiled: Any, args: tuple) -> float:
    """Seconds of the second call, on zeros; every call has arguments of its own, which it may consume."""
    places = compiled.input_shardings[0]
    seconds = 0.0
    for _ in range(2):
        zeros = jax.tree.map(_zeros, args, places)
        jax.block_until_ready(zeros)
        start = time.perf_counter()
        jax.block_until_ready(compiled(*zeros))
        seconds = time.perf_counter() - start
    return seconds


def _zeros(leaf: Any, place: Any) -> jax.Array:
    shape, dtype = jnp.shape(leaf), leaf.dtype
    key = jnp.issubdtype(dtype, jax.dtypes.prng_key)
    return jax.jit(lambda: jnp.broadcast_to(jax.random.key(0), shape) if key else jnp.zeros(shape, dtype), out_shardings=place)()


def _fastest(call: Callable[[], Any], times: int = 3) -> float:
    jax.block_until_ready(call())
    seconds = []
    for _ in range(times):
        start = time.perf_counter()
        jax.block_until_ready(call())
        seconds.append(time.perf_counter() - start)
    return min(seconds)
