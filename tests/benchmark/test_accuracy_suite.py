"""Suite `accuracy` at toy size: the truth by quantiles, what is made of errors, and the schedulers, where they are installed, against our own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import norm

from jaxdiff import experiment, grids
from jaxdiff.benchmark import accuracy, contest, laws, schedulers
from jaxdiff.benchmark.schedulers import Entry
from jaxdiff.solvers.ancestral import ddim

TINY = dict(calls=6, walkers=10, seeds=3, laws=('line',), on=('cosine',), curve=(12,))
FIELD = (Entry('far', {'by': 0.5}), Entry('none'), Entry('near', {'by': 0.01}), Entry('lost', {'by': np.nan}))


@pytest.fixture(scope='module')
def line():
    with jax.enable_x64(True):
        yield contest.walks(laws.LAWS['line'](), laws.PATHS['scaled linear'](), 40)(0)


def measured(monkeypatch, **options):
    monkeypatch.setattr(contest, 'OTHERS', {'ddim': contest.OTHERS['ddim']})
    monkeypatch.setattr(contest, 'GRIDS', {'the same grid': grids.default})
    monkeypatch.setattr(contest, 'rk4', ddim)  # quick to compile: any truth will do
    return accuracy.measure(**{**TINY, **options})


def test_the_truth_is_where_the_flow_carries_every_quantile(line):
    """In one dimension the flow cannot reorder points, so it maps the quantiles of noised data to those of data."""
    law, path = laws.LAWS['line'](), line.path
    with jax.enable_x64(True):
        start = np.asarray(jax.random.normal(jax.random.split(jax.random.key(0))[0], (40, 1))) * float(path.sigma(path.end))

        def share(x, t):
            alpha, sigma = float(path.alpha(t)), float(path.sigma(t))
            weights, means, variances = (np.asarray(each).reshape(-1) for each in (law.weights, law.means, law.variances))
            return norm.cdf((x - alpha * means) / np.sqrt(alpha**2 * variances + sigma**2)) @ weights

        np.testing.assert_allclose(share(line.truth, 0.0), share(start, path.end), atol=1e-6)


def test_the_default_errs_less_than_ddim_and_ever_less(line):
    with jax.enable_x64(True):
        error = lambda make, n: line.error(line.ours(make, grids.default(line.path, n)))
        assert error(contest.USUAL, 20) < error(contest.USUAL, 10) / 4 < error(ddim, 10) / 12


def test_ratios_are_to_the_best_scheduler_that_can_walk(monkeypatch):
    truths = {}

    def walks(*given, make=contest.walks):
        pair_of = make(*given)

        def remembered(seed):
            truths[seed] = pair_of(seed)
            return truths[seed]

        return remembered

    def walk(entry, heights, denoise, y, calls, seed):
        if entry.scheduler == 'none':
            raise schedulers.Impossible
        return truths[seed].truth[: len(y)] + entry.options['by']

    monkeypatch.setattr(accuracy, 'missing', lambda *_: [])
    monkeypatch.setattr(accuracy, 'walks', walks)
    monkeypatch.setattr(schedulers, 'walk', walk)
    out = measured(monkeypatch, flows=FIELD, drawing=FIELD, finalists=2)
    for n, each in enumerate(out.evaluations):
        assert each.metrics['error_ratio'] == pytest.approx(each.metrics['error'] / 0.01)
        assert each.controls[accuracy.CONTROL]['error_ratio'] == pytest.approx(
            out.lines[2 * n if n == 0 else n + 1]['others'][accuracy.CONTROL] / 0.01
        )
    row = dict(zip(out.tables[0]['header'], out.tables[0]['rows'][0], strict=True))
    assert row['best scheduler'] == pytest.approx(0.01) and row['which scheduler'] == 'near by=0.01'
    assert [line['calls'] for line in out.lines] == [6, 12, 6, 6]
    assert out.tables[1]['rows'][0][-1] == 'near by=0.01'


def test_without_the_peers_a_note_says_so_and_the_bar_stands_unmet(monkeypatch):
    monkeypatch.setattr(accuracy, 'missing', lambda *_: ['diffusers'])
    out = measured(monkeypatch, seeds=1, curve=())
    assert out.notes == ['diffusers not installed: nothing was walked beside'] and len(out.tables) == 1
    verdict = experiment.verdict(out.evaluations, accuracy.BARS)
    assert not verdict['passed'] and verdict['bars'][0]['value'] is None
    assert verdict['metrics']['error'] > 0


def test_levels_are_those_of_the_path():
    assert laws.levels(laws.PATHS['linear']())[-1] == pytest.approx(157.4073, rel=1e-4)
    assert np.asarray(laws.levels(laws.PATHS['edm']()))[[0, -1]] == pytest.approx([0.002, 80])
    assert all(np.all(np.diff(laws.levels(make())) > 0) for make in laws.PATHS.values())


def test_images_have_the_spectrum_of_images():
    law = laws.image()
    spread = np.sqrt(np.asarray(jnp.mean(law.variances, axis=0)))
    assert law.means.shape == (4, 64) and 0.02 < spread.min() < 0.05 and 1.5 < spread.max() < 3


def test_a_scheduler_walks_as_we_do(line):
    pytest.importorskip('diffusers')
    with jax.enable_x64(True):
        ours = line.ours(ddim, grids.trailing(1000, 10))
        theirs = line.theirs(Entry('DDIMScheduler', {'timestep_spacing': 'trailing', 'clip_sample': False}), 10, 40)
    np.testing.assert_allclose(theirs, ours, atol=1e-4)


def test_walks_take_no_more_calls_than_allowed():
    pytest.importorskip('diffusers')
    heights, counts = np.asarray(laws.levels(laws.PATHS['linear']())), []
    for name in (
        'HeunDiscreteScheduler',
        'LMSDiscreteScheduler',
        'IPNDMScheduler',
        'EDMDPMSolverMultistepScheduler',
        'UniPCMultistepScheduler',
    ):
        seen = []
        look = lambda y, level, seen=seen: (seen.append(level), 0 * y)[1]
        schedulers.walk(Entry(name), heights, look, np.ones((2, 1)) * heights[-1], 10)
        counts.append(len(seen))
    assert counts == [9, 10, 10, 10, 10]
