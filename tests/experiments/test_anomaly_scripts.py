"""Detectors of anomalies end to end at toy size. A new one is a name in SYSTEMS."""

import json
from importlib import import_module

import jax
import jax.numpy as jnp
import nibabel as nib
import numpy as np
import pytest

from jaxdiff import model, plans
from jaxdiff.experiment import configure
from jaxdiff.studies import cohorts
from jaxdiff.studies.siblings import systems
from jaxdiff.types import UserError
from jaxdiff.workdir import write_json

SYSTEMS = {  # and what each trains beside the denoiser of health
    'classifier_free': {'told'},
    'classifier_guided': {'either', 'guide'},
    'coarse': {'coarse', 'pixel', 'walked'},
    'latent': {'autoencoder', 'latent'},
    'patched': {'patched', 'whole'},
    'resample': set(),  # of white noise; of simplex noise at other presets
    'simplex': {'simplex'},
}
TINY = dict(preset='smoke')
WHOLE = ('resample',)  # the others are run by compare


def configured(name, folder, **more):
    script = import_module(f'anomaly.{name}')
    return script, configure(script.Config, script.PRESETS, **{**TINY, **more}, workdir=str(folder))


@pytest.mark.parametrize('name', WHOLE)
def test_a_run_leaves_what_it_should(name, tmp_path):
    script, config = configured(name, tmp_path / 'run')
    result = script.run(config)
    assert result['system'] == f'anomaly/{name}' and set(result['parameters']) == {'healthy', *SYSTEMS[name]}
    assert json.loads((tmp_path / 'run' / 'result.json').read_text())['metrics'] == result['metrics']
    assert all(np.isfinite(list(result['metrics'].values())))
    assert {'single step', 'chain', 'linear denoiser', 'chance'} <= set(result['baselines']) and result['controls']
    for file in ('report.html', 'figures/findings.png', 'figures/sizes.png'):
        assert (tmp_path / 'run' / file).exists()


@pytest.mark.parametrize('name', SYSTEMS)
def test_every_system_can_be_planned(name, tmp_path):
    script, config = configured(name, tmp_path / 'run')
    cohort = cohorts.sketch(config, labelled=script.PARTS.labelled)
    found = {plan.stage.name for plan in plans.resolved(script.PARTS.plan(config, cohort))}
    assert found - {'healthy'} == SYSTEMS[name]


@pytest.mark.parametrize(('flags', 'expected'), [({}, 8), ({'data': 'brain'}, 4), ({'told_steps': 3}, 3)])
def test_what_is_told_learns_longer(flags, expected, tmp_path):
    script, config = configured('classifier_free', tmp_path / 'run', **{'told_steps': 0, 'steps': 4, **flags})
    (plan,) = script.plan(config, cohorts.sketch(config, labelled=True))
    assert plan.stage.steps == expected


def test_a_dry_run_tells_the_cost_and_writes_nothing(tmp_path, capsys):
    script, config = configured('resample', tmp_path / 'run', dry_run=True)
    told = script.run(config)
    assert set(told['parameters']) == {'healthy'} and told['seconds'] > 0 and not (tmp_path / 'run').exists()
    assert 'in all' in capsys.readouterr().out


def test_a_comparison_holds_every_row(tmp_path):
    script, config = configured('compare', tmp_path / 'run')
    names, result = config.systems, script.run(config)
    assert set(names) | {'chain', 'single step', 'linear denoiser'} <= set(result['baselines'])
    assert set(result['parameters']) == {'healthy'} | {f'{name} {part}' for name in names for part in SYSTEMS[name]}
    assert (tmp_path / 'run' / 'figures' / 'maps.png').exists()


def test_the_comparison_knows_every_script():
    assert set(import_module('anomaly.compare').Config().systems) == set(SYSTEMS)


def test_a_comparison_leaves_each_script_its_own_presets(tmp_path):
    script = import_module('anomaly.compare')
    named = lambda **flags: {
        each.name: each.config for each in systems(script.__file__, configure(script.Config, script.PRESETS, **flags), script.PRESETS)
    }
    plain, told = named(preset='cpu'), named(preset='cpu', walk=5, depths=(0.3,))
    assert plain['classifier_free'].depths == (0.5, 0.75) and plain['simplex'].depths == script.Config().depths
    write_json(tmp_path / 'config.json', {'config': {'preset': 'cpu', 'walk': 7, 'depths': [0.2]}, 'data': ''})
    resumed = named(workdir=str(tmp_path), resume=True)
    assert {(each.walk, each.depths) for each in resumed.values()} == {(7, (0.2,))} and resumed['latent'].workdir == ''
    assert {each.walk for each in told.values()} == {5} and {each.depths for each in told.values()} == {(0.3,)}


@pytest.mark.parametrize(('name', 'flags', 'words'), [
    ('patched', dict(box=12), '--box=12'),
    ('compare', dict(systems=('magic',)), '--systems=magic'),
    ('simplex', dict(data='pictures'), '--data=pictures'),
])  # fmt: skip
def test_flags_that_do_not_go_together_are_refused(name, flags, words, tmp_path):
    script, config = configured(name, tmp_path / 'run', **flags)
    with pytest.raises(UserError, match=words):
        script.run(config)
    assert not (tmp_path / 'run').exists()


def test_a_folder_of_scans_becomes_volumes_in_their_own_frames(tmp_path, monkeypatch):
    monkeypatch.setenv('JAXDIFF_CACHE', str(tmp_path / 'cache'))
    rng, affine = np.random.default_rng(0), np.diag([-2.0, 2.0, 3.0, 1.0])
    x, y, z = np.indices((40, 44, 4))
    head, lesion = ((x - 20) / 16) ** 2 + ((y - 22) / 18) ** 2 < 1, ((x - 24) ** 2 + (y - 26) ** 2 < 30) & (z == 1)
    for n in range(3):
        for contrast, values in (('flair', 200 * head + 10 * head * rng.standard_normal(head.shape) + 150 * lesion), ('seg', lesion)):
            file = tmp_path / 'scans' / f'BraTS2021_{n:05d}' / f'BraTS2021_{n:05d}_{contrast}.nii.gz'
            file.parent.mkdir(parents=True, exist_ok=True)
            nib.Nifti1Image(np.float32(values), affine).to_filename(file)
    script, config = configured('coarse', tmp_path / 'run', data=f'brats2021:{tmp_path / "scans"}', contrasts=('flair',), evaluations=1)
    result = script.run(config)
    assert result['data'].startswith('brats2021:') and 0 <= result['metrics']['ap'] <= 1
    (home,) = (tmp_path / 'run' / 'outputs').iterdir()
    files = {file.name: nib.load(file) for file in home.iterdir()}
    assert set(files) == {'restored.nii.gz', 'anomaly.nii.gz', 'mask.nii.gz'}
    for file in files.values():
        assert file.shape == (40, 44, 4)
        np.testing.assert_allclose(file.affine, affine)
    assert set(np.unique(files['mask.nii.gz'].get_fdata())) <= {0.0, 1.0} and files['restored.nii.gz'].get_fdata().max() > 20


def test_no_class_is_none_of_the_classes():
    """Whatever the parameters: a norm of tokens of two numbers would leave no more than a sign."""
    script, config = configured('classifier_free', 'nowhere')
    cohort = cohorts.sketch(config, labelled=True)
    (plan,) = script.plan(config, cohort)
    params = model.init(plan.blank, jax.random.key(0))
    params = jax.tree.map(lambda x: x + 0.3 * jax.random.normal(jax.random.key(1), x.shape), params)
    x = jax.random.normal(jax.random.key(2), cohort.shape)
    ask = lambda token: model.denoiser(plan.blank._replace(params=params), tokens=jnp.asarray(token))(x, jnp.float32(0.4))
    healthy, ill, none = map(ask, (script.HEALTHY, script.ILL, script.NONE))
    assert min(float(jnp.abs(none - each).max()) for each in (healthy, ill)) > 0.01
