"""Devices: one mesh with a 'data' and an 'fsdp' axis, one rule for where arrays live, and runners for maps over examples.

Training is `jit` with shardings: the batch is split over both axes, large parameters over 'fsdp', and the compiler adds the
collectives, which `collectives` counts. Samplers and evaluation are maps over examples without any communication; `shard` and `pmap` run those.
The mesh's axes are Auto: with jax's default, Explicit axes, networks that reshape between axes (attention) do not trace.
"""

import contextlib
import math
import os
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from jaxdiff.types import UserError

AXES = ('data', 'fsdp')


def use_cores(count: int | None = None) -> None:
    """Make every CPU core its own device (or `count` devices), which trains and samples faster than one device over all cores.

    Call it before JAX starts: afterwards it does nothing, and neither where the user chose a number of CPU devices. Accelerators are
    left alone.
    """
    chosen = 'xla_force_host_platform_device_count' in os.environ.get('XLA_FLAGS', '') or jax.config.jax_num_cpu_devices >= 0
    if not chosen:
        with contextlib.suppress(RuntimeError):  # raised once the backend has started
            jax.config.update('jax_num_cpu_devices', count or cores())


def cores() -> int:
    """The CPU cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1


def make_mesh(data: int = -1, fsdp: int = 1, *, batch: int | None = None) -> Mesh:
    """A (data, fsdp) mesh over equally many devices of every process.

    `data=-1` takes all that are left, less where `batch` does not divide by them. Raises `UserError` where there is no such mesh.
    """
    total, hosts = jax.device_count(), jax.process_count()
    if data == -1:
        data = total // fsdp
        while batch and data > 1 and (batch % (data * fsdp) or data * fsdp % hosts):
            data -= 1
    count = data * fsdp
    if not 1 <= count <= total:
        raise UserError(f'a mesh of {data} x {fsdp} (data x fsdp) does not fit {total} devices; choose fewer')
    if count % hosts:
        raise UserError(
            f'a mesh of {data} x {fsdp} (data x fsdp) cannot be shared by {hosts} processes; choose --batch and --fsdp to be multiples'
        )
    devices = [device for host in range(hosts) for device in jax.local_devices(host)[: count // hosts]] if count < total else jax.devices()
    return jax.make_mesh((data, fsdp), AXES, axis_types=(AxisType.Auto,) * 2, devices=devices)


def state_shardings(mesh: Mesh, state: Any, *, smallest: int = 2**14) -> Any:
    """Where every leaf of a state (arrays or ShapeDtypeStructs) lives: its largest dimension that fsdp divides is split over fsdp;
    leaves of fewer than `smallest` elements, keys and indivisible ones are replicated.
    """
    ways = mesh.shape['fsdp']

    def rule(leaf):
        divisible = [axis for axis, size in enumerate(leaf.shape) if size % ways == 0]
        if ways == 1 or leaf.size < smallest or not divisible or jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return NamedSharding(mesh, PartitionSpec())
        axis = max(divisible, key=lambda axis: leaf.shape[axis])
        return NamedSharding(mesh, PartitionSpec(*[None] * axis, 'fsdp'))

    return jax.tree.map(rule, state)


def place_batch(mesh: Mesh, batch: Any) -> Any:
    """This process's part of the batch, leaves (B_local, ...), as global arrays (B, ...) split over all devices."""
    sharding = NamedSharding(mesh, PartitionSpec(AXES))
    local = mesh.local_mesh.size

    def place(leaf):
        if leaf.shape[0] % local:
            raise UserError(f'a batch of {leaf.shape[0]} does not split over {local} devices; choose a multiple')
        return jax.make_array_from_process_local_data(sharding, leaf)

    return jax.tree.map(place, batch)


def whole(loss: Callable, mesh: Mesh) -> Callable:
    """`loss(params, ...)` that puts its parameters together before it uses them.

    Left to itself the compiler splits some activations like the parameters they meet, and then moves activations, which grow with the batch. So
    each large parameter moves once, and while a step runs a device holds all parameters beside its share of the state.
    """
    if mesh.shape['fsdp'] == 1:
        return loss
    together = NamedSharding(mesh, PartitionSpec())
    return lambda params, *rest: loss(jax.lax.with_sharding_constraint(params, together), *rest)


class Traffic(NamedTuple):
    """How often a collective is called, and the bytes of its results on one device."""

    calls: int
    bytes: int


def collectives(compiled: jax.stages.Compiled) -> dict[str, Traffic]:
    """What a compiled program says between devices: 'all-reduce', 'all-gather', 'reduce-scatter', 'all-to-all', 'collective-permute'.

    Read from the optimised program; what stands in a loop counts once.
    """
    found = {}
    names = 'all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute|collective-broadcast'
    for results, name, started in re.findall(rf'= (.*?) ({names})(-start)?\(', compiled.as_text()):
        sizes = [
            math.prod(map(int, shape.split(',') if shape else ())) * max(int(bits or 8) // 8, 1)
            for bits, shape in re.findall(r'(?:[a-z]+?(\d+)\w*|pred)\[([\d,]*)\]', results)
        ]
        if started and name != 'all-reduce':  # its tuple begins with what goes in
            sizes = sizes[len(sizes) // 2 :]
        before = found.get(name, Traffic(0, 0))
        found[name] = Traffic(before.calls + 1, before.bytes + sum(sizes))
    return found


def shard(fn: Callable, mesh: Mesh, *, size: int | None = None, wrap: Callable[[Callable], Callable] | None = None) -> Callable:
    """`fn(shared, *example) -> result`, written for one example, as `run(shared, *examples)` over many, split over the mesh.

    `shared` (parameters) goes whole to every device; every leaf of `examples` is (B, ...), keys included. B is arbitrary: examples
    are padded to a multiple of the devices, and the results, numpy with a leading B, cut again. With `size` they go through in parts
    of that many, so that a long evaluation compiles once and fits in memory; `told(n)`, an option of `run`, hears after each how many are done.
    In a run of several processes all must call `run`, with the same examples: each maps a part of them, and all get the results of all.
    """
    local = mesh.local_mesh
    split = NamedSharding(local, PartitionSpec(AXES))
    mapped = jax.jit((wrap or (lambda fn: fn))(over_examples(fn)), out_shardings=split)
    return in_parts(lambda shared, examples: mapped(shared, jax.device_put(examples, split)), local, size)


def pmap(fn: Callable, *, size: int | None = None) -> Callable:
    """`shard` by `jax.pmap` over this process's devices: the same contract and the same results."""
    local = jax.make_mesh((jax.local_device_count(), 1), AXES, axis_types=(AxisType.Auto,) * 2, devices=jax.local_devices())
    mapped = jax.pmap(over_examples(fn), in_axes=(None, 0), devices=jax.local_devices())

    def fold(shared, examples):
        stacked = jax.tree.map(lambda leaf: leaf.reshape(local.size, -1, *leaf.shape[1:]), examples)
        return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), jax.device_get(mapped(shared, stacked)))

    return in_parts(fold, local, size)


def over_examples(fn: Callable) -> Callable:
    return lambda shared, examples: jax.vmap(lambda example: fn(shared, *example))(examples)


def in_parts(mapped: Callable, local: Mesh, size: int | None) -> Callable:
    """Cut examples into parts of `size` rounded up to a multiple of the devices, repeat the last example where one is not full, join.

    Every process takes its share of each part, in their order.
    """
    hosts, host = jax.process_count(), jax.process_index()

    def run(shared, *examples, told=lambda done: None):
        shared = jax.tree.map(lambda leaf: jax.device_put(localise(leaf), NamedSharding(local, PartitionSpec())), shared)
        count = jax.tree.leaves(examples)[0].shape[0]
        share = -(-(size or count) // (hosts * local.size)) * local.size
        results = []
        for start in range(0, count, hosts * share):
            rows = np.minimum(start + host * share + np.arange(share), count - 1)
            own = jax.device_get(mapped(shared, jax.tree.map(lambda leaf, rows=rows: leaf[rows], examples)))
            results.append(multihost_utils.process_allgather(own, tiled=True) if hosts > 1 else own)
            told(min(start + hosts * share, count))
        return jax.tree.map(lambda *parts: np.concatenate(parts)[:count], *results)

    return run


def localise(leaf: Any) -> Any:
    """An array that this process can read; one spread over processes is gathered, which all of them must ask for."""
    if not isinstance(leaf, jax.Array) or leaf.is_fully_addressable:
        return leaf
    return leaf.addressable_data(0) if leaf.is_fully_replicated else multihost_utils.process_allgather(leaf, tiled=True)
