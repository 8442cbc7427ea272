"""RESULTS.md from receipts: every bar a row, missed ones too."""

from pathlib import Path

import pytest
import report_results

from jaxdiff.experiment import Bar, Evaluation, configure, verdict
from jaxdiff.types import UserError
from jaxdiff.workdir import write_json


def receipt(folder, system, values, bar):
    """As a run files it."""
    seen = [Evaluation({'ap': value}, {'linear': {'ap': 0.5}}, {'untrained': {'ap': 0.05}}) for value in values]
    file = folder / f'{system}.json'
    file.parent.mkdir(parents=True, exist_ok=True)
    write_json(file, {'system': system, 'preset': 'cpu', 'data': 'phantom', 'seed': 0, **verdict(seen, (bar,))})


def report(tmp_path):
    names = dict(results=str(tmp_path / 'results'), workdir=str(tmp_path / 'out'), out='RESULTS.md')
    return report_results.run(configure(report_results.Config, report_results.PRESETS, **names))


def test_every_receipt_is_a_row_passed_or_missed(tmp_path, capsys):
    receipt(tmp_path / 'results', 'synthesis/late', (0.9, 0.9), Bar('ap', '>=', 0.8))
    receipt(tmp_path / 'results', 'anomaly/early', (0.7, 0.9), Bar('ap', '>=', 0.75))
    report(tmp_path)
    out = tmp_path / 'out' / 'RESULTS.md'
    assert str(out) in capsys.readouterr().out
    text = out.read_text()
    rows = [[cell.strip() for cell in line.strip('|').split('|')] for line in text.splitlines() if line.startswith('|')]
    assert text.startswith('# Results') and text.endswith('|\n')
    assert [row[0] for row in rows[2:]] == ['anomaly/early', 'synthesis/late']
    early, late = (dict(zip(rows[0], row, strict=True)) for row in rows[2:])
    assert (early['measured'], early['bar'], early['verdict']) == ('0.80 ± 0.14', '≥ 0.75', 'missed')  # the mean less its deviation
    assert (late['measured'], late['bar'], late['verdict']) == ('0.9 ± 0', '≥ 0.8', 'passed')
    for row in (early, late):
        assert row['baselines and controls'] == 'linear 0.5 ± 0, untrained 0.05 ± 0' and row['data'] == 'phantom, cpu'


def test_a_second_report_replaces_the_first(tmp_path):
    receipt(tmp_path / 'results', 'a', (0.9, 0.9), Bar('ap', '>=', 0.8))
    report(tmp_path)
    first = (tmp_path / 'out' / 'RESULTS.md').read_text()
    receipt(tmp_path / 'results', 'a', (0.7, 0.7), Bar('ap', '>=', 0.8))
    report(tmp_path)
    second = (tmp_path / 'out' / 'RESULTS.md').read_text()
    assert 'passed' in first and 'passed' not in second.partition('\n|')[2] and '| missed |' in second


@pytest.mark.parametrize('make', [False, True])
def test_a_folder_without_receipts_is_refused_and_nothing_written(tmp_path, make):
    if make:
        (tmp_path / 'results').mkdir()
    with pytest.raises(UserError, match='holds no receipt') as caught:
        report(tmp_path)
    assert '\n' not in str(caught.value) and not (tmp_path / 'out').exists()


def test_the_committed_results_are_those_of_the_committed_receipts(tmp_path):
    root = Path(__file__).parents[2]
    names = dict(results=str(root / 'results'), workdir=str(tmp_path), out='RESULTS.md')
    report_results.run(configure(report_results.Config, report_results.PRESETS, **names))
    assert (tmp_path / 'RESULTS.md').read_text() == (root / 'RESULTS.md').read_text()


def test_pages_get_the_tables_of_their_systems(tmp_path):
    write_json(
        tmp_path / 'a.json',
        {'system': 'anomaly/compare', 'tables': [{'caption': 'Phantoms.', 'header': ['', 'AP'], 'rows': [['coarse', 0.5]]}]},
    )
    page = tmp_path / 'docs' / 'anomaly.md'
    page.parent.mkdir()
    page.write_text('# A\n<!-- results: anomaly/compare -->\nold\n<!-- /results -->\nend\n<!-- results: none/such -->\n<!-- /results -->\n')
    names = dict(results=str(tmp_path), workdir=str(tmp_path / 'out'), docs=str(page.parent))
    report_results.run(configure(report_results.Config, report_results.PRESETS, **names))
    text = (tmp_path / 'out' / 'anomaly.md').read_text()
    assert '| coarse | 0.5 |' in text and 'old' not in text and text.startswith('# A\n<!-- results: anomaly/compare -->\nPhantoms.')
    assert 'No receipt is filed yet.' in text and page.read_text() != text
