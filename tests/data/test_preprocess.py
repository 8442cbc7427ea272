"""Files become examples of one shape, spacing and range, and examples become files again, in the frame that they came from."""

import json

import nibabel as nib
import numpy as np
import pytest

from jaxdiff.data import preprocess, volumes
from jaxdiff.data.volumes import Volume
from jaxdiff.types import UserError


def blob(size, spacing, *, centre=(0, 0, 0), radii=(18, 22, 20), edge=8, top=1000.0, channels=1):
    """A smooth ellipsoid (radii and centre in mm from the middle of the field of view) in a canonical array."""
    axes = [(np.arange(n) - (n - 1) / 2) * s for n, s in zip(size, spacing, strict=True)]
    grid = np.stack(np.meshgrid(*axes, indexing='ij'), axis=-1)
    radius = np.sqrt((((grid - centre) / radii) ** 2).sum(axis=-1, keepdims=True))
    return (top / (1 + np.exp(edge * (radius - 1))) * (1 + np.arange(channels))).astype(np.float32)


def volume(size=(30, 32, 28), spacing=(2, 2, 2), flips=(1, 1, 1), name='subject.nii', **options):
    channels = options.get('channels', 1)
    affine = np.diag([*np.multiply(spacing, flips), 1.0])
    frame = volumes.frame((*size, channels) if channels > 1 else size, affine, name=name)
    return Volume(blob(size, spacing, **options), frame.canonical_affine, frame)


@pytest.fixture
def fit(tmp_path):
    def fitted(several, **options):
        index = []
        for number, each in enumerate(several):
            volumes.write(tmp_path / f'{number}.nii', each.array, each.frame)
            index.append(volumes.inspect(tmp_path / f'{number}.nii'))
        return preprocess.fit(index, **options)

    return fitted


EXACT = {'spacing': None, 'tails': (0, 100)}


@pytest.mark.parametrize('dims', [2, 3])
@pytest.mark.parametrize('centre', ['field', 'foreground'])
def test_identity_geometry_round_trips(fit, dims, centre):
    given = volume(channels=2, size=(31, 32, 28))
    pre = fit([given], dims=dims, centre=centre, shape=(40, 37, 33)[:dims], **EXACT)
    examples, record = preprocess.apply(pre, given)
    assert examples.shape == ((28, 40, 37, 2) if dims == 2 else (1, 40, 37, 33, 2)) and examples.dtype == np.float32
    assert examples.min() == -1 and examples.max() == 1
    np.testing.assert_allclose(preprocess.invert(pre, record, examples), given.array, rtol=1e-6, atol=2e-4)


def test_the_same_anatomy_gives_the_same_example_on_any_grid(fit):
    fine = volume((64, 70, 60), (1, 1, 1), radii=(18, 22, 20), centre=(3, -2, 4))
    coarse = volume((31, 40, 40), (2.3, 1.5, 1.5), radii=(18, 22, 20), centre=(-4, 1, 0))
    pre = fit([fine, coarse], shape=(24, 28, 26), spacing=(2, 2, 2), tails=(0, 100))
    one, other = (preprocess.apply(pre, each)[0] for each in (fine, coarse))
    assert np.abs(one - other).mean() < 0.05
    assert np.abs(one - np.roll(other, 3, axis=1)).mean() > 0.15


def test_resampling_round_trips_on_smooth_data(fit):
    given = volume((40, 44, 42), (1, 1.3, 1.1), edge=3)
    pre = fit([given], spacing=(1.4, 1.2, 1.5), tails=(0, 100), centre='field')
    examples, record = preprocess.apply(pre, given)
    back = preprocess.invert(pre, record, examples)
    assert back.shape == given.array.shape
    assert np.abs(back - given.array).max() < 0.03 * np.ptp(given.array)
    assert np.sqrt(np.mean((back - given.array) ** 2)) < 0.005 * np.ptp(given.array)


def test_what_the_model_did_not_see_is_background_or_the_input(fit):
    given = volume(size=(30, 32, 28))
    pre = fit([given], shape=(16, 32, 28), centre='field', **EXACT)
    examples, record = preprocess.apply(pre, given)
    changed = np.full_like(examples, 1)
    low, high = record.low[0], record.high[0]
    alone = preprocess.invert(pre, record, changed)
    inserted = preprocess.invert(pre, record, changed, outside=given.array)
    seen = np.zeros(30, bool)
    seen[7:23] = True
    for out in (alone, inserted):
        np.testing.assert_allclose(out[seen], high, rtol=1e-6)
    np.testing.assert_allclose(alone[~seen], low, rtol=1e-6)
    np.testing.assert_array_equal(inserted[~seen], given.array[~seen])


def test_padding_is_background(fit):
    given = volume(size=(30, 32, 28), centre=(0, 0, 0))
    pre = fit([given], shape=(34, 32, 28), centre='field', **EXACT)
    example = preprocess.apply(pre, given)[0][0]
    np.testing.assert_array_equal(example[:2], -1)
    np.testing.assert_array_equal(example[-2:], -1)


@pytest.mark.parametrize('dims', [2, 3])
def test_masks_go_along(fit, dims):
    given = volume((40, 44, 42), (1, 1.3, 1.1), centre=(4, -3, 2))
    mask = given.array > 500
    pre = fit([given], dims=dims, spacing=(1.4, 1.2, 1.5)[:dims], tails=(0, 100))
    examples, record = preprocess.apply(pre, given)
    small = preprocess.apply_mask(pre, record, mask)
    assert small.shape == examples.shape and set(np.unique(small)) == {0, 1}
    assert ((small > 0) != (examples > 0)).mean() < 0.02
    back = preprocess.invert(pre, record, small, intensity=False, order=0)
    assert set(np.unique(back)) == {0, 1} and back.shape == mask.shape
    assert 2 * (back * mask).sum() / (back.sum() + mask.sum()) > 0.95


def test_maps_are_put_back_without_units_and_with_any_channels(fit):
    given = volume(channels=2)
    pre = fit([given], shape=(16, 16, 16), **EXACT)
    _, record = preprocess.apply(pre, given)
    back = preprocess.invert(pre, record, np.full((1, 16, 16, 16, 1), 0.25), intensity=False)
    assert back.shape == (*given.array.shape[:3], 1) and set(np.unique(back)) == {0, 0.25}
    assert (back > 0).sum() == 16**3


def test_slices_of_a_volume_keep_their_own_distance(fit):
    given = volume((40, 44, 9), (1, 1, 6), centre=(0, 0, 12))
    pre = fit([given], dims=2, spacing=(2, 2), shape=(24, 24))
    examples, record = preprocess.apply(pre, given)
    assert examples.shape == (9, 24, 24, 1) and record.step == (2, 2, 1) and record.offset[2] == 0
    np.testing.assert_array_equal(examples.max(axis=(1, 2, 3)).argmax(), given.array.max(axis=(0, 1, 3)).argmax())
    thick = volume((40, 44, 30), (1, 1, 2))
    assert preprocess.apply(pre, thick)[0].shape == (30, 24, 24, 1)


@pytest.mark.parametrize('axis', [0, 1, 2])
def test_files_of_one_slice_in_any_plane(fit, axis):
    size = [20, 24, 28]
    size[axis] = 1
    given = volume(tuple(size))
    pre = fit([given], dims=2, **EXACT, centre='field', multiple=4)
    examples, record = preprocess.apply(pre, given)
    assert pre.axis == axis and examples.shape == (1, *(n for n in size if n > 1), 1)
    np.testing.assert_allclose(preprocess.invert(pre, record, examples), given.array, rtol=1e-6, atol=2e-4)


def test_json_keeps_everything(fit):
    for options in ({}, {'dims': 2, 'spacing': None}, {'intensity': 'fixed'}):
        pre = fit([volume(channels=2), volume((20, 20, 20), (3, 3, 3), channels=2)], **options)
        assert preprocess.from_json(json.loads(json.dumps(preprocess.to_json(pre)))) == pre


def test_fit_learns_spacing_shape_and_range(fit):
    several = [volume((40, 44, 20), (1, 1, 3), top=top) for top in (100, 300)] + [volume((30, 30, 30), (2, 2, 2), top=200)]
    pre = fit(several, intensity='fixed', tails=(0, 100))
    assert pre.spacing == (1, 1, 3) and pre.channels == 1 and pre.orientation == 'RAS'
    assert all(size % 16 == 0 for size in pre.shape)
    foreground = 2 * np.array([18, 22, 20]) * (1 + np.log(9) / 8)  # where the ellipsoid falls below a tenth
    assert (np.array(pre.shape) * pre.spacing >= foreground - 4).all() and (np.array(pre.shape) * pre.spacing < foreground + 64).all()
    np.testing.assert_allclose(pre.high, max(each.array.max() for each in several))
    assert pre.seen.spacing == ((1, 1, 2), (2, 2, 3)) and pre.seen.extent == ((40, 44, 60), (60, 60, 60))


def test_cover_chooses_the_spacing_that_fits_a_given_shape(fit):
    given = volume((50, 54, 52), (1, 1, 1), radii=(18, 22, 20))
    pre = fit([given], shape=(16, 16, 16), spacing='cover', tails=(0, 100))
    assert len(set(pre.spacing)) == 1 and 2.5 < pre.spacing[0] < 3.5
    example = preprocess.apply(pre, given)[0][0, ..., 0]
    assert example[0].max() < -0.5 and example[8, 8, 8] > 0.9


def test_fixed_limits_are_taken_as_given(fit):
    given = volume(top=800)
    pre = fit([given], intensity='fixed', limits=[(0, 400)], shape=(32, 32, 32), spacing=None)
    assert (pre.low, pre.high) == ((0,), (400,))
    examples, record = preprocess.apply(pre, given)
    assert examples.max() == 1 and (record.low, record.high) == ((0,), (400,))
    assert preprocess.invert(pre, record, examples).max() == 400


def test_from_file_to_file(fit, tmp_path):
    given = volume((30, 36, 33), (2, 1.5, 2), flips=(-1, -1, 1), centre=(6, 0, -4))
    pre = fit([given], tails=(0, 100))
    examples, record = preprocess.apply(pre, volumes.read(tmp_path / '0.nii'))
    volumes.write(tmp_path / 'out.nii', preprocess.invert(pre, record, examples), volumes.inspect(tmp_path / '0.nii'))
    out, original = nib.load(tmp_path / 'out.nii'), nib.load(tmp_path / '0.nii')
    np.testing.assert_array_equal(out.affine, original.affine)
    assert nib.aff2axcodes(out.affine) == ('L', 'P', 'S')
    assert np.abs(out.get_fdata() - original.get_fdata()).mean() < 10


@pytest.mark.parametrize('dims', [2, 3])
def test_a_sample_without_a_file_has_a_frame(fit, dims, tmp_path):
    pre = fit([volume(channels=2)], dims=dims, shape=(16, 12, 8)[:dims], spacing=(2, 3, 4)[:dims], intensity='fixed')
    frame, record = preprocess.blank(pre)
    examples = np.random.default_rng(0).uniform(-1, 1, (1, *pre.shape, 2)).astype(np.float32)
    array = preprocess.invert(pre, record, examples)
    volumes.write(tmp_path / 'sample.nii.gz', array, frame)
    again = volumes.read(tmp_path / 'sample.nii.gz')
    np.testing.assert_allclose(again.frame.spacing[:dims], (2, 3, 4)[:dims])
    np.testing.assert_allclose(again.affine @ [*(np.array(frame.size) - 1) / 2, 1], [0, 0, 0, 1], atol=1e-5)
    values = (again.array - pre.low) / (np.array(pre.high) - pre.low) * 2 - 1
    np.testing.assert_allclose(values if dims == 3 else values[:, :, 0], examples[0], atol=1e-5)


@pytest.mark.parametrize(
    'options', [{'shape': (16, 16)}, {'shape': (16, 16, 0)}, {'spacing': (1, -1, 1)}, {'spacing': 'cover'}, {'spacing': 'tiny'}]
)
def test_impossible_geometry_is_refused(fit, options):
    with pytest.raises(UserError, match='give'):
        fit([volume()], **options)


def test_a_mask_of_another_grid_is_an_error(fit):
    given = volume()
    pre = fit([given])
    with pytest.raises(ValueError, match='mask'):
        preprocess.apply_mask(pre, preprocess.apply(pre, given)[1], np.ones((3, 3, 3, 1)))
