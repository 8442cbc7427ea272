"""The loop, and what every solver and constraint owes it."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest

from jaxdiff import constraints, grids, guidance, paths
from jaxdiff.solvers import langevin, reverse_sde
from jaxdiff.solvers.adams import adams
from jaxdiff.solvers.ancestral import ddim, ddpm
from jaxdiff.solvers.churn import churn
from jaxdiff.solvers.consistency import consistency
from jaxdiff.solvers.dpm_solver import dpmpp, sde_dpmpp
from jaxdiff.solvers.loop import Solver, sample
from jaxdiff.solvers.multistep import plms, pndm, s_pndm
from jaxdiff.solvers.resampling import resampling
from jaxdiff.solvers.runge_kutta import euler, heun, midpoint, rk4
from jaxdiff.solvers.unipc import unipc

PATHS = {
    'zero terminal': paths.discrete(np.append(paths.linear_betas(999), 1.0)),
    'flow': paths.flow(),
}
SOLVERS = {
    'adams': adams,
    'ddpm small': ddpm,
    'ddpm large': lambda path: ddpm(path, variance='large'),
    'ddpm callable': lambda path: ddpm(path, variance=lambda x, t, s: 0.1 * jnp.ones_like(x)),
    'ddim': ddim,
    'ddim stochastic': lambda path: ddim(path, eta=0.5),
    'ddim ancestral': lambda path: ddim(path, eta=1.0),
    'euler': euler,
    'heun': heun,
    'midpoint': midpoint,
    'rk4': rk4,
    'heun with churn': lambda path: churn(path, heun(path), amount=0.2),
    'pndm': pndm,
    's-pndm': s_pndm,
    'plms': plms,
    'dpm++ 1': lambda path: dpmpp(path, order=1),
    'dpm++ 2m': dpmpp,
    'dpm++ 3m': lambda path: dpmpp(path, order=3),
    'dpm++ 2m sde': sde_dpmpp,
    'unipc 2': unipc,
    'unipc 3': lambda path: unipc(path, order=3),
    'euler-maruyama': reverse_sde.euler_maruyama,
    'milstein': reverse_sde.milstein,
    'stochastic heun': reverse_sde.heun,
    'sra1': reverse_sde.sra1,
    'reverse diffusion': reverse_sde.reverse_diffusion,
    'annealed langevin': langevin.annealed_langevin,
    'predictor-corrector': lambda path: langevin.predictor_corrector(
        reverse_sde.reverse_diffusion(path), langevin.langevin_corrector(path)
    ),
    'resampling': lambda path: resampling(path, ddpm(path)),
    'consistency': lambda path: consistency(path, 1e-3 * path.end),
}
CONSTRAINTS = {
    'none': lambda path: None,
    'inpaint': lambda path: constraints.inpaint(path, jnp.full((6, 5, 1), 0.5), jnp.eye(6, 5)[..., None]),
    'freeze': lambda path: constraints.freeze(jnp.full((6, 5, 1), 0.5), jnp.eye(6, 5)[..., None]),
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


@pytest.mark.parametrize(
    ('solver', 'constraint'), [*((solver, 'inpaint') for solver in SOLVERS), ('ddim', 'none'), ('ddim', 'freeze'), ('ddim', 'chain')]
)
def test_every_solver_and_constraint_walks_with_a_network_in_half_precision(solver, constraint):
    path = paths.cosine()
    solver, constrain, exact = SOLVERS[solver](path), CONSTRAINTS[constraint](path), oracles.denoiser(path, oracles.TEST_BED)
    denoise = lambda x, t: exact(x, t).astype(jnp.bfloat16).astype(x.dtype)
    x = start(path)
    out = jax.jit(lambda x: sample(jax.random.key(0), x, denoise, solver, grids.uniform(path, 6), constrain=constrain))(x)
    assert out.x.shape == out.x0.shape == SHAPE and out.x.dtype == out.x0.dtype == x.dtype and out.trace is None
    assert jnp.all(jnp.isfinite(out.x)) and jnp.all(jnp.abs(out.x) < 2)
    free = jnp.ones(SHAPE, bool) if constrain is None else jnp.eye(6, 5)[..., None] == 0
    np.testing.assert_array_equal(out.x[free], out.x0[free])
    np.testing.assert_array_equal(out.x[~free], 0.5)


def test_a_walk_in_half_precision_stays_there():
    x = start(VP).astype(jnp.bfloat16)
    out = sample(jax.random.key(0), x, oracles.denoiser(VP, oracles.TEST_BED), heun(VP), grids.uniform(VP, 3))
    assert out.x.dtype == out.x0.dtype == jnp.bfloat16 and jnp.all(jnp.isfinite(out.x))


def test_only_another_number_of_steps_compiles_again():
    """Keys, times, schedule, eta, guidance weight, known values and mask may all change."""
    traces, ones = [], jnp.ones(SHAPE)
    right, whole = oracles.Mixture((1.0,), (0.5,), (0.2,)), oracles.TEST_BED

    @jax.jit
    def run(key, times, betas, eta, weight, known, mask):
        traces.append(0)
        path = paths.discrete(betas)
        sides = oracles.denoiser(path, right), oracles.denoiser(path, whole)
        denoise = guidance.classifier_free(lambda side: lambda x, t: jnp.where(side > 0, *(of(x, t) for of in sides)), 1.0, 0.0, weight)
        constrain = constraints.inpaint(path, known, mask)
        return sample(key, ones, denoise, ddim(path, eta=eta), times, constrain=constrain).x

    arguments = {
        'key': [jax.random.key(0), jax.random.key(1)],
        'times': [grids.trailing(1000, 5), grids.leading(1000, 5)],
        'betas': [jnp.asarray(paths.linear_betas(1000)), jnp.asarray(paths.cosine_betas(1000))],
        'eta': [1.0, 0.5],
        'weight': [1.0, 2.0],
        'mask': [0 * ones, ones.at[0].set(0)],
        'known': [0 * ones, 1 * ones],
    }
    values = {name: first for name, (first, _) in arguments.items()}
    results = [run(**values)]
    for name, (_, second) in arguments.items():
        values[name] = second
        results.append(run(**values))
    assert len(traces) == 1
    assert all(jnp.any(a != b) for a, b in itertools.pairwise(results))
    for _ in range(2):
        run(**{**values, 'times': grids.trailing(1000, 6)})
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
