"""The weights of exponential quadrature, against the integral itself."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff.solvers.exponential import SLOPES, blank, remember, weights

EXACT = SLOPES['exact']


@pytest.mark.parametrize('nodes', [(0.0,), (0.0, -0.3), (0.0, -0.3, -1.1), (0.0, 0.7, -0.4, -0.5)], ids=len)
def test_polynomials_are_integrated_exactly(nodes):
    h, nodes = 0.7, np.array(nodes)
    points, weight = np.polynomial.legendre.leggauss(20)
    u = h * (points + 1) / 2
    with jax.enable_x64(True):
        w = weights(jnp.array(h), list(jnp.array(nodes)), len(nodes), EXACT)
    for power in range(len(nodes)):
        np.testing.assert_allclose(np.dot(w, nodes**power), np.sum(weight * h / 2 * np.exp(u - h) * u**power), rtol=1e-12)


@pytest.mark.parametrize('known', [1, 2, 3])
def test_values_that_are_not_known_weigh_nothing(known):
    h, offsets = jnp.float32(0.5), list(jnp.array([0.0, -0.4, -0.9]))
    w = jax.jit(lambda known: weights(h, offsets, known, SLOPES['bh2']))(known)
    np.testing.assert_allclose(w[:known], weights(h, offsets[:known], known, SLOPES['bh2']), rtol=1e-6)
    np.testing.assert_array_equal(w[known:], 0)


def test_equal_nodes_are_ignored():
    w = weights(jnp.float32(0.0), [jnp.float32(0.0)] * 3, 3, EXACT)
    np.testing.assert_array_equal(w, 0)
    w = weights(jnp.float32(0.5), [jnp.float32(0.0)] * 2, 2, EXACT)
    np.testing.assert_allclose(w, [-np.expm1(-0.5), 0], rtol=1e-6)


def test_history_is_newest_first():
    history = blank(2, jnp.zeros(1))
    for i in (1.0, 2.0, 3.0):
        history = remember(history, jnp.float32(i), jnp.full(1, 10 * i))
    assert history.count == 3 and history.nodes == (3, 2) and [float(v[0]) for v in history.values] == [30, 20]
