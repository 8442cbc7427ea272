"""What export_sampler.py exports draws what the model draws, and is drawn from."""

import export_sampler
import jax
import nibabel as nib
import numpy as np
import pytest

from jaxdiff import model
from jaxdiff.data import preprocess
from jaxdiff.data.scope import Seen
from jaxdiff.experiment import configure
from jaxdiff.types import UserError

pytest.importorskip('flatbuffers')
SEEN = Seen(spacing=((1.0,) * 3,) * 2, extent=((4.0,) * 3,) * 2, intensity=((0.0, 1.0),))
PREPARE = preprocess.Preprocess(2, (4, 4), 1, (2.0, 3.0), 'field', 'fixed', (0.0,), (1.0,), SEEN)
NETWORK = {'name': 'unet', 'channels': 1, 'widths': [4], 'blocks': 0, 'attention': [], 'groups': 2, 'vector': 2}


def run(**given):
    return export_sampler.run(configure(export_sampler.Config, export_sampler.PRESETS, preset='smoke', **given))


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """The workdir of a training."""
    folder = tmp_path_factory.mktemp('trained')
    card = {'shape': [4, 4, 1], 'conditioning': {'vector': [2]}, 'covariates': {'age': [0, 100], 'sex': [0, 1]}}
    blank = model.Model(NETWORK, {'name': 'cosine'}, 'v', None, preprocess.to_json(PREPARE), card)
    fresh = model.init(blank, jax.random.key(0))
    params = jax.tree.map(lambda leaf: leaf + 0.3 * np.random.default_rng(0).standard_normal(leaf.shape, np.float32), fresh)
    model.save(blank._replace(params=params), folder / 'model')
    return str(folder)


@pytest.fixture(scope='module')
def exported(trained, tmp_path_factory):
    """(workdir, result) of an export."""
    folder = tmp_path_factory.mktemp('export') / 'out'
    return folder, run(model=trained, workdir=str(folder), solver='ddim', steps=2, platforms=('cpu', 'cuda'))


def test_what_was_exported_draws_what_the_model_draws(exported):
    folder, result = exported
    assert result['passed'] and result['metrics']['difference'] < 1e-5 and result['bars'][0]['name'] == 'difference'
    assert sorted(path.name for path in (folder / 'artifact').iterdir()) == [
        'manifest.json',
        'parameters.npz',
        'sampler.cpu',
        'sampler.cuda',
    ]


def test_images_are_written_in_the_frame_of_the_model(exported, tmp_path):
    run(run=str(exported[0] / 'artifact'), workdir=str(tmp_path / 'out'), steps=3, covariates=('0.5', 'nan'))
    first, second = (nib.load(tmp_path / 'out' / 'outputs' / f'sample-000{n}.nii.gz') for n in range(2))
    assert first.header.get_zooms()[:2] == (2.0, 3.0) and first.shape[:2] == (4, 4)
    values = np.stack([first.get_fdata(), second.get_fdata()])
    assert values.min() >= 0 and values.max() <= 1 and np.abs(values[0] - values[1]).max() > 0.01


@pytest.mark.parametrize(
    ('given', 'words'),
    [
        (dict(run='nowhere'), 'nowhere/manifest.json: no such file'),
        (dict(run='artifact', weight=2.0), 'exported without guidance'),
        (dict(run='artifact', covariates=('0.5',)), '1 given, the model was told 2: age, sex'),
        (dict(platforms=('abacus',)), '--platforms=abacus: unknown abacus'),
        (dict(model='brain', guided=True), '--guided: the model brain is told nothing'),
        (dict(weight=2.0), '--weight: is for drawing'),
    ],
)
def test_refusals_leave_nothing(trained, exported, tmp_path, monkeypatch, given, words):
    monkeypatch.chdir(tmp_path)
    if given.get('run') == 'artifact':
        given = {**given, 'run': str(exported[0] / 'artifact')}
    with pytest.raises(UserError) as caught:
        run(**{'model': trained, 'workdir': 'out', **given})
    assert words in str(caught.value) and '\n' not in str(caught.value)
    assert not (tmp_path / 'out').exists()
