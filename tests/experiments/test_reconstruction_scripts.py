"""Reconstructions end to end at toy size. A new one is a name in SYSTEMS."""

import json
from importlib import import_module

import jax
import nibabel as nib
import numpy as np
import pytest
from fastmri_files import HEADER, written
from patient_files import AFFINE, SHAPE, head
from patient_files import save as save_scan

from jaxdiff import model, plans
from jaxdiff.data import coils, volumes
from jaxdiff.experiment import configure
from jaxdiff.studies import judging, kspace
from jaxdiff.types import UserError

SYSTEMS = {  # and what each trains beside the U-Net
    'cold': {'restorer'},
    'kspace_guided': {'prior'},
    'posterior': {'prior'},
    'score_mri': {'prior'},
}
TINY = dict(preset='smoke')


def configured(name, folder, **more):
    script = import_module(f'reconstruction.{name}')
    return script, configure(script.Config, script.PRESETS, **{**TINY, **more}, workdir=str(folder))


def test_a_run_leaves_what_it_should(tmp_path):
    script, config = configured('kspace_guided', tmp_path / 'run')
    result = script.run(config)
    assert set(result['parameters']) == {'unet', 'prior'} and result['peak'] == 'slice'
    assert json.loads((tmp_path / 'run' / 'result.json').read_text())['metrics'] == result['metrics']
    assert all(np.isfinite(list(result['metrics'].values())))
    assert {'TV', 'U-Net', 'zero-filled', 'refined'} <= set(result['baselines']) and 'untrained' in result['controls']
    assert result['metrics']['random4_residual'] < 1e-5
    for file in ('report.html', 'figures/reconstructions.png', 'figures/calibration.png'):
        assert (tmp_path / 'run' / file).exists()
    written = {file.name: volumes.read(file).array for file in (tmp_path / 'run' / 'outputs').glob('*.nii.gz')}
    assert {array.shape for array in written.values()} == {(32, 32, 3, 1)} and len(written) == 4


@pytest.mark.parametrize('name', SYSTEMS)
def test_every_system_can_be_planned(name, tmp_path):
    script, config = configured(name, tmp_path / 'run')
    found = plans.resolved(script.PARTS.plan(config, kspace.sketch(config)))
    assert {plan.stage.name for plan in found} == SYSTEMS[name]


def test_each_prior_of_score_mri_can_be_asked(tmp_path):
    for prior, channels in (('complex', 2), ('parts', 1)):
        script, config = configured('score_mri', tmp_path / 'run', prior=prior)
        data = kspace.open_data(config)
        (plan,) = script.plan(config, data)
        trained = plan.blank._replace(params=model.init(plan.blank, jax.random.key(0)))
        at = kspace.measure(data.test, np.arange(2), 'random4')
        samples = script.rows(config, {plan.stage.name: trained}, data).own('random4')(jax.random.key(0), at)
        assert trained.card['shape'][-1] == channels and samples.shape == (2, 2, 32, 32, 2)
        assert judging.residual(at, samples[:, 0]) < 1e-5


def test_a_dry_run_tells_the_cost_and_writes_nothing(tmp_path, capsys):
    script, config = configured('kspace_guided', tmp_path / 'run', dry_run=True)
    told = script.run(config)
    assert set(told['parameters']) == {'unet', 'prior'} and told['seconds'] > 0 and not (tmp_path / 'run').exists()
    assert 'in all' in capsys.readouterr().out


def test_a_comparison_holds_every_row(tmp_path):
    script, config = configured('compare', tmp_path / 'run')
    names, result = config.systems, script.run(config)
    assert set(result['baselines']) == {'U-Net', 'TV', 'zero-filled', *names}
    assert set(result['parameters']) == {'unet', 'prior', 'cold restorer'}
    assert (tmp_path / 'run' / 'figures' / 'slices.png').exists()


def test_the_comparison_knows_every_script():
    assert set(import_module('reconstruction.compare').Config().systems) == set(SYSTEMS)


@pytest.mark.parametrize(('name', 'flags', 'words'), [
    ('cold', dict(masks=('spiral4',)), '--masks=spiral4'),
    ('compare', dict(systems=('magic',)), '--systems=magic'),
    ('posterior', dict(data='pictures'), '--data=pictures'),
    ('posterior', dict(data='fastmri:/nowhere'), 'holds no file that ends in .h5'),
])  # fmt: skip
def test_flags_that_do_not_go_together_are_refused(name, flags, words, tmp_path):
    script, config = configured(name, tmp_path / 'run', **flags)
    with pytest.raises(UserError, match=words):
        script.run(config)
    assert not (tmp_path / 'run').exists()


def scanned(path, seed, *, width=36, kspace=None, mask=None):
    """A file of the layout of fastMRI: two slices of a disc with a phase, reconstructed to (32, 32)."""
    rng = np.random.default_rng(seed)
    x, y = np.indices((40, width))
    disc = (((x - 20) / 12) ** 2 + ((y - width / 2) / 11) ** 2 < 1) * np.exp(1j * rng.uniform() * x / 20)
    whole = np.stack([coils.transform(50 * disc * (1 + n)) for n in range(2)])
    header = (
        HEADER.format(recon=32, maximum=width - 1, center=width // 2)
        .replace('<x>8</x>', '<x>32</x>')
        .replace('<y>12</y>', f'<y>{width}</y>')
    )
    return written(path, whole if kspace is None else kspace, header, **({} if mask is None else {'mask': mask}))


def test_files_of_fastmri_become_volumes(tmp_path):
    for n in range(3):
        scanned(tmp_path / f'file{n}.h5', n)
    script, config = configured('cold', tmp_path / 'run', data=f'fastmri:{tmp_path}', evaluations=1, patients=2)
    result = script.run(config)
    assert result['data'].startswith('fastmri:') and result['metrics']['random4_residual'] < 1e-5
    whole = volumes.read(tmp_path / 'run' / 'outputs' / 'fully_sampled.nii.gz').array[..., 0]
    assert whole.shape == (32, 32, 2) and 45 < whole[16, 16, 0] < 55 and 90 < whole[16, 16, 1] < 110  # in the units of the file
    assert (tmp_path / 'run' / 'report.html').exists()


@pytest.mark.parametrize(('wrong', 'words'), [
    (dict(kspace=np.ones((40, 36), np.complex64)), r'file1\.h5: kspace of shape \(40, 36\)'),
    (dict(mask=np.ones(35, bool)), r'file1\.h5: mask of shape \(35,\)'),
    (dict(kspace=np.ones((2, 3, 40, 36), np.complex64)), r'file1\.h5: .* with 3 coils, others .* with 1: keep files of one kind'),
])  # fmt: skip
def test_files_that_do_not_fit_are_refused_before_anything_is_written(wrong, words, tmp_path):
    for n in range(3):
        scanned(tmp_path / f'file{n}.h5', n, **(wrong if n == 1 else {}))
    script, config = configured('posterior', tmp_path / 'run', data=f'fastmri:{tmp_path}')
    with pytest.raises(UserError, match=words):
        script.run(config)
    assert not (tmp_path / 'run').exists()


def test_magnitudes_are_answered_in_their_own_frame(tmp_path, monkeypatch):
    monkeypatch.setenv('JAXDIFF_CACHE', str(tmp_path / 'cache'))
    for n in range(3):
        save_scan(tmp_path / 'scans' / f'{n}.nii.gz', head(n)[0])
    script, config = configured('cold', tmp_path / 'run', data=f'nifti:{tmp_path / "scans"}', evaluations=1, patients=2, tuning=2)
    script.run(config)
    files = {file.name: nib.load(file) for file in (tmp_path / 'run' / 'outputs').glob('*.nii.gz')}
    assert set(files) == {f'{name}.nii.gz' for name in ('reconstructed', 'deviation', 'zero_filled', 'fully_sampled')}
    for file in files.values():
        assert file.shape == SHAPE
        np.testing.assert_allclose(file.affine, AFFINE, atol=1e-5)
    whole, truth = files['fully_sampled.nii.gz'].get_fdata(), head(0)[0]
    inside = truth > 0
    assert abs(whole[inside].mean() / 300 - 1) < 0.15 and files['deviation.nii.gz'].get_fdata()[0, 0, 0] == 0


def test_cold_diffusion_of_several_coils_is_refused_before_anything_is_made(tmp_path):
    script, config = configured('cold', tmp_path / 'run', coils=2)
    with pytest.raises(UserError, match='--coils=2: cold diffusion takes one coil'):
        script.run(config)
    assert not (tmp_path / 'run').exists()
