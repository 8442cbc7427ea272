"""Devices: one mesh with a 'data' and an 'fsdp' axis, one rule for where arrays live, and runners for maps over examples.

Training is `jit` with shardings: the batch is split over both axes, large parameters over 'fsdp', and the compiler adds the
collectives. Samplers and evaluation are maps over examples without any communication; `shard` and `pmap` run those.
The mesh's axes are Auto: with jax's default, Explicit axes, networks that reshape between axes (attention) do not trace.
"""

import os
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
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
        try:
            jax.config.update('jax_num_cpu_devices', count or len(os.sched_getaffinity(0)))
        except RuntimeError:  # the backend has started
            pass


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
