"""Flags from dataclasses, ranges, presets, verdicts."""

import json
import math
import subprocess
import sys
from dataclasses import dataclass

import pytest

from jaxdiff import experiment
from jaxdiff.experiment import Bar, Evaluation, configure, option, verdict
from jaxdiff.types import UserError
from jaxdiff.workdir import Workdir, write_json


@dataclass(frozen=True, kw_only=True)
class Config(experiment.Config):
    steps: int = option(10, 'how many', low=1, high=100)
    widths: tuple = option((8, 16), 'channels', low=1)
    kind: str = option('v', 'prediction', choices=('v', 'eps'))


PRESETS = {'smoke': dict(steps=2), 'cpu': {}}


def test_presets_and_overrides():
    assert configure(Config, PRESETS, preset='smoke').steps == 2
    assert configure(Config, PRESETS, preset='smoke', steps=3).steps == 3
    assert configure(Config, PRESETS).preset == 'cpu'


@pytest.mark.parametrize(
    ('given', 'words'),
    [
        (dict(steps=-5), '--steps=-5: must be at least 1'),
        (dict(steps=500), '--steps=500: must be at most 100'),
        (dict(kind='w'), '--kind=w: choose one of v, eps'),
        (dict(preset='huge'), '--preset=huge: choose one of smoke, cpu, gpu, paper'),
        (dict(widths=(8, 0)), '--widths=0: must be at least 1'),
        (dict(seed=-1), '--seed=-1: must be at least 0'),
    ],
)
def test_out_of_range_names_the_flag(given, words):
    with pytest.raises(UserError) as caught:
        configure(Config, PRESETS, **given)
    assert str(caught.value) == words


def test_resume_takes_the_settings_of_the_workdir(tmp_path):
    write_json(tmp_path / 'config.json', {'config': {'steps': 7, 'widths': [4, 4], 'preset': 'smoke'}, 'data': ''})
    config = configure(Config, PRESETS, workdir=str(tmp_path), resume=True)
    assert (config.steps, config.widths, config.preset) == (7, (4, 4), 'smoke')


def test_bar_refuses_nan():
    assert Bar('x', '<=', 1).met(0.5)
    assert not Bar('x', '<=', 1).met(math.nan)
    assert not Bar('x', '>=', 1).met(math.nan)


def test_verdict_is_the_mean_less_one_deviation_and_controls_must_miss():
    seen = [
        Evaluation({'ap': value}, {'chance': {'ap': 0.1}}, {'untrained': {'ap': control}}) for value, control in ((0.5, 0.1), (0.7, 0.2))
    ]
    result = verdict(seen, [Bar('ap', '>=', 0.45)])
    assert result['passed'] and result['bars'][0]['value'] == pytest.approx(0.6)
    assert not verdict(seen, [Bar('ap', '>=', 0.5)])['passed']  # 0.6 - sqrt(0.02) < 0.5
    assert not verdict(seen, [Bar('ap', '>=', 0.12)])['passed']  # the control's mean is above it too
    assert result['baselines']['chance']['ap'] == {'mean': pytest.approx(0.1), 'sd': 0.0}


def test_a_single_evaluation_has_no_deviation():
    result = verdict([Evaluation({'ap': 0.5}, {'chance': {'ap': 0.1}}, {})], [Bar('ap', '>=', 0.5)])
    assert result['passed'] and result['metrics'] == {'ap': 0.5} and result['baselines'] == {'chance': {'ap': 0.1}}
    assert 'sd' not in result['bars'][0]


def test_other_data_than_the_usual_have_receipts_of_their_own():
    @dataclass(frozen=True, kw_only=True)
    class Usual(experiment.Config):
        data: str = option('phantom', 'what')

    names = [experiment.titled('family/thing', Usual(data=data)) for data in ('phantom', 'brain', 'brats2021:scans/of mine')]
    assert names == ['family/thing', 'family/thing_brain', 'family/thing_brats2021']


def test_conclude_writes_result_page_and_receipt(tmp_path, capsys):
    result = {'system': 'family/thing', 'preset': 'cpu', **verdict([Evaluation({'ap': 0.5}, {}, {})], [Bar('ap', '>=', 0.9)])}
    experiment.conclude(Workdir(tmp_path), result, [], receipts=str(tmp_path / 'results'))
    assert json.loads((tmp_path / 'result.json').read_text())['passed'] is False
    assert (tmp_path / 'results' / 'family' / 'thing.json').exists()
    assert 'missed' in (tmp_path / 'report.html').read_text()
    assert 'MISSED  ap' in capsys.readouterr().out


SCRIPT = """
from dataclasses import dataclass
from jaxdiff import experiment
from jaxdiff.experiment import option
from jaxdiff.training.loop import Interrupted
from jaxdiff.types import UserError

@dataclass(frozen=True, kw_only=True)
class Config(experiment.Config):
    steps: int = option(10, 'how many', low=1)
    widths: tuple = option((8, 16), 'channels')
    end: str = option('', 'how')

def run(config):
    if config.end == 'user':
        raise UserError('scan.nii: truncated: copy it again')
    if config.end == 'stop':
        raise Interrupted(3, 'stopped at step 3, saved')
    print(config.steps, config.widths)
    return {'passed': False}

experiment.main(Config, {'smoke': dict(steps=2)}, run)
"""


@pytest.mark.parametrize(
    ('flags', 'status', 'words'),
    [
        (('--preset=smoke', '--widths=1,2,3'), 0, '2 (1, 2, 3)'),
        (('--check',), 1, '10 (8, 16)'),
        (('--steps=many',), 2, '--steps'),
        (('--steps=-1',), 2, '--steps=-1: must be at least 1'),
        (('--nonsense=1',), 2, 'nonsense'),
        (('stray',), 2, 'stray: not a flag'),
        (('--widths=a,b',), 2, '--widths=a,b: expected a comma-separated list of int'),
        (('--end=user',), 2, 'scan.nii: truncated: copy it again'),
        (('--end=stop',), 130, 'stopped at step 3, saved'),
    ],
)
def test_exit_status(tmp_path, flags, status, words):
    script = tmp_path / 'script.py'
    script.write_text(SCRIPT)
    done = subprocess.run([sys.executable, str(script), *flags], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == status, done.stderr
    assert words in done.stdout + done.stderr
    assert 'Traceback' not in done.stderr
    if status == 2:
        assert len(done.stderr.strip().splitlines()) == 1
        assert sorted(path.name for path in tmp_path.iterdir()) == ['script.py']
