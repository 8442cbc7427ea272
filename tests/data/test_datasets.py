"""What --data names: splits that share nobody, and files of a made subject that come back as its examples."""

import json
from itertools import chain

import numpy as np
import pytest
from nibabel.orientations import axcodes2ornt, inv_ornt_aff, ornt_transform

from jaxdiff.data import brains, phantoms, preprocess, volumes
from jaxdiff.data.datasets import SLICES, TEST, open_dataset
from jaxdiff.types import UserError

SMALL = dict(size=32, spacing=6.0, subjects=2, held_out=1)


@pytest.fixture(scope='module', autouse=True)
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('JAXDIFF_CACHE', str(tmp_path_factory.mktemp('cache')))
        yield


def images(source):
    return [source.example(i)['image'] for i in range(source.size)]


def disjoint(data):
    """Whether no image is in two of the sources."""
    pictures = [{image.tobytes() for image in images(source)} for source in (data.train, data.validation, data.test)]
    return len(set.union(*pictures)) == sum(map(len, pictures))


@pytest.mark.parametrize(
    ('spec', 'given', 'shape', 'each'),
    [
        ('brain', {}, (32, 32, 1), SLICES),
        ('brain', dict(dims=3, contrast='FLAIR'), (32, 32, 32, 1), 1),
        ('phantom', dict(contrast='T2'), (32, 32, 1), 1),
    ],
)
def test_a_population_has_three_sources_that_share_nobody(spec, given, shape, each):
    data = open_dataset(spec, **SMALL, **given)
    assert (data.train.size, data.validation.size, data.test.size) == (2 * each, each, each)
    assert data.shape == shape and data.preprocess.shape == shape[:-1] and disjoint(data)
    for image in images(data.train):
        assert image.dtype == np.float32 and image.min() == -1 and 0 < image.max() <= 1
    assert json.loads(json.dumps(data.manifest)).keys() == {'train', 'validation', 'test'}
    assert preprocess.from_json(json.loads(json.dumps(preprocess.to_json(data.preprocess)))) == data.preprocess


def test_other_seeds_are_other_people_and_other_numbers_leave_the_rest_alone():
    first, other, more = (open_dataset('phantom', **SMALL | given) for given in ({}, dict(seed=1), dict(subjects=5)))
    assert np.abs(images(first.test)[0] - images(other.test)[0]).mean() > 0.01
    np.testing.assert_array_equal(images(first.test), images(more.test))
    np.testing.assert_array_equal(images(first.train), images(more.train)[:2])


def test_the_contrast_is_the_one_asked_for():
    data = open_dataset('phantom', **SMALL, contrast='T2')
    person = phantoms.phantom(phantoms.Recipe(size=32, contrasts=('T2',)), TEST)
    np.testing.assert_allclose(images(data.test)[0], 2 * person.image - 1, atol=4e-5)


@pytest.mark.parametrize('codes', ['RAS', 'LPS', 'SRA'])
def test_a_scan_of_a_virtual_brain_becomes_its_examples_and_goes_back(tmp_path, codes):
    """Whichever way its voxels run."""
    data = open_dataset('brain', **SMALL)
    person = brains.subject(brains.Recipe(spacing=(6.0,) * 3, shape=(32, 32, SLICES)), TEST)
    laid, size = axcodes2ornt(codes), person.image.shape[:3]
    affine = person.affine @ inv_ornt_aff(ornt_transform(axcodes2ornt('RAS'), laid), size)
    frame = volumes.frame(tuple(size[int(axis)] for axis in laid[:, 0]), affine)
    volumes.write(tmp_path / 'scan.nii.gz', person.image, frame)
    scan = volumes.read(tmp_path / 'scan.nii.gz')
    np.testing.assert_array_equal(scan.array, person.image)
    examples, record = preprocess.apply(data.preprocess, scan)
    np.testing.assert_allclose(examples, images(data.test), atol=4e-5)  # they are kept in steps of 3e-5
    np.testing.assert_allclose(preprocess.invert(data.preprocess, record, examples), person.image, atol=1e-6)


def scans(folder, count=8):
    for n in range(count):
        array = np.zeros((12, 14, 10, 1), np.float32)
        array[2:-2, 3:-3, 2:-2] = np.random.default_rng(n).uniform(500, 800, (8, 8, 6, 1))
        volumes.write(folder / f'sub-{n}.nii.gz', array, volumes.frame((12, 14, 10), np.diag([-2.0, 2.0, 2.0, 1.0])))
    return folder


@pytest.mark.parametrize(('dims', 'size', 'shape'), [(2, 8, (8, 8, 1)), (3, 0, (16, 16, 16, 1))])
def test_files_are_split_whole(tmp_path, dims, size, shape):
    data = open_dataset(f'nifti:{scans(tmp_path / "scans")}', dims=dims, size=size)
    assert data.shape == shape and disjoint(data)
    files = [[file['sha256'] for file in data.manifest[split]['files']] for split in ('train', 'validation', 'test')]
    assert [len(part) for part in files] == [6, 1, 1] and len(set(chain(*files))) == 8
    again = open_dataset(f'nifti:{tmp_path / "scans"}', dims=dims, size=size)
    assert again.manifest == data.manifest and again.preprocess == data.preprocess


@pytest.mark.parametrize(
    ('spec', 'given', 'words'),
    [
        ('brains', {}, "--data=brains: choose 'brain'"),
        ('brain:here', {}, '--data=brain:here'),
        ('phantom', dict(dims=3), '2-D only'),
        ('nifti', {}, '--data=nifti: choose'),
        ('nifti:', {}, '--data=nifti:: choose'),
        ('nifti:nowhere', {}, 'nowhere: no such folder'),
        ('', {}, '--data=: choose'),
        ('brain', dict(contrast='CT'), 'CT'),
        ('phantom', dict(contrast='CT'), 'CT'),
        ('brain', dict(size=0), 'positive'),
        ('phantom', dict(subjects=0), 'at least one'),
    ],
)
def test_what_cannot_be_opened_is_told_in_one_line(spec, given, words):
    with pytest.raises(UserError) as caught:
        open_dataset(spec, **SMALL | given)
    assert words in str(caught.value) and '\n' not in str(caught.value)


def test_too_few_files_are_refused(tmp_path):
    with pytest.raises(UserError, match='cannot be split into 3 parts'):
        open_dataset(f'nifti:{scans(tmp_path / "scans", 2)}', size=8)
