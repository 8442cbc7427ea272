"""Plans of networks that learn beside a frozen one: a control beside its trunk, students beside their teacher."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxdiff import distillation, losses, model, plans, weights
from jaxdiff.data.source import Source
from jaxdiff.model import Model
from jaxdiff.plans import Condition, Plan
from jaxdiff.solvers.loop import Solver
from jaxdiff.types import Array, Denoiser, Loss, Params


def steered(name: str, blank: Model, source: Source, trunk: Model, *, begin: Params, condition: Condition, **schedule: Any) -> Plan:
    """Train the control of `blank`, a `nets.control.Controlled`; its trunk has the parameters of `trunk` and keeps them to the last bit.

    Args:
        begin: parameters of the whole to begin with, as `nets.control.begin` makes them.
        condition: as in `plans.denoiser`; tells the hint.
        schedule: as in `plans.learner`.
    """
    network, path, parts = model.make_network(blank.network), model.make_path(blank.path), begin['params']
    joined = lambda control, frozen: {'params': {'trunk': frozen, 'control': control}}

    def lesson(frozen: Params, average: Params) -> Loss:
        apply = lambda control, *args, **told: network.apply(joined(control, frozen), *args, **told)
        return losses.denoising(apply, path, blank.kind, condition=condition)

    recipe = {'condition': plans.name_of(condition), 'trunk': trunk.card.get('state_digest')}
    plan = plans.learner(name, blank, source, lesson, start=parts['control'], frozen=parts['trunk'], recipe=recipe, **schedule)
    return plan._replace(finish=lambda state: blank._replace(params=joined(plan.finish(state).params, jax.device_get(state.teacher))))


def halved(name: str, source: Source, teacher: Model, times: Array, *, every: int, **schedule: Any) -> Plan:
    """Train a student that takes one step of DDIM where its teacher, with whose parameters it begins, takes two (`distillation.progressive`).

    Args:
        times, every: the teacher walks `times[::every]`. Halvings of one grid differ in `every` alone, and share their compiled step.
        schedule: as in `plans.learner`.
    """
    path, network = model.make_path(teacher.path), model.make_network(teacher.network)

    def lesson(frozen: tuple[Params, Array], average: Params) -> Loss:
        params, step = frozen
        taught = lambda **told: _denoiser(teacher, params, **told)
        return distillation.progressive(
            network.apply, path, teacher.kind, taught, times, every=step, weight=weights.snr_trunc(teacher.kind)
        )

    recipe = {'teacher': teacher.card.get('state_digest'), 'times': times.tolist(), 'every': every}
    blank = teacher._replace(params=None)
    return plans.learner(
        name, blank, source, lesson, start=teacher.params, frozen=(teacher.params, jnp.int32(every)), recipe=recipe, **schedule
    )


def consistent(
    name: str, source: Source, teacher: Model, times: Array, *, solver: Solver | None = None, ema: float = 0.95, **schedule: Any
) -> Plan:
    """Train a consistency model, the identity at `times[-1]`, that agrees with itself along the teacher's flow (`distillation.consistency`).

    Args:
        times, solver: as in `distillation.consistency`.
        ema: decay of the running average, which is both what the student is to agree with and what is kept.
        schedule: as in `plans.learner`.
    """
    path, network = model.make_path(teacher.path), model.make_network(teacher.network)

    def lesson(frozen: Params, average: Params) -> Loss:
        taught = lambda **told: _denoiser(teacher, frozen, **told)
        return distillation.consistency(network.apply, path, teacher.kind, times, teacher=taught, solver=solver, target=average)

    recipe = {'teacher': teacher.card.get('state_digest'), 'times': times.tolist(), 'consistency': True}
    blank = teacher._replace(params=None)
    return plans.learner(name, blank, source, lesson, start=teacher.params, frozen=teacher.params, recipe=recipe, ema=ema, **schedule)


def _denoiser(teacher: Model, params: Params, **told: Array) -> Denoiser:
    return model.denoiser(teacher._replace(params=params), **told)
