"""The ceiling: the FLOP/s that a large matrix product reaches on these devices, in this run, against which programs are held."""

import functools

import jax
import jax.numpy as jnp

from jaxdiff import parallel
from jaxdiff.benchmark import timing


@functools.cache
def ceiling(dtype: str = 'float32', sizes: tuple[int, ...] = (), rounds: int = 3) -> float:
    """FLOP/s of all devices together, the best of square products of these `sizes`, one on every device at once; measured once per run.

    The sizes are by default what fits the kind of device. Products keep the precision that JAX is set to, as the programs beside them do.
    """
    sizes = sizes or ((512, 1024, 2048) if jax.default_backend() == 'cpu' else (4096, 8192, 16384))
    calls = {size: _product(size, dtype) for size in sizes}
    timings = timing.alternate(calls, rounds=rounds, least=0.1)
    return max(2 * size**3 * jax.device_count() / timings[size].low for size in sizes)


def _product(size, dtype):
    """A call that multiplies two (size, size) matrices on each device."""
    split = jax.NamedSharding(parallel.make_mesh(), jax.P(parallel.AXES))
    x = jax.jit(lambda: jnp.full((jax.device_count(), size, size), 1 / size, dtype), out_shardings=split)()
    run = jax.jit(lambda a, b: a @ b, out_shardings=split)
    return lambda: run(x, x)
