"""Files that sample.py writes lie exactly where their inputs lay."""

import jax
import nibabel as nib
import numpy as np
import pytest
import sample

from jaxdiff import model
from jaxdiff.data import layouts, preprocess
from jaxdiff.experiment import configure
from jaxdiff.types import UserError


def blob(shape, rng):
    """A smooth bright object in a dark field."""
    axes = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape[:3]), indexing='ij')
    inside = np.exp(-3 * sum(np.square(axis) for axis in axes))
    return (inside if len(shape) == 3 else np.stack([inside * (n + 1) for n in range(shape[3])], -1)) + 0.01 * rng.random(shape)


def oblique():
    turn = 0.3
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    affine[:2, :2] = 2 * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    affine[:3, 3] = (-11, 7, 3.5)
    return affine


AFFINES = {
    'ras': np.array([[2.0, 0, 0, -10], [0, 2, 0, -20], [0, 0, 2, 5], [0, 0, 0, 1]]),
    'lps': np.array([[-2.0, 0, 0, 10], [0, -2, 0, 20], [0, 0, 2, 5], [0, 0, 0, 1]]),
    'swapped': np.array([[0, 0, 2.0, -10], [2, 0, 0, -20], [0, -2, 0, 5], [0, 0, 0, 1]]),
    'oblique': oblique(),
    'anisotropic': np.diag([1.5, 2.0, 3.5, 1.0]),
}


def write_scans(folder, channels=None):
    """One file per affine, and one stored as scaled int16; their names."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for n, (name, affine) in enumerate(AFFINES.items()):
        shape = (16 + n, 18, 14) if channels is None else (16 + n, 18, 14, channels)
        nib.Nifti1Image(blob(shape, rng).astype(np.float32), affine).to_filename(folder / f'{name}.nii.gz')
    shape = (15, 16, 17) if channels is None else (15, 16, 17, channels)
    scaled = nib.Nifti1Image(np.rint(1000 * blob(shape, rng)).astype(np.int16), AFFINES['lps'])
    scaled.header.set_slope_inter(0.25, -3)
    scaled.to_filename(folder / 'int16.nii')
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture(scope='module')
def volumes(tmp_path_factory):
    """(a folder of scans, the workdir of a model of them)."""
    root = tmp_path_factory.mktemp('volumes')
    write_scans(root / 'scans')
    return root / 'scans', workdir_of(root / 'trained', root / 'scans', 3, 1)


def workdir_of(folder, scans, dims, channels):
    """A model of these scans with parameters fresh from the initialiser, as training leaves it."""
    index = layouts.nifti(scans)
    pre = preprocess.fit(index, dims=dims, shape=(8,) * dims, spacing='cover')
    network = {'name': 'unet', 'channels': channels, 'dims': dims, 'widths': [4, 8], 'blocks': 1, 'attention': [], 'groups': 2}
    blank = model.Model(network, {'name': 'cosine'}, 'v', None, preprocess.to_json(pre), {'shape': [*(8,) * dims, channels]})
    folder.mkdir()
    model.save(blank._replace(params=model.init(blank, jax.random.key(0))), folder / 'model')
    return folder


@pytest.mark.parametrize(('dims', 'channels'), [(3, None), (2, None), (3, 2)])
def test_outputs_lie_where_their_inputs_lay(tmp_path, dims, channels):
    scans = tmp_path / 'scans'
    names = write_scans(scans, channels)
    trained = workdir_of(tmp_path / 'trained', scans, dims, channels or 1)
    out = tmp_path / 'out'
    sample.run(configure(sample.Config, sample.PRESETS, preset='smoke', model=str(trained), data=f'nifti:{scans}', workdir=str(out)))
    for n, name in enumerate(names):
        came = nib.load(scans / name)
        went = nib.load(out / 'outputs' / f'{name.split(".")[0]}-{n:04d}.nii.gz')
        np.testing.assert_array_equal(went.affine, came.affine)
        assert went.shape == came.shape
        assert nib.aff2axcodes(went.affine) == nib.aff2axcodes(came.affine)
        assert went.header.get_zooms() == came.header.get_zooms()
        values, truth = went.get_fdata(), came.get_fdata()
        assert np.isfinite(values).all()
        assert truth.min() - 0.1 * np.ptp(truth) < values.min() and values.max() < truth.max() + 0.1 * np.ptp(truth)


def test_new_images_are_files_in_a_frame_of_their_own(tmp_path, volumes):
    result = sample.run(configure(sample.Config, sample.PRESETS, preset='smoke', model=str(volumes[1]), workdir=str(tmp_path / 'out')))
    files = sorted((tmp_path / 'out' / 'outputs').iterdir())
    assert len(files) == 2 and nib.load(files[0]).shape == (8, 8, 8)
    assert result['passed'] and result['nfe'] == 2


@pytest.mark.parametrize(
    ('given', 'words'),
    [
        (dict(model='nowhere'), '--model=nowhere: no such workdir'),
        (dict(data='nifti:nowhere'), 'nowhere: no such folder'),
        (dict(data='brats:here'), '--data=brats:here'),
        (dict(covariates=('0.5',)), '--covariates: the model'),
        (dict(solver='magic'), '--solver=magic: choose one of'),
        (dict(steps=-3), '--steps=-3: must be at least 1'),
    ],
)
def test_refusals_leave_nothing(tmp_path, monkeypatch, volumes, given, words):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as caught:
        sample.run(configure(sample.Config, sample.PRESETS, **{'preset': 'smoke', 'model': str(volumes[1]), 'workdir': 'out', **given}))
    assert words in str(caught.value) and '\n' not in str(caught.value)
    assert not (tmp_path / 'out').exists()


def test_a_scan_unlike_the_training_data_is_refused(tmp_path, volumes):
    write_scans(tmp_path / 'other', channels=2)
    given = dict(model=str(volumes[1]), data=f'nifti:{tmp_path / "other"}', workdir=str(tmp_path / 'out'))
    with pytest.raises(UserError, match='channel'):
        sample.run(configure(sample.Config, sample.PRESETS, preset='smoke', **given))
    assert not (tmp_path / 'out').exists()
