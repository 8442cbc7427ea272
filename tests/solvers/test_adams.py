"""The method of Adams in the angle: exact for one Gaussian, its two formulae by integrals of polynomials, third order, steady under guidance."""

from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from convergence import errors, evaluations, log_snr, orders

from jaxdiff import grids, guidance, paths
from jaxdiff.predict import convert
from jaxdiff.solvers.adams import adams
from jaxdiff.solvers.loop import sample
from jaxdiff.solvers.runge_kutta import heun

VP, EDM = paths.vp(), paths.edm(data_std=0.3)


def test_it_is_of_third_order():
    with jax.enable_x64(True):
        rmse = errors(VP, adams(VP), log_snr)
    np.testing.assert_allclose(orders(rmse)[3:], 3, atol=0.1)
    assert rmse[-1] < 1e-6


def test_a_step_takes_one_evaluation():
    assert evaluations(VP, adams(VP), 7) == 7


@pytest.mark.parametrize(
    ('path', 'std', 'told'), [(EDM, 0.3, {}), (VP, 0.5, {}), (VP, 2.0, {'data_std': 2.0})], ids=['path', 'none', 'told']
)
def test_one_gaussian_of_the_spread_that_it_is_told_of_is_carried_exactly(path, std, told):
    with jax.enable_x64(True):
        noise = jnp.linspace(-2, 2, 9)
        denoise = oracles.denoiser(path, oracles.Mixture((1.0,), (0.0,), (std,)))
        x = jnp.hypot(path.sigma(path.end), std * path.alpha(path.end)) * noise
        out = sample(jax.random.key(0), x, denoise, adams(path, **told), grids.uniform(path, 4))
    np.testing.assert_allclose(out.x, std * noise, atol=1e-9)


def test_steps_are_integrals_of_the_polynomials_through_what_is_known():
    """The corrector's through three slopes over the step behind, the predictor's through two over the step ahead, down to data."""
    std, times = 0.5, [0.9, 0.6, 0.35, 0.1, 0.0]
    path, denoise = VP._replace(data_std=std), oracles.denoiser(VP, oracles.TEST_BED)
    angle = lambda t: float(jnp.arctan2(path.sigma(t), std * path.alpha(t)))
    size = lambda t: float(jnp.hypot(path.sigma(t), std * path.alpha(t)))

    def integral(angles, slopes, begin, end):
        whole = np.polyint(np.polyfit(angles, slopes, len(angles) - 1))
        return np.polyval(whole, end) - np.polyval(whole, begin)

    with jax.enable_x64(True):
        x = jnp.array([0.37])
        y, angles, slopes, ahead = float(x[0]) / size(0.9), [], [], float(x[0]) / size(0.9)
        for t, s in pairwise(times):
            state = jnp.array([ahead * size(t)])
            t = jnp.asarray(t)
            slope = -float(convert(path, denoise(state, t), state, t, source='x0', target='edm')[0])
            angles, slopes = [angle(t), *angles][:3], [slope, *slopes][:3]
            if len(angles) > 1:
                y += integral(angles, slopes, angles[1], angles[0])
            ahead = y + integral(angles[:2], slopes[:2], angles[0], angle(s))
        out = sample(jax.random.key(0), x, denoise, adams(VP), jnp.array(times))
    np.testing.assert_allclose(out.x, [ahead * std], rtol=1e-9)
    np.testing.assert_array_equal(out.x, out.x0)


def test_one_step_is_the_denoiser():
    x, denoise = jnp.array([0.3, -1.2]), oracles.denoiser(VP, oracles.TEST_BED)
    out = sample(jax.random.key(0), x, denoise, adams(VP), jnp.array([1.0, 0.0]))
    np.testing.assert_allclose(out.x, denoise(x, jnp.float32(1.0)), rtol=1e-5)


def test_under_strong_guidance_it_errs_less_than_heun_with_as_many_calls():
    path = paths.cosine()
    right = oracles.Mixture((1.0,), (0.7,), (0.1,))
    sides = [oracles.denoiser(path, each) for each in (oracles.TEST_BED, right)]
    denoise = guidance.classifier_free(lambda side: lambda x, t: jnp.where(side > 0, sides[1](x, t), sides[0](x, t)), 1.0, 0.0, 4.0)
    x = jax.random.normal(jax.random.key(0), (200,))
    walk = lambda solver, n: sample(jax.random.key(0), x, denoise, solver, grids.default(path, n)).x
    fine = walk(heun(path), 300)
    rmse = lambda ends: float(jnp.sqrt(jnp.mean((ends - fine) ** 2)))
    ends = walk(adams(path), 10)
    assert jnp.max(jnp.abs(ends)) < 1.3
    assert rmse(ends) < rmse(walk(heun(path), 5)) / 3
