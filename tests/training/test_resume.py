"""kill -9 at random moments, then go on: everything ends as if nothing had happened, to the last bit.

JAXDIFF_KILLS (3) is how many times each configuration is killed, JAXDIFF_SEED (none) makes the moments repeatable:

    JAXDIFF_KILLS=20 pytest tests/training/test_resume.py
"""

import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import training_worker

from jaxdiff.training.log import read

KILLS = int(os.environ.get('JAXDIFF_KILLS', '3'))
STEPS, PAUSE = 40, 0.01


@pytest.mark.parametrize(('devices', 'fsdp'), [(1, 1), (8, 2)])
def test_killed_runs_end_like_whole_ones(tmp_path, devices, fsdp):
    environment = {
        **os.environ,
        'XLA_FLAGS': f'--xla_force_host_platform_device_count={devices}',
        'JAX_COMPILATION_CACHE_DIR': str(tmp_path / 'cache'),
        'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0',
    }

    def start(workdir, pause):
        command = [sys.executable, training_worker.__file__, str(workdir), f'--steps={STEPS}', f'--pause={pause}', f'--fsdp={fsdp}']
        return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def digests(process):
        out, err = process.communicate(timeout=400)
        assert process.returncode == 0, err
        return next(line for line in out.splitlines() if line.startswith('digests'))

    whole, parts = tmp_path / 'whole', tmp_path / 'parts'
    expected = digests(start(whole, 0))
    moments = random.Random(os.environ.get('JAXDIFF_SEED'))
    killed = 0
    while killed < KILLS:
        process = start(parts, PAUSE)
        said = [process.stdout.readline() for _ in range(moments.randint(1, STEPS))]
        time.sleep(moments.uniform(0, 2 * PAUSE))
        process.kill()
        out, err = process.communicate()
        assert process.returncode in (0, -9) and 'unreadable' not in err, err
        killed += process.returncode == -9
        if process.returncode == 0:  # it was faster: compare, and begin anew
            assert expected in ''.join([*said, out]) and history(parts) == history(whole)
            shutil.rmtree(parts)
    assert digests(start(parts, 0)) == expected
    assert history(parts) == history(whole)


def history(workdir: Path) -> list[tuple]:
    """Every step's numbers, which hold the data order: each stage's steps once, in order."""
    lines = read(workdir / 'metrics.jsonl')
    assert [(line['stage'], line['step']) for line in lines] == [(stage, step) for stage in ('toy', 'twin') for step in range(1, STEPS + 1)]
    return [(line['stage'], line['step'], line['loss'], line['first'], line['grad_norm']) for line in lines]
