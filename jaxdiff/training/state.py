"""What training carries from step to step, and nothing that could not be written to a disk: arrays only."""

import hashlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.experimental import multihost_utils

from jaxdiff.types import Array, Key, Params


class TrainState(NamedTuple):
    """Shards and checkpoints whole. `step` is also the position in the data: batch number `step` comes next."""

    step: Array  # () int32, the number of steps taken
    params: Params
    ema: Params  # float32 running average of params, the model to use
    opt_state: Any
    key: Key  # () typed; never advanced, steps fold their number into it


def init_state(params: Params, optimizer: optax.GradientTransformation, key: Key) -> TrainState:
    """The state before the first step. Every leaf is a copy, so that donating the state leaves the caller's `params` and `key` alive."""
    params, key = jax.tree.map(lambda leaf: jnp.array(leaf, copy=True), (params, key))
    return TrainState(jnp.zeros((), jnp.int32), params, jax.tree.map(first_average, params), optimizer.init(params), key)


def first_average(leaf: Array) -> Array:
    """A float32 copy: bfloat16 has too few digits to add a thousandth. Leaves that are not floating keep their type."""
    floating = jnp.issubdtype(leaf.dtype, jnp.floating)
    return jnp.array(leaf, jnp.promote_types(leaf.dtype, jnp.float32) if floating else leaf.dtype, copy=True)


def state_digest(state: Any) -> str:
    """sha256 of every leaf (its place in the tree, dtype, shape and bytes): equal digests are equal states to the last bit.

    The sharding does not enter. In a run of several processes every process must call it, and all get the same answer.
    """
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(state):
        array = to_host(leaf)
        digest.update(f'{jax.tree_util.keystr(path)} {array.dtype} {array.shape}\n'.encode())
        digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8))
    return digest.hexdigest()


def to_host(leaf: Array) -> np.ndarray:
    """A leaf as numpy, typed keys as their data, leaves spread over processes gathered."""
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        leaf = jax.random.key_data(leaf)
    if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable:
        return multihost_utils.process_allgather(leaf, tiled=True)
    return np.asarray(jax.device_get(leaf))
