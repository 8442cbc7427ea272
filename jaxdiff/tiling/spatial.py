"""Volumes split over devices along a spatial axis: each holds a slab of x, of x0_hat and of every activation.

The program is written for one device; the compiler exchanges the slabs' borders at convolutions, sums over slabs at norms, and gathers at
attention. It helps where one volume must be made sooner or does not fit one device; many volumes are better split one to a device.
"""

from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxdiff.types import Array


def split(fn: Callable[[Any, Array], Array], mesh: Mesh, *, axis: int = 0) -> Callable[[Any, Array], Array]:
    """fn(shared, volume (*spatial, C)) -> volume, jitted with both volumes split along the spatial `axis` over all devices of the mesh.

    `shared` (parameters, keys) is whole on every device. At every resolution of a network the axis should still be a multiple of the devices;
    one that is not from the start raises ValueError.
    """
    slab = NamedSharding(mesh, PartitionSpec(*[None] * axis, mesh.axis_names))
    return jax.jit(fn, in_shardings=(NamedSharding(mesh, PartitionSpec()), slab), out_shardings=slab)
