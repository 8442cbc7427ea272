"""Scripts whose network is told something, end to end at toy size."""

import json
from importlib import import_module

import numpy as np
import pytest

from jaxdiff.experiment import configure
from jaxdiff.types import UserError

SCRIPTS = {  # and what each trains beside its model
    'classifier_free': ('judge',),
    'controlnet': ('trunk',),
    'dreambooth': ('judge', 'subject', 'without'),
}
TINY = dict(preset='smoke')


@pytest.mark.parametrize('name', SCRIPTS)
def test_a_run_leaves_what_it_should(name, tmp_path):
    script = import_module(f'conditioning.{name}')
    config = configure(script.Config, script.PRESETS, **TINY, workdir=str(tmp_path / 'run'))
    result = script.run(config)
    models = {'model', *SCRIPTS[name]}
    assert result['system'] == f'conditioning/{name}' and set(result['parameters']) == models
    assert json.loads((tmp_path / 'run' / 'result.json').read_text())['metrics'] == result['metrics']
    assert all(np.isfinite(list(result['metrics'].values())))
    for file in ('report.html', *(f'{each}.npz' for each in models)):
        assert (tmp_path / 'run' / file).exists()
    assert list((tmp_path / 'run' / 'figures').glob('*.png'))


def test_a_dry_run_tells_the_cost_and_writes_nothing(tmp_path, capsys):
    script = import_module('conditioning.adagn')
    config = configure(script.Config, script.PRESETS, **TINY, dry_run=True, workdir=str(tmp_path / 'run'))
    told = script.run(config)
    assert set(told['parameters']) == {'model', 'judge'} and 'training step of judge' in capsys.readouterr().out
    assert not (tmp_path / 'run').exists()


@pytest.mark.parametrize('weights', [(1.0,), (2.0, 1.0), (1.0, 1.0)])
def test_weights_rise(weights, tmp_path):
    script = import_module('conditioning.classifier_free')
    config = configure(script.Config, script.PRESETS, **TINY, weights=weights, workdir=str(tmp_path / 'run'))
    with pytest.raises(UserError, match='at least two, rising'):
        script.run(config)
    assert not (tmp_path / 'run').exists()
