"""Timing with a clock of our own: who is called when, how often, and what is made of it."""

import jax.numpy as jnp
import pytest

from jaxdiff.benchmark import timing
from jaxdiff.benchmark.timing import Timing


class Clock:
    """Contenders that take the seconds they are told to, on a clock that nothing else moves; binary fractions, so that sums are exact."""

    def __init__(self, monkeypatch):
        self.now, self.calls = 0.0, []
        monkeypatch.setattr(timing.time, 'perf_counter', lambda: self.now)

    def contender(self, name, seconds):
        def call():
            self.calls.append(name)
            self.now += seconds(self.calls.count(name)) if callable(seconds) else seconds

        return call


def test_contenders_take_turns_after_an_untimed_call(monkeypatch):
    clock = Clock(monkeypatch)
    slow_at_first = lambda count: 64.0 if count == 1 else 0.5
    found = timing.alternate({'a': clock.contender('a', slow_at_first), 'b': clock.contender('b', 2.0)}, rounds=3, least=0.25)
    assert clock.calls == ['a', 'b', *'ab', *'ba', *'ab']
    assert found == {'a': Timing((0.5,) * 3), 'b': Timing((2.0,) * 3)}


def test_a_call_is_repeated_until_enough_seconds_passed(monkeypatch):
    clock = Clock(monkeypatch)
    found = timing.alternate({'a': clock.contender('a', 0.25)}, rounds=2, least=0.6)
    assert len(clock.calls) == 1 + 2 * 3 and found['a'].seconds == (0.25, 0.25)


def test_results_are_waited_for(monkeypatch):
    clock = Clock(monkeypatch)

    class Later:
        def block_until_ready(self):
            clock.now += 3.0
            return self

    def call():
        clock.now += 1.0
        return {'result': Later()}

    assert timing.alternate({'a': call}, rounds=1)['a'].median == 4.0


def test_a_ratio_is_taken_round_by_round():
    found = timing.ratio(Timing((6.0, 24.0, 12.0)), Timing((1.0, 2.0, 1.0)), scale=3)
    assert found.seconds == (2.0, 4.0, 4.0) and (found.median, found.low, found.high) == (4.0, 2.0, 4.0)
    with pytest.raises(ValueError):
        timing.ratio(Timing((1.0,)), Timing((1.0, 2.0)))
    with pytest.raises(ValueError, match='at least one'):
        timing.alternate({}, rounds=0)


def test_a_compiled_program_is_ready():
    program, seconds = timing.compiled(lambda x: {'twice': 2 * x}, jnp.arange(3.0), donate_argnums=0)
    assert seconds > 0 and program(jnp.ones(3))['twice'].tolist() == [2, 2, 2]
    with pytest.raises(TypeError):  # a program is of one shape: nothing can be compiled behind its back
        program(jnp.ones(4))
