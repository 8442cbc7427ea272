"""Students as plans: they begin as their teacher, learn beside it, and leave it as it was."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff import grids, model, plans, taught
from jaxdiff.data.source import Source
from jaxdiff.model import Model

SHAPE = (8, 8, 1)
SOURCE = Source(8, lambda n: {'image': np.full(SHAPE, 0.1 * n - 0.4, np.float32)}, {'kind': 'grey'})
SCHEDULE = dict(batch=4, rate=1e-3, warmup=0)


@pytest.fixture(scope='module')
def teacher():
    blank = Model(
        {'name': 'unet', 'channels': 1, 'widths': [8], 'attention': [False]},
        {'name': 'cosine'},
        'v',
        None,
        {},
        {'shape': SHAPE, 'state_digest': 'one'},
    )
    return blank._replace(params=model.init(blank, jax.random.key(0)))


def by(kind, teacher, steps, **more):
    times = grids.uniform(model.make_path(teacher.path), 4, last=0.0 if kind == 'halved' else 2e-3)
    if kind == 'halved':
        return taught.halved('student', SOURCE, teacher, times, every=1, steps=steps, **SCHEDULE, **more)
    return taught.consistent('student', SOURCE, teacher, times, steps=steps, **SCHEDULE, **more)


@pytest.mark.parametrize('kind', ['halved', 'consistent'])
def test_students_begin_as_their_teacher_and_learn_beside_it(kind, teacher):
    plan = by(kind, teacher, 2)
    begun = jax.jit(plan.stage.init)(jax.random.key(1))
    jax.tree.map(np.testing.assert_array_equal, plan.finish(begun).params, teacher.params)
    step, batches = jax.jit(plan.stage.step, compiler_options={'xla_backend_optimization_level': 0}), plan.stage.data(0)
    state = begun
    for _ in range(2):
        state, metrics = step(state, next(batches))
    batches.close()
    frozen = state.teacher[0] if kind == 'halved' else state.teacher
    jax.tree.map(np.testing.assert_array_equal, frozen, teacher.params)
    assert np.isfinite(metrics['loss']) and any(
        not np.array_equal(a, b) for a, b in zip(*map(jax.tree.leaves, (plan.finish(state).params, teacher.params)), strict=True)
    )


def test_a_recipe_names_the_teacher_and_its_steps(teacher):
    other = teacher._replace(card={**teacher.card, 'state_digest': 'two'})
    times = grids.uniform(model.make_path(teacher.path), 4)
    recipes = [by(kind, who, 2).recipe for kind in ('halved', 'consistent') for who in (teacher, other)]
    recipes.append(taught.halved('student', SOURCE, teacher, times, every=2, steps=2, **SCHEDULE).recipe)
    assert len({plans.digest(each) for each in recipes}) == 5


def test_a_plan_of_shapes_alone_can_be_costed(teacher):
    known = teacher._replace(params=model.shapes(teacher))
    job = plans.training(by('halved', known, 2))
    assert job.name == 'training step of student' and all(isinstance(each, jax.ShapeDtypeStruct) for each in jax.tree.leaves(job.args))


def test_halvings_of_one_grid_share_their_program(teacher):
    times = grids.uniform(model.make_path(teacher.path), 4)
    state = jax.eval_shape(by('halved', teacher, 2).stage.init, jax.random.key(0))
    batch = {'image': jax.ShapeDtypeStruct((4, *SHAPE), jnp.float32)}
    one, two = (
        jax.jit(taught.halved('s', SOURCE, teacher, times, every=every, steps=2, **SCHEDULE).stage.step).lower(state, batch).as_text()
        for every in (1, 2)
    )
    assert one == two
