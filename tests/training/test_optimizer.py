import math

import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff.training.optimizer import adam, schedule


def test_schedule_by_hand():
    rate = schedule(2.0, 110, warmup=10, final=0.1)
    expected = {0: 2 / 11, 9: 20 / 11, 10: 2.0, 60: 2 * (0.1 + 0.9 / 2), 110: 0.2, 500: 0.2}
    for step, value in expected.items():
        assert math.isclose(float(rate(jnp.int32(step))), value, rel_tol=1e-5), step


@pytest.mark.parametrize('clip', [0.5, 0.0])
def test_clipped_adam_by_hand(clip):
    """Three steps in float64, a spike among them: what clipping does to the second moment is what is seen."""
    b1, b2, rate = 0.9, 0.99, schedule(0.1, 20, warmup=2)
    optimizer = adam(0.1, 20, warmup=2, clip=clip, b1=b1, b2=b2)
    params, first, second = jnp.zeros(2), np.zeros(2), np.zeros(2)
    state = optimizer.init(params)
    for n, grads in enumerate(np.array([[0.3, -0.1], [40.0, 30.0], [0.2, 0.1]])):
        updates, state = optimizer.update(jnp.asarray(grads, jnp.float32), state, params)
        size = np.linalg.norm(grads)
        clipped = grads * min(1, clip / size) if clip else grads
        first, second = b1 * first + (1 - b1) * clipped, b2 * second + (1 - b2) * clipped**2
        expected = -float(rate(n)) * first / (1 - b1 ** (n + 1)) / np.sqrt(second / (1 - b2 ** (n + 1)))
        np.testing.assert_allclose(updates, expected, rtol=1e-4)


def test_only_kernels_decay():
    optimizer = adam(0.1, 100, weight_decay=0.5)
    params = {'kernel': jnp.ones((2, 2)), 'bias': jnp.ones(2)}
    updates, _ = optimizer.update({'kernel': jnp.zeros((2, 2)), 'bias': jnp.zeros(2)}, optimizer.init(params), params)
    np.testing.assert_allclose(updates['kernel'], np.full((2, 2), -0.05), rtol=1e-6)
    np.testing.assert_array_equal(updates['bias'], np.zeros(2))
