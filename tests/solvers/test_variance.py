"""The optimal variance of ancestral steps, against the exact posterior."""

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest

from jaxdiff import grids, paths
from jaxdiff.solvers.ancestral import ddpm
from jaxdiff.solvers.loop import sample
from jaxdiff.solvers.variance import exact_diagonal, optimal, posterior_variance, probed_diagonal

LINEAR, VP = paths.discrete(paths.linear_betas(1000)), paths.vp()
MIXTURE, COUNT = oracles.TEST_BED, 40000


@pytest.mark.parametrize('t', [0.01, 0.3, 1.0])
def test_the_slope_of_the_denoiser_is_the_posterior_variance(t):
    denoise, x, t = oracles.denoiser(VP, MIXTURE), 0.8 * jax.random.normal(jax.random.key(0), (6, 1)), jnp.float32(t)
    truth = oracles.posterior_variance(VP, MIXTURE, x, t)
    for diagonal in (exact_diagonal(denoise), probed_diagonal(jax.random.key(1), denoise)):  # elements are independent: one probe will do
        np.testing.assert_allclose(posterior_variance(VP, diagonal, x, t), truth, rtol=1e-3, atol=1e-6)


def test_probes_are_unbiased_where_elements_depend_on_one_another():
    root = jax.random.normal(jax.random.key(0), (5, 5)) / 3
    denoise, t = oracles.gaussian_denoiser(VP, jnp.zeros(5), root @ root.T), jnp.float32(0.4)
    x = jnp.ones(5)
    alpha, sigma = VP.alpha(t), VP.sigma(t)
    truth = jnp.diagonal(jnp.linalg.inv(jnp.linalg.inv(root @ root.T) + (alpha / sigma) ** 2 * jnp.eye(5)))
    np.testing.assert_allclose(posterior_variance(VP, exact_diagonal(denoise), x, t), truth, rtol=1e-2)
    np.testing.assert_allclose(posterior_variance(VP, probed_diagonal(jax.random.key(1), denoise, 2000), x, t), truth, rtol=0.1)


def test_variances_are_bounded_where_nothing_is_told():
    flow, x = paths.flow(), jnp.ones(3)
    spread = lambda denoise, most: posterior_variance(flow, probed_diagonal(jax.random.key(0), denoise), x, flow.end, most=most)
    np.testing.assert_allclose(spread(oracles.denoiser(flow, MIXTURE), 0.7), 0.7)
    steep = lambda sign: posterior_variance(VP, exact_diagonal(lambda x, t: sign * 100 * x), x, jnp.float32(0.5))
    np.testing.assert_array_equal(steep(1), 1)
    np.testing.assert_array_equal(steep(-1), 0)


@pytest.mark.parametrize(
    ('scalar', 'steps', 'std', 'left', 'right'),
    [
        (True, 100, 0.4860, 0.298, 0.201),
        (True, 20, 0.4804, 0.289, 0.178),
        (False, 100, 0.4898, 0.304, 0.208),
        (False, 20, 0.4872, 0.301, 0.196),  # of 320000 draws
    ],
    ids=['scalar 100', 'scalar 20', 'elements 100', 'elements 20'],
)
def test_few_steps_have_the_measured_spread(scalar, steps, std, left, right):
    denoise, x = oracles.denoiser(LINEAR, MIXTURE), jax.random.normal(jax.random.key(0), (COUNT,))
    solver = ddpm(LINEAR, variance=optimal(LINEAR, probed_diagonal(jax.random.key(2), denoise), scalar=scalar))
    x = np.asarray(jax.jit(lambda: sample(jax.random.key(1), x, denoise, solver, grids.leading(1000, steps)).x)())
    assert abs(x.std() - std) < 0.004
    assert abs((x < -0.3).mean() - left) < 0.009 and abs((x > 0.5).mean() - right) < 0.009
