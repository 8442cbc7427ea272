"""Latent diffusion end to end at toy size: three models, judged and shown."""

import json
from importlib import import_module

import numpy as np
import pytest

from jaxdiff import model
from jaxdiff.experiment import configure
from jaxdiff.types import UserError

TINY = dict(preset='smoke')


def configured(script, tmp_path, **more):
    return configure(script.Config, script.PRESETS, **{**TINY, **more}, workdir=str(tmp_path / 'run'))


@pytest.mark.parametrize(('name', 'flags'), [('vq', {'critic': 0.0, 'perceptual': 0.0})])
def test_a_run_leaves_what_it_should(name, flags, tmp_path):
    script = import_module(f'latent.{name}')
    result = script.run(configured(script, tmp_path, **flags))
    assert result['system'] == f'latent/{name}' and set(result['parameters']) == {'autoencoder', 'pixel', 'latent'}
    assert json.loads((tmp_path / 'run' / 'result.json').read_text())['metrics'] == result['metrics']
    assert all(np.isfinite(list(result['metrics'].values()))) and ('perplexity' in result['metrics']) == (name == 'vq')
    assert {'linear', 'pixel', 'pca_gaussian', 'real'} <= set(result['baselines'])
    assert {'untrained', 'untrained autoencoder'} <= set(result['controls'])
    for file in ('report.html', 'figures/samples.png', 'figures/rebuilt.png', 'latent.npz', 'autoencoder.npz', 'pixel.npz'):
        assert (tmp_path / 'run' / file).exists()
    kept = model.load(tmp_path / 'run' / 'latent')
    assert kept.card['latent']['scale'] > 0 and kept.card['latent']['shape'] == [32, 32, 1]
    first = model.load(tmp_path / 'run' / 'autoencoder')
    assert ('codebook' in first.params) == (name == 'vq')


def test_a_dry_run_tells_the_cost_and_writes_nothing(tmp_path, capsys):
    script = import_module('latent.kl')
    told = script.run(configured(script, tmp_path, dry_run=True))
    assert set(told['parameters']) == {'autoencoder', 'pixel', 'latent'} and 'training step of latent' in capsys.readouterr().out
    assert not (tmp_path / 'run').exists()


@pytest.mark.parametrize(('flags', 'words'), [
    (dict(tile=4, overlap=4), '--overlap=4'),
    (dict(critic_learns=0.8, critic_heard=0.5), '--critic_heard=0.5'),
    (dict(size=33), r'33, 33'),
])  # fmt: skip
def test_flags_that_do_not_go_together_are_refused(flags, words, tmp_path):
    script = import_module('latent.vq')
    with pytest.raises(UserError, match=words):
        script.run(configured(script, tmp_path, **flags))
    assert not (tmp_path / 'run').exists()
