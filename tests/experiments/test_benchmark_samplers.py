"""benchmark_samplers.py around suites that measure nothing: flags become arguments, what was measured becomes files."""

import importlib
import inspect
import json
import sys
from types import SimpleNamespace

import benchmark_samplers
import pytest

from jaxdiff import report
from jaxdiff.benchmark.measured import Measured
from jaxdiff.experiment import Bar, Evaluation, configure
from jaxdiff.types import UserError


@pytest.fixture
def suite(monkeypatch):
    """A suite of three repetitions whose figure is 1.04, on a bar of 1.05."""
    seen = []

    def measure(*, rounds: int = 3, steps: tuple = (20, 1000), **arguments):
        seen.append({'rounds': rounds, 'steps': steps, **arguments})
        figure = report.picture(report.curves({'heun': ([1, 2], [1, 2])}), '', alt='line')
        table = {'caption': 'measured', 'header': ['solver', 'overhead'], 'rows': [['heun', 1.04]]}
        evaluations = [Evaluation({'overhead': 1.04}, {'diffusers': {'overhead': 2.0}}, {})] * 3
        return Measured(evaluations, [table], [{'solver': 'heun'}], [report.Section('Overhead', '', [figure])], ['not on a GPU'])

    fake = SimpleNamespace(measure=measure, BARS=(Bar('overhead', '<=', 1.05),), seen=seen)
    monkeypatch.setitem(sys.modules, 'jaxdiff.benchmark.samplers', fake)
    return fake


def run(tmp_path, **flags):
    flags = {'workdir': str(tmp_path / 'run'), **flags}
    return benchmark_samplers.run(configure(benchmark_samplers.Config, benchmark_samplers.PRESETS, **flags))


def test_a_run_leaves_lines_figures_page_and_receipt(tmp_path, suite, capsys):
    run(tmp_path, receipts=str(tmp_path / 'results'))
    run(tmp_path, receipts=str(tmp_path / 'results'), resume=True)
    lines = (tmp_path / 'run' / 'measurements.jsonl').read_text().splitlines()
    assert [json.loads(line) for line in lines] == [{'suite': 'samplers', 'solver': 'heun'}] * 2
    receipt = json.loads((tmp_path / 'results' / 'performance' / 'samplers.json').read_text())
    assert receipt['system'] == 'performance/samplers' and receipt['passed'] and receipt['bars'][0]['value'] == pytest.approx(1.04)
    assert receipt['notes'] == ['not on a GPU'] and receipt['accelerator'] is False and receipt['baselines']['diffusers']
    assert (tmp_path / 'run' / 'figures' / 'figure-0.png').exists() and 'Overhead' in (tmp_path / 'run' / 'report.html').read_text()
    assert '| heun | 1.04 |' in capsys.readouterr().out


def test_a_missed_bar_is_told(tmp_path, suite):
    suite.BARS = (Bar('overhead', '<=', 1.03),)
    assert not run(tmp_path)['passed']


def test_flags_go_before_the_preset_and_the_preset_before_the_suite(tmp_path, suite):
    run(tmp_path, preset='smoke', solvers=('ddim',), batches=('4', '8'), peers=('monai',))
    (seen,) = suite.seen
    assert seen['solvers'] == ('ddim',) and seen['batches'] == (4, 8) and seen['rivals'] == ('monai',) and seen['rounds'] == 1
    assert seen['shapes'] == ('16x16',) and seen['steps'] == (2,)


def test_a_dry_run_tells_and_leaves_nothing(tmp_path, suite, capsys):
    assert run(tmp_path, dry_run=True, rounds=7) == {}
    assert 'samplers: rounds=7, steps=20,1000' in capsys.readouterr().out
    assert not suite.seen and not (tmp_path / 'run').exists()


@pytest.mark.parametrize('wrong, flag', [({'peers': ('others',)}, '--peers=others'), ({'steps': ('ten',)}, '--steps=ten')])
def test_what_cannot_be_is_refused(tmp_path, suite, wrong, flag):
    with pytest.raises(UserError, match=flag):
        run(tmp_path, **wrong)
    assert not (tmp_path / 'run').exists()


@pytest.mark.parametrize('name', benchmark_samplers.FLAGS)
def test_every_suite_takes_what_the_script_gives(name):
    module = importlib.import_module(f'jaxdiff.benchmark.{name}')
    given = dict(shapes=('64x64',), steps=('2',), batches=('2',), widths=('8',), dtypes=('float32',), solvers=('heun',), peers=('monai',))
    for preset in benchmark_samplers.PRESETS:
        for flags in ({}, given):
            config = configure(benchmark_samplers.Config, benchmark_samplers.PRESETS, preset=preset, suite=name, rounds=1, **flags)
            assert set(benchmark_samplers.arguments(config, module)) == set(inspect.signature(module.measure).parameters)
    assert all(isinstance(bar, Bar) for bar in module.BARS)
