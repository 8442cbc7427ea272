"""Other libraries walk as we do, and where they do not, it is known by how much.

Our walks are held against what the peers answered when `record.py` was run last; where the peers are installed, they are asked again.
"""

import importlib.util

import jax.numpy as jnp
import numpy as np
import pytest
from cases import CASES
from differences import DIFFERENCES
from record import PAGE, page, read
from walks import KEY, PATHS, START, network, ours, theirs

from jaxdiff.predict import as_denoiser
from jaxdiff.solvers.ancestral import ddim
from jaxdiff.solvers.loop import sample

RECORDED = read()
MISSING = [name for name in ('torch', 'diffusers', 'monai') if importlib.util.find_spec(name) is None]
live = pytest.mark.skipif(bool(MISSING), reason=f'asks the peers themselves; install jaxdiff[peers], {", ".join(MISSING)} missing')

walks = pytest.mark.parametrize('case', CASES, ids=lambda case: case.name.replace(' ', '-'))
differences = pytest.mark.parametrize('name', DIFFERENCES)


@walks
def test_we_walk_as_the_peer_was_seen_to(case):
    np.testing.assert_allclose(ours(case), RECORDED['walks'][case.name]['walk'], atol=1e-4)


@live
@walks
def test_we_walk_as_the_peer_installed(case):
    walk = theirs(case)
    np.testing.assert_allclose(ours(case), walk, atol=1e-4)
    np.testing.assert_allclose(walk, RECORDED['walks'][case.name]['walk'], atol=2e-5)


@live
@differences
def test_figures_are_still_as_recorded(name):
    difference, recorded = DIFFERENCES[name], RECORDED['differences'][name]
    np.testing.assert_allclose([difference.theirs(at) for at in difference.over], recorded['theirs'], rtol=0.02, atol=2e-4)
    np.testing.assert_allclose([difference.ours(at) for at in difference.over], recorded['ours'], rtol=0.05, atol=2e-4)


@pytest.mark.parametrize('name', ['ddim linspace', 'ddim trailing', 'last noise'])
def test_our_figures_are_still_as_recorded(name):
    """The others take compilations; tests of the solvers hold them."""
    difference = DIFFERENCES[name]
    np.testing.assert_allclose([difference.ours(at) for at in difference.over], RECORDED['differences'][name]['ours'], rtol=0.05, atol=2e-4)


def figures(name):
    """Theirs and ours, as recorded."""
    return (np.array(RECORDED['differences'][name][side]) for side in ('theirs', 'ours'))


@pytest.mark.parametrize('name', ['ddim linspace', 'ddim trailing', 'monai ddim'])
def test_a_step_that_ends_elsewhere_than_the_next_begins_does_not_converge(name):
    """DDIM of the peers at 20, 50, 150, 300 and 600 steps of 1000, which 150, 300 and 600 do not divide."""
    theirs, ours = figures(name)
    assert np.all(np.diff(theirs[2:]) > 0) and theirs[-1] > 0.3
    assert np.all(np.diff(np.abs(ours)) < 0) and abs(ours[-1]) < 0.006


def test_the_third_order_in_use_is_second():
    orders = [np.log2(each[:-1] / each[1:]) for each in figures('third order')]
    assert abs(orders[0][-1] - 2) < 0.1 and abs(orders[1][-1] - 3.05) < 0.1


def test_the_stochastic_third_order_is_first():
    """The error of one step, one order above that of a walk."""
    orders = [np.log2(each[:-1] / each[1:]) for each in figures('stochastic third order')]
    assert abs(orders[0][-1] - 2) < 0.2 and abs(orders[1][-1] - 3) < 0.2


def test_fewer_steps_leave_noise_in_monai_ddpm():
    theirs, ours = figures('monai ddpm')
    assert np.all(theirs[:3] > 0.6) and abs(theirs[-1] - 0.5) < 0.01
    assert np.all(np.abs(ours - 0.5) < 0.06)


def test_monai_pndm_steps_too_short():
    theirs, ours = figures('monai pndm')
    assert np.all(theirs > 0.07) and np.all(np.abs(ours) < 0.02)


def test_noise_in_the_step_to_data():
    theirs, ours = figures('last noise')
    assert np.all(theirs > 0.04) and np.all(ours == 0)


def test_an_infinite_step_of_bh1():
    theirs, ours = figures('bh1')
    assert np.all(np.isnan(theirs)) and np.all(np.isfinite(ours))


def test_our_walks_are_those_of_sample():
    case = next(case for case in CASES if case.options == {'eta': 0.5})
    denoise = as_denoiser(lambda x, t: network('eps', 'linear')(x[0], t[0], jnp)[None], PATHS['linear'], 'eps')
    walk = sample(KEY, jnp.asarray(START), denoise, ddim(PATHS['linear'], eta=0.5), jnp.asarray(case.times), trace=lambda i, x, x0: x)
    np.testing.assert_allclose(ours(case), walk.trace, atol=1e-5)


def test_the_record_is_of_these_cases():
    assert set(RECORDED['walks']) == {case.name for case in CASES} and len(RECORDED['walks']) == len(CASES)
    assert set(RECORDED['differences']) == set(DIFFERENCES)


def test_the_page_shows_the_record():
    assert page(PAGE.read_text(), RECORDED) == PAGE.read_text()
