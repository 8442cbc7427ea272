"""What is read is what nibabel reads, in RAS; what is written lies on the grid it came from, bit for bit; what is wrong is told."""

import gzip
import os
import struct
import time
import tracemalloc

import nibabel as nib
import numpy as np
import pytest

from jaxdiff.data import volumes
from jaxdiff.types import UserError

SHAPE = (5, 6, 7)
DIMENSIONS, DATATYPE, ZOOMS, OFFSET, SLOPE, CODES, SFORM = 40, 70, 80, 108, 112, 252, 280  # bytes in a header


def rotation(degrees):
    a, b, c = np.deg2rad(degrees)
    x = [[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]]
    y = [[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]]
    z = [[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]]
    return np.array(x) @ y @ z


def affine(linear, origin=(-31.5, 17.25, 4.125)):
    out = np.eye(4)
    out[:3, :3], out[:3, 3] = linear, origin
    return out


FRAMES = {
    'RAS': affine(np.diag([1.0, 1.0, 1.0])),
    'LPS': affine(np.diag([-1.0, -1.0, 1.0])),
    'PIL': affine(np.array([[0, 0, -3.0], [-0.5, 0, 0], [0, -0.7, 0]])),
    'anisotropic': affine(np.diag([0.9375, 0.9375, 5.0])),
    'oblique': affine(rotation((20, -15, 32)) @ np.diag([-0.8, 1.1, 2.3])),
    'oblique_permuted': affine((rotation((10, 25, -18)) @ np.diag([1.0, -1.2, 3.0]))[:, [2, 0, 1]]),
}


def values(shape=SHAPE, seed=0):
    return np.random.default_rng(seed).normal(100, 20, shape).astype(np.float32)


def save(path, array, matrix=None, *, codes=(1, 2), kind=nib.Nifti1Image, scaling=None):
    image = kind(array, np.eye(4) if matrix is None else matrix)
    image.set_qform(image.affine, codes[0])
    image.set_sform(image.affine, codes[1])
    image.header.set_xyzt_units('mm', 'sec')
    if scaling:
        image.header.set_slope_inter(*scaling)
    image.to_filename(path)
    return path


def assert_same_frame(path, original):
    out, given = nib.load(path), nib.load(original)
    np.testing.assert_array_equal(out.affine, given.affine)
    assert nib.aff2axcodes(out.affine) == nib.aff2axcodes(given.affine)
    for form in ('get_qform', 'get_sform'):
        (matrix, code), (expected, expected_code) = (getattr(image, form)(coded=True) for image in (out, given))
        assert code == expected_code
        np.testing.assert_array_equal(matrix, expected)
    assert out.shape == given.shape
    assert out.header.get_zooms() == given.header.get_zooms()
    assert out.header.get_xyzt_units() == given.header.get_xyzt_units()
    return out, given


@pytest.mark.parametrize('suffix', ['.nii', '.nii.gz'])
@pytest.mark.parametrize('channels', [None, 1, 3])
@pytest.mark.parametrize('name', FRAMES)
def test_canonical_inside_and_its_own_frame_outside(tmp_path, name, channels, suffix):
    shape = SHAPE if channels is None else (*SHAPE, channels)
    path = save(tmp_path / f'in{suffix}', values(shape), FRAMES[name])
    volume = volumes.read(path)

    reference = nib.as_closest_canonical(nib.load(path))
    assert nib.aff2axcodes(volume.affine) == ('R', 'A', 'S')
    np.testing.assert_allclose(volume.affine, reference.affine, atol=1e-6)
    expected = reference.get_fdata().astype(np.float32).reshape(*reference.shape[:3], channels or 1)
    np.testing.assert_array_equal(volume.array, expected)
    assert volume.array.dtype == np.float32 and volume.array.flags.c_contiguous
    assert volume.frame.size == volume.array.shape[:3] and volume.frame.channels == (channels or 1)
    np.testing.assert_allclose(volume.frame.spacing, reference.header.get_zooms()[:3], rtol=1e-6)

    volumes.write(tmp_path / f'out{suffix}', volume.array, volume.frame)
    out, given = assert_same_frame(tmp_path / f'out{suffix}', path)
    np.testing.assert_array_equal(out.get_fdata(), given.get_fdata())
    again = volumes.read(tmp_path / f'out{suffix}')
    np.testing.assert_array_equal(again.array, volume.array)


def test_a_voxel_keeps_its_place_in_the_patient(tmp_path):
    array = np.zeros(SHAPE, np.float32)
    array[4, 1, 2] = 1
    path = save(tmp_path / 'point.nii', array, FRAMES['oblique_permuted'])
    volume = volumes.read(path)
    index = np.argwhere(volume.array[..., 0])[0]
    np.testing.assert_allclose(volume.affine @ [*index, 1], FRAMES['oblique_permuted'] @ [4, 1, 2, 1], atol=1e-4)


@pytest.mark.parametrize('codes', [(1, 0), (0, 4), (3, 2), (0, 0)])
def test_form_codes_survive(tmp_path, codes):
    path = save(tmp_path / 'in.nii.gz', values(), affine(np.diag([-2.0, 2.0, 3.0])), codes=codes)
    volume = volumes.read(path)
    volumes.write(tmp_path / 'out.nii.gz', volume.array, volume.frame)
    assert_same_frame(tmp_path / 'out.nii.gz', path)


@pytest.mark.parametrize('dtype', [np.int16, np.uint8, '>i2'])
def test_stored_integers_are_scaled(tmp_path, dtype):
    stored = np.arange(np.prod(SHAPE)).reshape(SHAPE).astype(dtype)
    header = nib.Nifti1Header(endianness='>' if dtype == '>i2' else '<')
    header.set_data_dtype(dtype)
    image = nib.Nifti1Image(stored, FRAMES['LPS'], header)
    path = tmp_path / 'scaled.nii'
    image.to_filename(path)
    with open(path, 'r+b') as file:  # the slope and intercept of a scanner's file, which nibabel would work out anew
        file.seek(112)
        file.write(struct.pack('>2f' if dtype == '>i2' else '<2f', 0.25, -12.5))
    expected = nib.load(path).get_fdata()
    assert expected.min() == -12.5
    volume = volumes.read(path)
    volumes.write(tmp_path / 'out.nii', volume.array, volume.frame)
    out, _ = assert_same_frame(tmp_path / 'out.nii', path)
    assert out.get_data_dtype().newbyteorder('=') == np.float32
    np.testing.assert_array_equal(out.get_fdata(), expected)


@pytest.mark.parametrize('matrix', ['LPS', 'PIL', 'oblique'])
@pytest.mark.parametrize('shape', [(6, 5), (6, 5, 1)])
def test_two_dimensions(tmp_path, shape, matrix):
    path = save(tmp_path / 'flat.nii', values(shape), FRAMES[matrix])
    volume = volumes.read(path)
    assert volume.array.ndim == 4 and sorted(volume.array.shape) == [1, 1, 5, 6]
    volumes.write(tmp_path / 'out.nii', volume.array, volume.frame)
    out, given = assert_same_frame(tmp_path / 'out.nii', path)
    np.testing.assert_array_equal(out.get_fdata(), given.get_fdata())


@pytest.mark.parametrize('offset', [0, 100])
def test_voxels_that_claim_to_start_in_the_header_start_after_it(tmp_path, offset):
    path = patched(save(tmp_path / 'in.nii', values()), OFFSET, '<f', offset)
    volume = volumes.read(path)
    volumes.write(tmp_path / 'out.nii', volume.array, volume.frame)
    np.testing.assert_array_equal(nib.load(tmp_path / 'out.nii').get_fdata(), values())


@pytest.mark.parametrize(('offset', 'form', 'wrong'), [(ZOOMS, '<3f', (-2, 2, -3)), (CODES, '<2h', (1, 77)), (CODES, '<2h', (-5, 0))])
def test_what_nibabel_mends_is_mended_as_it_does(tmp_path, offset, form, wrong, caplog):
    path = patched(save(tmp_path / 'in.nii', values(), FRAMES['oblique'], codes=(1, 0)), offset, form, *wrong)
    volume = volumes.read(path)
    assert not caplog.records
    volumes.write(tmp_path / 'out.nii', volume.array, volume.frame)
    out, given = assert_same_frame(tmp_path / 'out.nii', path)
    np.testing.assert_array_equal(out.get_fdata(), given.get_fdata())


def test_nifti_2(tmp_path):
    path = save(tmp_path / 'two.nii.gz', values(), FRAMES['oblique'], kind=nib.Nifti2Image)
    volume = volumes.read(path)
    volumes.write(tmp_path / 'out.nii.gz', volume.array, volume.frame)
    out, given = assert_same_frame(tmp_path / 'out.nii.gz', path)
    assert isinstance(out, nib.Nifti2Image)
    np.testing.assert_array_equal(out.get_fdata(), given.get_fdata())


def test_other_channels_and_masks_on_the_same_grid(tmp_path):
    volume = volumes.read(save(tmp_path / 'in.nii', values((*SHAPE, 2)), FRAMES['PIL']))
    mask = volume.array[..., :1] > 100
    volumes.write(tmp_path / 'mask.nii.gz', mask, volume.frame, dtype=np.uint8)
    out = nib.load(tmp_path / 'mask.nii.gz')
    assert out.shape == SHAPE and out.get_data_dtype() == np.uint8 and set(np.unique(out.dataobj)) == {0, 1}
    np.testing.assert_array_equal(out.affine, nib.load(tmp_path / 'in.nii').affine)
    np.testing.assert_array_equal(volumes.read(tmp_path / 'mask.nii.gz', mask=True).array, mask.astype(np.float32))
    volumes.write(tmp_path / 'three.nii', np.repeat(mask, 3, axis=-1), volume.frame)
    assert nib.load(tmp_path / 'three.nii').shape == (*SHAPE, 3)


def test_integers_round(tmp_path):
    frame = volumes.frame(SHAPE, FRAMES['RAS'])
    volumes.write(tmp_path / 'labels.nii', np.full((*SHAPE, 1), 2.9999), frame, dtype=np.uint8)
    assert set(np.unique(nib.load(tmp_path / 'labels.nii').dataobj)) == {3}


def test_extensions_are_passed_over_and_left_behind(tmp_path):
    image = nib.Nifti1Image(values(), FRAMES['RAS'])
    image.header.extensions.append(nib.nifti1.Nifti1Extension('comment', b'the name of a patient' * 50))
    image.to_filename(tmp_path / 'in.nii')
    volume = volumes.read(tmp_path / 'in.nii')
    np.testing.assert_array_equal(volume.array[..., 0], values())
    volumes.write(tmp_path / 'out.nii', volume.array, volume.frame)
    content = (tmp_path / 'out.nii').read_bytes()
    assert b'patient' not in content and len(content) == 352 + values().nbytes
    np.testing.assert_array_equal(volumes.read(tmp_path / 'out.nii').array, volume.array)


def test_a_frame_for_what_came_from_no_file(tmp_path):
    made = volumes.frame(SHAPE, FRAMES['oblique'])
    array = values((*made.size, 1))
    volumes.write(tmp_path / 'made.nii', array, made)
    volume = volumes.read(tmp_path / 'made.nii')
    np.testing.assert_array_equal(volume.array, array)
    np.testing.assert_allclose(nib.load(tmp_path / 'made.nii').affine, FRAMES['oblique'], rtol=1e-6)


def test_an_interrupted_write_leaves_what_was_there(tmp_path, monkeypatch):
    volume = volumes.read(save(tmp_path / 'in.nii', values()))
    volumes.write(tmp_path / 'out.nii', volume.array, volume.frame)

    def half(image, path):
        path.write_bytes(b'half')
        raise KeyboardInterrupt

    monkeypatch.setattr(nib.Nifti1Image, 'to_filename', half)
    with pytest.raises(KeyboardInterrupt):
        volumes.write(tmp_path / 'out.nii', volume.array + 1, volume.frame)
    assert sorted(path.name for path in tmp_path.iterdir()) == ['in.nii', 'out.nii']
    np.testing.assert_array_equal(volumes.read(tmp_path / 'out.nii').array, volume.array)


def test_writing_the_wrong_grid_or_format_is_an_error(tmp_path):
    volume = volumes.read(save(tmp_path / 'in.nii', values()))
    with pytest.raises(ValueError, match='grid'):
        volumes.write(tmp_path / 'out.nii', volume.array[1:], volume.frame)
    with pytest.raises(UserError, match=r'out\.png'):
        volumes.write(tmp_path / 'out.png', volume.array, volume.frame)
    with pytest.raises(UserError, match=r'out\.nii: cannot be written'):
        volumes.write(tmp_path / 'in.nii' / 'out.nii', volume.array, volume.frame)


def refusal(call, path):
    with pytest.raises(UserError) as caught:
        call(path)
    message = str(caught.value)
    assert '\n' not in message and os.path.basename(path) in message and len(message.split(': ')) >= 3
    return message


def cut(path, keep):
    path.write_bytes(path.read_bytes()[:keep])
    return path


def patched(path, offset, form, *numbers):
    content = bytearray(path.read_bytes())
    struct.pack_into(form, content, offset, *numbers)
    path.write_bytes(content)
    return path


def text(path):
    path.write_text('These are notes about a patient, not an image of one.\n' * 20)
    return path


def packed_text(path):
    path.write_bytes(gzip.compress(b'notes ' * 1000))
    return path


def empty(path):
    path.touch()
    return path


def holed(path, value):
    array = values()
    array[2, 3, 4] = value
    return save(path, array)


COLOUR = np.zeros(SHAPE, np.dtype([('R', 'u1'), ('G', 'u1'), ('B', 'u1')]))
WRONG = {
    'missing': (lambda d: d / 'missing.nii.gz', 'check the path'),
    'folder': (lambda d: d, 'NIfTI'),
    'empty': (lambda d: empty(d / 'empty.nii'), 'not a NIfTI'),
    'truncated_gz': (lambda d: cut(save(d / 'cut.nii.gz', values()), 600), 'truncated'),
    'checksum_gz': (lambda d: cut(save(d / 'cut.nii.gz', values()), -4), 'truncated'),
    'truncated': (lambda d: cut(save(d / 'cut.nii', values()), -1), 'truncated'),
    'header_only': (lambda d: cut(save(d / 'cut.nii', values()), 348), 'truncated'),
    'text': (lambda d: text(d / 'notes.nii'), 'not a NIfTI'),
    'text_gz': (lambda d: text(d / 'notes.nii.gz'), 'not a NIfTI'),
    'packed_text': (lambda d: packed_text(d / 'notes.nii.gz'), 'not a NIfTI'),
    'other_format': (lambda d: text(d / 'image.png'), 'NIfTI'),
    'nan': (lambda d: holed(d / 'nan.nii.gz', np.nan), 'NaN'),
    'inf': (lambda d: holed(d / 'inf.nii', -np.inf), 'infinite'),
    'constant': (lambda d: save(d / 'constant.nii', np.full(SHAPE, 7, np.float32)), 'constant'),
    'zero_size': (lambda d: patched(save(d / 'flat.nii', values()), DIMENSIONS, '<4h', 3, 5, 0, 7), 'without size'),
    'negative_size': (lambda d: patched(save(d / 'flat.nii', values()), DIMENSIONS, '<4h', 3, 5, -6, 7), 'without size'),
    'five_dimensions': (lambda d: save(d / 'five.nii', values((2, 3, 4, 1, 2))), '5 dimensions'),
    'one_dimension': (lambda d: patched(save(d / 'one.nii', values()), DIMENSIONS, '<2h', 1, 5), '1 dimensions'),
    'complex': (lambda d: save(d / 'complex.nii', values().astype(np.complex64)), 'complex'),
    'rgb': (lambda d: save(d / 'colour.nii', COLOUR), 'RGB'),
    'unknown_type': (lambda d: patched(save(d / 'odd.nii', values()), DATATYPE, '<h', 77), 'type 77'),
    'singular': (lambda d: patched(save(d / 'flat.nii', values()), SFORM, '<4f', 0, 0, 0, 0), 'affine'),
    'nan_affine': (lambda d: patched(save(d / 'flat.nii', values()), SFORM, '<f', np.nan), 'affine'),
    'nan_offset': (lambda d: patched(save(d / 'odd.nii', values()), OFFSET, '<f', np.nan), 'truncated'),
    'far_offset': (lambda d: patched(save(d / 'odd.nii', values()), OFFSET, '<f', 1e9), 'truncated'),
    'nan_intercept': (lambda d: patched(save(d / 'odd.nii', values()), SLOPE, '<2f', 1, np.nan), 'scl_inter'),
}


@pytest.mark.parametrize('case', WRONG)
def test_refusals_are_one_line_with_the_file_and_a_remedy(tmp_path, case):
    make, words = WRONG[case]
    assert words in refusal(volumes.read, make(tmp_path))


def test_what_the_header_tells_is_refused_without_the_voxels(tmp_path):
    for case in ('missing', 'text', 'zero_size', 'five_dimensions', 'complex', 'truncated'):
        refusal(volumes.inspect, WRONG[case][0](tmp_path))


def test_a_mask_may_be_constant(tmp_path):
    assert not volumes.read(save(tmp_path / 'none.nii', np.zeros(SHAPE, np.uint8)), mask=True).array.any()


@pytest.mark.parametrize('packed', [False, True])
def test_a_small_file_that_declares_a_terabyte_costs_nothing(tmp_path, packed):
    path = patched(save(tmp_path / 'huge.nii', values()), DIMENSIONS, '<5h', 4, 30000, 30000, 300, 1)
    content = path.read_bytes()[:400]
    path = tmp_path / 'huge.nii.gz' if packed else path
    path.write_bytes(gzip.compress(content) if packed else content)
    tracemalloc.start()
    started = time.perf_counter()
    for call in (volumes.inspect, volumes.read):
        assert 'declares 1,080,000,000,' in refusal(call, path)
    assert time.perf_counter() - started < 1
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()


def test_a_sparse_file_of_a_terabyte_is_above_the_limit(tmp_path):
    path = patched(save(tmp_path / 'huge.nii', values()), DIMENSIONS, '<5h', 4, 30000, 30000, 300, 1)
    os.truncate(path, 2 * 10**12)
    assert 'voxels' in refusal(volumes.read, path)
