"""Many devices: what each holds, what they say to each other, and whether one process or two, stopped or not, arrive at the same place.

Everything runs in fresh processes of simulated CPU devices, two of them joined over loopback. Bytes are those of arrays that were placed,
collectives are read from the compiled program of a training step, kills are SIGKILL.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxdiff import experiment, parallel
from jaxdiff.benchmark import simulated
from jaxdiff.benchmark.measured import Measured
from jaxdiff.experiment import Evaluation

BARS = (
    experiment.Bar('fsdp_bytes_share', '<=', 1 / 6),
    experiment.Bar('two_process_difference', '<=', 1e-6),
    experiment.Bar('resume_bit_identical', '>=', 1.0),
    experiment.Bar('topologies_restored', '>=', 1.0),
)
MESHES = ((1, 1), (8, 1), (1, 8), (2, 4))
COMMON = {'blocks': 2, 'norm': 'adaptive', 'groups': 8, 'coordinates': True}
LARGE = {  # the networks of train.py's presets gpu and paper
    '2-D, 128 px': {**COMMON, 'dims': 2, 'widths': (96, 144, 192, 288), 'attention': (False, False, True, True), 'patch': 2},
    '3-D, 128 px': {**COMMON, 'dims': 3, 'widths': (64, 128, 192, 256), 'attention': (False, False, False, True)},
}


def measure(
    *,
    size: int = 32,
    widths: Sequence[int] = (32, 64),
    batch: int = 16,
    steps: int = 8,
    evaluations: int = 3,
    meshes: Sequence[tuple[int, int]] = MESHES,
    large: Mapping[str, Mapping[str, Any]] = LARGE,
    speed_size: int = 64,
    speed_widths: Sequence[int] = (64, 128),
    speed_batch: int = 4,
    rounds: int = 5,
    seed: int = 0,
) -> Measured:
    """The suite `sharding`.

    Args:
        size, widths, batch, steps: of a U-Net with attention at its lowest resolution, trained on noise, over 8 devices; `batch` a multiple of 8.
        evaluations: seeds for which it is trained by one process and by two, each once through and once killed and resumed.
        meshes: (data, fsdp) whose collectives are counted.
        large: fields of U-Nets whose training state is placed over 8 devices.
        speed_size, speed_widths, speed_batch, rounds: of the training step timed on one device and on one device for each core.
    """
    network = simulated.unet(size, widths)
    common = {'network': network, 'size': size, 'batch': batch}
    placed = {name: launch('placed', {'network': dict(fields)})[0] for name, fields in large.items()}
    said = [launch('said', {**common, 'mesh': mesh})[0] for mesh in meshes]
    seen = [train({**common, 'steps': steps, 'seed': seed + n}) for n in range(evaluations)]
    faster = launch(
        'speed',
        {'network': simulated.unet(speed_size, speed_widths), 'size': speed_size, 'batch': speed_batch, 'rounds': rounds},
        devices=parallel.cores(),
    )[0]
    share = max((each['share'] for each in placed.values()), default=float('nan'))
    fastest = {'one_device_over_one_per_core': float(np.median(faster['ratio']))}
    rows = [[f'{data} x {fsdp}', *row(each)] for (data, fsdp), each in zip(meshes, said, strict=True)]
    kinds = ('all-reduce', 'all-gather', 'reduce-scatter', 'all-to-all')
    tables = (
        {
            'caption': 'Collectives of one training step, and of one batch sampled, by mesh (data x fsdp); MiB of results on one device.',
            'header': ['mesh', *kinds, 'MiB', 'split leaves', 'in sampling'],
            'rows': rows,
        },
        {
            'caption': 'Bytes of parameters, their average and optimizer that one of 8 devices holds, as a share of all.',
            'header': ['network', 'MiB in all', 'share'],
            'rows': [[name, each['bytes'] / 2**20, each['share']] for name, each in placed.items()],
        },
        {
            'caption': f'Seconds per training step, {speed_size} px, {speed_batch} images, {parallel.cores()} cores.',
            'header': ['devices', 'median', 'low', 'high'],
            'rows': [[name, float(np.median(each)), min(each), max(each)] for name, each in faster['seconds'].items()],
        },
    )
    return Measured(
        [Evaluation({'fsdp_bytes_share': share, **each, **fastest}, {}, {}) for each in seen],
        tables,
        [{'case': 'collectives', 'mesh': mesh, **each} for mesh, each in zip(meshes, said, strict=True)] + [{'case': 'speed', **faster}],
    )


def row(said: Mapping[str, Any]) -> list[Any]:
    """One mesh's row of the table of collectives."""
    calls, moved = ({name: each[n] for name, each in said['training'].items()} for n in (0, 1))
    return [
        *(calls.get(name, 0) for name in ('all-reduce', 'all-gather', 'reduce-scatter', 'all-to-all')),
        sum(moved.values()) / 2**20,
        said['split'],
        sum(each[0] for each in said['sampling'].values()),
    ]


def train(options: Mapping[str, Any]) -> dict[str, float]:
    """Both topologies, each once through and once killed half way: how far apart they end, and whether a kill leaves no trace."""
    ended, again = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        for processes in (1, 2):
            here = {**options, 'root': f'{folder}/{processes}', 'mesh': (4, 2)}
            (ended[processes], *_) = launch('train', here, processes=processes)
            here['root'] += '-killed'
            launch('train', {**here, 'kill': options['steps'] // 2 + 1}, processes=processes)
            (again[processes], *_) = launch('train', here, processes=processes)
        restored = launch('restored', {**options, 'root': f'{folder}/1', 'step': options['steps']})[0]['restored']
        first, second = (np.load(f'{folder}/{processes}/params.npz') for processes in (1, 2))
        parameters = max(float(np.abs(first[name] - second[name]).max()) for name in first)
    losses = max(abs(a - b) for a, b in zip(ended[1]['losses'], ended[2]['losses'], strict=True))
    return {
        'two_process_difference': max(parameters, losses),
        'two_process_difference_of_losses': losses,
        'resume_bit_identical': float(all(ended[n]['digest'] == again[n]['digest'] for n in ended)),
        'topologies_restored': float(all(restored.values())),
    }


def launch(job: str, options: Mapping[str, Any], *, processes: int = 1, devices: int = 8) -> list[dict[str, Any]]:
    """What a job of `simulated` answers in each of `processes` fresh ones that share `devices`; {} of one that was killed as asked."""
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    inherited = {name: value for name, value in os.environ.items() if not name.startswith('JAX_')}
    together = {'JAX_COORDINATOR_ADDRESS': f'127.0.0.1:{port}', 'JAX_NUM_PROCESSES': str(processes), 'JAX_PLATFORMS': 'cpu'}
    flags = {'XLA_FLAGS': f'--xla_force_host_platform_device_count={devices // processes}'}
    command = [sys.executable, '-m', simulated.__name__, job, json.dumps(options)]
    environments = [{**inherited, **together, **flags, 'JAX_PROCESS_ID': str(rank)} for rank in range(processes)]
    started = [
        subprocess.Popen(command, env=each, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=Path.cwd())
        for each in environments
    ]
    try:
        said = [process.communicate(timeout=1800) for process in started]
    finally:
        for process in started:
            process.kill()
    expected = -signal.SIGKILL if options.get('kill') else 0
    for process, (_, errors) in zip(started, said, strict=True):
        if process.returncode != expected:
            raise RuntimeError(f'{job} ended with {process.returncode}: {errors[-2000:]}')
    return [json.loads(out.splitlines()[-1]) if not expected else {} for out, _ in said]
