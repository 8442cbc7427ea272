"""Students beside a frozen teacher: what they learn from, where they start, and that a stopped run goes on as if it had not been."""

import os
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff.training import stages
from jaxdiff.training.checkpoint import steps
from jaxdiff.training.loop import Interrupted
from jaxdiff.training.optimizer import adam
from jaxdiff.training.state import init_state, state_digest
from jaxdiff.training.teacher import Taught, halving, student, taught_step

KEY, COUNT = jax.random.key(0), 40
ADAM = adam(0.3, COUNT, b1=0.5, b2=0.9)
TRACES = []


def lesson(master, average):
    """Become what the teacher's first leaf says; the metrics tell what reached the loss."""
    TRACES.append(0)
    goal, every = master

    def loss(params, key, example):
        return jnp.mean(jnp.square(params['w'] - goal['w'])), {'average': average['w'][0], 'every': 1.0 * every}

    return loss


STEP = taught_step(lesson, ADAM, ema=0.5)


def data(start):
    while True:
        yield {'image': np.zeros((2, 1), np.float32)}


def weights(value):
    return {'w': jnp.full(3, value)}


def teach(value, steps=COUNT, name='student', start=0.0):
    return student(name, STEP, ADAM, data, steps, start=weights(start), teacher=(weights(value), jnp.int32(1)))


def test_the_student_learns_from_a_teacher_that_stays(tmp_path):
    state = stages.run(teach(2.0), tmp_path, KEY)
    np.testing.assert_allclose(state.student.params['w'], 2, atol=0.2)
    np.testing.assert_array_equal(state.teacher[0]['w'], jnp.full(3, 2.0))
    assert state.step == COUNT and state.ema is state.student.ema


def test_who_teaches_compiles_nothing(tmp_path):
    stages.run(teach(1.0), tmp_path / 'a', KEY)
    before = len(TRACES)
    state = stages.run(teach(-3.0), tmp_path / 'b', KEY)
    assert len(TRACES) == before  # the teacher is an argument of the compiled step
    np.testing.assert_allclose(state.ema['w'], -3, atol=0.2)


def test_the_average_reaches_the_lesson():
    state = Taught(init_state(weights(1.0), ADAM, KEY)._replace(ema=weights(7.0)), (weights(0.0), jnp.int32(1)))
    after, metrics = jax.jit(STEP)(state, next(data(0)))
    assert metrics['average'] == 7 and after.ema['w'][0] < 7 and metrics['loss'] == 1


def test_a_student_without_a_teacher(tmp_path):
    alone = taught_step(lambda master, average: lambda params, key, example: (jnp.sum(params['w'] ** 2), {}), ADAM)
    state = stages.run(student('alone', alone, ADAM, data, 2, start=weights(1.0)), tmp_path, KEY)
    assert state.teacher == () and jnp.all(state.student.params['w'] < 1)


def test_halving_hands_on(tmp_path):
    first = teach(4.0, name='teacher')
    chain = halving('student', STEP, ADAM, data, 3, teacher='teacher', count=8)
    trained = stages.train((first, *chain), tmp_path, KEY, log_every=1)
    assert list(trained) == ['teacher', 'student-4', 'student-2', 'student-1']
    for (before, after), every in zip(
        [('teacher', 'student-4'), ('student-4', 'student-2'), ('student-2', 'student-1')], (1, 2, 4), strict=True
    ):
        params, stride = trained[after].teacher
        np.testing.assert_array_equal(params['w'], trained[before].ema['w'])
        assert stride == every
    np.testing.assert_allclose(trained['student-1'].ema['w'], trained['teacher'].ema['w'], atol=0.01)  # each began where its teacher was
    assert len(halving('s', STEP, ADAM, data, 3, teacher='t', count=24, last=3)) == 3


@pytest.mark.parametrize(('count', 'last'), [(6, 1), (8, 3), (4, 4)])
def test_what_cannot_be_halved_is_refused(count, last):
    with pytest.raises(ValueError, match='cannot be halved'):
        halving('s', STEP, ADAM, data, 3, teacher='t', count=count, last=last)


def test_a_stopped_student_goes_on(tmp_path):
    whole = stages.run(teach(2.0, steps=8), tmp_path / 'whole', KEY)

    def interrupted(start):
        for number, batch in enumerate(data(start), start + 1):
            if number == 5:
                os.kill(os.getpid(), signal.SIGTERM)
            yield batch

    with pytest.raises(Interrupted, match='after step 5'):
        stages.run(teach(2.0, steps=8)._replace(data=interrupted), tmp_path / 'parts', KEY)
    assert steps(tmp_path / 'parts' / 'checkpoints' / 'student') == [5]
    again = stages.run(teach(9.0, steps=8), tmp_path / 'parts', KEY)  # the teacher comes with the checkpoint
    assert state_digest(again) == state_digest(whole)
