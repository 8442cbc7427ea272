"""Suite `networks` at toy size: what the twins compute, and what is made of seconds."""

import time
from functools import partial
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from jaxdiff import model
from jaxdiff.benchmark import networks, peers, timing, twins
from jaxdiff.benchmark.twins import Case, Program, Work
from jaxdiff.types import UserError

QUICK = {'xla_backend_optimization_level': 0}  # compiling is most of what these tests cost
jit = partial(jax.jit, compiler_options=QUICK)
TINY = Case(2, 4, (4,), 2, blocks=0)


def sleeper(seconds):
    return lambda: time.sleep(seconds)


@pytest.fixture(scope='module')
def measured():
    """Forward: ours 10 ms, the peers 20 and 30. Training with remat 20 ms for 10. Guidance 30 ms for 10."""
    program = Program(None, 1.5, SimpleNamespace(flops=2e6, memory=3 * 2**20, devices=2))

    def works(case, *_):
        theirs = {'torch eager, contiguous': sleeper(0.03), 'torch eager, channels last': sleeper(0.02)}
        yield Work('forward', {'jaxdiff': sleeper(0.01), **theirs}, {'jaxdiff': program}), ['torch compiled: no compiler']
        ours = {'jaxdiff': sleeper(0.01), 'jaxdiff, remat': sleeper(0.02)}
        yield Work('train', ours, dict.fromkeys(ours, program)), []
        walks = {'unguided': sleeper(0.01), 'guided': sleeper(0.03)}
        yield Work('guidance', walks, dict.fromkeys(walks, program)), []

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(networks, 'works', works)
        patch.setattr(networks, 'ceiling', lambda dtype: 1e9)
        patch.setattr(networks.profile, 'table', lambda case: {'caption': f'{case.dims}-D', 'header': [], 'rows': []})
        patch.setattr(timing, 'alternate', partial(timing.alternate, least=0.01))
        return networks.measure(dims=(2,), rounds=2, peers=False)


def test_speed_is_against_the_better_layout(measured):
    seconds = {(line['work'], line['contender']): line['seconds'] for line in measured.lines}
    for n, each in enumerate(measured.evaluations):
        better = min(seconds['forward', f'torch eager, {layout}'][n] for layout in peers.LAYOUTS)
        assert each.metrics['forward_2d'] == pytest.approx(better / seconds['forward', 'jaxdiff'][n])
        last = better / seconds['forward', 'torch eager, channels last'][n]
        assert each.baselines['torch eager, channels last'] == {'forward_2d': pytest.approx(last)}
        assert each.metrics['train_remat_2d'] == pytest.approx(seconds['train', 'jaxdiff, remat'][n] / seconds['train', 'jaxdiff'][n])
        assert each.metrics['guidance_2d'] == pytest.approx(seconds['guidance', 'guided'][n] / seconds['guidance', 'unguided'][n])
        assert 'train_2d' not in each.metrics
    assert len(measured.evaluations) == 2
    assert '2-D forward, torch compiled: no compiler' in measured.notes


def test_rows_tell_of_every_contender(measured):
    table = measured.tables[0]
    rows = [dict(zip(table['header'], row, strict=True)) for row in table['rows']]
    ours, theirs = rows[:2]
    assert (ours['network'], ours['contender'], theirs['contender']) == ('2-D forward', 'jaxdiff', 'torch eager, contiguous')
    assert ours['examples/s'] * ours['ms'] == pytest.approx(4e3)
    assert ours['GFLOP/s'] * ours['ms'] == pytest.approx(2) and theirs['GFLOP/s'] * theirs['ms'] == pytest.approx(2)
    assert ours['share of the ceiling'] == pytest.approx(ours['GFLOP/s'])
    assert ours['memory of the program, MiB'] == 6 and ours['compilation, s'] == 1.5
    assert theirs['memory of the program, MiB'] is None and theirs['compilation, s'] is None
    assert '4 x 64x64 with widths 64, 128, 128' in table['caption']


@pytest.fixture(scope='module')
def pair():
    return twins.make(TINY, beside=False)


@pytest.fixture(scope='module')
def answer(pair):
    """Of the network to the batch, without devices."""
    return jit(model.make_network(pair.spec).apply)(pair.params, pair.batch['x'], pair.batch['t'])


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(twins, '_compiled', partial(twins._compiled, compiler_options=QUICK))


def test_ours_is_the_network_on_every_example(pair, answer):
    work, notes = twins.forward(pair)
    np.testing.assert_allclose(work.calls['jaxdiff'](), answer, atol=1e-4)
    assert not notes and work.programs['jaxdiff'].cost.devices == 2 and work.programs['jaxdiff'].cost.flops > 1e4


def test_a_step_of_training_lowers_the_squared_error(pair, answer):
    work, _ = twins.train(pair, remat=False)
    losses = [float(work.calls['jaxdiff']()) for _ in range(3)]
    assert losses[0] < float(np.mean(np.square(answer - pair.batch['target'])))  # two steps were taken to compare their losses
    assert losses[2] < losses[1] < losses[0]


def test_guidance_bends_the_walk(pair):
    work = twins.guided(pair, 2)
    assert np.abs(np.asarray(work.calls['guided']()) - np.asarray(work.calls['unguided']())).max() > 0


def test_answers_that_differ_are_an_error():
    twins.agree(TINY, np.array([1.0, 2.0]), np.array([1.0, 2.0001]))
    with pytest.raises(ValueError, match='differ by'):
        twins.agree(TINY, np.array([1.0, 2.0]), np.array([1.0, 2.001]))
    with pytest.raises(ValueError, match='differ by'):
        twins.agree(TINY, np.array([np.nan]), np.array([1.0]))


def test_refusals():
    with pytest.raises(UserError, match='--dims=1'):
        networks.measure(dims=(1,))
    with pytest.raises(UserError, match='multiple of 2'):
        twins.make(TINY._replace(widths=(4, 4), size=3), beside=False)


def test_without_the_peers_ours_is_timed_alone(monkeypatch):
    monkeypatch.setattr(peers, 'missing', lambda *names: ['torch'])
    monkeypatch.setattr(networks, 'ceiling', lambda dtype: 1e9)
    monkeypatch.setattr(networks, 'works', lambda case, beside, *_: [twins.forward(twins.make(TINY, beside=beside))])
    measured = networks.measure(dims=(2,), rounds=1)
    assert [line['contender'] for line in measured.lines] == ['jaxdiff'] and measured.evaluations[0].metrics == {}
    assert 'timed alone: torch' in measured.notes[0]
