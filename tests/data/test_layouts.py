"""A folder becomes an index, an index a source; every file is checked and prepared once, and split as a whole."""

import hashlib
import json
import os
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path

import numpy as np
import pytest

from jaxdiff.data import layouts, preprocess, volumes
from jaxdiff.data.source import digest
from jaxdiff.types import UserError


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv('JAXDIFF_CACHE', str(tmp_path / 'cache'))
    return tmp_path / 'cache'


def image(size=(12, 14, 10), number=0, channels=1):
    """A bright block with `number` in its middle, and two empty slices at either end."""
    array = np.zeros((*size, channels), np.float32)
    array[2:-2, 3:-3, 2:-2] = 500 + np.random.default_rng(number).uniform(0, 300, (size[0] - 4, size[1] - 6, size[2] - 4, channels))
    return array


@pytest.fixture
def folder(tmp_path):
    def made(files, name='data'):
        for path, array in files.items():
            shape = array.shape if array.shape[-1] > 1 else array.shape[:3]
            frame = volumes.frame(shape, np.diag([-2.0, 2.0, 2.0, 1.0]))
            volumes.write(tmp_path / name / path, array, frame)
        return tmp_path / name

    return made


def several(count=4):
    return {f'sub-{number}/anat{".nii.gz" if number % 2 else ".nii"}': image(number=number) for number in range(count)}


def test_an_index_is_the_visible_files_below_a_folder_in_order(folder, tmp_path):
    root = folder({'b.nii.gz': image(), 'deep/er/a.nii': image(), '.hidden.nii': image(), '.git/c.nii': image()})
    (root / 'notes.txt').write_text('not an image')
    outside = folder({'linked.nii': image()}, 'outside')
    os.symlink(outside / 'linked.nii', root / 'link.nii')
    os.symlink(outside, root / 'elsewhere')
    os.symlink(root, root / 'deep' / 'loop')
    names = [os.path.relpath(frame.name, root) for frame in layouts.nifti(root)]
    assert names == ['b.nii.gz', 'deep/er/a.nii', 'elsewhere/linked.nii', 'link.nii']
    assert [frame.name for frame in layouts.nifti(root / 'b.nii.gz')] == [str(root / 'b.nii.gz')]


def test_sizes_and_orientations_may_differ_but_not_channels(folder):
    root = folder({'a.nii': image(), 'b.nii': image((9, 16, 11))})
    assert [frame.size for frame in layouts.nifti(root)] == [(12, 14, 10), (9, 16, 11)]
    folder({'c.nii.gz': image(channels=2)})
    with pytest.raises(UserError, match=r'mixed channel counts, \S+a\.nii has 1, \S+c\.nii\.gz has 2: ') as caught:
        layouts.nifti(root)
    assert '\n' not in str(caught.value)


def test_missing_and_empty_folders_are_refused(tmp_path):
    (tmp_path / 'empty').mkdir()
    (tmp_path / 'empty' / 'notes.txt').write_text('nothing here')
    for name in ('missing', 'empty'):
        with pytest.raises(UserError, match=f'{name}.*: check the path'):
            layouts.nifti(tmp_path / name)


def test_a_bad_header_is_refused_by_the_index_and_bad_voxels_by_the_source(folder):
    root = folder(several(2))
    pre = preprocess.fit(layouts.nifti(root))
    folder({'sub-9/anat.nii': np.where(image() > 700, np.nan, image())})
    with pytest.raises(UserError, match=r'sub-9/anat\.nii: NaN'):
        layouts.source(layouts.nifti(root), pre)
    (root / 'sub-9' / 'anat.nii').write_text('text')
    with pytest.raises(UserError, match=r'sub-9/anat\.nii: not a NIfTI'):
        layouts.nifti(root)


def test_whole_volumes(folder):
    index = layouts.nifti(folder(several()))
    pre = preprocess.fit(index, shape=(8, 8, 8), spacing=None)
    source = layouts.source(index, pre)
    assert source.size == 4
    for number in range(4):
        example = source.example(number)
        expected, _ = preprocess.apply(pre, volumes.read(index[number].name))
        np.testing.assert_array_equal(example['image'], expected[0])
        assert example['image'].dtype == np.float32 and example['image'].shape == (8, 8, 8, 1)


def test_slices_without_the_empty_ones(folder):
    index = layouts.nifti(folder({**several(2), 'thick.nii': image((12, 14, 7))}))
    pre = preprocess.fit(index, dims=2, shape=(16, 16), spacing=None)
    source = layouts.source(index, pre)
    assert [file['examples'] for file in source.manifest['files']] == [6, 6, 3] and source.size == 15
    expected = np.concatenate([preprocess.apply(pre, volumes.read(frame.name))[0][2:-2] for frame in index])
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(source.example, range(source.size)))
    np.testing.assert_array_equal(np.stack([each['image'] for each in found]), expected)
    for position in (-1, 15):
        with pytest.raises(IndexError):
            source.example(position)


def test_every_file_is_prepared_once(folder, cache, monkeypatch):
    index = layouts.nifti(folder(several(3)))
    pre = preprocess.fit(index)
    first = layouts.source(index, pre)
    kept = sorted(cache.rglob('*'))
    assert len([path for path in kept if path.suffix == '.npy']) == 3 and not [path for path in kept if 'partial' in path.name]

    def never(*_):
        raise AssertionError('prepared again')

    with monkeypatch.context() as patch:
        patch.setattr(layouts.preprocess, 'apply', never)
        second = layouts.source(index, pre)
        np.testing.assert_array_equal(second.example(1)['image'], first.example(1)['image'])
        with pytest.raises(AssertionError):
            layouts.source(index, pre._replace(centre='field'))
    damaged = next(path for path in kept if path.suffix == '.npy')
    damaged.write_bytes(damaged.read_bytes()[:200])
    third = layouts.source(index, pre)
    for number in range(3):
        np.testing.assert_array_equal(third.example(number)['image'], first.example(number)['image'])


def test_half_precision_takes_half_the_space(folder, cache):
    index = layouts.nifti(folder(several(1)))
    pre = preprocess.fit(index)
    whole, half = (layouts.source(index, pre, dtype=dtype).example(0)['image'] for dtype in ('float32', 'float16'))
    assert half.dtype == np.float32
    np.testing.assert_allclose(half, whole, atol=1e-3)
    sizes = sorted(path.stat().st_size for path in cache.rglob('*.npy'))
    assert sizes[0] < 0.6 * sizes[1]


def test_the_manifest_says_what_the_data_are_wherever_they_lie(folder):
    first, second = (layouts.nifti(folder(several(2), name)) for name in ('here', 'there'))
    pre = preprocess.fit(first)
    manifest = layouts.source(first, pre).manifest
    assert json.loads(json.dumps(manifest))['files'] == manifest['files']
    assert [file['name'] for file in manifest['files']] == ['sub-0/anat.nii', 'sub-1/anat.nii.gz']
    content = Path(first[0].name).read_bytes()
    assert manifest['files'][0]['sha256'] == hashlib.sha256(content).hexdigest() and manifest['files'][0]['bytes'] == len(content)
    assert digest(layouts.source(second, pre).manifest) == digest(manifest)
    assert digest(layouts.source(first[:1], pre).manifest) != digest(manifest)


def test_an_image_without_foreground_and_an_unwritable_cache_are_refused(folder, monkeypatch, tmp_path):
    index = layouts.nifti(folder(several(2)))
    pre = preprocess.fit(index, dims=2, intensity='fixed', limits=[(0, 10_000)])
    with pytest.raises(UserError, match=r'sub-0/anat\.nii: no slice has foreground'):
        layouts.source(index, pre)
    (tmp_path / 'file').write_text('in the way')
    monkeypatch.setenv('JAXDIFF_CACHE', str(tmp_path / 'file'))
    with pytest.raises(UserError, match='JAXDIFF_CACHE'):
        layouts.source(index, preprocess.fit(index))


def entries(count, root='/data'):
    return tuple(volumes.frame((4, 4, 4), np.eye(4), name=f'{root}/sub-{number:03}.nii') for number in range(count))


def names(part):
    return [os.path.basename(frame.name) for frame in part]


@pytest.mark.parametrize('count', [3, 4, 10, 57])
@pytest.mark.parametrize('fractions', [(0.8, 0.1, 0.1), (0.1, 0.1, 0.8), (0.34, 0.33, 0.33)])
def test_parts_are_disjoint_complete_and_never_empty(count, fractions):
    parts = layouts.split(entries(count), fractions, seed=1)
    assert sorted(chain(*map(names, parts))) == names(entries(count))
    assert all(parts)
    for part, fraction in zip(parts, fractions, strict=True):
        assert abs(len(part) - fraction * count) <= 2 and names(part) == sorted(names(part))


def test_a_split_depends_on_the_seed_and_not_on_the_place_or_the_order():
    parts = layouts.split(entries(20), (0.5, 0.5), seed=0)
    moved = layouts.split(entries(20, '/elsewhere')[::-1], (0.5, 0.5), seed=0)
    assert [set(names(part)) for part in moved] == [set(names(part)) for part in parts]
    other = layouts.split(entries(20), (0.5, 0.5), seed=1)
    assert names(other[0]) != names(parts[0])
    more = layouts.split(entries(22), (0.5, 0.5), seed=0)
    assert len(set(names(more[0])) & set(names(parts[0]))) >= 8
    assert len(layouts.split(entries(10), (0.3, 0.2))[0] + layouts.split(entries(10), (0.3, 0.2))[1]) == 5


def test_too_few_files_to_split_are_refused():
    with pytest.raises(UserError, match=r'sub-000.*add more'):
        layouts.split(entries(2), (0.8, 0.1, 0.1))
    with pytest.raises(ValueError, match='fractions'):
        layouts.split(entries(5), (0.8, 0.3))


def test_scans_of_one_person_stay_together(folder):
    root = folder({f'sub-{person}/ses-{session}/anat.nii': image() for person in 'abcd' for session in (1, 2)})
    index = layouts.nifti(root)
    assert layouts.subjects(index) == [f'sub-{person}' for person in 'aabbccdd']
    parts = layouts.split(index, (0.5, 0.25, 0.25))
    people = [{Path(frame.name).parts[-3] for frame in part} for part in parts]
    assert [len(part) for part in parts] == [4, 2, 2] and [len(each) for each in people] == [2, 1, 1]
    other = layouts.nifti(folder({'mysub-a/x.nii': image(), 'b/x.nii': image()}, 'others'))
    assert layouts.subjects(other) == ['b/x.nii', 'mysub-a/x.nii']
