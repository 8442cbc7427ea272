"""The loop, and what every solver and constraint owes it."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest

from jaxdiff import constraints, grids, guidance, paths, predict
from jaxdiff.solvers.ancestral import ddim, ddpm
from jaxdiff.solvers.loop import Solver, sample
from jaxdiff.solvers.runge_kutta import euler, heun

PATHS = {
    'zero terminal': paths.discrete(np.append(paths.linear_betas(999), 1.0)),
    'cosine': paths.cosine(),
}
SOLVERS = {
    'ddpm small': ddpm,
    'ddpm large': lambda path: ddpm(path, variance='large'),
    'ddpm callable': lambda path: ddpm(path, variance=lambda x, t, s: 0.1 * jnp.ones_like(x)),
    'ddim': ddim,
    'ddim stochastic': lambda path: ddim(path, eta=0.5),
    'ddim ancestral': lambda path: ddim(path, eta=1.0),
    'euler': euler,
    'heun': heun,
}
CONSTRAINTS = {
    'none': lambda path: None,
    'inpaint': lambda path: constraints.inpaint(path, jnp.full((6, 5, 1), 0.5), jnp.eye(6, 5)[..., None]),
    'chain': lambda path: constraints.chain(*[CONSTRAINTS['inpaint'](path)] * 2),
}
SHAPE = (6, 5, 1)
VP = paths.vp()


def start(path, key=1, shape=SHAPE):
    return paths.prior_std(path) * jax.random.normal(jax.random.key(key), shape)


@pytest.mark.parametrize('path', PATHS.values(), ids=PATHS)
@pytest.mark.parametrize('solver', SOLVERS.values(), ids=SOLVERS)
def test_every_solver_honours_the_protocol(solver, path):
    solver, denoise = solver(path), oracles.denoiser(path, oracles.TEST_BED)
    x = start(path)

    def step(key, x, t, s):
        memory = solver.init(x)
        moved, x0, after = solver.step(key, denoise, memory, x, t, s)
        assert jax.tree.structure(memory) == jax.tree.structure(after)
        return moved, x0

    # both ends of time at once: all the way, the noisiest step, the step to data and the shortest of those
    end, near = path.end, 1e-6 * path.end if path.steps is None else 1.0
    t, s = jnp.array([end, end, 0.01 * end, near]), jnp.array([0, 0.9 * end, 0, 0])
    moved, x0 = jax.jit(jax.vmap(step, (None, None, 0, 0)))(jax.random.key(0), x, t, s)
    assert moved.shape == x0.shape == (4, *SHAPE) and moved.dtype == x0.dtype == jnp.float32
    assert jnp.all(jnp.isfinite(moved)) and jnp.all(jnp.abs(moved) < 20)
    data = s == 0
    np.testing.assert_array_equal(moved[data], x0[data])
    assert jnp.all(moved[~data] != x0[~data])


@pytest.mark.parametrize(('solver', 'constraint'), [*((solver, 'inpaint') for solver in SOLVERS), ('ddim', 'none'), ('ddim', 'chain')])
def test_every_solver_and_constraint_walks(solver, constraint):
    path = PATHS['cosine']
    denoise, solver, constrain = oracles.denoiser(path, oracles.TEST_BED), SOLVERS[solver](path), CONSTRAINTS[constraint](path)
    x = start(path).astype(jnp.bfloat16)
    out = jax.jit(lambda x: sample(jax.random.key(0), x, denoise, solver, grids.uniform(path, 6), constrain=constrain))(x)
    assert out.x.shape == out.x0.shape == SHAPE and out.x.dtype == out.x0.dtype == x.dtype and out.trace is None
    assert jnp.all(jnp.isfinite(out.x)) and jnp.all(jnp.abs(out.x) < 2)
    free = jnp.ones(SHAPE, bool) if constrain is None else jnp.eye(6, 5)[..., None] == 0
    np.testing.assert_array_equal(out.x[free], out.x0[free])
    np.testing.assert_array_equal(out.x[~free], 0.5)


def test_times_weights_masks_and_keys_compile_nothing_new():
    traces = []
    right = oracles.denoiser(VP, oracles.Mixture((1.0,), (0.5,), (0.2,)))
    whole = oracles.denoiser(VP, oracles.TEST_BED)

    @jax.jit
    def run(key, times, weight, known, mask):
        traces.append(0)
        conditioned = lambda side: lambda x, t: jnp.where(side > 0, right(x, t), whole(x, t))
        denoise = guidance.classifier_free(conditioned, 1.0, 0.0, weight)
        return sample(key, jnp.zeros(SHAPE), denoise, ddpm(VP), times, constrain=constraints.inpaint(VP, known, mask)).x

    ones, results = jnp.ones(SHAPE), []
    for arguments in (
        (jax.random.key(0), grids.uniform(VP, 5), 1.0, 0 * ones, 0 * ones),
        (jax.random.key(1), grids.uniform(VP, 5), 1.0, 0 * ones, 0 * ones),
        (jax.random.key(1), grids.karras(VP, 5), 1.0, 0 * ones, 0 * ones),
        (jax.random.key(1), grids.karras(VP, 5), 2.0, 0 * ones, 0 * ones),
        (jax.random.key(1), grids.karras(VP, 5), 2.0, 0 * ones, ones.at[0].set(0)),
        (jax.random.key(1), grids.karras(VP, 5), 2.0, 1 * ones, ones.at[0].set(0)),
    ):
        results.append(run(*arguments))
    assert len(traces) == 1
    assert all(jnp.any(a != b) for a, b in itertools.pairwise(results))
    run(jax.random.key(0), grids.uniform(VP, 6), 1.0, ones, ones)
    assert len(traces) == 2


def test_a_sample_does_not_depend_on_the_size_of_its_batch():
    denoise, times = oracles.denoiser(VP, oracles.TEST_BED), grids.uniform(VP, 6)

    @jax.jit
    @jax.vmap
    def draw(key):
        begin, walk = jax.random.split(key)
        return sample(walk, jax.random.normal(begin, SHAPE), denoise, ddpm(VP), times).x

    keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(0), jnp.arange(9))
    many, few = draw(keys), draw(keys[:2])
    np.testing.assert_allclose(few, many[:2], atol=1e-5)
    assert jnp.all(jnp.std(many, axis=0) > 0)


def test_memory_is_threaded_and_the_trace_kept():
    class Counter:
        init = staticmethod(lambda x: jnp.int32(0))

        @staticmethod
        def step(key, denoise, memory, x, t, s):
            return x + memory + 1, denoise(x, t), memory + 1

    times = jnp.array([3.0, 2.0, 1.5, 0.0])
    solver = Solver(Counter.init, Counter.step)
    out = sample(jax.random.key(0), jnp.zeros(2), lambda x, t: x + t, solver, times, trace=lambda i, x, x0: (i, x, x0), constrain=None)
    np.testing.assert_array_equal(out.x, [6, 6])
    np.testing.assert_array_equal(out.x0, [4.5, 4.5])  # the last denoised from 3, at t = 1.5
    i, x, x0 = out.trace
    np.testing.assert_array_equal(i, [0, 1, 2])
    np.testing.assert_array_equal(x[:, 0], [1, 3, 6])
    np.testing.assert_array_equal(x0[:, 0], [3, 3, 4.5])


def test_no_step_is_no_change():
    x = start(VP)
    np.testing.assert_array_equal(sample(jax.random.key(0), x, lambda x, t: x, ddim(VP), grids.partial(grids.uniform(VP, 5), 0)).x, x)


def test_a_walk_keeps_double_precision():
    with jax.enable_x64(True):
        x = start(VP)
        assert (
            x.dtype
            == sample(jax.random.key(0), x, oracles.denoiser(VP, oracles.TEST_BED), ddpm(VP), grids.uniform(VP, 3)).x.dtype
            == jnp.float64
        )


def test_a_network_in_half_precision_walks_in_single():
    apply = lambda x, t: (x * 0.5).astype(jnp.bfloat16)
    out = sample(jax.random.key(0), start(VP), predict.as_denoiser(apply, VP, 'v'), heun(VP), grids.uniform(VP, 3))
    assert out.x.dtype == jnp.float32 and jnp.all(jnp.isfinite(out.x))
