import numpy as np
import pytest

from jaxdiff.data import anatomy as people
from jaxdiff.data.templates import templates
from jaxdiff.data.warps import SHAPE, Warp, exponential


@pytest.fixture(scope='module')
def population():
    return [people.anatomy(np.random.default_rng([0, i])) for i in range(24)]


def grid(step):
    shape = tuple(int(180 // step) + 1 for _ in range(3))
    matrix = np.diag([step, step, step, 1.0])
    matrix[:3, 3] = (-90, -112, -88)
    return people.points(matrix, shape)


def test_covariates_are_plausible_and_age_opens_the_ventricles(population):
    table = np.array([[person.covariates[name] for name in people.RANGES] for person in population])
    age, sex, ventricles, brain = table.T
    assert age.min() >= 20 and age.max() <= 90 and set(sex) == {0.0, 1.0}
    assert np.corrcoef(age, ventricles)[0, 1] > 0.7
    assert brain.min() > 800 and brain.max() < 1700 and ventricles.min() > 4 and ventricles.max() < 60


def test_the_outward_velocity_opens_the_ventricles_and_little_else():
    still = Warp(np.eye(3, dtype=np.float32), np.zeros(3, np.float32), np.zeros((3, *SHAPE), np.float32))
    person = lambda k: people.Anatomy(still._replace(displacement=exponential(k * people._outward())), 0.0, 0.0, {})
    closed, usual, wide = (people._measure(person(k)) for k in (-2.0, 0.0, 6.0))
    assert closed['ventricles'] < 0.85 * usual['ventricles'] and wide['ventricles'] > 1.6 * usual['ventricles']
    assert abs(wide['brain'] / usual['brain'] - 1) < 0.05


def test_volumes_agree_with_a_finer_grid(population):
    for person in population[:2]:
        tissue = people.look(person, grid(3.0), templates(2))
        grey, white, fluid = tissue.probabilities
        assert abs(0.027 * (grey + white).sum() / person.covariates['brain'] - 1) < 0.03
        assert abs(0.027 * (fluid * tissue.ventricle).sum() / person.covariates['ventricles'] - 1) < 0.12


def test_probabilities_are_probabilities(population):
    for person in population[:4]:
        tissue = people.look(person, grid(6.0), templates(4))
        assert tissue.probabilities.min() >= 0 and tissue.probabilities.sum(0).max() < 1 + 1e-5
        assert tissue.ventricle.min() >= 0 and tissue.ventricle.max() <= 1
        assert np.isfinite(tissue.residual).all()


def test_a_point_is_the_same_tissue_whatever_is_asked_beside_it(population):
    points = grid(8.0)
    whole = people.look(population[0], points, templates(2))
    chosen = whole.inside[::7]
    part = people.look(population[0], points[:, chosen], templates(2))
    np.testing.assert_array_equal(part.inside, np.arange(len(chosen)))
    np.testing.assert_array_equal(part.probabilities, whole.probabilities[:, ::7])
    np.testing.assert_array_equal(part.texture, whole.texture[::7])


def test_atrophy_turns_tissue_into_fluid_and_thickness_white_into_grey(population):
    person, points = population[0], grid(8.0)
    amounts = lambda body: people.look(body, points, templates(4)).probabilities.sum(1)
    grey, white, fluid = amounts(person)
    older, thicker = amounts(person._replace(atrophy=person.atrophy + 0.5)), amounts(person._replace(thickness=person.thickness + 0.5))
    assert older[2] > 1.1 * fluid and older[0] < grey and older[1] < white
    assert thicker[0] > grey and thicker[1] < white
    np.testing.assert_allclose([older.sum(), thicker.sum()], grey + white + fluid, rtol=1e-5)
