"""From the files of patients to slices and back onto their own grids."""

import nibabel as nib
import numpy as np
import pytest
from patient_files import AFFINE, SHAPE, brats, head, save
from scipy.ndimage import binary_erosion

from jaxdiff.data import archives, patients, volumes
from jaxdiff.data.patients import Patient
from jaxdiff.types import UserError


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv('JAXDIFF_CACHE', str(tmp_path / 'cache'))


def test_slices_hold_channels_in_order_masks_and_labels(tmp_path):
    found = archives.patients(f'brats2021:{brats(tmp_path / "scans")}', ('t2', 't1'))
    assert [each.name for each in found] == [f'BraTS2021_{n:05d}' for n in range(4)]
    assert found[0].files[0].endswith('_t2.nii.gz') and found[0].files[1].endswith('_t1.nii.gz')
    volume, mask = patients.read(found[0])
    np.testing.assert_allclose(volume.array[..., 0], 3 * volume.array[..., 1], rtol=1e-5)
    assert mask.sum() == head(0, True)[1].sum()
    pre = patients.fit(found, size=16)
    every, healthy = patients.slices(found, pre), patients.slices(found, pre, healthy=True)
    examples = [every.example(n) for n in range(every.size)]
    assert examples[0]['image'].shape == (16, 16, 2) and examples[0]['mask'].shape == examples[0]['brain'].shape == (16, 16, 1)
    assert all(each['label'] == each['mask'].any() for each in examples) and {int(each['label']) for each in examples} == {0, 1}
    assert healthy.size == sum(each['label'] == 0 for each in examples) and every.manifest != healthy.manifest
    assert all((each['image'][~each['brain'][..., 0]] < patients.DARK + 1e-3).all() for each in examples)
    assert all(each['image'].min() >= -1 and each['image'].max() <= 1 for each in examples)


def test_a_person_is_in_one_part(tmp_path):
    scans = [Patient(f'p{n // 3}', (f'{n}.nii',)) for n in range(30)]
    parts = patients.split(scans, (0.6, 0.2, 0.2))
    names = [{each.name for each in part} for part in parts]
    assert sum(map(len, names)) == 10 and len(set.union(*names)) == 10 and sum(map(len, parts)) == 30
    assert patients.split(scans, (0.6, 0.2, 0.2), seed=1) != parts
    with pytest.raises(UserError, match='2 cannot be split into 3'):
        patients.split(scans[:6], (0.6, 0.2, 0.2))


def test_what_is_found_returns_onto_the_scan(tmp_path):
    found = archives.patients(f'brats2021:{brats(tmp_path / "scans")}', ('t1', 'flair'))
    pre = patients.fit(found, size=24)
    scan = patients.examine(found[0], pre)
    values = {'restored': scan.images, 'anomaly': scan.lesions[..., 0].astype(float), 'lesion': scan.lesions[..., 0]}
    files = {file.name: nib.load(file) for file in patients.write(tmp_path / 'out', found[0], pre, scan, values)}
    image, mask = head(0, True)
    for file in files.values():
        np.testing.assert_allclose(file.affine, AFFINE, atol=1e-5)
        assert file.shape[:3] == SHAPE
    np.testing.assert_array_equal(files['lesion.nii.gz'].get_fdata() > 0, mask)
    assert files['lesion.nii.gz'].get_data_dtype() == np.uint8
    restored = files['restored.nii.gz'].get_fdata()
    assert restored.shape == (*SHAPE, 2)
    ordinary = (image > 0) & ~mask & (image < np.percentile(image[image > 0], 98))
    deep = binary_erosion(ordinary, iterations=2)  # slices are resampled, which smooths noise and the rim
    assert np.abs(restored[..., 0] - image)[deep].mean() < 25 and abs((restored[..., 0] - image)[deep].mean()) < 3


def test_labels_of_people_without_masks_are_their_own(tmp_path):
    scans = [Patient(f'p{n}', (save(tmp_path / f'{n}.nii.gz', head(n)[0]),), None, n % 2) for n in range(4)]
    pre = patients.fit(scans, size=16)
    every, healthy = patients.slices(scans, pre), patients.slices(scans, pre, healthy=True)
    assert {int(every.example(n)['label']) for n in range(every.size)} == {0, 1} and 0 < healthy.size < every.size


def test_the_cache_knows_every_file(tmp_path):
    image, mask = head(0, True)
    one = Patient('a', (save(tmp_path / 'a.nii.gz', image),), save(tmp_path / 'm.nii.gz', mask.astype(np.uint8)))
    pre = patients.fit([one], size=16)
    before = patients.slices([one], pre)
    save(tmp_path / 'm.nii.gz', 0 * mask.astype(np.uint8))
    after = patients.slices([one], pre)
    assert any(before.example(n)['label'] for n in range(before.size)) and not any(after.example(n)['label'] for n in range(after.size))
    assert before.manifest != after.manifest


def test_files_on_other_grids_are_refused(tmp_path):
    image, _ = head(0, True)
    first, moved = save(tmp_path / 'a.nii.gz', image), AFFINE.copy()
    moved[0, 3] += 2
    for file, words in (
        (save(tmp_path / 'b.nii.gz', image[:-1]), 'bring them onto one grid'),
        (save(tmp_path / 'c.nii.gz', image, moved), 'their affines differ'),
    ):
        with pytest.raises(UserError, match=words):
            patients.read(Patient('a', (first, file)))
        with pytest.raises(UserError, match=words):
            patients.read(Patient('a', (first,), file))
    with pytest.raises(UserError, match=r'gone\.nii\.gz: no such file'):
        patients.fit([Patient('a', (first, str(tmp_path / 'gone.nii.gz')))], size=16)
    assert volumes.read(first).array.shape[-1] == 1
