"""train.py end to end at toy size, and everything that a user's folder can have wrong with it."""

import gzip
import json
import struct
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
import sample
import train
from test_sample import blob

from jaxdiff.experiment import configure
from jaxdiff.types import UserError

TINY = dict(preset='smoke', size=8, widths=(8, 8), attention=(False, False), patch=1, batch=2, steps=4, save_every=2, samples=8)


def scans(folder, count=6, shape=(32, 32, 20)):
    folder.mkdir()
    rng = np.random.default_rng(1)
    for n in range(count):
        nib.Nifti1Image(((1 + n) * blob(shape, rng)).astype(np.float32), np.diag([2.0, 2.0, 3.0, 1.0])).to_filename(
            folder / f'scan{n}.nii.gz'
        )
    return folder


def truncated(folder):
    file = folder / 'scan0.nii.gz'
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def text(folder):
    (folder / 'scan0.nii').write_text('this is a letter, not a scan')


def voxel(value):
    def spoil(folder):
        image = np.ones((8, 8, 8), np.float32)
        image[2, 2, 2], image[3, 3, 3] = value, 5
        nib.Nifti1Image(image, np.eye(4)).to_filename(folder / 'scan0.nii.gz')

    return spoil


def constant(folder):
    nib.Nifti1Image(np.full((8, 8, 8), 3, np.float32), np.eye(4)).to_filename(folder / 'scan0.nii.gz')


def channels(folder):
    nib.Nifti1Image(np.random.default_rng(0).random((8, 8, 8, 3)), np.eye(4)).to_filename(folder / 'scan0.nii.gz')


def header(**fields):
    """A file of 400 bytes whose header says what it likes."""

    def spoil(folder):
        made = nib.Nifti1Header()
        made.set_data_dtype(np.float32)
        block = bytearray(made.binaryblock)
        block[40:56] = struct.pack('<8h', *fields['dim'])
        block[344:348] = b'n+1\0'
        block[108:112] = struct.pack('<f', 352)
        content = bytes(block) + bytes(52)
        name = fields.get('name', 'scan0.nii')
        (folder / name).write_bytes(gzip.compress(content) if name.endswith('.gz') else content)

    return spoil


DEFECTS = {
    'truncated': truncated,
    'text': text,
    'nan': voxel(np.nan),
    'infinite': voxel(np.inf),
    'constant': constant,
    'mixed channels': channels,
    'zero size': header(dim=(3, 8, 0, 8, 1, 1, 1, 1)),
    'terabyte': header(dim=(3, 6500, 6500, 6500, 1, 1, 1, 1)),
    'packed terabyte': header(dim=(3, 6500, 6500, 6500, 1, 1, 1, 1), name='scan0.nii.gz'),
}


@pytest.mark.parametrize('defect', DEFECTS)
def test_a_defective_file_is_named_and_nothing_is_left(tmp_path, monkeypatch, defect):
    monkeypatch.setenv('JAXDIFF_CACHE', str(tmp_path / 'cache'))
    folder = scans(tmp_path / 'scans', shape=(8, 8, 8))
    DEFECTS[defect](folder)
    with pytest.raises(UserError) as caught:
        train.run(configure(train.Config, train.PRESETS, data=f'nifti:{folder}', workdir=str(tmp_path / 'run'), **TINY))
    assert 'scan0.nii' in str(caught.value) and '\n' not in str(caught.value)
    assert not (tmp_path / 'run').exists()


@pytest.mark.parametrize(('make', 'words'), [(False, 'no such folder'), (True, 'holds no file')])
def test_a_missing_or_empty_folder_is_named(tmp_path, make, words):
    folder = tmp_path / 'scans'
    if make:
        folder.mkdir()
    with pytest.raises(UserError, match=words) as caught:
        train.run(configure(train.Config, train.PRESETS, data=f'nifti:{folder}', workdir=str(tmp_path / 'run'), **TINY))
    assert str(folder) in str(caught.value)
    assert not (tmp_path / 'run').exists()


def test_train_interrupt_resume_sample(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv('JAXDIFF_CACHE', str(tmp_path / 'cache'))
    monkeypatch.setattr(train, 'evaluate', lambda *_: train.Evaluation({}, {}, {}))  # tested on its own; here the folder matters
    monkeypatch.setattr(train, 'show', lambda *_: [])
    data = f'nifti:{scans(tmp_path / "scans")}'
    whole, parts = tmp_path / 'whole', tmp_path / 'parts'
    config = configure(train.Config, train.PRESETS, data=data, workdir=str(whole), **TINY)
    result = train.run(config)
    assert set(path.name for path in whole.iterdir()) >= {
        'config.json',
        'metrics.jsonl',
        'checkpoints',
        'model.npz',
        'model.json',
        'result.json',
    }
    assert [json.loads(line)['step'] for line in (whole / 'metrics.jsonl').read_text().splitlines()] == [4]

    again = train.run(replace(config, workdir=str(parts)))
    assert again['state_digest'] == result['state_digest']  # the same command gives the same bits

    with pytest.raises(UserError, match='widths'):
        train.run(replace(config, workdir=str(parts), resume=True, widths=(8, 16)))

    (parts / 'model.npz').unlink()  # as if it had been killed before the end, its newest checkpoint damaged
    for file in (parts / 'checkpoints' / 'model' / '4').rglob('*'):
        if file.is_file():
            file.write_bytes(b'')
    drawn = dict(preset='smoke', model=str(parts), workdir=str(tmp_path / 'out'))
    assert sample.run(configure(sample.Config, sample.PRESETS, **drawn))['passed']
    assert 'checkpoint 4' in capsys.readouterr().err
    back = train.run(replace(config, workdir=str(parts), resume=True))
    assert back['state_digest'] == result['state_digest']
