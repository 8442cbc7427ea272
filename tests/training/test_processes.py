"""Two processes of two devices are one process of four: same bits, one SIGTERM stops both after the same step, both go on."""

import os
import socket
import subprocess
import sys

import training_worker

STEPS = 40


def run(workdir, processes, devices, *options):
    """Returns (exit status, last line) of every process of one run."""
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    flags = {**os.environ, 'XLA_FLAGS': f'--xla_force_host_platform_device_count={devices}', 'JAX_COMPILATION_CACHE_DIR': ''}
    together = {'JAX_COORDINATOR_ADDRESS': f'127.0.0.1:{port}', 'JAX_NUM_PROCESSES': str(processes)}
    command = [sys.executable, training_worker.__file__, str(workdir), f'--steps={STEPS}', '--fsdp=2', *options]
    started = [
        subprocess.Popen(
            command, env={**flags, **together, 'JAX_PROCESS_ID': str(rank)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for rank in range(processes)
    ]
    try:
        said = [process.communicate(timeout=400)[0].splitlines() for process in started]
    finally:
        for process in started:
            process.kill()
    return [(process.returncode, lines[-1] if lines else '') for process, lines in zip(started, said, strict=True)]


def test_two_processes_equal_one(tmp_path):
    ((status, digests),) = run(tmp_path / 'one', 1, 4)
    assert status == 0 and digests.startswith('digests')
    stopped = run(tmp_path / 'two', 2, 2, '--stop=5', '--pause=.03')
    assert stopped[0] == stopped[1] and stopped[0][0] == 130
    assert 5 <= int(stopped[0][1].removeprefix('interrupted')) < STEPS
    assert run(tmp_path / 'two', 2, 2) == [(0, digests)] * 2
