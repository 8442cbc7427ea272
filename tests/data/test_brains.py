import numpy as np
import pytest

from jaxdiff.data import brains
from jaxdiff.data.brains import Recipe
from jaxdiff.data.source import digest
from jaxdiff.types import UserError

COARSE = Recipe(spacing=(6.0, 6.0, 6.0), shape=(32, 32, 6))  # the default field of view


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv('JAXDIFF_CACHE', str(tmp_path))


def test_a_subject_is_a_function_of_seed_and_index():
    first = brains.subject(COARSE, 3)
    brains.subject(COARSE, 4)
    again = brains.subject(COARSE, 3)
    for one, other in zip(first, again, strict=True):
        np.testing.assert_equal(one, other)
    for other in (brains.subject(COARSE, 4), brains.subject(COARSE._replace(seed=1), 3)):
        assert np.abs(other.image - first.image).mean() > 0.01 and other.covariates != first.covariates


def test_the_recipe_still_gives_the_brains_it_gave():
    """When this fails on purpose, raise brains.GENERATOR: files and models made from the old brains carry its number."""
    person = brains.subject(COARSE, 0)
    assert brains.GENERATOR == 1
    np.testing.assert_allclose(person.image[8:24:5, 16, 2, 0], [0.5568, 0.5857, 0.5983, 0.4473], atol=2e-3)
    np.testing.assert_allclose([person.covariates['age'], person.covariates['brain']], [86.006, 874.04], rtol=1e-3)


def test_another_contrast_or_a_lesion_leaves_the_rest_of_the_subject_alone():
    alone, both = brains.subject(COARSE, 1), brains.subject(COARSE._replace(contrasts=('FLAIR', 'T1')), 1)
    np.testing.assert_array_equal(both.image[..., 1], alone.image[..., 0])
    assert np.abs(both.image[..., 0] - alone.image[..., 0]).mean() > 0.01


@pytest.mark.parametrize('kind', brains.LESIONS)
def test_lesions_change_the_image_where_they_are_and_only_there(kind):
    recipe = COARSE._replace(spacing=(4.0, 4.0, 4.0), shape=(48, 48, 9), contrasts=('T1', 'FLAIR'))
    seen = 0
    for index in range(4):
        healthy, ill = brains.subject(recipe, index), brains.subject(recipe._replace(lesion=kind), index)
        seen += ill.lesion.sum()
        assert not healthy.lesion.any() and healthy.covariates == ill.covariates
        np.testing.assert_array_equal(healthy.labels, ill.labels)
        assert (ill.labels[ill.lesion] > 0).all()
        change = np.abs(ill.image - healthy.image)
        near = np.zeros_like(ill.lesion)
        for x, y, z in np.argwhere(ill.lesion):
            near[max(x - 2, 0) : x + 3, max(y - 2, 0) : y + 3, max(z - 2, 0) : z + 3] = True
        if kind != 'white-matter':  # the smallest of these slip between the voxels, edge and all
            assert change[~near].max() < 0.02  # the tail of the soft edge
        assert not seen or change.max() > 0.05
    assert seen > 20


def test_tumours_are_brighter_and_strokes_darker_than_the_brain_on_t1():
    for kind, sign in (('tumour', 1), ('stroke', -1)):
        people = [brains.subject(COARSE._replace(lesion=kind), i) for i in range(6)]
        inside = [p.image[p.lesion].mean() - np.median(p.image[p.labels > 1]) for p in people if p.lesion.any()]
        assert len(inside) > 3 and sign * np.mean(inside) > 0.05


def test_a_world_point_is_the_same_anatomy_at_two_spacings():
    fine, coarse = (brains.subject(Recipe(spacing=(s, s, s), shape=(n, n, d)), 2) for s, n, d in ((3.0, 64, 12), (1.5, 128, 24)))
    blocks = coarse.tissues.reshape(64, 2, 64, 2, 12, 2, 3).mean((1, 3, 5))
    here = (fine.affine @ [10, 20, 5, 1])[:3]
    there = np.mean([(coarse.affine @ [20 + i, 40 + i, 10 + i, 1])[:3] for i in (0, 1)], 0)
    np.testing.assert_allclose(here, there)
    assert np.corrcoef(fine.tissues[..., 1].ravel(), blocks[..., 1].ravel())[0, 1] > 0.97
    assert fine.covariates == coarse.covariates


def test_no_head_is_cropped_and_nothing_lies_around_it():
    for index in range(20):
        person = brains.subject(COARSE, index)
        border = np.concatenate([person.labels[[0, -1]].ravel(), person.labels[:, [0, -1]].ravel()])
        assert not border.any()
        assert person.image[person.tissues.sum(-1) == 0].max() == 0 and (person.labels == 4).any()
        assert person.image.min() >= 0 and person.image.max() <= 1 and person.tissues.sum(-1).max() < 1 + 1e-5


def test_fluid_is_dark_on_t1_and_flair_and_bright_on_t2():
    person = brains.subject(COARSE._replace(contrasts=('T1', 'T2', 'FLAIR')), 0)
    fluid, white = (person.image[person.tissues[..., k] > 0.9].mean(0) for k in (2, 1))
    assert fluid[0] < white[0] and fluid[2] < white[2] and fluid[1] > white[1]


@pytest.mark.parametrize('lesion', [None, 'stroke'])
def test_slices_are_the_subjects_in_order(lesion):
    recipe = COARSE._replace(lesion=lesion, shape=(32, 32, 3))
    fresh, kept = (brains.slices(recipe, 4, 2, keep=keep) for keep in (False, True))
    assert fresh.size == kept.size == 6 and digest(fresh.manifest) == digest(kept.manifest)
    person = brains.subject(recipe, 5)
    for n in range(6):
        one, other = fresh.example(n), kept.example(n)
        assert set(one) == {'image', 'labels', 'covariates'} | ({'mask'} if lesion else set())
        for name in one:
            np.testing.assert_array_equal(one[name], other[name])
        if n >= 3:
            np.testing.assert_allclose(one['image'], 2 * person.image[:, :, n - 3] - 1, atol=2e-5)
            np.testing.assert_array_equal(one['labels'], person.labels[:, :, n - 3])
            if lesion:
                np.testing.assert_array_equal(one['mask'][..., 0], person.lesion[:, :, n - 3])
    ages = [low + fresh.example(3)['covariates'][0] * (high - low) for low, high in [fresh.manifest['covariates']['age']]]
    np.testing.assert_allclose(ages[0], person.covariates['age'], rtol=1e-5)
    assert [fresh.example(n)['covariates'][-1] for n in range(3)] == [0, 0.5, 1]


def test_volumes_are_the_subjects_whole():
    source = brains.volumes(COARSE, 5, 1)
    example = source.example(0)
    np.testing.assert_allclose(example['image'], 2 * brains.subject(COARSE, 5).image - 1, atol=2e-5)
    assert example['labels'].shape == COARSE.shape and example['covariates'].shape == (4,)


def test_a_recipe_survives_json():
    lists = Recipe(**{name: list(value) if isinstance(value, tuple) else value for name, value in COARSE._asdict().items()})
    assert brains.checked(lists._replace(spacing=[6, 6, 6])) == COARSE


@pytest.mark.parametrize(
    ('change', 'words'),
    [
        ({'contrasts': ('T3',)}, 'T3.*choose from'),
        ({'contrasts': ()}, 'choose from'),
        ({'lesion': 'cyst'}, 'cyst.*choose from'),
        ({'spacing': (1.0, 1.0)}, 'three'),
        ({'shape': (32, 0, 6)}, 'three'),
        ({'seed': -1}, 'seed'),
        ({'lesion': 'tumour', 'centre': (500.0, 0.0, 0.0)}, 'field of view'),
    ],
)
def test_impossible_recipes_are_named(change, words):
    with pytest.raises(UserError, match=words):
        brains.subject(COARSE._replace(**change), 0)


def test_impossible_ranges_are_named():
    for first, count in ((-1, 2), (0, 0)):
        with pytest.raises(UserError, match='at least one'):
            brains.slices(COARSE, first, count)
