import math

import jax.numpy as jnp
import numpy as np

from jaxdiff.training.optimizer import adam, schedule


def test_schedule_by_hand():
    rate = schedule(2.0, 110, warmup=10, final=0.1)
    expected = {0: 2 / 11, 9: 20 / 11, 10: 2.0, 60: 2 * (0.1 + 0.9 / 2), 110: 0.2, 500: 0.2}
    for step, value in expected.items():
        assert math.isclose(float(rate(jnp.int32(step))), value, rel_tol=1e-5), step


def test_clip_bounds_what_adam_sees():
    """Adam ignores the scale of a constant gradient but not of one that changes: after a spike, the clipped second moment is small."""
    params, spike, usual = jnp.zeros(2), jnp.full(2, 1e4), jnp.full(2, 0.1)

    def second_update(clip):
        optimizer = adam(1.0, 100, clip=clip)
        state = optimizer.init(params)
        for grads in (spike, usual):
            updates, state = optimizer.update(grads, state, params)
        return float(jnp.abs(updates[0]))

    assert second_update(clip=1.0) > 0.5 and second_update(clip=0.0) > 0.5
    gradient = lambda clip: adam(1.0, 100, clip=clip, b1=0.0, b2=0.0).update(spike, adam(1.0, 100).init(params), params)[0]
    np.testing.assert_allclose(gradient(1.0), [-1, -1], rtol=1e-3)


def test_only_kernels_decay():
    optimizer = adam(0.1, 100, weight_decay=0.5)
    params = {'kernel': jnp.ones((2, 2)), 'bias': jnp.ones(2)}
    updates, _ = optimizer.update({'kernel': jnp.zeros((2, 2)), 'bias': jnp.zeros(2)}, optimizer.init(params), params)
    np.testing.assert_allclose(updates['kernel'], np.full((2, 2), -0.05), rtol=1e-6)
    np.testing.assert_array_equal(updates['bias'], np.zeros(2))
