"""A system is a tuple of stages trained in order: an autoencoder, then a denoiser in its latent space; a teacher, then a student.

The stages of one work directory share metrics.jsonl and keep their checkpoints in checkpoints/<name>/.
"""

import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax

from jaxdiff.training import loop
from jaxdiff.training.checkpoint import checkpoints, restore
from jaxdiff.training.log import jsonl
from jaxdiff.types import Key, UserError


class Stage(NamedTuple):
    """One training. The state may be any NamedTuple of arrays with a `step` (two networks in one, say)."""

    name: str
    init: Callable[[Key], Any]  # key -> state before the first step
    step: Callable  # (state, batch) -> (state, metrics), pure
    data: Callable[[int], Iterator]  # n -> the batches from number n on
    steps: int


def run(
    stage: Stage,
    workdir: str | Path,
    key: Key,
    *,
    shardings: Callable[[Any], Any] | None = None,
    keep: int = 3,
    meta: Mapping[str, Any] | None = None,
    **options,
) -> Any:
    """Train one stage to its end, from its newest checkpoint in `workdir` where there is one, and return its final state.

    Args:
      key: the stage starts from a key of its own, made of this one and its name.
      shardings: state of ShapeDtypeStructs -> shardings, `partial(parallel.state_shardings, mesh)`; None: the first device.
      keep, meta: of `checkpoints`.
      **options: of `loop.run` (save_every, log_every, place).

    Raises:
      UserError: several processes, and no shardings that would make them one.
    """
    if shardings is None and jax.process_count() > 1:
        raise UserError(f'{stage.name}: is trained by one process; start the script once')
    workdir = Path(workdir)
    folder = workdir / 'checkpoints' / stage.name
    state = begin(stage, folder, jax.random.fold_in(key, zlib.crc32(stage.name.encode())), shardings)
    if (start := int(jax.device_get(state.step))) >= stage.steps:
        return state
    log = jsonl(workdir / 'metrics.jsonl', start=start, stage=stage.name)
    with checkpoints(folder, keep=keep, meta=meta) as saver:
        return loop.run(state, stage.step, stage.data, steps=stage.steps, checkpoints=saver, log=log, name=stage.name, **options)


def train(stages: Iterable[Stage | Callable[[Mapping[str, Any]], Stage]], workdir: str | Path, key: Key, **options) -> dict[str, Any]:
    """`run` stages in order; returns their final states by name. A stage that needs what earlier ones learnt is given as a function
    of those states, `trained -> Stage`."""
    trained = {}
    for stage in stages:
        stage = stage if isinstance(stage, Stage) else stage(trained)
        trained[stage.name] = run(stage, workdir, key, **options)
    return trained


def begin(stage: Stage, folder: Path, key: Key, shardings: Callable[[Any], Any] | None) -> Any:
    """The state a stage goes on from: its newest checkpoint, else its first state, made where it will live."""
    shapes = jax.eval_shape(stage.init, key)
    first = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    places = shardings(shapes) if shardings else jax.tree.map(lambda leaf: first, shapes)
    like = jax.tree.map(lambda leaf, place: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place), shapes, places)
    state = restore(folder, like)
    if state is not None:
        return state
    # one random array after another: on a CPU, optimising that program takes far longer than running it
    quick = {'xla_backend_optimization_level': 0} if jax.default_backend() == 'cpu' else {}
    make = jax.jit(lambda init, key: init(key), out_shardings=places, compiler_options=quick)
    return make(jax.tree_util.Partial(stage.init), key)  # what a `Partial` holds, such as a teacher, goes in as arguments
