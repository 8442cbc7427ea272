"""prove_samplers.py at toy size: it proves what is right, and would not prove what is wrong."""

import json

import jax
import jax.numpy as jnp
import prove_samplers

from jaxdiff import grids
from jaxdiff.experiment import configure
from jaxdiff.solvers.ancestral import ddim
from jaxdiff.solvers.loop import sample
from jaxdiff.solvers.runge_kutta import heun

TINY = dict(preset='smoke', steps=(40, 80), walkers=100, draws=2000, brownian=200)


def test_a_biased_solver_and_a_wrong_order_miss_their_bars(tmp_path, monkeypatch):
    wrong = {'ddim': prove_samplers.Case(ddim, 2.0, steps=4)}
    monkeypatch.setattr(
        prove_samplers, 'CASES', {'dpm++ 2m': prove_samplers.CASES['dpm++ 2m'], 'dpm++ 3m': prove_samplers.PUBLISHED, **wrong}
    )
    result = prove_samplers.run(configure(prove_samplers.Config, prove_samplers.PRESETS, workdir=str(tmp_path / 'run'), **TINY))
    passed = {bar['name']: bar['passed'] for bar in result['bars']}
    assert not passed['order_deviation'] and not passed['moments_z'] and passed['likelihood_error']
    assert set(passed) == {bar.name for bar in prove_samplers.BARS}
    rows = {row[0]: row for row in result['tables'][0]['rows']}
    assert abs(rows['dpm++ 2m'][1] - 2) < 0.1 and abs(rows['ddim'][1] - 1) < 0.1
    assert json.loads((tmp_path / 'run' / 'result.json').read_text())['tables'][0]['header'][0] == 'solver'
    assert (tmp_path / 'run' / 'figures' / 'flow.png').exists()


def test_a_resting_solver_does_nothing_more():
    denoise = lambda x, t: x / 2
    walk = lambda solver, times: sample(jax.random.key(0), jnp.ones(3), denoise, solver, times).x
    solver, times = heun(prove_samplers.PATH), grids.log_snr(prove_samplers.PATH, 5, zero=False)
    rested = walk(prove_samplers.resting(solver), jnp.pad(times, (0, 4), constant_values=prove_samplers.REST))
    assert jnp.allclose(rested, walk(solver, times), atol=1e-6)


def test_calls_are_counted():
    count = lambda solver, n: prove_samplers.calls(solver(prove_samplers.PATH), grids.uniform(prove_samplers.PATH, n))
    assert (count(ddim, 3), count(heun, 3), count(heun, 4)) == (3, 5, 7)
