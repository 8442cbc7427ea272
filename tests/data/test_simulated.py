"""K-space that is made agrees with the image it is of, is the same whenever it is read, and bad files are refused in one line."""

import numpy as np
import pytest

from jaxdiff.data import coils, phantoms, simulated
from jaxdiff.types import UserError


@pytest.fixture
def magnitude():
    return phantoms.phantom(phantoms.Recipe(size=32), 0).image[..., 0]


def complex_of(found):
    return found['image'][..., 0] + 1j * found['image'][..., 1]


def test_the_image_is_the_inverse_transform_of_its_kspace(magnitude):
    found = simulated.example(np.random.default_rng(0), 7 * magnitude)
    np.testing.assert_allclose(coils.inverse_transform(found['kspace'])[..., 0], complex_of(found), atol=1e-6)
    np.testing.assert_allclose(np.abs(complex_of(found)) * found['scale'], 7 * magnitude, atol=1e-5)
    assert found['image'].dtype == np.float32 and found['columns'].all() and np.abs(found['image'][..., 1]).max() > 0.1


def test_a_complex_image_keeps_its_phase(magnitude):
    turned = magnitude * np.exp(0.5j)
    np.testing.assert_allclose(
        complex_of(simulated.example(np.random.default_rng(0), turned)) * turned.real.max() / np.cos(0.5), turned, atol=1e-5
    )


def test_several_coils_join_to_the_image_and_noise_has_its_variance(magnitude):
    clean, noisy = (simulated.example(np.random.default_rng(0), magnitude, number=4, variance=each) for each in (0.0, 0.01))
    joined = coils.combined(coils.inverse_transform(clean['kspace']), clean['sensitivities'])[..., 0]
    np.testing.assert_allclose(joined, complex_of(clean), atol=1e-5)
    assert np.mean(np.abs(noisy['kspace'] - clean['kspace']) ** 2) == pytest.approx(0.01, rel=0.1)


def test_of_images_is_a_function_of_seed_and_index():
    images = phantoms.slices(phantoms.Recipe(size=16), 0, 3)
    one, again, other = (simulated.of_images(images, seed=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one.example(2)['kspace'], again.example(2)['kspace'])
    assert np.abs(one.example(2)['kspace'] - other.example(2)['kspace']).max() > 1e-3
    assert one.size == 3 and one.manifest == again.manifest != other.manifest


def test_arrays_are_read_by_name(tmp_path, magnitude):
    for volume in ('b', 'a'):
        (tmp_path / volume).mkdir()
        for number in range(2):
            np.save(tmp_path / volume / f'{number:03d}.npy', magnitude * (1 + number + 10 * (volume == 'b')))
    found = simulated.arrays(tmp_path)
    largest = [float(found.example(i)['scale'][0]) for i in range(found.size)]
    np.testing.assert_allclose(np.array(largest) / magnitude.max(), [1, 2, 11, 12], rtol=1e-6)
    phase = lambda i: np.angle(complex_of(found.example(i)))[12:20, 12:20]
    assert np.abs(phase(0) - phase(1)).max() > 0.01  # of another name


@pytest.mark.parametrize(
    ('array', 'said'),
    [
        (np.array([{}], object), 'no .npy file of numbers'),
        (np.zeros((4, 4, 4)), r'shape \(4, 4, 4\)'),
        (np.zeros((4, 4), bool), 'holds bool'),
        (-np.ones((4, 4)), 'negative'),
        (np.full((4, 4), np.nan), 'NaN'),
        (np.zeros((4, 4)), 'the image is 0'),
    ],
)
def test_what_cannot_be_a_slice_is_refused_in_one_line(tmp_path, array, said):
    np.save(tmp_path / 'bad.npy', array)
    with pytest.raises(UserError, match=said) as error:
        simulated.arrays(tmp_path).example(0)
    assert 'bad.npy' in str(error.value) and '\n' not in str(error.value)


def test_folders_and_sizes_that_do_not_fit_are_refused(tmp_path, magnitude):
    with pytest.raises(UserError, match='no file that ends in'):
        simulated.arrays(tmp_path)
    np.save(tmp_path / 'a.npy', magnitude)
    np.save(tmp_path / 'b.npy', magnitude[:16])
    with pytest.raises(UserError, match='one size'):
        simulated.arrays(tmp_path)
    (tmp_path / 'b.npy').unlink()
    with pytest.raises(UserError, match='at least one coil'):
        simulated.arrays(tmp_path, number=0)


def test_slices_without_folders_of_their_volumes_are_refused(tmp_path, magnitude):
    for number in range(6):
        np.save(tmp_path / f'{number}.npy', magnitude)
    with pytest.raises(UserError, match='give each volume a folder of its own'):
        simulated.folders(tmp_path, (0.6, 0.2, 0.2))
