"""Several processes as one run: how they find each other, what the first does for all, and how they end together.

Every process runs the whole script with the same flags on the same data. Arrays are shared out by `parallel`; what is decided once, written or
said is left to process 0, which also hosts the service through which they talk.
"""

import atexit
import contextlib
import itertools
import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NoReturn

import jax
import numpy as np
from jax._src.distributed import global_state  # its client is the only way to the service's keys
from jax.experimental import multihost_utils

from jaxdiff.types import UserError

RANKS = ('JAX_PROCESS_ID', 'JOB_COMPLETION_INDEX', 'SLURM_PROCID', 'OMPI_COMM_WORLD_RANK')  # who sets which: see `initialize`
MANUAL = 'set JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID'
ENDED = 'jaxdiff/ended/'
PATIENCE = 24 * 3600  # seconds that the others wait for what process 0 does alone
calls = itertools.count()  # of `first`, the same on every process
leaving = threading.Lock()
belongings = contextlib.ExitStack()  # what is to be cleared even where the process ends at once


# ---- beginning


def initialize() -> None:
    """Join the other processes of this run, if the environment tells of any: call it before JAX starts. One process: nothing happens.

    Read are JAX_COORDINATOR_ADDRESS (host:port of process 0) and JAX_NUM_PROCESSES with JAX_PROCESS_ID or the number that Kubernetes, SLURM or
    Open MPI gives; without an address, what SLURM's `srun` and Open MPI's `mpirun` set, and on a TPU what its pod tells.

    Raises:
      UserError: the environment tells half of it, or the others cannot be joined.
    """
    if jax.distributed.is_initialized():
        return
    arguments = manual() if 'JAX_COORDINATOR_ADDRESS' in os.environ else launched()
    if arguments is None:
        return
    try:
        jax.distributed.initialize(**arguments)
    except (ValueError, RuntimeError, ImportError) as error:
        if not arguments and on_tpu():  # alone on its host
            return
        raise UserError(f'cannot join the other processes: {str(error).splitlines()[0]}; {MANUAL}') from error
    stop = threading.Event()
    watcher = threading.Thread(target=watch, args=(global_state.client, stop), daemon=True)
    watcher.start()
    atexit.register(part, global_state.client, watcher, stop)  # runs before jax lets the client go


def manual() -> dict[str, Any] | None:
    """What JAX_COORDINATOR_ADDRESS and its companions say, None for one process."""
    address, count = os.environ['JAX_COORDINATOR_ADDRESS'], number('JAX_NUM_PROCESSES')
    teller = next((name for name in RANKS if name in os.environ), RANKS[0])
    rank = number(teller) if count > 1 else 0
    if not address.rpartition(':')[2].isdecimal() or ':' not in address:
        raise UserError(f'JAX_COORDINATOR_ADDRESS={address!r} in the environment: expected host:port of process 0')
    if rank >= max(count, 1):
        raise UserError(f'process {rank} of {count}: JAX_PROCESS_ID counts from 0 to JAX_NUM_PROCESSES - 1')
    # jax gives every process that a launcher started one GPU; one that was numbered by hand or by Kubernetes keeps all of its host
    devices = {'cluster_detection_method': 'deactivate'} if teller in RANKS[:2] else {}
    return {'coordinator_address': address, 'num_processes': count, 'process_id': rank, **devices} if count > 1 else None


def launched() -> dict[str, Any] | None:
    """The arguments with which jax finds out the rest by itself, None for one process."""
    if int(os.environ.get('JAX_NUM_PROCESSES') or 1) > 1:
        raise UserError(f'JAX_NUM_PROCESSES is set and JAX_COORDINATOR_ADDRESS is not; {MANUAL}, or none of them')
    if number('SLURM_STEP_NUM_TASKS', '1') > 1:  # of the step: a batch script that starts python without srun is one process
        return {}
    if number('OMPI_COMM_WORLD_SIZE', '1') > 1:
        if 'OMPI_MCA_orte_hnp_uri' in os.environ:
            return {}
        if find_spec('mpi4py') is None:
            raise UserError(f'Open MPI from version 5 on is understood through mpi4py: pip install mpi4py, or {MANUAL}')
        return {'cluster_detection_method': 'mpi4py'}
    return {} if ',' in os.environ.get('TPU_WORKER_HOSTNAMES', '') or on_tpu() else None


def on_tpu() -> bool:
    """Whether this host has TPUs that jax will use."""
    wanted = os.environ.get('JAX_PLATFORMS', '')
    chips = any(next(Path(folder).glob(name), None) for folder, name in (('/dev', 'accel[0-9]*'), ('/dev/vfio', '[0-9]*')))
    return chips and find_spec('libtpu') is not None and (not wanted or 'tpu' in wanted)


def number(name: str, default: str = '') -> int:
    value = os.environ.get(name, default)
    if not value.isdecimal():
        raise UserError(f'{name}={value!r} in the environment: expected a whole number; set it, or unset JAX_COORDINATOR_ADDRESS')
    return int(value)


# ---- together


def first(do: Callable[[], Any]) -> Any:
    """`do()` on process 0 alone: the others wait for it, and all return its JSON value or raise its `UserError`."""
    if not several():
        return do()
    name, client = f'jaxdiff/first/{next(calls)}', global_state.client
    if jax.process_index():
        said = json.loads(client.blocking_key_value_get(name, 1000 * PATIENCE))
    else:
        try:
            said = {'value': do()}
        except UserError as error:
            said = {'error': str(error)}
        client.key_value_set(name, json.dumps(said))
    if 'error' in said:
        raise UserError(said['error'])
    return said['value']


def agree(error: Exception | None) -> None:
    """Raise `error` where there is one; where there is none but on another process, a ValueError: all go on or none does."""
    failed = several() and multihost_utils.process_allgather(np.array(error is not None)).any()
    if error is not None:
        raise error
    if failed:
        raise ValueError('another process failed')


def hush() -> None:
    """From now on only process 0 speaks: what the others print goes nowhere."""
    if several() and jax.process_index():
        sys.stdout = open(os.devnull, 'w')  # noqa: SIM115  (as long as the process)


def scratch() -> Path:
    """A folder for what only process 0 keeps, gone with this process."""
    return Path(belongings.enter_context(tempfile.TemporaryDirectory(prefix='jaxdiff-')))


def several() -> bool:
    return jax.distributed.is_initialized() and jax.process_count() > 1


# ---- the end


def end(message: str, status: int) -> NoReturn:
    """End the run: `message` on stderr, and every process, wherever it is, leaves with `status`. The first of several to end is the one heard."""
    if not jax.distributed.is_initialized():
        print(message, file=sys.stderr)
        sys.exit(status)
    try:
        global_state.client.key_value_set(ENDED + 'status', str(status))
        print(message, file=sys.stderr, flush=True)
    except RuntimeError:  # set already, by the one that is heard
        pass
    leave(status)


def watch(client: Any, stop: threading.Event) -> None:
    """Leave when another process has ended: this one may be waiting for it in a collective that never comes."""
    while not stop.wait(0.5):
        try:
            said = client.key_value_dir_get(ENDED)
        except RuntimeError:  # process 0 is gone: jax ends this one
            return
        if said:
            leave(int(said[0][1]))


def part(client: Any, watcher: threading.Thread, stop: threading.Event) -> None:
    """At the end of a script that went well, listen on until the others are there too."""
    with contextlib.suppress(RuntimeError):  # one of them is dead
        client.wait_at_barrier('jaxdiff/part', 300_000)
    stop.set()
    watcher.join()


def leave(status: int) -> NoReturn:
    """Once all have heard, and process 0 last: without its service the others would be torn down by jax."""
    leaving.acquire()  # never released: the watcher and the main thread may both come here
    sys.stdout.flush()
    with contextlib.suppress(RuntimeError):  # one of them is dead
        global_state.client.wait_at_barrier('jaxdiff/leave', 10_000)
    belongings.close()
    if global_state.process_id == 0:
        time.sleep(0.5)
    os._exit(status)
