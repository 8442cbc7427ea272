"""Two processes are one process of as many devices: same numbers; stopped, killed and resumed; and what ends one ends both."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import train
import training_worker

from jaxdiff import experiment
from jaxdiff.training import checkpoint

STEPS = 40


def start(command, processes, devices, *, cache=''):
    """The processes of one run, which find each other on a free port."""
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    environment = {
        **os.environ,
        'XLA_FLAGS': f'--xla_force_host_platform_device_count={devices}',
        'JAX_COMPILATION_CACHE_DIR': str(cache),
    }
    together = {'JAX_COORDINATOR_ADDRESS': f'127.0.0.1:{port}', 'JAX_NUM_PROCESSES': str(processes)}
    return [
        subprocess.Popen(
            [sys.executable, *map(str, command)],
            env={**environment, **together, 'JAX_PROCESS_ID': str(rank)},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for rank in range(processes)
    ]  # fmt: skip


def finish(started):
    """(exit status, stdout, stderr) of every process."""
    try:
        said = [process.communicate(timeout=300) for process in started]
    finally:
        for process in started:
            process.kill()
    return [(process.returncode, *streams) for process, streams in zip(started, said, strict=True)]


def toy(workdir, processes, devices, *options):
    """(exit status, last line) of every process that trains the toy, and what they said of checkpoints."""
    command = [training_worker.__file__, workdir, f'--steps={STEPS}', '--fsdp=2', *options]
    ended = finish(start(command, processes, devices))
    warned = [line for *_, errors in ended for line in errors.splitlines() if 'unreadable' in line]
    return [(status, (out.splitlines() or [''])[-1]) for status, out, _ in ended], warned


def test_two_processes_equal_one(tmp_path):
    """The same bits, though stopped on the way, and one cannot read the checkpoint."""
    ((status, digests),), _ = toy(tmp_path / 'one', 1, 4)
    assert status == 0 and digests.startswith('digests')
    stopped, _ = toy(tmp_path / 'two', 2, 2, '--stop=5', '--pause=.03')
    assert stopped[0] == stopped[1] and stopped[0][0] == 130
    step = int(stopped[0][1].removeprefix('interrupted'))
    assert 5 <= step < STEPS
    ended, (warning,) = toy(tmp_path / 'two', 2, 2, f'--blind={step}')
    assert ended == [(0, digests)] * 2
    assert f'checkpoint {step} in' in warning and 'another process failed' in warning


ENDS = """
import time
from jaxdiff import processes
from jaxdiff.types import UserError
processes.initialize()
import jax
assert processes.first(lambda: {'rank': jax.process_index()}) == {'rank': 0}
try:
    if CASE == 'first':
        processes.first(lambda: (_ for _ in ()).throw(UserError('wrong')))
    if CASE == 'one' and jax.process_index() == 1:
        raise UserError('wrong')
    time.sleep(60)
except UserError as error:
    processes.end(str(error), 2)
"""


@pytest.mark.parametrize('case', ['first', 'one'])
def test_an_error_ends_all_and_is_told_once(case):
    """Whether all meet it, or one does while another waits."""
    ended = finish(start(['-c', ENDS.replace('CASE', repr(case))], 2, 1))
    assert [status for status, *_ in ended] == [2, 2], ended
    assert sum(error.splitlines().count('wrong') for *_, error in ended) == 1


FLAGS = dict(  # a low rate: where a gradient vanishes Adam takes the rounding of it for a direction
    preset='smoke', data='phantom', size=16, widths=(16,), attention=(False,), patch=4, fsdp=2, steps=6, save_every=3, rate=1e-4,
    samples=8, sample_steps=1,
)  # fmt: skip


def test_a_script_killed_and_resumed_equals_one_process(tmp_path, monkeypatch):
    """Two processes of four devices, of which a batch of four takes two each."""
    monkeypatch.setenv('JAXDIFF_CACHE', str(tmp_path / 'cache'))
    monkeypatch.setenv('TMPDIR', str(tmp_path))
    alone, together = tmp_path / 'alone', tmp_path / 'together'
    expected = train.run(experiment.configure(train.Config, train.PRESETS, workdir=str(alone), **FLAGS))
    given = [f'--{name}={",".join(map(str, value)) if isinstance(value, tuple) else value}' for name, value in FLAGS.items()]
    command = [train.__file__, *given, f'--workdir={together}']
    started = start(command, 2, 4, cache=tmp_path / 'compiled')
    while not checkpoint.steps(together / 'checkpoints' / 'model') and all(process.poll() is None for process in started):
        time.sleep(0.02)
    for process in started:
        process.send_signal(signal.SIGKILL)
    assert [status for status, *_ in finish(started)] == [-signal.SIGKILL] * 2
    assert not (together / 'result.json').exists()
    ended = finish(start([*command, '--resume'], 2, 4, cache=tmp_path / 'compiled'))
    assert [status for status, *_ in ended] == [0, 0], ended
    assert ['report.html' in out for _, out, _ in ended] == [True, False]
    assert json.loads((together / 'result.json').read_text())['parameters'] == expected['parameters']
    first, second = (np.load(folder / 'model.npz') for folder in (alone, together))
    for name in first:
        np.testing.assert_allclose(second[name], first[name], rtol=0, atol=1e-6, err_msg=name)
    assert [path.name for path in sorted(Path(together, 'figures').iterdir())] == ['loss.png', 'samples.png']
