"""Times drawn by the second moment of the loss: against the definition, written with a list for every time."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxdiff import losses, paths
from jaxdiff.training import importance, stages
from jaxdiff.training.state import state_digest
from jaxdiff.training.step import example_keys

STEPS, SIZE = 6, 3
SCALES = np.array([30.0, 3.0, 1.0, 0.3, 0.1, 0.0])
UPDATE = jax.jit(importance.update)
DRAW = jax.jit(jax.vmap(importance.draw, (0, None)))


def full(size=SIZE):
    """A history in which every time has been seen, with losses of both signs."""
    times = jnp.tile(jnp.arange(1.0, STEPS + 1), size)
    signs = jnp.repeat(jnp.array([1.0, -1.0, 2.0])[:size], STEPS)
    return UPDATE(importance.init_history(STEPS, size=size), times, signs * jnp.tile(SCALES, size))


def test_a_batch_is_remembered_as_if_its_examples_came_one_by_one():
    """Also where a time occurs more often in one batch than the history is long."""
    history, lists, rng = importance.init_history(STEPS, size=SIZE), [[] for _ in range(STEPS)], np.random.default_rng(0)
    for _ in range(5):
        times, losses = rng.integers(1, STEPS - 1, 16), rng.normal(size=16)
        history = UPDATE(history, jnp.asarray(times, float), jnp.asarray(losses))
        for time, loss in zip(times, losses, strict=True):
            lists[time - 1] = [*lists[time - 1], loss][-SIZE:]
        kept = np.array([(each + [0] * SIZE)[:SIZE] for each in lists])
        np.testing.assert_allclose(np.sort(history.losses), np.sort(kept), atol=1e-6)
    assert int(history.counts.sum()) == 5 * 16 and not history.counts[-2:].any()


def test_probabilities_follow_the_root_mean_square():
    root = SCALES * np.sqrt(2)
    expected = 0.999 * root / root.sum() + 1e-3 / STEPS
    np.testing.assert_allclose(importance.probabilities(full()), expected, rtol=1e-5)
    np.testing.assert_allclose(importance.probabilities(full(), floor=0.5), 0.5 * root / root.sum() + 0.5 / STEPS, rtol=1e-5)


def test_uniform_until_every_time_was_seen_often_enough():
    history = full(2)._replace(losses=jnp.pad(full(2).losses, ((0, 0), (0, 1))))  # twice each, of three
    for time in range(1, STEPS + 1):
        np.testing.assert_allclose(importance.probabilities(history), 1 / STEPS, rtol=1e-6)
        history = UPDATE(history, jnp.array([float(time)]), jnp.array([SCALES[time - 1]]))
    assert importance.probabilities(history)[0] > 0.8
    silent = importance.History(jnp.zeros((STEPS, SIZE)), jnp.full(STEPS, SIZE))
    np.testing.assert_allclose(importance.probabilities(silent), 1 / STEPS, rtol=1e-6)


def test_the_weighted_mean_is_the_uniform_mean():
    history, count = full(), 200_000
    times, weights = map(np.asarray, DRAW(jax.random.split(jax.random.key(0), count), history))
    p = np.asarray(importance.probabilities(history), float)
    seen = np.bincount(times.astype(int) - 1, minlength=STEPS) / count
    assert np.all(abs(seen - p) < 4 * np.sqrt(p * (1 - p) / count)) and seen[-1] > 0
    for loss in (SCALES, np.ones(STEPS), SCALES[::-1]):
        values = weights * loss[times.astype(int) - 1]
        assert abs(values.mean() - loss.mean()) < 4 * values.std() / np.sqrt(count)
    values = weights * SCALES[times.astype(int) - 1]
    assert values.std() < 0.02 * SCALES.std()  # what the weights are for


def test_follows_the_precision_in_force():
    with jax.enable_x64(True):
        time, weight = importance.draw(jax.random.key(0), full())
        assert time.dtype == weight.dtype == jnp.float64


def loss(params, key, example):
    """Of a size that depends on the time, and not on the weight but through a factor."""
    size = jnp.asarray(SCALES)[example['time'].astype(int) - 1] * (1 + 0.1 * jax.random.normal(key))
    return example['weight'] * size * (params - example['image'][0]) ** 2, {'size': size}


OPTIMIZER = optax.sgd(1e-3)
STEP = importance.make_timed_step(loss, OPTIMIZER)
BATCH = {'image': jnp.linspace(0, 1, 64)[:, None]}


def start(key):
    return importance.init_timed(jnp.zeros(()), OPTIMIZER, key, STEPS, size=SIZE)


def test_a_step_is_the_mean_of_weighted_gradients_and_remembers_unweighted_losses():
    state = start(jax.random.key(0))._replace(history=full())
    moved, metrics = jax.jit(STEP)(state, BATCH)

    @jax.jit
    def again():
        keys = jax.vmap(jax.random.split)(example_keys(state.key, state.step, 64))
        times, weights = jax.vmap(importance.draw, (0, None))(keys[:, 0], state.history)
        examples = {**BATCH, 'time': times, 'weight': jnp.ones(64)}
        return times, weights, *jax.vmap(loss, (None, 0, 0))(state.params, keys[:, 1], examples)

    times, weights, plain, each = again()
    slopes = weights * each['size'] * -2 * BATCH['image'][:, 0]
    np.testing.assert_allclose(moved.params, -1e-3 * slopes.mean(), rtol=1e-5)
    np.testing.assert_allclose(metrics['loss'], (weights * plain).mean(), rtol=1e-5)
    jax.tree.map(lambda got, want: np.testing.assert_allclose(got, want, rtol=1e-5), moved.history, UPDATE(state.history, times, plain))
    assert int(moved.step) == 1 and set(metrics) == {'loss', 'size', 'grad_norm'}


def test_the_denoising_loss_takes_its_time_and_weight_from_the_step():
    """A loss that is 1 / SNR whatever the noise, for a network that answers 0 where the data are 1."""
    path = paths.discrete(np.linspace(0.1, 0.5, STEPS))
    inverse = lambda log_snr: jnp.exp(-log_snr)
    denoising = losses.denoising(lambda params, x, t: params * x, path, 'x0', weight=inverse)
    step = jax.jit(importance.make_timed_step(denoising, OPTIMIZER))
    moved, _ = step(start(jax.random.key(0))._replace(history=full()), {'image': jnp.ones((64, 2, 1))})
    expected = np.asarray(inverse(path.log_snr(jnp.arange(1.0, STEPS + 1))))
    new = np.asarray(moved.history.losses != full().losses)
    assert new[:2].any() and new.sum() >= SIZE
    np.testing.assert_allclose(np.asarray(moved.history.losses)[new], np.broadcast_to(expected[:, None], new.shape)[new], rtol=1e-5)


def test_accumulation_changes_nothing():
    whole, parts = (jax.jit(importance.make_timed_step(loss, OPTIMIZER, accumulate=count)) for count in (1, 4))
    one = other = start(jax.random.key(0))
    for _ in range(3):
        (one, _), (other, _) = whole(one, BATCH), parts(other, BATCH)
    close = lambda got, want: np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-7)
    jax.tree.map(close, one._replace(key=0), other._replace(key=0))


def test_goes_on_from_a_checkpoint_as_if_never_stopped(tmp_path):
    def data(start):
        while True:
            yield BATCH

    stage = stages.Stage('timed', start, STEP, data, 5)
    whole = stages.run(stage, tmp_path / 'whole', jax.random.key(0))
    stages.run(stage._replace(steps=2), tmp_path / 'parts', jax.random.key(0))
    assert state_digest(stages.run(stage, tmp_path / 'parts', jax.random.key(0))) == state_digest(whole)
    assert int(whole.history.counts.sum()) == 5 * 64 and whole.ema.shape == ()
