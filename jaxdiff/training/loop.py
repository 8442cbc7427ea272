"""The training loop: dispatch steps without waiting for them, look at their numbers a little later, save, and stop cleanly.

The device always has the next step queued, because the numbers of step n are fetched only after step n + LAG was dispatched. The
price is that a non-finite loss is seen up to LAG steps late; the numbers are read in order, so the report names the first bad
step, and they are all read before a state is saved, so a poisoned state never is.
"""

import contextlib
import math
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import multihost_utils

from jaxdiff.training.log import Log, Progress
from jaxdiff.types import Interrupted, UserError

LAG = 2
WATCHED = ('loss', 'grad_norm')


class NonFinite(UserError):
    """Training diverged. `step` is the first step whose loss or gradient was not finite; nothing from it on was saved."""

    def __init__(self, step: int, message: str):
        super().__init__(message)
        self.step = step


def run(
    state: Any,
    step: Callable,
    batches: Callable[[int], Iterator],
    *,
    steps: int,
    checkpoints=None,
    log: Log | None = None,
    save_every: int = 1000,
    log_every: int = 50,
    place: Callable = jax.device_put,
    name: str = 'train',
) -> Any:
    """Take `step`s until `state.step == steps`, and return the state.

    Args:
      state: anything with a `step`, a TrainState for one; its buffers are donated, do not use it afterwards.
      step: pure `(state, batch) -> (state, metrics)`; metrics are scalars with a 'loss'. Compiled here, once.
      batches: `batches(n)` iterates over the batches from number n on, so that where the data stand is `state.step`.
      checkpoints: a `training.checkpoint.Checkpoints`; the state is saved every `save_every` steps, at the end and on interruption.
      log: called every `log_every` steps, and at the end, with the means since its last call and the steps per second.
      place: host batch -> device batch, `partial(parallel.place_batch, mesh)` for a batch over devices.

    Raises:
      NonFinite: at the first non-finite loss or gradient norm.
      Interrupted: after SIGTERM or SIGINT, the state being saved. A second signal stops at once.
    """
    first = int(jax.device_get(state.step))
    if first >= steps:
        return state
    shardings = jax.tree.map(lambda leaf: leaf.sharding, state)
    # Committed to where it lives from the start, as the first step's result will be: otherwise the second step compiles again.
    state = jax.tree.map(lambda leaf: leaf if leaf.committed else jax.device_put(leaf, leaf.sharding), state)
    advance = jax.jit(step, donate_argnums=0, out_shardings=(shardings, None))
    pending = deque()
    with (
        Progress(steps, name=name, start=first) as progress,
        stop_signals() as stopping,
        finished(checkpoints),
        closed(batches(first)) as stream,
    ):
        look = observer(name, progress, log, log_every, steps, checkpoints)
        for n in range(first + 1, steps + 1):
            state, metrics = advance(state, place(next(stream)))
            pending.append((n, metrics))
            stop = stopping(n)
            last = stop or n == steps
            saving = last or n % save_every == 0
            while pending and (saving or len(pending) > LAG):
                look(*pending.popleft())
            if checkpoints and saving:
                if not jax.device_get(all_finite(state)):  # the step's gradient was, its result is not
                    raise NonFinite(n, diagnosis(name, n, f'{culprit(state)}: a parameter is not finite', checkpoints))
                checkpoints.save(state)
            if stop:
                saved = f', saved in {checkpoints.folder}' if checkpoints else ''
                raise Interrupted(n, f'{name}: stopped by {stop.name} after step {n} of {steps}{saved}')
    return state


def observer(name: str, progress: Progress, log: Log | None, log_every: int, steps: int, checkpoints) -> Callable[[int, Any], None]:
    """What is done with the metrics of step n, in order: check, show, and average for the log."""
    window, since = [], time.monotonic()

    def look(n, metrics):
        nonlocal since
        values = {key: float(value) for key, value in jax.device_get(metrics).items()}
        for key in WATCHED:
            if not math.isfinite(values.get(key, 0.0)):
                raise NonFinite(n, diagnosis(name, n, f'{key} is {values[key]}', checkpoints))
        progress.update(n, loss=values.get('loss', math.nan))
        window.append(values)
        if log and (n % log_every == 0 or n == steps):
            now = time.monotonic()
            means = {key: sum(each[key] for each in window) / len(window) for key in values}
            log(n, {**means, 'steps_per_s': len(window) / (now - since)})
            window.clear()
            since = now

    return look


def diagnosis(name: str, n: int, what: str, checkpoints) -> str:
    kept = f'; the last good checkpoint in {checkpoints.folder} is kept' if checkpoints else ''
    return f'{name}: {what} at step {n}{kept}; lower the learning rate, or look at the data of that step'


@jax.jit
def all_finite(tree: Any):
    """Whether every floating leaf is finite."""
    floating = [leaf for leaf in jax.tree.leaves(tree) if jnp.issubdtype(leaf.dtype, jnp.floating)]
    return jnp.all(jnp.array([jnp.isfinite(leaf).all() for leaf in floating]))


def culprit(tree: Any) -> str:
    """The name of the first leaf that is not finite."""
    floating = [(path, leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(tree) if jnp.issubdtype(leaf.dtype, jnp.floating)]
    return next((jax.tree_util.keystr(path) for path, leaf in floating if not jnp.isfinite(leaf).all()), '')


@contextlib.contextmanager
def stop_signals():
    """Yields `stopping(n)`: the signal that asks the run to stop after step n, or None. SIGINT and SIGTERM are noted instead of
    deadly, a second one interrupts, and the handlers are put back.

    Several processes must stop after the same step. JAX's preemption service, which owns their SIGTERM, agrees on one.
    """
    if threading.current_thread() is not threading.main_thread():  # only there may handlers be set
        yield lambda n: None
        return
    received = []

    def note(number, frame):
        if received:
            raise KeyboardInterrupt
        received.append(signal.Signals(number))

    if jax.process_count() == 1:
        handlers = {signal.SIGINT: note, signal.SIGTERM: note}
        stopping = lambda n: received[0] if received else None
    else:
        handlers = {signal.SIGINT: lambda number, frame: signal.raise_signal(signal.SIGTERM)}
        stopping = lambda n: signal.SIGTERM if multihost_utils.reached_preemption_sync_point(n) else None
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield stopping
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def finished(checkpoints):
    """Whatever happens, a save that has begun is finished."""
    try:
        yield
    finally:
        if checkpoints:
            checkpoints.wait()


@contextlib.contextmanager
def closed(stream: Iterator):
    """Closes the iterator, whose threads would live on, if it can be closed."""
    try:
        yield stream
    finally:
        getattr(stream, 'close', lambda: None)()
