"""Cohorts of the user's own scans: patients of one folder, healthy people of another."""

import numpy as np
import pytest
from patient_files import AFFINE, brats, head, save

from jaxdiff.data.source import Source
from jaxdiff.studies import cohorts
from jaxdiff.types import UserError

FLAGS = dict(size=16, evaluations=1, contrasts=('t1',))


@pytest.fixture(scope='module')
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp('scans')
    for n in range(5):
        save(root / 'ixi' / f'IXI{n:03d}-Guys-{n:04d}-T1.nii.gz', head(10 + n)[0], AFFINE)
    return brats(root / 'brats', contrasts=('t1',)), root / 'ixi'


@pytest.fixture(autouse=True)
def kept(tmp_path, monkeypatch):
    monkeypatch.setenv('JAXDIFF_CACHE', str(tmp_path / 'cache'))


def opened(folders, **flags):
    patients, people = folders
    return cohorts.open_cohort(cohorts.Config(data=f'brats2021:{patients}', healthy=f'ixi:{people}', **FLAGS), **flags)


def test_health_is_learnt_from_the_healthy_alone_and_patients_are_judged_beside_them(folders):
    found = opened(folders)
    scans = lambda source: {each['files'][0]['name'] for each in source.manifest['scans']}
    people = [scans(each) for each in (found.train, found.calm, found.well)]
    assert sum(map(len, people)) == 5 and len(set.union(*people)) == 5 and all(name.startswith('IXI') for name in set.union(*people))
    assert all(name.startswith('BraTS') for each in (found.validation, *found.tests) for name in scans(each))
    assert scans(found.healthy) == scans(found.train)


def test_a_detector_that_is_told_learns_from_both(folders):
    found = opened(folders, labelled=True)
    labels = {int(found.train.example(n)['label']) for n in range(found.train.size)}
    assert labels == {0, 1} and found.healthy.size < found.train.size


@pytest.mark.parametrize(('flags', 'words'), [
    (dict(data='phantom', healthy='ixi:there'), '--healthy=ixi:there: phantom has healthy'),
    (dict(data='brats2021:{brats}', healthy='there'), '--healthy=there: choose'),
    (dict(data='brats2021:{brats}', healthy='ixi:nowhere'), 'nowhere: no such folder'),
])  # fmt: skip
def test_what_is_wrong_with_the_flag_is_told(folders, flags, words):
    given = {name: value.format(brats=folders[0]) for name, value in flags.items()}
    with pytest.raises(UserError, match=words):
        cohorts.open_cohort(cohorts.Config(**{**FLAGS, **given}))


def test_slices_are_made_alike_whoever_learns_from_them(folders):
    assert opened(folders).preprocess == opened(folders, labelled=True).preprocess


def test_a_folder_of_the_diseased_alone_is_refused(folders, tmp_path):
    for n in range(3):
        save(tmp_path / 'strokes' / f'sub-r{n:03d}s001' / f'sub-r{n:03d}s001_T1w.nii.gz', head(n, lesion=True)[0], AFFINE)
    with pytest.raises(UserError, match=r'--healthy=atlas:.*: holds the diseased alone'):
        cohorts.open_cohort(cohorts.Config(data=f'brats2021:{folders[0]}', healthy=f'atlas:{tmp_path / "strokes"}', **FLAGS))


def test_a_scan_that_is_in_both_folders_is_refused(folders):
    with pytest.raises(UserError, match=r'IXI000.*is among --data too'):
        cohorts.open_cohort(cohorts.Config(data=f'ixi:{folders[1]}', healthy=f'ixi:{folders[1]}/../ixi', **FLAGS))


def test_made_data_in_a_dry_run_have_healthy_people_of_their_own_too():
    with pytest.raises(UserError, match='--healthy=ixi:there: phantom has healthy'):
        cohorts.sketch(cohorts.Config(data='phantom', healthy='ixi:there', **FLAGS))


def test_half_of_the_slices_that_are_told_apart_show_a_lesion():
    """Of a head many slices lie beside the lesion."""
    slices = {
        lesion: [{'image': np.full((2, 2, 1), n), 'mask': np.full((2, 2, 1), lesion and n % 3 == 0)} for n in range(9)] for lesion in (0, 1)
    }
    healthy, ill = (Source(9, each.__getitem__, {}) for each in slices.values())
    both = cohorts._both(healthy, ill)
    assert both.size == 6 and [int(both.example(n)['label']) for n in range(6)] == [0, 1] * 3
    assert [int(both.example(n)['image'].max()) for n in range(6)] == [0, 0, 3, 3, 6, 6] and both.manifest['ill'] == 3


def test_scans_without_masks_are_refused_before_they_are_read(folders, monkeypatch):
    monkeypatch.setattr(cohorts.patients, 'fit', lambda *args, **options: pytest.fail('read'))
    with pytest.raises(UserError, match=r'no scan comes with a mask.*: give such scans, and these as --healthy'):
        cohorts.open_cohort(cohorts.Config(data=f'ixi:{folders[1]}', size=16, evaluations=1))
