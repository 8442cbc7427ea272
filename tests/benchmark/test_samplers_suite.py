"""Suite `samplers` at toy size: the cases, the calls that are counted, and what is made of seconds."""

import time

import jax
import pytest

from jaxdiff import grids, paths
from jaxdiff.benchmark import loops, peers, samplers, timing, walks
from jaxdiff.benchmark.cases import Case, cases, unet
from jaxdiff.benchmark.ceiling import ceiling
from jaxdiff.types import UserError

PATH = paths.cosine()
TINY = dict(shapes=('8x8',), solvers=('ddim',), steps=(3,), widths=(8,), batches=(2,), rounds=3, least=0.01)


@pytest.fixture(scope='module')
def measured():
    """DDIM beside a peer that sleeps: a walk of 60 ms, 4 calls of 10 ms."""
    patch = pytest.MonkeyPatch()
    patch.setattr(samplers, 'ceiling', lambda dtype: 2e9)
    patch.setattr(peers, 'missing', lambda *names: [])
    patch.setattr(loops, 'contest', lambda *_: {'diffusers': (lambda: time.sleep(0.06), lambda: time.sleep(0.01), 4)})
    yield samplers.measure(**TINY, rivals=('diffusers', 'monai'))
    patch.undo()


def test_overhead_is_the_sampler_over_its_calls(measured):
    ours, theirs = measured.lines
    for n, each in enumerate(measured.evaluations):
        assert each.metrics['overhead'] == pytest.approx(ours['walk'][n] / (3 * ours['forward'][n]))
        assert each.baselines['diffusers']['overhead'] == pytest.approx(theirs['walk'][n] / (4 * theirs['forward'][n]))
    assert theirs['calls'] == 4 and min(theirs['walk']) > 0.06 > min(theirs['forward']) > 0.01


def test_a_row_tells_where_it_comes_from(measured):
    table = measured.tables[0]
    ours, theirs = (dict(zip(table['header'], row, strict=True)) for row in table['rows'])
    assert (ours['software'], ours['network calls'], ours['image'], ours['steps']) == ('jaxdiff', 3, '8x8', 3)
    assert ours['examples/s'] * ours['sampler, s'] == pytest.approx(2)
    assert ours['network calls/s'] * ours['sampler, s'] == pytest.approx(3)
    assert ours['compilation, s'] > 0 and theirs['compilation, s'] is None
    assert ours['share of the ceiling'] == pytest.approx(ours['GFLOP/s'] / 2)


def test_flops_and_memory_are_of_all_devices(measured):
    blank = unet((8, 8), 'float32', (8,), 2)
    params = sum(leaf.size for leaf in jax.tree.leaves(samplers.model.shapes(blank)))
    assert measured.lines[0]['memory_bytes'] > 2 * 4 * params  # whole on each of two devices
    one = jax.jit(lambda params, x, t: samplers.model.denoiser(blank._replace(params=params))(x, t))
    image = jax.ShapeDtypeStruct((8, 8, 1), 'float32')
    alone = one.lower(samplers.model.shapes(blank), image, jax.ShapeDtypeStruct((), 'float32')).cost_analysis()['flops']
    assert measured.lines[0]['flops'] == pytest.approx(3 * 2 * alone, rel=0.1)


def test_the_ceiling_is_the_best_of_all_devices_together(monkeypatch):
    monkeypatch.setattr(timing, 'alternate', lambda calls, **_: {size: timing.Timing((2.0, 4.0)) for size in calls})
    assert ceiling('float32', (4, 8)) == 2 * 8**3 * jax.device_count() / 2.0


def test_calls_are_those_of_the_solvers():
    count = lambda name, steps: walks.network_calls(walks.SOLVERS[name](PATH), walks.grid(name, PATH, steps))
    assert (count('heun', 7), count('pndm', 7)) == (13, 16)
    assert count('resampling', 8) == 14  # four stretches of two steps, all but the last twice


def test_every_solver_of_the_scripts_is_timed():
    assert set(loops.DIFFUSERS) | set(loops.MONAI) <= set(walks.SOLVERS)
    assert walks.grid('heun', PATH, 4).tolist() == grids.default(PATH, 4).tolist()


def test_further_shapes_are_walked_once():
    found = cases(('64x64', '32x32x32'), ('ddim', 'heun'), (20, 10), (1, 2), ('float32',))
    assert len(found) == 2 * 4 + 2 and len(set(found)) == len(found)
    assert found[-1] == Case((32, 32, 32), 2, 'float32', 'ddim', 10)


@pytest.mark.parametrize(
    'wrong, flag',
    [({'shapes': ('8',)}, '--shapes=8'), ({'solvers': ('none',)}, '--solvers=none'), ({'dtypes': ('int8',)}, '--dtypes=int8')],
)
def test_what_cannot_be_is_refused(wrong, flag):
    with pytest.raises(UserError, match=flag):
        samplers.check(**{'patch': 2, 'dtypes': ('float32',), **TINY, **wrong})
    with pytest.raises(UserError, match='--shapes'):
        unet((9, 9), 'float32', (8,), 2)
