import numpy as np
import pytest
from scipy.ndimage import binary_erosion, median_filter

from jaxdiff.data import phantoms
from jaxdiff.data.phantoms import Recipe
from jaxdiff.types import UserError


def average_precision(score, truth):
    """Pooled over everything given."""
    ranked = truth[np.argsort(-score, kind='stable')]
    return (np.cumsum(ranked) / np.arange(1, len(ranked) + 1))[ranked].mean()


def images(source, name='image'):
    return np.stack([source.example(i)[name][..., 0] for i in range(source.size)])


def test_a_subject_is_a_function_of_seed_and_index_and_a_lesion_changes_only_itself():
    healthy, again, ill = (phantoms.phantom(Recipe(lesion=lesion), 3) for lesion in (False, False, True))
    for one, other in zip(healthy, again, strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(healthy.labels, ill.labels)
    far = ~np.pad(ill.lesion, 4)[4:-4, 4:-4]
    for axis in (0, 1):
        for shift in range(-4, 5):
            far &= ~np.roll(ill.lesion, shift, axis)
    assert ill.lesion.any() and np.abs(ill.image - healthy.image).max() > 0.1
    assert np.abs(ill.image - healthy.image)[far & np.roll(np.roll(far, 3, 0), 3, 1)].max() < 0.05
    assert np.abs(phantoms.phantom(Recipe(), 4).image - healthy.image).mean() > 0.01
    assert np.abs(phantoms.phantom(Recipe(seed=1), 3).image - healthy.image).mean() > 0.01


@pytest.mark.parametrize('contrast', ['T1', 'T2'])
def test_every_structure_has_its_level(contrast):
    people = [phantoms.phantom(Recipe(contrasts=(contrast,)), i) for i in range(20)]
    for label, level in enumerate(phantoms.LEVELS[contrast]):
        inside = [p.image[..., 0][binary_erosion(p.labels == label, iterations=2)] for p in people]
        assert abs(np.concatenate(inside).mean() - level) < 0.04


def test_geometry_is_as_specified():
    people = [phantoms.phantom(Recipe(lesion=True), i) for i in range(200)]
    areas = np.array([(p.labels > 0).sum() for p in people])
    expected = np.pi * 0.36 * 0.43 * 64**2 * (1.95 / 2) ** 2
    assert abs(areas.mean() / expected - 1) < 0.03
    ventricles = np.mean([(p.labels == 3).sum() for p in people])
    assert abs(ventricles / (2 * np.pi * 0.055 * 0.15 * 64**2 * (1.025**2 + 0.45**2 / 12)) - 1) < 0.06
    assert abs(np.mean([p.lesion.sum() for p in people]) / areas.mean() - 0.045) < 0.006
    assert all((p.labels[p.lesion] > 0).all() for p in people)


def test_sizes_and_alignment():
    large = phantoms.phantom(Recipe(size=128), 0)
    small = phantoms.phantom(Recipe(), 0)
    assert np.mean(large.labels[::2, ::2] == small.labels) > 0.95
    spread = lambda aligned: np.std([phantoms.phantom(Recipe(aligned=aligned), i).labels > 0 for i in range(40)], 0).sum()
    assert spread(True) < 0.7 * spread(False)


def test_one_factor_may_be_that_of_both_ventricles():
    """The mean square of two factors varies half as much as that of one."""
    spread = lambda paired: np.std([phantoms.phantom(Recipe(paired=paired), i).ventricles for i in range(300)])
    assert abs(spread(True) / spread(False) - np.sqrt(2)) < 0.15
    one = phantoms.phantom(Recipe(paired=True, aligned=True), 0)
    areas = [(half == 3).sum() for half in np.array_split(one.labels, 2)]
    assert abs(areas[0] / areas[1] - 1) < 0.2


def test_the_measured_baselines_hold():
    """512 healthy images in place of 1024, hence the tolerance of 0.04."""
    healthy, ill = phantoms.slices(Recipe(), 0, 512), phantoms.slices(Recipe(lesion=True), 200_000, 128)
    x, known = images(ill), images(healthy).reshape(512, -1)
    truth, brain = images(ill, 'mask') > 0, np.stack([ill.example(i)['labels'] > 0 for i in range(128)])
    kept = np.stack([binary_erosion(b, iterations=2) for b in brain])
    mean = known.mean(0)
    values, vectors = np.linalg.eigh((known - mean) @ (known - mean).T)
    modes = ((known - mean).T @ vectors[:, -16:]) / np.sqrt(values[-16:])
    away = x.reshape(128, -1) - mean
    maps = {
        'intensity': x + 1,
        'z-score': np.abs(away / known.std(0).clip(2e-3)).reshape(x.shape),
        'components': np.abs(away - away @ modes @ modes.T).reshape(x.shape),
    }
    smooth = {name: median_filter(score * kept, (1, 5, 5)) for name, score in maps.items()}
    assert abs(truth[brain].mean() - 0.045) < 0.006
    assert abs(average_precision((maps['intensity'] * kept)[brain], truth[brain]) - 0.173) < 0.04
    for name, expected in (('intensity', 0.243), ('z-score', 0.405), ('components', 0.67)):
        assert abs(average_precision(smooth[name][brain], truth[brain]) - expected) < 0.04


def test_slices_are_the_subjects_in_order():
    source = phantoms.slices(Recipe(size=32, contrasts=('T2', 'T1'), lesion=True), 5, 3)
    assert source.size == 3 and source.manifest['recipe']['size'] == 32
    person, example = phantoms.phantom(Recipe(size=32, contrasts=('T2', 'T1'), lesion=True), 6), source.example(1)
    np.testing.assert_allclose(example['image'], 2 * person.image - 1, atol=2e-5)
    np.testing.assert_array_equal(example['labels'], person.labels)
    np.testing.assert_array_equal(example['mask'][..., 0], person.lesion)
    assert 'mask' not in phantoms.slices(Recipe(size=32), 0, 1).example(0)


def test_impossible_recipes_are_named():
    for recipe in (Recipe(size=4), Recipe(seed=-1), Recipe(contrasts=('T3',)), Recipe(contrasts=())):
        with pytest.raises(UserError, match='phantom'):
            phantoms.phantom(recipe, 0)
    with pytest.raises(UserError, match='at least one'):
        phantoms.slices(Recipe(), 0, 0)
