import json

import numpy as np
import pytest

from jaxdiff.benchmark import memory
from jaxdiff.types import UserError

CASE = memory.Case(2, 'sampling', 32, 8, widths=(8,), attention=(False,))


def test_resident_memory_is_seen_and_forgotten():
    memory.settle()
    before = memory.in_use()
    array = np.ones(2**23)
    assert memory.highest() - before == pytest.approx(array.nbytes, rel=0.1)
    del array
    memory.settle()
    assert memory.highest() - before < 2**24


def test_a_suite_of_one_small_case():
    measured = memory.measure(cases=(CASE,), sides=(), runs=1)
    (line,), (seen,) = measured.lines, measured.evaluations
    assert 0 < line['given_bytes'] < line['planned_bytes'] <= line['predicted_bytes']
    told, known = line['predicted_bytes'], line['measured_bytes'][0]
    assert seen.metrics['worst_memory_error'] == pytest.approx(abs(told - known) / known)
    assert set(seen.controls) == {'arguments and results alone'} and measured.tables[0]['rows'][0][0] == CASE.name


def test_volumes_are_priced_in_voxels_and_in_the_latent(monkeypatch):
    seen = []
    monkeypatch.setattr(memory, 'price', lambda case: seen.append(case) or memory.cost.Cost(2**30, 0, 0, 0, 0, 1.0, 1.0, 3.0, False, 1))
    table = memory.volume_table((64,), (8, 16))
    assert [(case.size, case.channels, case.mode) for case in seen[::2]] == [(64, 1, 'sampling'), (16, 4, 'sampling')]
    assert table['rows'][0] == ['64^3', 'voxels', 1.0, 30.0, 1.0, 3.0]


def test_page_shows_the_tables():
    receipt = {'device': 'cpu', 'versions': {'jax': '1'}, 'tables': [{'caption': 'c', 'header': ['a', 'b'], 'rows': [['x', 0.12345]]}]}
    page = memory.page(json.loads(json.dumps(receipt)))
    assert '| a | b |\n| --- | --- |\n| x | 0.123 |' in page


def test_a_case_that_cannot_run_is_named(monkeypatch):
    failed = memory.subprocess.CompletedProcess([], 1, stdout='', stderr='trace\nMemoryError: too much')
    monkeypatch.setattr(memory.subprocess, 'run', lambda *_, **__: failed)
    with pytest.raises(UserError, match=r'2-D sampling.*MemoryError: too much'):
        memory.alone(CASE, 1)
