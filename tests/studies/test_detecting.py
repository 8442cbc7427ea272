"""The evaluation of detectors, at toy size: perfect maps, constant maps, and who is in which split."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff import model
from jaxdiff.experiment import configure
from jaxdiff.studies import cohorts, detecting, healthy
from jaxdiff.studies.detecting import OWN, Detectors, Maps
from jaxdiff.tasks.anomaly.finding import Finding
from jaxdiff.types import UserError

CONFIG = configure(healthy.Config, healthy.presets(), preset='smoke', size=32, subjects=12, tuning=4, patients=4, evaluations=2)
KEY = jax.random.key(0)


@pytest.fixture(scope='module')
def cohort():
    return cohorts.open_cohort(CONFIG)


def detector(score):
    """Of maps `score(images (n, X, Y, C) in [-1, 1])`, restoring nothing."""

    def detect(key, images):
        maps = score(images)
        nothing = np.zeros(len(images))
        return Finding(images, images, maps, maps > 0.5, maps.mean((1, 2)), 0 * images, nothing, nothing)

    return detect


def test_a_map_of_the_lesions_is_perfect_and_a_constant_one_is_at_chance(cohort):
    on = detecting.bench(cohort, 0, detecting.simple_rows(cohort))
    smooth = lambda images: 0 * images[..., 0] + 1
    made = Detectors(
        detector(smooth), {'single step': detector(smooth)}, {'nothing': detector(lambda images: images[..., 0])}, {'depth': 0.3}
    )
    seen = detecting.judge(on, made, KEY, lambda table: {'twice': 2 * table[OWN]['ap']})
    assert seen.metrics['depth'] == 0.3 and seen.metrics['twice'] == 2 * seen.metrics['ap']
    assert seen.metrics['healthy_mae'] == 0 and set(seen.controls) == {'nothing'}
    assert {'intensity', 'z-score', 'PCA', 'linear denoiser', 'single step', 'chance'} <= set(seen.baselines)
    linear = seen.baselines['linear denoiser']
    assert linear['ap_over_linear'] == 0 and seen.metrics['ap_over_linear'] == pytest.approx(seen.metrics['ap'] - linear['ap'])
    assert seen.metrics['ap'] < 3 * seen.baselines['chance']['ap']  # the eroded brain against its rim
    perfect = detecting.score(on, Maps(*(where.lesions.astype(float) for where in (on.validation, on.test, on.well))))
    assert perfect['ap'] > linear['ap'] and perfect['image_auroc'] > 0.8 and perfect['healthy_to_ill'] == 0


def test_patients_to_tune_on_are_asked_about_once(cohort):
    asked = []

    def detect(key, images):
        asked.append(len(images))
        return detector(lambda images: images[..., 0])(key, images)

    row, simple = Detectors(detect, {'single step': detect}, {}, {}), detecting.simple_rows(cohort)
    sizes = [each.size for each in (cohort.validation, cohort.tests[0], cohort.well)]
    first = detecting.bench(cohort, 0, simple)
    detecting.judge(first, row, KEY, lambda table: {})
    assert sorted(asked) == sorted(2 * sizes)
    asked.clear()
    second = detecting.bench(cohort, 1, simple, first.maps)
    detecting.judge(second, row, KEY, lambda table: {})
    assert asked == 2 * [cohort.tests[1].size]
    assert detecting.threshold(second, second.maps[OWN]) == detecting.threshold(first, first.maps[OWN])


def test_the_best_candidate_is_the_most_precise(cohort):
    where = cohorts.cases(cohort.validation)
    maps = {0: np.zeros(where.lesions.shape), 1: where.lesions.astype(float), 2: -where.lesions.astype(float)}
    assert detecting.best(maps.get, (0, 1, 2), where) == 1
    assert detecting.best(None, (7,), where) == 7  # nothing is asked where there is no choice


def test_nobody_is_in_two_splits(cohort):
    sources = (cohort.train, cohort.validation, cohort.calm, *cohort.tests, cohort.well)
    seen = [each.example(n)['image'].tobytes() for each in sources for n in range(each.size)]
    assert len(seen) == len(set(seen)) and len(cohort.tests) == 2
    assert not cohorts.cases(cohort.healthy).lesions.any() and not cohorts.cases(cohort.calm).lesions.any()
    assert all(cohorts.cases(each).lesions.any((1, 2)).all() for each in (cohort.validation, *cohort.tests))
    for where in map(cohorts.cases, (cohort.validation, cohort.well)):
        assert (where.lesions <= where.brains).all() and 0.2 < where.brains.mean() < 0.8 and where.images.min() >= 0


def test_labels_say_which_slices_show_a_lesion():
    cohort = cohorts.open_cohort(CONFIG, labelled=True)
    labels = [int(cohort.train.example(n)['label']) for n in range(cohort.train.size)]
    assert labels == [0, 1] * 12 and cohort.healthy.size == 12


def test_unknown_data_are_refused():
    with pytest.raises(UserError, match='--data=pictures'):
        cohorts.open_cohort(configure(healthy.Config, healthy.presets(), preset='smoke', data='pictures'))


def test_no_part_of_an_untrained_network_begins_at_0():
    config = configure(healthy.Config, healthy.presets(), preset='smoke', size=32)
    blank = healthy.blank(config, cohorts.sketch(config))
    params = healthy.untrained(config, blank)
    assert all(leaf.any() for leaf in jax.tree.leaves(params) if leaf.ndim > 1)
    x = jax.random.normal(jax.random.key(0), (32, 32, 1))
    answers = [
        model.denoiser(blank._replace(params=each))(x, 0.5 * jnp.ones(())) for each in (params, model.init(blank, jax.random.key(0)))
    ]
    away = [
        np.asarray(each - each.mean() - np.corrcoef(each.ravel(), x.ravel())[0, 1] * each.std() / x.std() * (x - x.mean()))
        for each in answers
    ]
    assert away[0].std() > 0.05 > away[1].std()  # what no multiple of the image is
