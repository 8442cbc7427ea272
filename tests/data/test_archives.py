"""Folders of known data sets: who is found in them, and what is refused."""

import numpy as np
import pytest
from patient_files import brats, head, save
from PIL import Image

from jaxdiff.data import archives, patients
from jaxdiff.types import UserError


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv('JAXDIFF_CACHE', str(tmp_path / 'cache'))


def found(spec, folder, *contrasts):
    return archives.patients(f'{spec}:{folder}', contrasts)


def test_brats_2023_has_other_names_and_times_of_one_patient(tmp_path):
    for stem in ('BraTS-GLI-00000-000', 'BraTS-GLI-00000-001', 'BraTS-GLI-00005-000'):
        for contrast in ('t1n', 't1c', 't2w', 't2f', 'seg'):
            save(tmp_path / stem / f'{stem}-{contrast}.nii.gz', head(0)[0])
    seen = found('brats2023', tmp_path)
    assert [each.name for each in seen] == ['BraTS-GLI-00000', 'BraTS-GLI-00000', 'BraTS-GLI-00005']
    assert [file.rpartition('-')[2] for file in seen[0].files] == ['t2f.nii.gz', 't1n.nii.gz', 't1c.nii.gz', 't2w.nii.gz']
    assert seen[0].mask.endswith('seg.nii.gz')


def test_slices_of_one_patient_stay_together(tmp_path):
    image, mask = (each[:, :, 3:4] for each in head(0, True))
    for part, name, person in (('train', 'a', '001'), ('train', 'b', '001'), ('test', 'c', '002')):
        for contrast in ('t1', 't1ce', 't2', 'flair'):
            save(tmp_path / part / name / f'brats_train_{person}_{contrast}_080_w.nii.gz', image)
        if part == 'train':
            save(tmp_path / part / name / f'brats_train_{person}_seg_080_w.nii.gz', mask.astype(np.uint8))
    save(tmp_path / 'test_labels' / 'c-label.nii.gz', mask.astype(np.uint8))
    seen = found('brats_slices', tmp_path, 'flair')
    assert sorted(each.name for each in seen) == ['brats_train_001', 'brats_train_001', 'brats_train_002']
    assert all(each.mask for each in seen) and all('flair' in each.files[0] for each in seen)
    pre = patients.fit(seen, size=16)
    assert patients.slices(seen, pre).size == 3
    (tmp_path / 'test' / 'c' / 'brats_train_002_t2_080_w.nii.gz').unlink()
    with pytest.raises(UserError, match='no file of t2'):
        found('brats_slices', tmp_path)


def test_ixi_is_healthy_and_knows_ages(tmp_path):
    for stem in ('IXI002-Guys-0828', 'IXI012-HH-1211'):
        for contrast in ('T1', 'T2'):
            save(tmp_path / f'{stem}-{contrast}.nii.gz', head(0)[0])
    (tmp_path / 'IXI.csv').write_text('IXI_ID,AGE\n2,35.8\n12,\n')
    seen = found('ixi', tmp_path, 'T2')
    assert [(each.name, each.label, dict(each.covariates)) for each in seen] == [
        ('IXI002-Guys-0828', 0, {'age': 35.8}),
        ('IXI012-HH-1211', 0, {}),
    ]
    with pytest.raises(UserError, match=r'IXI002-Guys-0828-PD\.nii\.gz'):
        found('ixi', tmp_path, 'PD')


def test_atlas_has_a_mask_beside_the_scan(tmp_path):
    image, mask = head(0, True)
    for person in ('sub-r001s001', 'sub-r001s002'):
        home = tmp_path / person / 'ses-1' / 'anat'
        save(home / f'{person}_ses-1_space-MNI152NLin2009aSym_T1w.nii.gz', image)
        save(home / f'{person}_ses-1_space-MNI152NLin2009aSym_label-L_desc-T1lesion_mask.nii.gz', mask.astype(np.uint8))
    seen = found('atlas', tmp_path)
    assert [each.name for each in seen] == ['sub-r001s001', 'sub-r001s002'] and all(each.mask.endswith('_mask.nii.gz') for each in seen)


def test_chexpert_as_pictures(tmp_path):
    rows = ['Path,Sex,Age,Frontal/Lateral,AP/PA,No Finding,Pleural Effusion']
    for n, (view, healthy, ill) in enumerate(
        [('Frontal', '1.0', ''), ('Frontal', '', '1.0'), ('Lateral', '1.0', ''), ('Frontal', '', '-1.0')]
    ):
        file = tmp_path / 'train' / f'patient{n:05d}' / 'study1' / f'view1_{view.lower()}.jpg'
        file.parent.mkdir(parents=True)
        Image.fromarray(np.random.default_rng(n).integers(0, 255, (24, 20)).astype(np.uint8)).save(file)
        rows.append(f'CheXpert-v1.0-small/{file.relative_to(tmp_path)},Male,50,{view},AP,{healthy},{ill}')
    (tmp_path / 'train.csv').write_text('\n'.join(rows) + '\n')
    seen = found('chexpert', tmp_path)
    assert [(each.name, each.label) for each in seen] == [('patient00000', 0), ('patient00001', 1)]
    pre = patients.fit(seen, size=16)
    assert patients.slices(seen, pre).size == 2 and patients.slices(seen, pre, healthy=True).size == 1
    (tmp_path / 'train' / 'patient00000' / 'study1' / 'view1_frontal.jpg').unlink()
    with pytest.raises(UserError, match=r'though .*train\.csv names it'):
        found('chexpert', tmp_path)


def test_chexpert_as_arrays_is_labelled_by_its_folders(tmp_path):
    for label, names in (('healthy', ('patient1_study1', 'patient1_study2')), ('diseased', ('patient2_study1',))):
        (tmp_path / 'training' / label).mkdir(parents=True)
        for name in names:
            np.save(tmp_path / 'training' / label / f'{name}.npy', np.random.default_rng(0).uniform(size=(24, 20)))
    seen = found('chexpert', tmp_path)
    assert sorted((each.name, each.label) for each in seen) == [('patient1', 0), ('patient1', 0), ('patient2', 1)]
    for values, words in ((np.full((24, 20), 255.0), 'normalise them to 0 to 1'), (np.array([{}], object), 'is no .npy file of numbers')):
        np.save(tmp_path / 'training' / 'healthy' / 'patient1_study1.npy', values, allow_pickle=True)
        with pytest.raises(UserError, match=words):
            patients.fit(found('chexpert', tmp_path), size=16)


def test_pictures_have_the_front_above_and_no_colours(tmp_path):
    from jaxdiff.data import pictures

    rows = np.zeros((4, 3), np.uint8)
    rows[0, 2] = 255  # upper right
    Image.fromarray(rows).save(tmp_path / 'a.png')
    assert pictures.read(tmp_path / 'a.png').array[2, 3, 0, 0] == 1 and pictures.read(tmp_path / 'a.png').array.sum() == 1
    Image.fromarray(np.zeros((4, 3, 3), np.uint8)).save(tmp_path / 'b.png')
    (tmp_path / 'c.jpg').write_bytes(b'no picture')
    for name, words in (('b.png', 'has colours'), ('c.jpg', 'no picture that can be read'), ('d.jpg', 'no such file')):
        with pytest.raises(UserError, match=words):
            pictures.read(tmp_path / name)


def test_pairs_are_rows_of_a_table(tmp_path):
    image, mask = head(0, True)
    (
        save(tmp_path / 'scans' / 'a.nii.gz', image),
        save(tmp_path / 'scans' / 'a_seg.nii.gz', mask.astype(np.uint8)),
        save(tmp_path / 'scans' / 'b.nii.gz', image),
    )
    table = tmp_path / 'all.csv'
    table.write_text('img_path,seg_path,age,label,img_name\nscans/a.nii.gz,scans/a_seg.nii.gz,60,1,a\nscans/b.nii.gz,,,0,\n')
    seen = found('pairs', table)
    assert [(each.name, bool(each.mask), each.label, dict(each.covariates)) for each in seen] == [
        ('a', True, 1, {'age': 60.0}),
        ('b.nii.gz', False, 0, {}),
    ]
    for text, words in (
        ('file\nx\n', 'no column img_path'),
        ('img_path\nscans/c.nii.gz\n', 'no such file'),
        ('img_path,label\nscans/a.nii.gz,2\n', 'label'),
    ):
        table.write_text(text)
        with pytest.raises(UserError, match=words):
            found('pairs', table)


def test_what_is_missing_is_named(tmp_path):
    folder = brats(tmp_path / 'scans', count=2)
    (folder / 'BraTS2021_00001' / 'BraTS2021_00001_t2.nii.gz').unlink()
    with pytest.raises(UserError, match=r'BraTS2021_00001_t2\.nii\.gz: no such file'):
        found('brats2021', folder)
    assert len(found('brats2021', folder, 't1')) == 2
    for spec, words in (
        (f'brats2021:{tmp_path}/nowhere', 'no such folder'),
        (f'magic:{tmp_path}', 'choose brats2020:<folder>'),
        ('ixi:', 'choose brats2020'),
        (f'ixi:{folder}', 'holds nothing like IXI002'),
    ):
        with pytest.raises(UserError, match=words):
            archives.patients(spec)
    with pytest.raises(UserError, match='--contrasts=dwi'):
        archives.patients(f'brats2021:{folder}', ('dwi',))
