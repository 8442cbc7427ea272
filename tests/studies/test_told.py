"""What is asked of a network is what the data have, and the measures of what it draws are right on images that are known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff.data import phantoms
from jaxdiff.experiment import configure
from jaxdiff.metrics.agreement import r_squared
from jaxdiff.studies import told


@pytest.fixture(scope='module')
def data():
    return told.open_data(configure(told.Config, told.PRESETS, preset='smoke', size=64, subjects=200, held_out=120))


def test_classes_come_in_turn_and_show_what_they_say(data):
    for n in range(8):
        example = data.train.example(n)
        contrast, lesion = told.KINDS[int(example['label'])]
        assert example['label'] == n % 4 and bool(example['mask'].any()) == lesion
        ventricles, tissue = (example['image'][..., 0][example['labels'] == each].mean() for each in (3, 1))
        assert (ventricles > tissue) == (contrast == 'T2')


def test_sizes_are_measured(data):
    """On images the line was not fitted to."""
    images, shown = told.real(data, 120)
    seen = told.whole(shown['label'])
    found, truth = told.sizes(told.ruler(data), images[seen], shown['label'][seen]), shown['vector'][seen, 0]
    assert r_squared(found, truth) > 0.97 and r_squared(found[::-1], truth) < 0.5
    assert 0 <= truth.min() < 0.15 and 0.7 < truth.max() <= 1


def test_one_in_ten_is_told_nothing():
    example = {'label': jnp.int32(2), 'covariates': jnp.array([1.0])}
    drawn = jax.vmap(lambda key: told.tell(key, example))(jax.random.split(jax.random.key(0), 20_000))
    no_label, no_size = np.asarray(drawn['label'] == len(told.KINDS)), np.isnan(np.asarray(drawn['vector'][:, 0]))
    np.testing.assert_allclose([no_label.mean(), no_size.mean(), (no_label & no_size).mean()], [0.19, 0.19, 0.109], atol=0.01)
    assert set(np.unique(drawn['label'])) == {2, 4}


def test_what_is_asked_depends_on_the_seed_alone(data):
    first, again, other = told.asked(data, 20, 0), told.asked(data, 20, 0), told.asked(data, 20, 1)
    np.testing.assert_array_equal(first['vector'], again['vector'])
    assert first['label'].shape == (20,) and first['vector'].shape == (20, 1) and not np.array_equal(first['vector'], other['vector'])


def test_the_range_of_ventricles_moves_nothing_else():
    plain, wide = (phantoms.phantom(phantoms.Recipe(ventricles=each), 3) for each in ((0.8, 1.25), (0.6, 1.5)))
    np.testing.assert_array_equal(plain.labels > 0, wide.labels > 0)
    assert plain.ventricles != wide.ventricles and 0.64 <= plain.ventricles <= 1.5625
