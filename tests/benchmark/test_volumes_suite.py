"""The suite of volumes: its exact field, its measure of seams, what it predicts, and what it files."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff import exact, paths
from jaxdiff.benchmark import volumes

PATH = paths.cosine()


def test_the_denoiser_of_the_field_is_exact():
    """Against one Gaussian with the covariance between all voxels written out."""
    shape = (4, 5, 3)
    places = np.stack(np.meshgrid(*map(np.arange, shape), indexing='ij'), -1).reshape(-1, 3)
    covariance = 0.25 * np.prod(volumes.matern(np.abs(places[:, None] - places) / 2.0), axis=-1)
    gaussian = exact.mixture([1.0], np.zeros((1, 60)), covariance[None])
    x = jnp.asarray(np.random.default_rng(0).standard_normal((*shape, 1)), jnp.float32)
    for t in (0.2, 0.7):
        expected = jax.jit(exact.denoiser(PATH, gaussian))(x, t)
        np.testing.assert_allclose(volumes.field(PATH, shape, 2.0)(x, jnp.float32(t)), expected, atol=2e-6)


def test_a_step_across_one_plane_is_the_seam_error():
    whole = np.cumsum(np.random.default_rng(0).standard_normal((20, 30, 1)), axis=0)
    gradient = np.mean(np.concatenate([np.abs(np.diff(whole, axis=axis)).ravel() for axis in (0, 1)]))
    step = whole.copy()
    step[:, 17:] += 0.03 * gradient
    assert volumes.seam_error(whole, whole) == 0
    assert volumes.seam_error(whole + 5, whole) < 1e-9  # another level everywhere is no seam
    assert volumes.seam_error(step, whole) == pytest.approx(0.03)


@pytest.fixture(scope='module')
def measured():
    small = dict(large=32, large_tile=8, large_overlap=2, widths=(4,), real=32, real_tile=8, real_overlap=2, real_widths=(4,))
    return volumes.measure(shape=(24, 20), length=1.0, tile=14, overlap=8, steps=3, evaluations=1, **small)


def test_fusion_meets_what_its_controls_miss(measured):
    (found,) = measured.evaluations
    seam = next(bar for bar in volumes.BARS if bar.name == 'seam_error')
    assert seam.met(found.metrics['seam_error']) and not seam.met(found.controls['without overlap']['seam_error'])
    assert found.metrics['seam_error'] < found.controls['averaged after']['seam_error']
    assert {bar.name for bar in volumes.BARS} <= set(found.metrics)


def test_tiles_are_predicted_and_measured_to_need_less_memory(measured):
    tiles, whole = measured.evaluations[0].metrics, measured.evaluations[0].controls['untiled']
    assert tiles['predicted_gib'] < whole['predicted_gib'] / 2 and tiles['memory_saved'] > 2
    volume = 4 * 32**3 / volumes.GIB
    assert tiles['predicted_gib'] > 2 * volume and 0 < tiles['measured_gib'] < whole['measured_gib']


def test_what_is_filed_names_sizes_and_shows_the_samples(measured):
    (table,) = measured.tables
    ways = [row[:3] for row in table['rows']]
    tiles, split = 'tiles of 8, overlap 2', 'split over 8 devices'
    assert ways == [['32^3', 'predicted', tiles], ['32^3', 'measured', tiles], ['32^3', 'predicted, each device', split]]
    assert all(len(row) == len(table['header']) and float(row[-2]) < float(row[-1]) / 1.5 for row in table['rows'])
    assert measured.sections[0].pictures[0].png.startswith(b'\x89PNG')
