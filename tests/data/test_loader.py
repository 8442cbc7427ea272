"""The loader is a pure function of (seed, position): every way of reaching a position must find the same example there."""

import gc
import threading
import time
from functools import partial
from itertools import islice

import numpy as np
import pytest

from jaxdiff.data.loader import batches, flip
from jaxdiff.data.source import Source
from jaxdiff.types import UserError


def numbers(size=7):
    """A source whose example i says i, after a delay that makes threads finish out of order."""

    def example(index):
        time.sleep(1e-4 * (index % 3))
        return {'image': np.full((2, 3, 1), index, np.float32), 'index': np.int32(index)}

    return Source(size, example, {'kind': 'numbers'})


def jitter(rng, example):
    return {**example, 'image': example['image'] + rng.normal(size=example['image'].shape).astype(np.float32)}


def take(n, *args, **options):
    return list(islice(batches(*args, **options), n))


def assert_same(first, second):
    assert len(first) == len(second)
    for one, other in zip(first, second, strict=True):
        assert one.keys() == other.keys()
        for name in one:
            np.testing.assert_array_equal(one[name], other[name])


def test_a_restart_from_any_batch_is_the_tail_of_the_whole_run():
    whole = take(9, numbers(), 3, seed=5, augment=jitter)
    for start in range(9):
        assert_same(take(9 - start, numbers(), 3, seed=5, start=start, augment=jitter), whole[start:])


@pytest.mark.parametrize('options', [{'workers': 0}, {'workers': 1}, {'workers': 5, 'prefetch': 9}, {'prefetch': 1}])
def test_workers_and_prefetch_change_nothing(options):
    assert_same(take(8, numbers(), 4, seed=1, augment=jitter, **options), take(8, numbers(), 4, seed=1, augment=jitter))


def test_the_slices_of_two_processes_are_the_batch_of_one():
    whole = take(6, numbers(), 4, seed=2, augment=jitter)
    parts = [take(6, numbers(), 4, seed=2, augment=jitter, process_index=i, process_count=2) for i in range(2)]
    joined = [{name: np.concatenate([left[name], right[name]]) for name in left} for left, right in zip(*parts, strict=True)]
    assert_same(joined, whole)


def test_epochs_are_different_permutations_without_a_gap():
    size = 7
    seen = np.concatenate([batch['index'] for batch in take(9, numbers(size), 5, seed=3)])
    epochs = seen[: 6 * size].reshape(6, size)
    np.testing.assert_array_equal(np.sort(epochs, axis=1), np.tile(np.arange(size), (6, 1)))
    assert len({tuple(epoch) for epoch in epochs}) == 6


def test_the_seed_decides_order_and_augmentation():
    one, other = (take(1, numbers(40), 40, seed=seed, augment=jitter)[0] for seed in (0, 1))
    assert not np.array_equal(one['index'], other['index'])
    noise = [batch['image'] - batch['index'][:, None, None, None] for batch in (one, other)]
    assert not np.isin(noise[0].round(4), noise[1].round(4)).mean() > 0.5
    assert len(np.unique(noise[0][:, 0, 0, 0])) == 40


def test_a_batch_larger_than_the_source_goes_on_into_the_next_epoch():
    batch = take(1, numbers(3), 8, seed=0)[0]
    assert np.bincount(batch['index']).min() >= 2
    assert batch['image'].shape == (8, 2, 3, 1)


def test_an_error_in_a_worker_reaches_the_consumer_at_its_batch():
    def example(index):
        if index == 4:
            raise OSError('subject_4.nii.gz vanished')
        return {'index': np.int32(index)}

    stream = batches(Source(6, example, {}), 1, seed=0)
    healthy = 0
    with pytest.raises(OSError, match='subject_4'):
        for _ in stream:
            healthy += 1
    assert healthy == list(np.concatenate([batch['index'] for batch in take(6, numbers(6), 1, seed=0)])).index(4)


def loader_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith('jaxdiff-loader')]


def settles(condition, seconds=3.0):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)
    return condition()


@pytest.mark.parametrize('leave', ['close', 'drop'])
def test_threads_end_with_the_iterator(leave):
    gc.collect()
    assert settles(lambda: not loader_threads())
    stream = batches(numbers(), 2, seed=0, workers=3)
    next(stream)
    assert loader_threads()
    if leave == 'close':
        stream.close()
    else:
        del stream
        gc.collect()
    assert settles(lambda: not loader_threads())


def test_what_waits_is_not_made_after_the_end():
    made = []
    source = Source(5, lambda index: time.sleep(0.005) or made.append(index) or {'index': np.int32(index)}, {})
    stream = batches(source, 1, seed=0, workers=2, prefetch=40)
    next(stream)
    stream.close()
    before = len(made)
    assert settles(lambda: not loader_threads())
    assert len(made) <= before + 2


def test_no_more_than_prefetch_batches_are_made_ahead():
    made = []
    source = Source(5, lambda index: made.append(index) or {'index': np.int32(index)}, {})
    stream = batches(source, 1, seed=0, workers=2, prefetch=3)
    for _ in range(4):
        next(stream)
    time.sleep(0.05)
    assert len(made) == 4 + 3
    stream.close()


@pytest.mark.parametrize(
    'options', [{'batch_size': 3, 'process_count': 2}, {'batch_size': 0}, {'batch_size': 2, 'source': Source(0, lambda i: {}, {})}]
)
def test_impossible_batches_are_refused_before_anything_starts(options):
    with pytest.raises(UserError):
        batches(options.pop('source', numbers()), seed=0, **options)


def test_flip_mirrors_image_and_mask_together_half_of_the_time():
    image = np.arange(24, dtype=np.float32).reshape(4, 3, 2)
    example = {'image': image, 'mask': image[..., :1] > 5, 'age': np.float32(70)}
    flipped = 0
    for seed in range(200):
        out = flip(np.random.default_rng(seed), example)
        mirrored = not np.array_equal(out['image'], image)
        flipped += mirrored
        expected = image[::-1] if mirrored else image
        np.testing.assert_array_equal(out['image'], expected)
        np.testing.assert_array_equal(out['mask'], expected[..., :1] > 5)
        assert out['age'] == 70
    assert 70 < flipped < 130
    np.testing.assert_array_equal(example['image'], image)


def test_flip_is_an_augmentation_of_the_loader():
    upright = take(3, numbers(), 2, seed=0)
    augment = partial(flip, axis=1, names=('image',))
    assert_same(take(3, numbers(), 2, seed=0, augment=augment), upright)
