"""Scans that nobody may learn from unnoticed, files and tables that are wrong, and grids that are hard to return to."""

import struct
import zlib
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from patient_files import AFFINE, SHAPE, brats, head, save

from jaxdiff.data import archives, patients, pictures, volumes
from jaxdiff.data.patients import Patient
from jaxdiff.types import UserError


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv('JAXDIFF_CACHE', str(tmp_path / 'cache'))


def test_a_scan_without_a_mask_among_others_is_refused(tmp_path):
    folder = brats(tmp_path / 'scans', count=2)
    (folder / 'BraTS2021_00001' / 'BraTS2021_00001_seg.nii.gz').unlink()
    with pytest.raises(UserError, match='BraTS2021_00001: no mask'):
        archives.patients(f'brats2021:{folder}', ('t1',))


def test_scans_of_the_ill_without_masks_are_not_healthy(tmp_path):
    save(tmp_path / 'sub-r001s001' / 'ses-1' / 'anat' / 'sub-r001s001_ses-1_T1w.nii.gz', head(0, True)[0])
    found = archives.patients(f'atlas:{tmp_path}')
    pre = patients.fit(found, size=16)
    assert patients.slices(found, pre).example(0)['label'] == 1
    with pytest.raises(UserError, match='no slice without a lesion'):
        patients.slices(found, pre, healthy=True)


def test_a_scan_of_which_nothing_is_known_is_refused(tmp_path):
    save(tmp_path / 'a.nii.gz', head(0, True)[0])
    (tmp_path / 'all.csv').write_text('img_path,seg_paht,label\na.nii.gz,seg.nii.gz,\n')
    found = archives.patients(f'pairs:{tmp_path / "all.csv"}')
    with pytest.raises(UserError, match=r'a\.nii\.gz: neither a mask nor a label'):
        patients.slices(found, patients.fit(found, size=16))


def test_a_name_in_a_table_is_no_path(tmp_path):
    save(tmp_path / 'a.nii.gz', head(0)[0])
    (tmp_path / 'all.csv').write_text('img_path,label,img_name\na.nii.gz,0,../../elsewhere/a\n')
    assert archives.patients(f'pairs:{tmp_path / "all.csv"}')[0].name == 'a'


def test_a_lesion_between_the_samples_still_makes_a_slice_ill(tmp_path):
    lost = 0
    for n in range(9):
        mask = np.zeros(SHAPE, np.uint8)
        mask[10 + n % 3, 12 + n // 3, 3] = 1
        one = Patient('a', (save(tmp_path / 'a.nii.gz', head(0)[0]),), save(tmp_path / 'm.nii.gz', mask))
        pre = patients.fit([one], size=8)
        source = patients.slices([one], pre)
        lost += not any(int(source.example(k)['label']) for k in range(source.size))
    assert lost == 0, f'{lost} of 9 slices with one lesion voxel are labelled healthy'


def test_two_slices_in_one_folder_are_both_kept(tmp_path):
    for number in (80, 81):
        save(tmp_path / 'a' / f'brats_train_001_t1_{number:03d}_w.nii.gz', head(0)[0][:, :, 3:4])
        save(tmp_path / 'a' / f'brats_train_001_seg_{number:03d}_w.nii.gz', head(0, True)[1][:, :, 3:4].astype(np.uint8))
    found = archives.patients(f'brats_slices:{tmp_path}', ('t1',))
    assert [[Path(file).name.split('_')[4] for file in (*each.files, each.mask)] for each in found] == [['080'] * 2, ['081'] * 2]


@pytest.mark.parametrize('rows', ['IXI_ID,AGE\n2,old\n', 'IXI_ID,AGE\nIXI002,35\n', 'IXI_ID,AGE\n2,inf\n'])
def test_a_table_of_ages_that_is_wrong_is_told_in_a_line(tmp_path, rows):
    save(tmp_path / 'IXI002-Guys-0828-T1.nii.gz', head(0)[0])
    (tmp_path / 'IXI.csv').write_text(rows)
    with pytest.raises(UserError, match=r'^\S+IXI\.csv: .*: write a number'):
        archives.patients(f'ixi:{tmp_path}')
    (tmp_path / 'IXI.csv').write_text('IXI_ID,AGE\n2\n')
    assert archives.patients(f'ixi:{tmp_path}')[0].covariates == {}


def test_a_row_cut_short_is_told_in_a_line(tmp_path):
    (tmp_path / 'train').mkdir()
    (tmp_path / 'train.csv').write_text('No Finding,Frontal/Lateral,Pleural Effusion,Path\n1.0,Frontal,\n')
    with pytest.raises(UserError, match=r'train\.csv: a row without Path'):
        archives.patients(f'chexpert:{tmp_path}')


@pytest.mark.parametrize('family', list(archives.LAYOUTS))
def test_a_file_for_a_folder_and_a_folder_for_a_file_are_refused(tmp_path, family):
    (tmp_path / 'file.txt').write_text('text')
    with pytest.raises(UserError, match='no such f'):
        archives.patients(f'{family}:{tmp_path if family == "pairs" else tmp_path / "file.txt"}')


def png(width, height):
    part = lambda kind, data: struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))
    return b'\x89PNG\r\n\x1a\n' + part(b'IHDR', struct.pack('>IIBBBBB', width, height, 8, 0, 0, 0, 0)) + part(b'IEND', b'')


def test_a_picture_that_declares_much_is_refused(tmp_path):
    (tmp_path / 'a.png').write_bytes(png(60_000, 60_000))
    with pytest.raises(UserError, match='too many pixels'):
        pictures.read(tmp_path / 'a.png')


@pytest.mark.parametrize('kind', ['archive', 'nothing', 'pickle', 'text'])
def test_arrays_that_are_none_are_refused(tmp_path, kind):
    path = tmp_path / 'a.npy'
    with open(path, 'wb') as file:
        if kind == 'archive':
            np.savez(file, np.zeros((3, 3)))
        elif kind == 'nothing':
            np.save(file, np.zeros((3, 0), np.float32))
        elif kind == 'pickle':
            file.write(b'\x80\x04N.')
        else:
            file.write(b'text')
    with pytest.raises(UserError, match=r'a\.npy: '):
        pictures.read(path)


def test_a_scan_without_a_head_is_left_out_or_told(tmp_path):
    tiny = np.zeros(SHAPE, np.float32)
    tiny[10, 12, 3] = 100
    scans = [Patient('a', (save(tmp_path / 'a.nii.gz', head(0)[0]),), None, 0), Patient('b', (save(tmp_path / 'b.nii.gz', tiny),), None, 0)]
    pre = patients.fit(scans[:1], size=24)
    source = patients.slices(scans, pre)
    assert source.example(source.size - 1)['brain'].any()


def test_files_of_other_numbers_of_channels_are_told_in_a_line(tmp_path):
    image = head(0)[0]
    scans = [
        Patient('a', (save(tmp_path / 'a.nii.gz', image),)),
        Patient('b', (save(tmp_path / 'b.nii.gz', np.stack([image, image], -1)),)),
    ]
    with pytest.raises(UserError, match='channel'):
        patients.slices(scans, patients.fit(scans, size=16))


@pytest.mark.parametrize('order', [(2, 0, 1), (1, 2, 0)])
def test_axes_in_another_order_return_with_their_channels(tmp_path, order):
    image, mask = head(0, True)
    matrix = np.eye(4)
    matrix[:3, :3] = AFFINE[:3, :3][:, order]
    matrix[:3, 3] = AFFINE[:3, 3]
    files = tuple(save(tmp_path / f'{n}.nii.gz', np.transpose((n + 1) * image, order), matrix) for n in range(2))
    one = Patient('a', files, save(tmp_path / 'm.nii.gz', np.transpose(mask, order).astype(np.uint8), matrix))
    pre = patients.fit([one], size=24)
    scan = patients.examine(one, pre)
    parts = {'restored': scan.images, 'mask': scan.lesions[..., 0]}
    written = {path.name: nib.load(path) for path in patients.write(tmp_path / 'out', one, pre, scan, parts)}
    for each in written.values():
        np.testing.assert_array_equal(each.affine, nib.load(files[0]).affine)
    np.testing.assert_array_equal(written['mask.nii.gz'].get_fdata() > 0, np.transpose(mask, order))
    restored = written['restored.nii.gz'].get_fdata()
    np.testing.assert_allclose(restored[..., 1], 2 * restored[..., 0], rtol=1e-3, atol=1e-2)


def test_what_was_not_seen_keeps_the_scans_own_values(tmp_path):
    image = head(0)[0]
    one = Patient('a', (save(tmp_path / 'a.nii.gz', image),), None, 0)
    pre = patients.fit([one], size=16)._replace(shape=(6, 6))
    scan = patients.examine(one, pre)
    parts = {'restored': -np.ones_like(scan.images), 'anomaly': np.ones(scan.images.shape[:3])}
    restored, anomaly = (volumes.read(path, mask=True).array for path in patients.write(tmp_path / 'out', one, pre, scan, parts))
    unseen = anomaly == 0
    assert unseen.any() and (~unseen).any()
    np.testing.assert_allclose(restored[unseen], scan.volume.array[unseen], rtol=1e-5)


def test_masks_of_flat_slices_have_the_shape_of_their_files(tmp_path):
    image, mask = (each[:, :, 3] for each in head(0, True))
    files = tuple(save(tmp_path / f'{n}.nii.gz', image * (n + 1)) for n in range(2))
    one = Patient('a', files, save(tmp_path / 'm.nii.gz', mask.astype(np.uint8)))
    pre = patients.fit([one], size=24)
    scan = patients.examine(one, pre)
    (path,) = patients.write(tmp_path / 'out', one, pre, scan, {'mask': scan.lesions[..., 0]})
    assert nib.load(path).shape == nib.load(files[0]).shape


def test_a_channel_with_nan_and_a_mask_with_nan_are_named(tmp_path):
    image, _ = head(0, True)
    bad = image.copy()
    bad[0, 0, 0] = np.nan
    first, nan = save(tmp_path / 'a.nii.gz', image), save(tmp_path / 'nan.nii.gz', bad)
    for one in (Patient('a', (first, nan)), Patient('a', (first,), nan)):
        with pytest.raises(UserError, match=r'nan\.nii\.gz: NaN'):
            patients.read(one)


@pytest.mark.parametrize('spoil', [lambda x: (x - x.mean()) / x.std(), lambda x: x - 1000], ids=['centred', 'Hounsfield'])
def test_intensities_that_go_below_black_are_told_in_a_line(tmp_path, spoil):
    folder = brats(tmp_path / 'scans', count=2)
    found = archives.patients(f'brats2021:{folder}', ('t1',))
    pre = patients.fit(found, size=16)
    save(Path(found[1].files[0]), spoil(nib.load(found[1].files[0]).get_fdata()))
    with pytest.raises(UserError, match=r'^\S+BraTS2021_00001_t1\.nii\.gz: \d+% of its values are below 0.*: give intensities'):
        patients.slices(found, pre)


def test_the_ringing_of_interpolation_is_taken(tmp_path):
    image = head(0)[0]
    image[image == 0] = -0.01 * image.max()
    one = Patient('a', (save(tmp_path / 'a.nii.gz', image),), None, 0)
    assert patients.slices([one], patients.fit([one], size=16)).size


def test_files_of_one_name_need_to_be_told_whose_they_are(tmp_path):
    rows = 'img_path,label{}\n1/flair.nii.gz,0{}\n2/flair.nii.gz,0{}\n'
    for number in (1, 2):
        save(tmp_path / str(number) / 'flair.nii.gz', head(number)[0])
    (tmp_path / 'all.csv').write_text(rows.format('', '', ''))
    with pytest.raises(UserError, match='share a name: say in a column person'):
        archives.patients(f'pairs:{tmp_path / "all.csv"}')
    (tmp_path / 'all.csv').write_text(rows.format(',person', ',a', ',b'))
    assert [each.name for each in archives.patients(f'pairs:{tmp_path / "all.csv"}')] == ['a', 'b']
