"""Langevin dynamics and predictor-corrector sampling with exact scores."""

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
import scipy.stats

from jaxdiff import constraints, grids, paths
from jaxdiff.solvers.langevin import annealed_langevin, langevin_corrector, predictor_corrector, repeat
from jaxdiff.solvers.loop import Solver, sample
from jaxdiff.solvers.reverse_sde import euler_maruyama, reverse_diffusion

MIXTURE, COUNT = oracles.TEST_BED, 20000
VP, LINEAR = paths.vp(), paths.discrete(paths.linear_betas(1000))
SIGMA = paths.edm()  # its times are levels of noise


def walk(path, mixture, solver, times, x):
    return np.asarray(jax.jit(lambda x: sample(jax.random.key(1), x, oracles.denoiser(path, mixture), solver, times).x)(x))


@pytest.mark.parametrize('step', [0.2, 1.2])
def test_langevin_is_stationary_with_the_known_excess_of_variance(step):
    t, mean, std = 0.3, 0.5, 0.2
    e = step * VP.sigma(t) ** 2
    v = (VP.alpha(t) * std) ** 2 + VP.sigma(t) ** 2
    x = walk(VP, oracles.Mixture((1.0,), (mean,), (std,)), annealed_langevin(VP, step=step), jnp.full(41, t), jnp.zeros(COUNT))
    assert abs(x.mean() - VP.alpha(t) * mean) < 4 * np.sqrt(v * 2 / COUNT)
    assert abs(x.var() / (v / (1 - e / (2 * v))) - 1) < 4 * np.sqrt(2 / COUNT)


def test_annealing_finds_the_weights_that_a_single_level_does_not():
    modes, left = oracles.Mixture((0.2, 0.8), (-4.0, 4.0), (0.5, 0.5)), jnp.full(2000, -4.0)
    levels, solver = jnp.geomspace(10.0, 0.1, 10), annealed_langevin(SIGMA)
    annealed = walk(SIGMA, modes, solver, repeat(jnp.append(levels, 0.0), 99), left)
    single = walk(SIGMA, modes, solver, repeat(jnp.array([0.1, 0.0]), 999), left)
    assert abs((annealed > 0).mean() - 0.8) < 0.05  # 0.78: the step is not short where the modes part
    assert abs(annealed[annealed > 0].std() - 0.5) < 0.05
    assert np.all(single < 0)


def test_the_default_step_is_that_of_ncsn():
    """e = 2e-5 (sigma_i / 0.01)^2, and the noise stays in a walk that ends at its lowest level visited once more."""
    x, sigma, key = jnp.linspace(-1, 1, 50), jnp.float32(0.3), jax.random.key(0)
    denoise = oracles.denoiser(SIGMA, MIXTURE)
    moved, _, _ = annealed_langevin(SIGMA).step(key, denoise, (), x, sigma, sigma)
    e, score = 2e-5 * (sigma / 0.01) ** 2, (denoise(x, sigma) - x) / sigma**2
    np.testing.assert_allclose(moved, x + e * score + jnp.sqrt(2 * e) * jax.random.normal(key, x.shape), atol=1e-5)


@pytest.mark.parametrize(('path', 't', 'kept'), [(LINEAR, 500.0, 1 - paths.linear_betas(1000)[499]), (SIGMA, 3.0, 1.0)], ids=['vp', 've'])
def test_the_corrector_is_that_of_song_et_al(path, t, kept):
    x, t, key, snr = path.sigma(t) * jnp.linspace(-2, 2, 50).reshape(5, 10, 1), jnp.float32(t), jax.random.key(0), 0.16
    denoise = oracles.denoiser(path, MIXTURE)
    moved, _, _ = langevin_corrector(path, snr=snr).step(key, denoise, (), x, t, t)
    score, noise = (path.alpha(t) * denoise(x, t) - x) / path.sigma(t) ** 2, jax.random.normal(key, x.shape)
    e = 2 * kept * (snr * jnp.sqrt(jnp.sum(noise**2)) / jnp.sqrt(jnp.sum(score**2))) ** 2
    np.testing.assert_allclose(moved, x + e * score + jnp.sqrt(2 * e) * noise, atol=2e-5)


def test_a_vanishing_score_does_not_blow_a_correction_up():
    moved, _, _ = langevin_corrector(VP).step(jax.random.key(0), lambda x, t: x, (), jnp.zeros(5), jnp.float32(0.5), jnp.float32(0.5))
    assert jnp.all(jnp.abs(moved) < 10)


def test_repeated_grids():
    np.testing.assert_array_equal(repeat(jnp.array([3.0, 1.0, 0.0]), 2), [3, 3, 3, 1, 1, 1, 0])


def test_corrections_come_first_and_memory_is_threaded():
    """A predictor that adds 1 and a corrector that doubles, each counting its own steps: 2 (2 x) + 1 at every time."""
    counting = lambda move: Solver(lambda x: jnp.int32(0), lambda key, denoise, memory, x, t, s: (move(x), denoise(x, t), memory + 1))
    solver = predictor_corrector(counting(lambda x: x + 1), counting(lambda x: 2 * x))
    calls, seen = [], []

    def denoise(x, t):
        jax.debug.callback(lambda t: calls.append(float(t)), t, ordered=True)
        return x

    constrain = lambda key, x, x0, s: (jax.debug.callback(lambda s: seen.append(float(s)), s, ordered=True), x)[1]
    out = sample(jax.random.key(0), jnp.ones(2), denoise, solver, repeat(jnp.array([0.9, 0.4, 0.0]), 2), constrain=constrain)
    jax.effects_barrier()
    np.testing.assert_array_equal(out.x, 4 * (4 * 1 + 1) + 1)
    np.testing.assert_allclose(calls, [0.9, 0.9, 0.9, 0.4, 0.4, 0.4])  # N (n + 1)
    np.testing.assert_allclose(seen, [0.9, 0.9, 0.4, 0.4, 0.4, 0.0])
    memory = solver.init(out.x)
    for t, s in ((0.9, 0.9), (0.9, 0.9), (0.9, 0.4)):
        _, _, memory = solver.step(jax.random.key(0), lambda x, t: x, memory, out.x, jnp.float32(t), jnp.float32(s))
    assert memory == (1, 2)


@pytest.mark.parametrize(
    ('path', 'corrector', 'times'),
    [
        (VP, langevin_corrector(VP), grids.log_snr(VP, 100)),
        (SIGMA, annealed_langevin(SIGMA), jnp.append(jnp.geomspace(20.0, 0.01, 100), 0.0)),
    ],
    ids=['vp', 've'],
)
def test_predictor_corrector_draws_the_mixture(path, corrector, times):
    x = path.sigma(times[0]) * jax.random.normal(jax.random.key(0), (COUNT,))
    x = walk(path, MIXTURE, predictor_corrector(reverse_diffusion(path), corrector), repeat(times, 4), x)
    cdf = lambda x: sum(w * scipy.stats.norm.cdf(x, m, c) for w, m, c in zip(*MIXTURE, strict=True))
    assert abs(x.mean() - MIXTURE.mean) < 4 * MIXTURE.std / np.sqrt(COUNT)
    assert abs(x.std() / MIXTURE.std - 1) < 4 / np.sqrt(2 * COUNT)
    assert scipy.stats.kstest(x, cdf).pvalue > 0.001


def test_corrections_mend_a_coarse_walk():
    """20 steps of Euler-Maruyama lose a seventh of the standard deviation; four corrections at each bring most of it back."""
    times, x = grids.log_snr(VP, 20), jax.random.normal(jax.random.key(0), (COUNT,))
    plain = walk(VP, MIXTURE, euler_maruyama(VP), times, x).std()
    mended = walk(VP, MIXTURE, predictor_corrector(euler_maruyama(VP), langevin_corrector(VP)), repeat(times, 4), x).std()
    assert plain < 0.43 and abs(mended - MIXTURE.std) < 0.4 * (MIXTURE.std - plain)


def test_corrections_under_a_constraint_draw_from_the_conditional():
    """Half of a Gaussian field known: replacement alone gets the mean wrong by half a standard deviation, corrections mend it."""
    size, count, std = 8, 1000, 0.5
    covariance = std**2 * np.exp(-np.abs(np.subtract.outer(np.arange(size), np.arange(size))) / 3)
    known = np.arange(size) < size // 2
    values = np.where(known, [0.5, -0.3, 0.5, 0.6, 0, 0, 0, 0], 0)
    weights = covariance[~known][:, known] @ np.linalg.inv(covariance[known][:, known])
    mean, spread = weights @ values[known], covariance[~known][:, ~known] - weights @ covariance[known][:, ~known]
    variances, axes = (jnp.asarray(each, jnp.float32) for each in np.linalg.eigh(covariance))

    def denoise(x, t):
        alpha, sigma = VP.alpha(t), VP.sigma(t)
        return axes @ (alpha * variances / (alpha**2 * variances + sigma**2) * (axes.T @ x))

    solver = predictor_corrector(reverse_diffusion(VP), annealed_langevin(VP, step=0.5))
    constrain = constraints.inpaint(VP, jnp.asarray(values, jnp.float32), known)
    keys, x = jax.random.split(jax.random.key(1), count), jax.random.normal(jax.random.key(0), (count, size))

    def free(times):
        run = lambda key, x: sample(key, x, denoise, solver, times, constrain=constrain).x
        x = np.asarray(jax.jit(jax.vmap(run))(keys, x_start))[:, ~known]
        return np.abs(x.mean(0) - mean).max() / std, np.trace(np.cov(x.T)) / np.trace(spread)

    x_start, times = x, grids.log_snr(VP, 40)
    off, ratio = free(repeat(times, 40))
    assert off < 0.1 and abs(ratio - 1) < 0.1
    assert free(times)[0] > 0.3
