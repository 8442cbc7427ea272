import numpy as np
import pytest

from jaxdiff.data.store import folder, stored
from jaxdiff.types import UserError


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv('JAXDIFF_CACHE', str(tmp_path / 'cache'))
    return tmp_path / 'cache'


def make(index):
    """Two examples per index."""
    image = np.linspace(-1, 1, 24, dtype=np.float32).reshape(2, 3, 4, 1) * (1 if index % 2 else -1)
    return {
        'image': image,
        'labels': np.full((2, 3, 4), index, np.uint8),
        'mask': image > 0.5,
        'covariates': np.float32([[index, 0], [index, 1]]),
    }


def refuse(index):
    raise AssertionError('made again')


def test_examples_come_in_order_and_as_they_were_made():
    source = stored({'n': 3}, range(5, 8), make, title='')
    assert source.size == 6
    for n in range(6):
        expected, example = make(5 + n // 2), source.example(n)
        np.testing.assert_allclose(example['image'], expected['image'][n % 2], atol=1.6e-5)
        assert example['image'].dtype == example['mask'].dtype == np.float32 and example['labels'].dtype == np.uint8
        for name in ('labels', 'mask', 'covariates'):
            np.testing.assert_array_equal(example[name], expected[name][n % 2])


def test_kept_and_fresh_are_equal_and_a_second_opening_makes_nothing(cache):
    fresh = stored({'n': 3}, range(3), make, title='', keep=False)
    assert not cache.exists()
    stored({'n': 3}, range(3), make, title='')
    kept = stored({'n': 3}, range(3), refuse, title='')
    for n in range(6):
        for name, value in fresh.example(n).items():
            np.testing.assert_array_equal(value, kept.example(n)[name])
    assert [path.suffix for path in cache.iterdir()] == ['.npy']


def test_a_file_cut_short_is_made_again(cache):
    stored({}, range(3), make, title='')
    (path,) = cache.iterdir()
    whole = path.read_bytes()
    for broken in (whole[:-10], whole[:3], b''):
        path.write_bytes(broken)
        stored({}, range(3), make, title='')
        assert path.read_bytes() == whole


def test_a_failure_leaves_nothing_behind(cache):
    def fail(index):
        return make(index) if index < 2 else refuse(index)

    with pytest.raises(AssertionError, match='made again'):
        stored({}, range(4), fail, title='')
    assert not list(cache.iterdir())


def test_a_folder_that_cannot_be_written_is_named(cache, monkeypatch):
    cache.write_text('in the way')
    with pytest.raises(UserError, match='JAXDIFF_CACHE'):
        stored({}, range(1), make, title='')


def test_folder_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.delenv('JAXDIFF_CACHE')
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    assert folder() == tmp_path / 'jaxdiff'
