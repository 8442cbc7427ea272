"""Checkpoints of everything training carries; the only module that knows orbax.

A folder holds `<step>/` for the newest few steps. A checkpoint is written in the background and renamed into place when it is
whole, so a killed run leaves the previous one. Beside the state lie its digest, which tells a damaged file from a good one, and
the shape of its tree, which tells another architecture from a damaged file.
"""

import contextlib
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import orbax.checkpoint as ocp

from jaxdiff import processes
from jaxdiff.training.state import state_digest
from jaxdiff.types import UserError


class Checkpoints(NamedTuple):
    """Where a run saves. `save(state)` returns before the files are written, `wait()` after."""

    folder: Path
    save: Callable[[Any], None]
    wait: Callable[[], None]


@contextlib.contextmanager
def checkpoints(folder: str | Path, *, keep: int = 3, meta: Mapping[str, Any] | None = None) -> Iterator[Checkpoints]:
    """A context in which the newest `keep` states are kept in `folder`, each with the JSON value `meta`.

    Makes the folder, and clears what a killed run left half-written.
    """
    folder = Path(folder).absolute()
    options = ocp.CheckpointManagerOptions(max_to_keep=keep, cleanup_tmp_directories=True)
    manager = ocp.CheckpointManager(folder, options=options)

    def save(state):
        step = int(jax.device_get(state.step))
        if set_aside(folder, step):
            manager.reload()
        described = {'digest': state_digest(state), 'leaves': leaves(state), 'meta': dict(meta or {})}
        manager.save(step, args=ocp.args.Composite(state=ocp.args.StandardSave(state), about=ocp.args.JsonSave(described)), force=True)

    try:
        yield Checkpoints(folder, save, manager.wait_until_finished)
    finally:
        manager.close()


def restore(folder: str | Path, like: Any) -> Any | None:
    """The newest readable state of `folder`, None where there is none yet.

    `like` gives the tree, shapes, dtypes and shardings: a state, or its `ShapeDtypeStruct`s (unsharded ones go to the first device).
    Reads only. An unreadable checkpoint is named on stderr and passed over; it is set aside when a run next saves there.

    Raises:
      UserError: the checkpoints are of another architecture, or none of them can be read.
    """
    folder = Path(folder).absolute()
    failures: dict[int, Exception] = {}
    for step in reversed(processes.first(lambda: steps(folder))):
        try:
            state = read(folder / str(step), like)
        except Exception as error:
            failures[step] = error
            continue
        for passed, error in failures.items() if jax.process_index() == 0 else ():
            print(f'checkpoint {passed} in {folder} is unreadable, going back to {step} ({first_line(error)})', file=sys.stderr, flush=True)
        return state
    # that one of many is of another architecture is damage; that none is of this one is a mistake
    for error in failures.values():
        if isinstance(error, UserError):
            raise error
    if failures:
        newest, error = next(iter(failures.items()))
        raise UserError(f'{folder}: no checkpoint can be read ({newest}: {first_line(error)}); delete the folder to train from the start')
    return None


def first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:160]


def steps(folder: str | Path) -> list[int]:
    """The steps that have a checkpoint in `folder`, oldest first."""
    folder = Path(folder)
    return sorted(int(path.name) for path in folder.iterdir() if path.name.isdigit()) if folder.is_dir() else []


def read(path: Path, like: Any) -> Any:
    """One checkpoint, compared with its digest. Raises whatever reading raises, on this process or another, ValueError for a damaged state."""
    state = digest = failure = None
    try:
        state, digest = load(path, like)
    except Exception as error:
        failure = error
    processes.agree(failure)
    if state_digest(state) != digest:
        raise ValueError('its contents do not match its digest')
    return state


def load(path: Path, like: Any) -> tuple[Any, str]:
    """What this process holds of a checkpoint, and the digest of the whole: waits for no other process, which may fail where this one does not."""
    with contextlib.closing(ocp.CompositeCheckpointHandler()) as reader:
        get = lambda **what: reader.restore(path, args=ocp.args.Composite(**what))
        about = get(about=ocp.args.JsonRestore())['about']
        compare(path.parent, about['leaves'], leaves(like))
        return get(state=ocp.args.StandardRestore(jax.tree.map(abstract, like)))['state'], about['digest']


def compare(folder: Path, saved: Mapping[str, list], wanted: Mapping[str, list]) -> None:
    """Refuse a state of another architecture, naming the first leaf that differs."""
    for name in [*wanted, *saved]:
        if saved.get(name) != wanted.get(name):
            there, here = (' '.join(map(str, side[name])) if name in side else 'absent' for side in (saved, wanted))
            raise UserError(
                f'{folder}: checkpoint of another architecture ({name} is {there} there, {here} here); '
                'use the settings it was trained with, or another workdir'
            )


def leaves(state: Any) -> dict[str, list]:
    """What identifies an architecture: the name, dtype and shape of every leaf."""
    return {jax.tree_util.keystr(path): [str(leaf.dtype), list(leaf.shape)] for path, leaf in jax.tree_util.tree_leaves_with_path(state)}


def abstract(leaf: Any) -> jax.ShapeDtypeStruct:
    sharding = getattr(leaf, 'sharding', None) or jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)


def set_aside(folder: Path, step: int) -> bool:
    """Rename checkpoints at or beyond `step`: a run that stands at `step` could not read them, and writes them again."""

    def rename():
        stale = [later for later in steps(folder) if later >= step]
        for later in stale:
            aside = folder / f'unreadable-{later}'
            shutil.rmtree(aside, ignore_errors=True)
            (folder / str(later)).rename(aside)
        return bool(stale)

    return processes.first(rename)
