"""A generator and its critic on images of two pixels: what either is pulled by, and when."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxdiff.training import adversarial, stages
from jaxdiff.training.adversarial import Critic, balance, duel_step, init_duel
from jaxdiff.training.state import state_digest

jit = partial(jax.jit, compiler_options={'xla_backend_optimization_level': 0})
SGD = optax.sgd(1.0)
REAL = {'image': jnp.array([[[1.0], [2.0]], [[-1.0], [0.5]]])}
PARAMS = {'first': jnp.array([0.5, -0.2]), 'last': jnp.array([0.3, 0.7])}
JUDGE = {'w': jnp.array([0.4, -0.6])}
LAST = ('last',)


def make(params, aside, keys, batch):
    h = jnp.tanh(batch['image'][..., 0] * params['first'][None])
    return ((h * params['last'][None])[..., None], 0.1 * jnp.sum(jnp.square(params['first']))), (aside + 1, {'seen': h.mean()})


def faithful(keys, real, fake):
    return jnp.mean(jnp.square(real - fake)), {}


def apply(params, x):
    return jnp.sum(params['w'][None] * jnp.sin(x[..., 0]), -1)


def critic(**fields):
    return Critic(apply, lambda key: JUDGE, SGD, **{'weight': 0.5, 'learns': 0, 'heard': 0, 'cap': 1e9, **fields})


def begin(rival):
    return init_duel(jax.random.key(0), PARAMS, jnp.zeros(()), SGD, rival)


def slopes(params):
    """Of the two losses, by the parameters, from their definitions."""
    fake = lambda params: make(params, 0, None, REAL)[0]
    error = jax.grad(lambda params: faithful(None, REAL['image'], fake(params)[0])[0])(params)
    pleased = jax.grad(lambda params: -jnp.mean(apply(JUDGE, fake(params)[0])))(params)
    return error, pleased, jax.grad(lambda params: fake(params)[1])(params)


def test_at_the_last_kernel_the_critic_pulls_weight_times_as_hard_as_the_rest():
    rival = critic()
    state, told = jit(duel_step(make, faithful, SGD, rival, last=LAST))(begin(rival), REAL)
    error, pleased, penalty = slopes(PARAMS)
    length = lambda tree: float(jnp.linalg.norm(tree['last']))
    assert float(told['adversarial_share']) * length(pleased) == pytest.approx(0.5 * length(error), rel=1e-3)
    want = jax.tree.map(lambda p, *each: p - each[0] - told['adversarial_share'] * each[1] - each[2], PARAMS, error, pleased, penalty)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), state.generator.params, want)
    assert int(state.aside) == 1 and int(state.step) == 1


def test_the_weight_is_capped():
    assert float(balance(jnp.ones(4), jnp.zeros(4), cap=10.0)) == 10
    assert float(balance(jnp.ones(4), jnp.full(4, 2.0), cap=10.0)) == pytest.approx(0.5, rel=1e-3)


def test_the_critic_learns_the_hinge_and_nothing_flows_from_it_to_the_images():
    rival = critic()
    state, told = jit(duel_step(make, faithful, SGD, rival, last=LAST))(begin(rival), REAL)
    fake = make(PARAMS, 0, None, REAL)[0][0]
    loss = lambda params: (jnp.maximum(1 - apply(params, REAL['image']), 0).mean() + jnp.maximum(1 + apply(params, fake), 0).mean()) / 2
    assert float(told['critic']) == pytest.approx(float(loss(JUDGE)), rel=1e-5)
    np.testing.assert_allclose(state.critic.params['w'], JUDGE['w'] - jax.grad(loss)(JUDGE)['w'], rtol=1e-5)


def test_before_its_time_the_critic_stands_still_and_is_not_heard():
    rival = critic(learns=1, heard=2)
    step, alone = jit(duel_step(make, faithful, SGD, rival, last=LAST)), jit(duel_step(make, faithful, SGD, None, last=LAST))
    state, other = begin(rival), begin(None)
    assert other.critic == ()
    shares, moved = [], []
    for _ in range(3):
        state, told = step(state, REAL)
        other, _ = alone(other, REAL)
        shares.append(float(told['adversarial_share']))
        moved.append(bool((state.critic.params['w'] != JUDGE['w']).any()))
        same = all(np.allclose(a, b, rtol=1e-6) for a, b in zip(*map(jax.tree.leaves, (state.ema, other.ema)), strict=True))
        assert same == (shares[-1] == 0)
    assert shares[:2] == [0, 0] and shares[2] > 0 and moved == [False, True, True]


def test_both_are_saved_and_a_stopped_run_goes_on_as_if_it_had_not_been(tmp_path):
    rival = critic()
    data = lambda start: iter(lambda: jax.tree.map(np.asarray, REAL), None)
    stage = lambda steps: stages.Stage('duel', lambda key: begin(rival), duel_step(make, faithful, SGD, rival, last=LAST), data, steps)
    whole = stages.run(stage(4), tmp_path / 'whole', jax.random.key(0))
    stages.run(stage(2), tmp_path / 'parts', jax.random.key(0))
    parts = stages.run(stage(4), tmp_path / 'parts', jax.random.key(0))
    assert state_digest(parts) == state_digest(whole) and int(parts.aside) == 4
    assert adversarial.leaf({'a': {'b': 3}}, ('a', 'b')) == 3
