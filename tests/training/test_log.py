import math

from jaxdiff.training.log import Progress, jsonl, read


def test_lines(tmp_path):
    log = jsonl(tmp_path / 'metrics.jsonl', stage='a')
    log(10, {'loss': 0.5, 'odd': math.nan})
    assert read(tmp_path / 'metrics.jsonl') == [{'stage': 'a', 'step': 10, 'loss': 0.5, 'odd': None}]


def test_going_on_drops_what_will_be_written_again(tmp_path):
    path = tmp_path / 'metrics.jsonl'
    for stage in 'ab':
        log = jsonl(path, stage=stage)
        for step in (10, 20, 30):
            log(step, {'loss': 1.0})
    with path.open('a') as file:
        file.write('{"stage": "b", "ste')  # killed while writing
    jsonl(path, start=20, stage='b')(30, {'loss': 2.0})
    kept = [(line['stage'], line['step'], line['loss']) for line in read(path)]
    assert kept == [('a', 10, 1.0), ('a', 20, 1.0), ('a', 30, 1.0), ('b', 10, 1.0), ('b', 20, 1.0), ('b', 30, 2.0)]
    assert len(path.read_text().splitlines()) == 6


def test_progress_prints_lines_away_from_a_terminal(capsys):
    with Progress(200, name='toy', start=100, every=0.0) as progress:
        progress.update(150, loss=0.25)
    line = capsys.readouterr().err
    assert line.startswith('toy: step 150/200, loss 0.25, ') and 'steps/s' in line and line.endswith('left\n')


def test_progress_is_quiet_between_lines(capsys):
    with Progress(10, name='toy', every=30.0) as progress:
        for step in range(1, 11):
            progress.update(step)
    assert capsys.readouterr().err == ''
