"""Devices: one mesh with a 'data' and an 'fsdp' axis, one rule for where arrays live, and runners for maps over examples.

Training is `jit` with shardings: the batch is split over both axes, large parameters over 'fsdp', and the compiler adds the
collectives. Samplers and evaluation are maps over examples without any communication; `shard` and `pmap` run those.
The mesh's axes are Auto: with jax's default, Explicit axes, networks that reshape between axes (attention) do not trace.
"""

import contextlib
import os
from collections.abc import Callable
from typing import Any

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
    """A (data, fsdp) mesh over all processes' devices; `data=-1` takes all that are left, less where `batch` does not divide by them."""
    devices = jax.devices()
    if data == -1:
        data = len(devices) // fsdp
        while batch and data > 1 and batch % (data * fsdp):
            data -= 1
    if not 1 <= data * fsdp <= len(devices):
        raise UserError(f'a mesh of {data} x {fsdp} (data x fsdp) does not fit {len(devices)} devices; choose fewer')
    return jax.make_mesh((data, fsdp), AXES, axis_types=(AxisType.Auto,) * 2, devices=devices[: data * fsdp])


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


def shard(fn: Callable, mesh: Mesh, *, size: int | None = None) -> Callable:
    """`fn(shared, *example) -> result`, written for one example, as `run(shared, *examples)` over many, split over the mesh.

    `shared` (parameters) goes whole to every device; every leaf of `examples` is (B, ...), keys included. B is arbitrary: examples
    are padded to a multiple of the devices, and the results, numpy with a leading B, cut again. With `size` they go through in parts
    of that many, so that a long evaluation compiles once and fits in memory. In a run of several processes each maps its own
    examples on its own devices.
    """
    local = mesh.local_mesh
    split = NamedSharding(local, PartitionSpec(AXES))
    mapped = jax.jit(over_examples(fn), out_shardings=split)
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
    """Cut examples into parts of `size` rounded up to a multiple of the devices, repeat the last example where one is not full, join."""

    def run(shared, *examples):
        shared = jax.tree.map(lambda leaf: jax.device_put(localise(leaf), NamedSharding(local, PartitionSpec())), shared)
        count = jax.tree.leaves(examples)[0].shape[0]
        part = -(-(size or count) // local.size) * local.size
        results = []
        for start in range(0, count, part):
            rows = np.minimum(np.arange(start, start + part), count - 1)
            results.append(jax.device_get(mapped(shared, jax.tree.map(lambda leaf, rows=rows: leaf[rows], examples))))
        return jax.tree.map(lambda *parts: np.concatenate(parts)[:count], *results)

    return run


def localise(leaf: Any) -> Any:
    """An array that this process can read; one spread over processes is gathered, which all of them must ask for."""
    if not isinstance(leaf, jax.Array) or leaf.is_fully_addressable:
        return leaf
    return leaf.addressable_data(0) if leaf.is_fully_replicated else multihost_utils.process_allgather(leaf, tiled=True)


def initialize() -> None:
    """Join the other processes of this run, if the environment tells of any: call it before JAX starts. One process: nothing happens.

    Read are JAX_COORDINATOR_ADDRESS (host:port of process 0) with JAX_NUM_PROCESSES and JAX_PROCESS_ID, or what SLURM's `srun` and
    Open MPI's `mpirun` set, or the worker list of a TPU pod.
    """
    address = os.environ.get('JAX_COORDINATOR_ADDRESS')
    if jax.distributed.is_initialized():
        return
    if address:
        count = from_environment('JAX_NUM_PROCESSES')
        if count > 1:
            jax.distributed.initialize(address, count, from_environment('JAX_PROCESS_ID'))
        return
    launched = max(from_environment(name, '1') for name in ('SLURM_STEP_NUM_TASKS', 'OMPI_COMM_WORLD_SIZE'))
    if launched > 1 or ',' in os.environ.get('TPU_WORKER_HOSTNAMES', ''):
        jax.distributed.initialize()


def from_environment(name: str, default: str = '') -> int:
    value = os.environ.get(name, default)
    if not value.isdecimal():
        raise UserError(f'{name}={value!r} in the environment: expected a whole number; set it, or unset JAX_COORDINATOR_ADDRESS')
    return int(value)
