"""Divergences of a linear field are the trace of its matrix."""

import math

import jax
import jax.numpy as jnp
import numpy as np

from jaxdiff.divergence import exact_trace, hutchinson


def test_the_divergence_is_the_trace():
    matrix = jax.random.normal(jax.random.key(0), (6, 6))
    field = lambda x: (matrix @ x.ravel()).reshape(x.shape)
    x = jnp.ones((2, 3))
    value, divergence = exact_trace(field, x)
    np.testing.assert_allclose(divergence, jnp.trace(matrix), rtol=1e-5)
    estimated, estimates = hutchinson(jax.random.key(1), 4000)(field, x)
    np.testing.assert_array_equal(value, estimated)
    assert estimates.shape == (4000,)
    assert abs(estimates.mean() - divergence) < 4 * estimates.std() / math.sqrt(4000)
