import numpy as np
import pytest

from jaxdiff.data import lesions

GRID = np.indices((25, 25, 25), np.float32).reshape(3, -1) * 2 - 24  # mm, voxels of 8 mm^3


def candidates():
    """Grey, white and fluid along x."""
    points = np.float32([[-40, 0, 0], [0, 0, 0], [40, 0, 0]]).T
    return points, np.eye(3, dtype=np.float32)


def at_the_origin(kind, seed=0):
    made = lesions.lesion(np.random.default_rng(seed), kind, *candidates())
    return made._replace(centres=np.zeros_like(made.centres))


@pytest.mark.parametrize('kind', ['tumour', 'stroke'])
def test_a_mass_has_about_the_volume_of_its_radius(kind):
    ratios = []
    for seed in range(12):
        mass = at_the_origin(kind, seed)
        assert 9 <= mass.radii[0] <= 18
        covered = lesions.extent(mass, GRID)
        assert covered.min() >= 0 and covered.max() <= 1 and covered[len(covered) // 2] > 0.9
        ratios.append((covered > 0.5).sum() * 8 / (4 / 3 * np.pi * mass.radii[0] ** 3))
    assert 0.8 < np.mean(ratios) < 1.3 and min(ratios) > 0.5 and max(ratios) < 2


def test_masses_start_in_tissue_and_scattered_lesions_in_white_matter():
    for seed in range(20):
        rng = np.random.default_rng(seed)
        assert lesions.lesion(rng, 'tumour', *candidates()).centres[0, 0] in (-40, 0)
        scattered = lesions.lesion(rng, 'white-matter', *candidates())
        assert 5 <= len(scattered.radii) <= 12 and scattered.radii.max() <= 6 and (scattered.centres == 0).all()


def test_nowhere_to_put_one_is_an_error():
    points, _ = candidates()
    with pytest.raises(ValueError, match='no brain tissue'):
        lesions.lesion(np.random.default_rng(0), 'tumour', points, np.zeros((3, 3), np.float32))


def test_the_signal_changes_where_the_lesion_is_and_only_there():
    mass = at_the_origin('tumour')._replace(opacity=1.0, shade=0.0)
    covered = lesions.extent(mass, GRID)
    signal = np.full(GRID.shape[1], 0.3, np.float32)
    drawn = lesions.draw(mass, signal, covered, 0.9, GRID)
    np.testing.assert_array_equal(drawn[covered == 0], signal[covered == 0])
    assert (drawn[covered > 0.5] > 0.45).all() and abs(drawn[covered > 0.95].mean() - 0.9) < 0.1
    assert (signal == np.float32(0.3)).all()


def test_random_functions_have_unit_variance():
    waves = [lesions._waves(np.random.default_rng(seed), 8.0) for seed in range(20)]
    assert abs(np.mean([lesions._evaluate(w, GRID).var() for w in waves]) - 1) < 0.1
