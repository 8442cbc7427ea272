"""Batches as a pure function of a seed and a number.

Training sees an endless sequence of examples, addressed by a position p = 0, 1, 2, ... For a source of n examples

    epoch, offset = divmod(p, n)                    (1)
    index(p) = permutation(seed, epoch)[offset]     (2)
    rng(p)   = Generator(seed, p)                   (3)

so that every epoch is a permutation, epochs follow each other without a gap, and augmentation belongs to the position and not to
the thread that happened to run it. Batch k of size B holds the positions kB .. kB + B - 1 and process i of m takes the i-th of m
equal parts of it. The state of the whole pipeline is therefore the integer k: starting again at k continues the run exactly,
whatever the number of workers or processes.
"""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import count

import numpy as np

from jaxdiff.data.source import Source
from jaxdiff.types import UserError

Sample = dict[str, np.ndarray]
Augment = Callable[[np.random.Generator, Sample], Sample]

ORDER, AUGMENT = 0, 1  # the two independent streams of one seed


def stream(seed: int, kind: int, number: int) -> np.random.Generator:
    """The generator of (seed, kind, number): independent of every other triple and of how many were drawn before."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(kind, number)))


def order(size: int, seed: int, epoch: int) -> np.ndarray:
    """The permutation of 0 .. size-1 in which one epoch visits a source, equation (2)."""
    return stream(seed, ORDER, epoch).permutation(size)


def batches(
    source: Source,
    batch_size: int,
    *,
    seed: int,
    start: int = 0,
    augment: Augment | None = None,
    process_index: int = 0,
    process_count: int = 1,
    workers: int = 2,
    prefetch: int = 4,
) -> Iterator[Sample]:
    """An endless iterator of batches, from batch number `start` on.

    Args:
      source: what to read; its `example` must be pure and thread-safe.
      batch_size: B, of the global batch: each process yields B / process_count examples.
      seed: non-negative; the same on every process.
      start: the number of the first batch, 0 for a new run.
      augment: `(rng, example) -> example`, pure given the generator.
      workers: threads that prepare whole batches ahead; 0 prepares each when it is asked for.
      prefetch: how many batches may be under way or waiting.

    Yields:
      dictionaries of the source's arrays stacked along a new first axis.

    Raises:
      UserError: for an empty source, or a batch that the processes cannot share equally.
      Whatever `example` or `augment` raise, at the batch in which it happened.

    Closing the iterator, or dropping it, ends its threads after the batch that each has in hand.
    """
    if source.size < 1:
        raise UserError('the data source is empty: give it at least one example')
    if batch_size < 1 or batch_size % process_count:
        raise UserError(f'batch size {batch_size} cannot be shared by {process_count} process(es): choose a positive multiple')
    if not 0 <= process_index < process_count:
        raise ValueError(f'process {process_index} of {process_count}')
    if seed < 0 or start < 0 or workers < 0 or prefetch < 1:
        raise ValueError(f'seed {seed}, start {start}, workers {workers} must not be negative, prefetch {prefetch} not below 1')

    epoch_order = lru_cache(maxsize=4)(lambda epoch: order(source.size, seed, epoch))
    share = batch_size // process_count

    def example(position):
        epoch, offset = divmod(position, source.size)
        found = source.example(int(epoch_order(epoch)[offset]))
        return augment(stream(seed, AUGMENT, position), found) if augment else found

    def batch(number):
        first = number * batch_size + process_index * share
        examples = [example(position) for position in range(first, first + share)]
        return {name: np.stack([each[name] for each in examples]) for name in examples[0]}

    return _ahead(batch, start, workers, prefetch) if workers else map(batch, count(start))


def _ahead(make: Callable[[int], Sample], start: int, workers: int, prefetch: int) -> Iterator[Sample]:
    """`map(make, count(start))`, in order, with `prefetch` calls submitted to threads before they are asked for."""
    pool = ThreadPoolExecutor(workers, thread_name_prefix='jaxdiff-loader')
    try:
        waiting = deque(pool.submit(make, number) for number in range(start, start + prefetch))
        for number in count(start + prefetch):
            ready = waiting.popleft().result()
            waiting.append(pool.submit(make, number))
            yield ready
    finally:
        # Not waiting: a finalizer may run in one of the pool's own threads, which cannot join itself.
        pool.shutdown(wait=False, cancel_futures=True)


def flip(rng: np.random.Generator, example: Sample, *, axis: int = 0, names: tuple[str, ...] = ('image', 'mask')) -> Sample:
    """With probability one half, mirror the named arrays that are present along one spatial axis.

    In canonical RAS arrays axis 0 runs from left to right, so the default mirrors a patient's sides. Usable as `augment`.
    """
    if rng.random() < 0.5:
        return example
    return {name: np.flip(value, axis) if name in names else value for name, value in example.items()}


def flip_columns(rng: np.random.Generator, example: Sample) -> Sample:
    """The same along the second axis, which runs from left to right where a slice is stored as rows and columns of a picture."""
    return flip(rng, example, axis=1)
