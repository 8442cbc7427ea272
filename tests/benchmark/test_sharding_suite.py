"""The suite's jobs, run in this process, which has eight devices; that real processes agree is tested in training/test_processes.py."""

import json

import flax.linen as nn
import pytest

from jaxdiff.benchmark import sharding, simulated

SAID = {'training': {'all-gather': [7, 2**20], 'all-reduce': [2, 2**19]}, 'sampling': {}, 'split': 7}
SPEED = {'seconds': {'1': [0.4, 0.3], '2': [0.3, 0.2]}, 'ratio': [1.2, 1.4]}


class Network(nn.Module):
    """Quick to compile."""

    @nn.compact
    def __call__(self, x, t):
        return nn.Dense(1)(nn.silu(nn.Dense(1024)(x.reshape(1, -1))))[..., None, None] * x


@pytest.fixture
def launched(monkeypatch):
    """What the suite asked for. What takes long to compile is made smaller, or answers from a script."""
    monkeypatch.setattr(simulated, 'make', lambda network: Network())
    asked, canned = [], {'said': SAID, 'speed': SPEED}

    def launch(job, options, *, processes=1, devices=8):
        asked.append((job, processes, options.get('kill', 0)))
        if options.get('kill'):
            return [{}]
        return [canned[job] if job in canned else json.loads(json.dumps(simulated.JOBS[job](**options)))]

    monkeypatch.setattr(sharding, 'launch', launch)
    return asked


def test_the_suite_measures_what_its_bars_name(launched):
    measured = sharding.measure(
        size=8, widths=(16,), batch=8, steps=2, evaluations=1, meshes=((1, 8),), large={'tiny': simulated.unet(8, (64,))}
    )
    (seen,) = measured.evaluations
    assert all(bar.met(seen.metrics[bar.name]) for bar in sharding.BARS[1:]), seen
    assert 1 / 8 <= seen.metrics['fsdp_bytes_share'] < 1 / 4  # biases are not split
    assert seen.metrics['one_device_over_one_per_core'] == pytest.approx(1.3)
    assert [(processes, kill) for job, processes, kill in launched if job == 'train'] == [(1, 0), (1, 2), (1, 0), (2, 0), (2, 2), (2, 0)]
    assert measured.tables[0]['rows'] == [['1 x 8', 2, 7, 0, 0, 1.5, 7, 0]]
    assert [row[0] for row in measured.tables[2]['rows']] == ['1', '2']
