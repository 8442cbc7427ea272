"""Grids of times against published ones."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff import grids, paths
from jaxdiff.paths import GaussianPath

LINEAR, COSINE = paths.discrete(paths.linear_betas(1000)), paths.cosine()
PATHS = {'linear': LINEAR, 'vp': paths.vp(), 'cosine': COSINE}


@pytest.mark.parametrize(
    ('times', 'indices'),
    [
        (grids.leading(1000, 10), [900, 800, 700, 600, 500, 400, 300, 200, 100, 0]),
        (grids.trailing(1000, 13), [999, 922, 845, 768, 691, 614, 537, 461, 384, 307, 230, 153, 76]),
        (grids.linspace(1000, 10), [999, 888, 777, 666, 555, 444, 333, 222, 111, 0]),
        (grids.quad(1000, 10), [800, 632, 483, 355, 246, 158, 88, 39, 9, 0]),
        (grids.trailing(1000, 1000), range(999, -1, -1)),
    ],
)
def test_tables_are_visited_where_published(times, indices):
    np.testing.assert_array_equal(times, [*(i + 1 for i in indices), 0])


def test_quad_repeats_no_index():
    times = np.asarray(grids.quad(1000, 100))
    assert len(times) == 101 and np.all(np.diff(times) < 0)


@pytest.mark.parametrize('grid', [grids.leading, grids.trailing, grids.linspace, grids.quad])
def test_a_table_has_no_more_steps_than_it_has(grid):
    with pytest.raises(ValueError, match='table of 10'):
        grid(10, 11)


def test_the_grid_of_karras_has_the_published_values():
    edm = GaussianPath(jnp.ones_like, lambda t: t, lambda t: -2 * jnp.log(t), 80.0, lambda t: jnp.log(t) / 4)
    sigmas = [80, 57.585985, 40.785574, 28.374585, 19.352453, 12.910082, 8.400935, 5.315195, 3.256822, 1.92334]
    sigmas += [1.088171, 0.585348, 0.296442, 0.139516, 0.059947, 0.022935, 0.007528, 0.002, 0]
    with jax.enable_x64(True):
        np.testing.assert_allclose(grids.karras(edm, 18, last=0.002), sigmas, atol=1e-6)


@pytest.mark.parametrize('path', PATHS.values(), ids=PATHS)
@pytest.mark.parametrize('grid', [grids.uniform, grids.log_snr, grids.karras])
def test_grids_of_paths_go_from_noise_to_data(path, grid):
    for n in (1, 2, 25):
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


def test_a_partial_grid_begins_at_its_depth():
    times = grids.trailing(1000, 10)
    np.testing.assert_array_equal(grids.partial(times, 250), [250, 200, 100, 0])
    np.testing.assert_array_equal(grids.partial(times, 200), [200, 100, 0])
    np.testing.assert_array_equal(grids.partial(times, 1000), times)
    np.testing.assert_array_equal(grids.partial(times, 0), [0])
    with pytest.raises(ValueError, match='depth'):
        grids.partial(times, 1001)
