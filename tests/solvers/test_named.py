"""Solvers by their names: the calls that are told are those that happen."""

import jax
import jax.numpy as jnp
import pytest

from jaxdiff import grids, paths
from jaxdiff.solvers import named
from jaxdiff.solvers.loop import sample
from jaxdiff.solvers.runge_kutta import heun

PATH = paths.vp()


@pytest.mark.parametrize('solver', named.SOLVERS)
def test_network_calls_are_told_as_they_happen(solver):
    count = []

    def denoise(x, t):
        jax.debug.callback(lambda: count.append(0))
        return x / 2

    times = grids.default(PATH, 5)
    walk = jax.jit(lambda x: sample(jax.random.key(0), x, denoise, named.SOLVERS[solver](PATH), times).x)
    jax.block_until_ready(walk(jnp.ones(1)))
    jax.effects_barrier()
    assert len(count) == named.calls(solver, 5)


def test_what_is_given_is_not_replaced():
    times = named.usual(PATH)[1]
    assert len(times) == named.STEPS + 1 and times[0] == PATH.end
    other, few = heun(PATH), times[:3]
    assert named.usual(PATH, other)[0] is other and len(named.usual(PATH, other)[1]) == len(times)
    assert named.usual(PATH, times=few)[1] is few
