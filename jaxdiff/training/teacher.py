"""Students: networks trained with a frozen teacher at their side, as stages.

A lesson is the loss that a teacher's parameters, and the student's own running average, give rise to. Both belong to the state of training:
they are arguments of the compiled step, and are saved, restored and put on devices with everything else. A lesson that ignores the one
or the other costs nothing; a student without a teacher has `()` for one.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxdiff.training.stages import Stage
from jaxdiff.training.state import TrainState, init_state
from jaxdiff.training.step import make_step
from jaxdiff.types import Array, Key, Loss, Params

Lesson = Callable[[Any, Params], Loss]  # the teacher, the student's running average -> the loss of one example


class Taught(NamedTuple):
    """What training carries: the student's state, and the teacher's arrays, which no step changes."""

    student: TrainState
    teacher: Any

    @property
    def step(self) -> Array:
        return self.student.step

    @property
    def ema(self) -> Params:
        return self.student.ema


def taught_step(lesson: Lesson, optimizer: optax.GradientTransformation, *, ema: float = 0.999, accumulate: int = 1) -> Callable:
    """A pure `step(state, batch) -> (state, metrics)` on `Taught` states; `ema` and `accumulate` as in `make_step`.

    Stages of equal shapes that are given the same step share its compilation, whoever teaches.
    """

    def step(state: Taught, batch: Any) -> tuple[Taught, Mapping[str, Array]]:
        learn = make_step(lesson(state.teacher, state.student.ema), optimizer, ema=ema, accumulate=accumulate)
        learnt, metrics = learn(state.student, batch)
        return state._replace(student=learnt), metrics

    return step


def student(
    name: str,
    step: Callable,
    optimizer: optax.GradientTransformation,
    data: Callable[[int], Iterator],
    steps: int,
    *,
    start: Params,
    teacher: Any = (),
) -> Stage:
    """A stage that begins with the parameters `start` and learns by a `taught_step` of the same optimizer; `teacher` is a tree of arrays."""

    def init(start: Params, teacher: Any, key: Key) -> Taught:
        return Taught(init_state(start, optimizer, key), jax.tree.map(lambda leaf: jnp.array(leaf, copy=True), teacher))

    return Stage(name, jax.tree_util.Partial(init, start, teacher), step, data, steps)


def halving(
    name: str,
    step: Callable,
    optimizer: optax.GradientTransformation,
    data: Callable[[int], Iterator],
    steps: int,
    *,
    teacher: str,
    count: int,
    last: int = 1,
) -> Sequence[Callable[[Mapping[str, Any]], Stage]]:
    """Progressive distillation: stages `<name>-<n>` for n = count/2, count/4, ... down to `last` steps, each begun from and taught by the one before.

    Args:
        step: a `taught_step` whose lesson has for a teacher the pair (parameters, every): the one at hand walks each `every`-th time of the
            grid of the first.
        teacher, count: the stage that taught the first teacher, and the steps it takes.
    """
    if count % (2 * last) or (count // last) & (count // last - 1):
        raise ValueError(f'{count} steps cannot be halved down to {last}')

    def taught_by(before: str, n: int) -> Callable[[Mapping[str, Any]], Stage]:
        def make(trained: Mapping[str, Any]) -> Stage:
            params = trained[before].ema
            return student(f'{name}-{n}', step, optimizer, data, steps, start=params, teacher=(params, jnp.int32(count // (2 * n))))

        return make

    counts = [count >> k for k in range(1, (count // last).bit_length())]
    return tuple(taught_by(before, n) for before, n in zip([teacher, *(f'{name}-{n}' for n in counts)], counts, strict=False))
