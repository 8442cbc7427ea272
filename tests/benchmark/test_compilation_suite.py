"""The suite of compilation tells a loop from one written out, and a start with a cache from one without."""

import pytest

from jaxdiff.benchmark import compilation
from jaxdiff.experiment import verdict
from jaxdiff.types import UserError

SCRIPT = """
import sys
import jax, jax.numpy as jnp
flags = dict(flag[2:].split('=') for flag in sys.argv[1:])
if 'compilation_cache' in flags:
    jax.config.update('jax_compilation_cache_dir', flags['compilation_cache'])
    jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.0)
jax.jit(lambda x: sum(jnp.sort(jnp.sin(x * n)) for n in range(150)))(jnp.ones(7))
"""
NETWORK = {'name': 'unet', 'channels': 1, 'widths': [4], 'blocks': 0, 'attention': [], 'groups': 2}


@pytest.fixture(scope='module')
def measured(tmp_path_factory):
    script = tmp_path_factory.mktemp('script') / 'script.py'
    script.write_text(SCRIPT)
    return compilation.measure(
        network=NETWORK, size=4, steps=(2, 50), solvers=('ddim',), unrolled=(1, 12), rounds=1, script=script, flags=('--extra=1',)
    )


def test_steps_do_not_matter_to_the_compiler_unless_they_are_written_out(measured):
    (seen,) = measured.evaluations
    assert seen.controls['loop written out']['compile_ratio_most'] > 1.2 * seen.metrics['compile_ratio_most']
    assert seen.metrics['compile_ratio_least'] <= seen.metrics['compile_ratio_most']


def test_a_full_cache_starts_sooner(measured):
    (seen,) = measured.evaluations
    assert 0 < seen.metrics['start_ratio'] < 0.9 * seen.controls['without a cache']['start_ratio']
    empty, full, none = (line for line in measured.lines if line['case'].startswith('start'))
    assert empty['programs'] == full['programs'] == none['programs'] >= 1
    assert all(0 < each['begin'] <= each['ready'] for each in (empty, full, none))
    assert full['compiling'] < 0.7 * empty['compiling']


def test_every_bar_is_measured_and_every_table_even(measured):
    judged = verdict(measured.evaluations, compilation.BARS)['bars']
    assert all(bar['value'] is not None for bar in judged)
    for table in measured.tables:
        assert table['rows'] and {len(row) for row in table['rows']} == {len(table['header'])}


def test_a_script_that_fails_is_told(tmp_path):
    (tmp_path / 'script.py').write_text("raise SystemExit('no luck')")
    with pytest.raises(UserError, match='no luck'):
        compilation.start(tmp_path / 'script.py', ())


@pytest.mark.parametrize(('given', 'words'), [(dict(steps=(10,)), '--steps=10'), (dict(solvers=('magic',)), 'unknown magic')])
def test_refusals(given, words):
    with pytest.raises(UserError, match=words):
        compilation.measure(**given)
