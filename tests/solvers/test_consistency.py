"""Consistency functions are the identity where they must be, have the published coefficients, and sample the law that they know."""

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest

from jaxdiff import paths
from jaxdiff.solvers.consistency import consistency, consistent, jump
from jaxdiff.solvers.loop import sample

COSINE = paths.cosine()
EXPLODING = paths.GaussianPath(jnp.ones_like, lambda t: t, lambda t: -2 * jnp.log(t), 80.0, lambda t: t)
STRAIGHT = paths.GaussianPath(lambda t: 1 - t, lambda t: t, lambda t: 2 * (jnp.log1p(-t) - jnp.log(t)), 1.0, lambda t: t)
PATHS = {
    'cosine': (COSINE, 0.002),
    'exploding': (EXPLODING, 0.002),
    'straight': (STRAIGHT, 0.01),
    'zero terminal': (paths.discrete(np.append(paths.linear_betas(999), 1.0)), 1.0),
}
X = jax.random.normal(jax.random.key(0), (1000,))


@pytest.mark.parametrize('std', [None, 0.5])
@pytest.mark.parametrize(('path', 'last'), PATHS.values(), ids=PATHS)
def test_the_identity_where_it_must_be_and_finite_elsewhere(path, last, std):
    f = jax.jit(jax.vmap(consistent(path, lambda x, t: jnp.sin(3 * x) + 1, last, std=std), (None, 0)))
    ends = f(X, jnp.array([last, 0.0, path.end, 1.001 * last]))
    np.testing.assert_array_equal(ends[:2], jnp.stack([X, X]))
    assert jnp.all(jnp.isfinite(ends))
    np.testing.assert_allclose(ends[3], X, atol=0.02)  # and continuous
    assert jnp.all(jnp.abs(ends[2] - jnp.sin(3 * X) - 1) < 0.1)  # far away nothing is left of x


def test_the_coefficients_are_the_published_ones():
    t, last, std, f = jnp.array([0.002, 0.01, 0.5, 3.0, 80.0]), 0.002, 0.5, jnp.cos(X[:5])
    x = X[:5] * t
    skip, out = std**2 / ((t - last) ** 2 + std**2), std * (t - last) / jnp.sqrt(t**2 + std**2)
    x0 = std**2 / (t**2 + std**2) * x + t * std / jnp.sqrt(t**2 + std**2) * f
    ours = jax.vmap(lambda x, t, x0: consistent(EXPLODING, lambda x, t: x0, last, std=std)(x, t))(x, t, x0)
    np.testing.assert_allclose(ours, skip * x + out * f, atol=1e-5)


def test_the_two_parameterisations_differ_by_little():
    t, denoise = jnp.linspace(0.01, 1, 20), oracles.denoiser(COSINE, oracles.TEST_BED)
    one, other = (jax.vmap(consistent(COSINE, denoise, 0.002, std=std), (None, 0))(X, t) for std in (None, 0.5))
    assert 1e-5 < jnp.abs(one - other).max() < 0.05


def test_a_jump_keeps_the_noise():
    x0, eps = X[:10], X[10:20]
    x = paths.perturb(COSINE, x0, eps, 0.7)
    np.testing.assert_allclose(jump(COSINE, x0, x, 0.7, 0.2), paths.perturb(COSINE, x0, eps, 0.2), atol=1e-6)
    np.testing.assert_array_equal(jump(COSINE, x0, x, 0.7, 0.0), x0)


def exact(mean, std, last):
    """The consistency function of N(mean, std^2)."""

    def f(x, t):
        spread = lambda t: jnp.sqrt((COSINE.alpha(t) * std) ** 2 + COSINE.sigma(t) ** 2)
        return COSINE.alpha(last) * mean + spread(last) / spread(t) * (x - COSINE.alpha(t) * mean)

    return f


@pytest.mark.parametrize('times', [[1.0, 0.0], [1.0, 0.5, 0.0], [1.0, 0.7, 0.3, 0.1, 0.0]])
def test_any_number_of_steps_draws_the_law(times):
    count = 40000
    x = jax.random.normal(jax.random.key(2), (count,))
    drawn = jax.jit(lambda times: sample(jax.random.key(3), x, exact(0.4, 0.3, 0.002), consistency(COSINE, 0.002), times).x)(
        jnp.array(times)
    )
    assert abs(drawn.mean() - 0.4) < 4 * 0.3 / np.sqrt(count)
    assert abs(drawn.std() / 0.3 - 1) < 4 / np.sqrt(2 * count) + 1e-4


def test_steps_at_or_below_the_last_time_return_the_function():
    solver, f = consistency(COSINE, 0.01), exact(0.4, 0.3, 0.01)
    step = jax.jit(jax.vmap(lambda s: solver.step(jax.random.key(0), f, (), X, jnp.float32(0.5), s)[0]))
    moved = step(jnp.array([0.0, 0.005, 0.01, 0.02]))
    np.testing.assert_array_equal(moved[:3], jnp.stack([moved[0]] * 3))
    np.testing.assert_allclose(moved[0], f(X, 0.5), atol=1e-6)
    scale, std = paths.transition(COSINE, 0.01, 0.02)
    assert abs((moved[3] - scale * moved[0]).std() / std - 1) < 4 / np.sqrt(2 * len(X))
