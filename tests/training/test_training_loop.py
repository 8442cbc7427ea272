import os
import signal

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import training_worker as toy

from jaxdiff.training import loop
from jaxdiff.training.checkpoint import checkpoints, restore, steps
from jaxdiff.training.state import init_state, state_digest


def start():
    return toy.init(jax.random.key(0), width=16)


def before(number, act):
    """The plain batches, with `act(batch)` in place of the batch of step `number`."""

    def batches(first):
        for n, batch in enumerate(toy.data(first), first + 1):
            yield act(batch) if n == number else batch

    return batches


def spoil(batch):
    return {'image': np.full_like(batch['image'], np.nan)}


def test_logs_means_of_windows():
    single, windows = {}, {}
    loop.run(start(), toy.STEP, toy.data, steps=10, log=single.__setitem__, log_every=1)
    loop.run(start(), toy.STEP, toy.data, steps=10, log=windows.__setitem__, log_every=4)
    assert list(single) == list(range(1, 11)) and list(windows) == [4, 8, 10]
    for name in ('loss', 'grad_norm', 'first'):
        value = [float(single[n][name]) for n in range(1, 11)]
        np.testing.assert_allclose(
            [windows[n][name] for n in windows], [np.mean(value[:4]), np.mean(value[4:8]), np.mean(value[8:])], rtol=1e-6
        )
    assert windows[4]['steps_per_s'] > 0


def test_compiles_once_and_donates():
    traces = []

    def counted(state, batch):
        traces.append(1)
        return toy.STEP(state, batch)

    first = start()
    last = loop.run(first, counted, toy.data, steps=6)
    assert len(traces) == 1 and int(last.step) == 6
    assert first.params['into']['kernel'].is_deleted()


def test_compiles_once_for_xla_too():
    """Uncommitted states become committed by the first step; placed alike from the start, the executable is one."""
    compiled = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda name, *_, **fields: compiled.append(fields.get('fun_name')) if name.endswith('backend_compile_duration') else None
    )

    def only_here(state, batch):
        return toy.STEP(state, batch)

    loop.run(start(), only_here, toy.data, steps=4)
    assert sum('only_here' in str(name) for name in compiled) <= 1


def test_nothing_moves_unasked():
    """Host and device meet only where the loop says so: batches in, metrics out."""
    state = start()
    with jax.transfer_guard('disallow'):
        loop.run(state, toy.STEP, toy.data, steps=5)


def test_finished_runs_do_nothing():
    state = loop.run(start(), toy.STEP, toy.data, steps=3)
    assert loop.run(state, None, None, steps=3) is state


@pytest.mark.parametrize('bad', [11, 14, 15, 16, 20])
def test_stops_at_the_first_bad_loss(tmp_path, bad):
    """Named exactly although seen late; what was saved is what a clean run had."""
    with checkpoints(tmp_path) as saver, pytest.raises(loop.NonFinite, match=f'loss is nan at step {bad};.*{tmp_path.name}') as caught:
        loop.run(start(), toy.STEP, before(bad, spoil), steps=20, checkpoints=saver, save_every=5)
    assert caught.value.step == bad and '\n' not in str(caught.value)
    kept = restore(tmp_path, start())
    assert int(kept.step) == (bad - 1) // 5 * 5
    assert state_digest(kept) == state_digest(loop.run(start(), toy.STEP, toy.data, steps=int(kept.step)))


def test_never_saves_parameters_that_an_update_broke(tmp_path):
    """Loss and gradient of the step are finite; the optimizer is at fault."""
    breaks = optax.scale_by_schedule(lambda count: jnp.where(count == 9, jnp.inf, -0.1))
    with checkpoints(tmp_path) as saver, pytest.raises(loop.NonFinite, match='parameter is not finite at step 10'):
        state = init_state(toy.parameters(jax.random.key(0), 16), breaks, jax.random.key(0))
        loop.run(state, toy.make_step(toy.loss, breaks), toy.data, steps=20, checkpoints=saver, save_every=5)
    assert steps(tmp_path) == [5]


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT])
def test_a_signal_finishes_the_step_saves_and_ends(tmp_path, number):
    handlers = [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)]

    def interrupt(batch):
        os.kill(os.getpid(), number)
        return batch

    with checkpoints(tmp_path) as saver, pytest.raises(loop.Interrupted, match=f'{number.name} after step 7 of 12, saved in') as caught:
        loop.run(start(), toy.STEP, before(7, interrupt), steps=12, checkpoints=saver, save_every=5)
    assert [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)] == handlers
    assert caught.value.step == 7 and steps(tmp_path) == [5, 7]
    resumed = loop.run(restore(tmp_path, start()), toy.STEP, toy.data, steps=12)
    assert state_digest(resumed) == state_digest(loop.run(start(), toy.STEP, toy.data, steps=12))


def test_a_second_signal_interrupts_at_once():
    def twice(batch):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        return batch

    with pytest.raises(KeyboardInterrupt):
        loop.run(start(), toy.STEP, before(3, twice), steps=12)


def test_closes_the_data():
    """A loader's threads end with the run, not when the garbage collector comes."""
    opened = []

    def batches(first):
        opened.append(toy.data(first))
        return opened[0]

    loop.run(start(), toy.STEP, batches, steps=3)
    with pytest.raises(StopIteration):
        next(opened[0])
