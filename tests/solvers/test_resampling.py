"""Walks that go up and down: the moves, the calls they cost, and RePaint on an exact field."""

from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest

from jaxdiff import constraints, grids, paths
from jaxdiff.solvers.ancestral import ddim, ddpm
from jaxdiff.solvers.loop import Solver, sample
from jaxdiff.solvers.resampling import resampling

PATHS = {
    'vp': paths.vp(),
    'zero terminal': paths.discrete(np.append(paths.linear_betas(999), 1.0)),
    'cosine': paths.cosine(),
}
VP = PATHS['vp']
SHAPE = (4, 3, 1)


@pytest.mark.parametrize('path', PATHS.values(), ids=PATHS)
def test_a_grid_that_falls_is_walked_by_the_solver_alone(path):
    x, denoise, times = jnp.ones(SHAPE), oracles.denoiser(path, oracles.TEST_BED), grids.uniform(path, 6)
    walk = lambda solver: sample(jax.random.key(0), x, denoise, solver, times)
    plain, wrapped = walk(ddpm(path)), walk(resampling(path, ddpm(path)))
    np.testing.assert_allclose(wrapped.x, plain.x, atol=1e-6)
    np.testing.assert_array_equal(wrapped.x, wrapped.x0)


@pytest.mark.parametrize('path', PATHS.values(), ids=PATHS)
def test_a_move_up_is_the_forward_process(path):
    """From q(x_t | x0) to q(x_s | x0) for s > t, from data too and up to the very end; x0_hat is kept."""
    count, x0 = 20000, 0.7
    solver = resampling(path, ddim(path))
    step = jax.jit(lambda key, x, t, s: solver.step(key, lambda x, t: jnp.nan * x, ((), jnp.full_like(x, 3.0)), x, t, s))
    for low, high in ((0.0, 0.3), (0.3, 0.6), (0.6, 1.0), (0.0, 1.0)):
        t, s = jnp.float32(low * path.end), jnp.float32(high * path.end)
        x = paths.perturb(path, x0, jax.random.normal(jax.random.key(0), (count,)), t)
        moved, kept, _ = step(jax.random.key(1), x, t, s)
        sigma = float(path.sigma(s))
        assert abs(moved.mean() - path.alpha(s) * x0) < 4 * sigma / np.sqrt(count)
        assert abs(moved.std() / sigma - 1) < 4 / np.sqrt(2 * count)
        np.testing.assert_array_equal(kept, 3.0)


def test_a_move_up_draws_the_noise_asked_for():
    solver, t, s = resampling(VP, ddim(VP), noise=lambda key, shape: jnp.full(shape, 2.0)), jnp.float32(0.3), jnp.float32(0.6)
    scale, std = paths.transition(VP, t, s)
    moved = solver.step(jax.random.key(0), lambda x, t: x, ((), jnp.zeros(SHAPE)), jnp.ones(SHAPE), t, s)[0]
    np.testing.assert_allclose(moved, np.broadcast_to(scale + 2 * std, SHAPE), rtol=1e-6)


def test_moves_up_call_no_denoiser_and_the_published_counts_hold():
    calls = []

    def denoise(x, t):
        jax.debug.callback(lambda: calls.append(0))
        return 0.5 * x

    times = grids.repaint(grids.uniform(VP, 50), 5, 5)  # as published, 230 down and 180 single steps up, which are 36 moves
    run = jax.jit(lambda x: sample(jax.random.key(0), x, denoise, resampling(VP, ddpm(VP)), times).x)
    jax.block_until_ready(run(jnp.ones(3)))
    jax.effects_barrier()
    assert len(calls) == 230 and len(times) - 1 == 230 + 36


def test_a_multistep_solver_begins_anew_after_a_move_up():
    """One that counts its steps: the count starts again; x0_hat stays that of the last step down."""
    count = Solver(lambda x: jnp.int32(0), lambda key, denoise, n, x, t, s: (x, denoise(x, t), n + 1))
    solver, x, memories = resampling(VP, count), jnp.ones(2), []
    memory, times = resampling(VP, count).init(x), [1.0, 0.8, 0.6, 0.9, 0.7]
    for t, s in pairwise(times):
        _, x0, memory = solver.step(jax.random.key(0), lambda x, t: t * jnp.ones_like(x), memory, x, jnp.float32(t), jnp.float32(s))
        memories.append((int(memory[0]), float(x0[0])))
    np.testing.assert_allclose(memories, [(1, 1.0), (2, 0.8), (0, 0.8), (1, 0.9)], atol=1e-6)


def test_resampling_brings_the_unknown_to_its_conditional_law():
    """Two voxels of correlation 0.9, one known: resamplings near the exact mean and variance, which replacement misses by far."""
    y, count = 0.8, 4000
    covariance, mask = np.array([[1.0, 0.9], [0.9, 1.0]]), jnp.array([1.0, 0.0])
    denoise, path = oracles.gaussian_denoiser(VP, jnp.zeros(2), jnp.asarray(covariance)), VP
    constrain = constraints.inpaint(path, jnp.array([y, 0.0]), mask)

    def draw(times):
        def one(key):
            start, walk = jax.random.split(key)
            return sample(walk, jax.random.normal(start, (2,)), denoise, resampling(path, ddpm(path)), times, constrain=constrain).x

        return np.asarray(jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(2), count)))

    grid = grids.log_snr(path, 60)
    replaced, resampled = draw(grid), draw(grids.repaint(grid, 5, 20))
    np.testing.assert_array_equal(resampled[:, 0], np.float32(y))
    assert abs(resampled[:, 1].mean() - 0.9 * y) < 0.03 and abs(resampled[:, 1].var() / 0.19 - 1) < 0.12
    assert 0.9 * y - replaced[:, 1].mean() > 0.12 and replaced[:, 1].var() > 0.25
