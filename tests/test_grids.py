"""Grids of times against published ones."""

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest

from jaxdiff import grids, paths
from jaxdiff.solvers.loop import sample
from jaxdiff.solvers.runge_kutta import heun

LINEAR, COSINE = paths.discrete(paths.linear_betas(1000)), paths.cosine()
PATHS = {'linear': LINEAR, 'vp': paths.vp(), 'cosine': COSINE, 'edm': paths.edm()}


@pytest.mark.parametrize(
    ('times', 'indices'),
    [
        (grids.leading(1000, 10), [900, 800, 700, 600, 500, 400, 300, 200, 100, 0]),
        (grids.trailing(1000, 13), [999, 922, 845, 768, 691, 614, 537, 461, 384, 307, 230, 153, 76]),
        (grids.linspace(1000, 10), [999, 888, 777, 666, 555, 444, 333, 222, 111, 0]),
        (grids.quad(1000, 10), [800, 632, 483, 355, 246, 158, 88, 39, 9, 0]),
        (grids.trailing(1000, 1000), range(999, -1, -1)),
        (grids.sections(1000, [10]), range(999, -1, -111)),
        (grids.sections(9, [1, 3, 2]), [8, 6, 5, 4, 3, 0]),
        (grids.sections(6, [3]), [5, 2, 0]),  # 2.5 is rounded to even
        (grids.stride(1000, 10), range(900, -1, -100)),
        (grids.stride(1000, 25), range(960, -1, -40)),
    ],
)
def test_tables_are_visited_where_published(times, indices):
    np.testing.assert_array_equal(times, [*(i + 1 for i in indices), 0])


def test_sections_have_the_published_values():
    indices = np.asarray(grids.sections(300, [10, 15, 20]))[-2::-1] - 1
    assert len(indices) == 45
    np.testing.assert_array_equal(indices[:12], [0, 11, 22, 33, 44, 55, 66, 77, 88, 99, 100, 107])
    np.testing.assert_array_equal(indices[[24, 25, -1]], [199, 200, 299])


def test_impossible_sections_and_strides_are_refused():
    with pytest.raises(ValueError, match='section of 5'):
        grids.sections(10, [6, 1])
    with pytest.raises(ValueError, match='section'):
        grids.sections(10, [])
    with pytest.raises(ValueError, match='no stride'):
        grids.stride(1000, 300)


def test_quad_repeats_no_index():
    times = np.asarray(grids.quad(1000, 100))
    assert len(times) == 101 and np.all(np.diff(times) < 0)


@pytest.mark.parametrize('grid', [grids.leading, grids.trailing, grids.linspace, grids.quad])
def test_a_table_has_no_more_steps_than_it_has(grid):
    with pytest.raises(ValueError, match='table of 10'):
        grid(10, 11)


def test_the_grid_of_karras_has_the_published_values():
    sigmas = [80, 57.585985, 40.785574, 28.374585, 19.352453, 12.910082, 8.400935, 5.315195, 3.256822, 1.92334]
    sigmas += [1.088171, 0.585348, 0.296442, 0.139516, 0.059947, 0.022935, 0.007528, 0.002, 0]
    with jax.enable_x64(True):
        np.testing.assert_allclose(grids.karras(paths.edm(), 18), sigmas, atol=1e-6)


@pytest.mark.parametrize('path', PATHS.values(), ids=PATHS)
@pytest.mark.parametrize('grid', [grids.default, grids.uniform, grids.angle, grids.log_snr, grids.karras])
def test_grids_of_paths_go_from_noise_to_data(path, grid):
    for n in (1, 2, 12):
        times = np.asarray(grid(path, n))
        assert times.shape == (n + 1,) and times.dtype == np.float32
        assert times[0] == path.end and times[-1] == 0 and np.all(np.diff(times) < 0)
    assert grid(path, 5, start=0.5 * path.end)[0] == 0.5 * path.end


def test_log_snr_is_even_and_ends_where_told():
    with jax.enable_x64(True):
        times = grids.log_snr(COSINE, 20, last=0.01, zero=False)
        assert times.shape == (21,) and times[-1] == 0.01
        np.testing.assert_allclose(jnp.diff(COSINE.log_snr(times), 2), 0, atol=1e-10)
        times = grids.karras(COSINE, 20, rho=3, start=0.9, last=0.01, zero=False)
        np.testing.assert_allclose(jnp.diff(jnp.exp(-COSINE.log_snr(times) / 6), 2), 0, atol=1e-10)
    assert grids.log_snr(LINEAR, 20)[-2] == 1
    assert grids.uniform(LINEAR, 20, last=50.0)[-1] == 50


def test_angle_is_even_whatever_the_path():
    with jax.enable_x64(True):
        for path in (*PATHS.values(), paths.flow()):
            times = grids.angle(path, 20, data_std=0.3, start=0.8 * path.end)
            theta = jnp.arctan2(path.sigma(times), 0.3 * path.alpha(times))
            np.testing.assert_allclose(jnp.diff(theta, 2), 0, atol=1e-10)
            assert times[0] == 0.8 * path.end and times[-1] == 0
            times = grids.angle(path, 20, data_std=0.3, power=0.8)
            theta = jnp.arctan((path.sigma(times) / (0.3 * path.alpha(times))) ** 0.8)
            np.testing.assert_allclose(jnp.diff(theta, 2), 0, atol=1e-10)
        np.testing.assert_allclose(grids.angle(COSINE, 20, data_std=1.0), grids.uniform(COSINE, 20), atol=1e-6)
        np.testing.assert_array_equal(grids.default(LINEAR, 20), grids.angle(LINEAR, 20, data_std=0.5, power=0.8))
        edm = paths.edm(data_std=2.0)
        np.testing.assert_array_equal(grids.default(edm, 20), grids.angle(edm, 20, data_std=2.0, power=0.8))


@pytest.mark.parametrize('path', PATHS.values(), ids=PATHS)
def test_the_default_grid_keeps_off_data_until_the_last_step(path):
    fine, coarse = grids.default(path, 1000), grids.default(path, 10)
    assert fine[-2] >= 0.999 * grids.last_time(path) and coarse[-2] > 2 * grids.last_time(path)
    assert np.all(np.diff(fine) < 0) and len(fine) == 1001


def test_the_default_grid_errs_less_than_the_others_at_few_steps():
    """Heun on the exact mixture, eight steps from noise to data."""
    z = jax.random.normal(jax.random.key(0), (500,))
    with jax.enable_x64(True):
        for path in (paths.vp(), COSINE):
            denoise, x = oracles.denoiser(path, oracles.TEST_BED), paths.prior_std(path) * z.astype(float)
            exact = jax.jit(lambda x, path=path, denoise=denoise: oracles.flow(path, denoise, x, path.end, 1e-6))(x)
            grid_of = (grids.default, grids.uniform, grids.log_snr, grids.karras)
            times = jnp.stack([grid(path, 8) for grid in grid_of])
            walk = lambda times, path=path, denoise=denoise, x=x: sample(jax.random.key(0), x, denoise, heun(path), times).x
            rmse = jnp.sqrt(jnp.mean((jax.jit(jax.vmap(walk))(times) - exact[None]) ** 2, axis=1))
            assert rmse[0] < 0.02 and jnp.all(rmse[0] < 0.6 * rmse[1:]), rmse


@pytest.mark.parametrize(('n', 'jump', 'resamplings', 'down', 'up'), [(250, 10, 10, 2410, 216), (100, 10, 5, 460, 36), (50, 5, 5, 230, 36)])
def test_repaint_takes_the_published_number_of_steps(n, jump, resamplings, down, up):
    moves = np.diff(grids.repaint(jnp.arange(n, -1.0, -1), jump, resamplings))
    assert (moves == -1).sum() == down and (moves == jump).sum() == up and len(moves) == down + up


def test_repaint_goes_up_and_down_where_published():
    times = grids.trailing(1000, 250)
    walk = np.asarray(grids.repaint(times, 10, 3))
    index = walk / 4 - 1  # of the 250 steps
    first = np.argmax(np.diff(index) > 0)
    np.testing.assert_array_equal(index[[0, first, first + 1, first + 11, first + 12, -1]], [249, 230, 240, 230, 240, -1])
    np.testing.assert_array_equal(np.unique(index[:-1][np.diff(index) > 0]), np.arange(0, 240, 10))
    np.testing.assert_array_equal(grids.repaint(times, 10, 1), times)
    np.testing.assert_array_equal(grids.repaint(times[-3:], 1, 2), times[jnp.array([-3, -2, -3, -2, -1])])
    with pytest.raises(ValueError, match='jumps'):
        grids.repaint(times, 0)


def test_a_partial_grid_begins_at_its_depth():
    times = grids.trailing(1000, 10)
    np.testing.assert_array_equal(grids.partial(times, 250), [250, 200, 100, 0])
    np.testing.assert_array_equal(grids.partial(times, 200), [200, 100, 0])
    np.testing.assert_array_equal(grids.partial(times, 1000), times)
    np.testing.assert_array_equal(grids.partial(times, 0), [0])
    with pytest.raises(ValueError, match='depth'):
        grids.partial(times, 1001)
