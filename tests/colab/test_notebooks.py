"""Notebooks: the two files of each say the same, the committed one holds its pictures, and every cell runs at small size."""

import runpy
from pathlib import Path

import jax
import jupytext
import pytest

NOTEBOOKS = sorted((Path(__file__).parents[2] / 'colab').glob('*.py'))


def cells(path):
    return [(cell.cell_type, cell.source.strip()) for cell in jupytext.read(path).cells]


@pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda path: path.stem)
def test_the_pair_says_the_same(path):
    assert cells(path) == cells(path.with_suffix('.ipynb'))


@pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda path: path.stem)
def test_the_committed_notebook_was_run_and_shows_pictures(path):
    outputs = [output for cell in jupytext.read(path.with_suffix('.ipynb')).cells for output in cell.get('outputs', ())]
    assert not [output for output in outputs if output.output_type == 'error']
    assert sum('image/png' in output.get('data', {}) for output in outputs) >= 4
    assert path.with_suffix('.ipynb').stat().st_size < 3e6


@pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda path: path.stem)
def test_every_cell_runs(path, monkeypatch):
    monkeypatch.setenv('JAXDIFF_FAST', '1')
    monkeypatch.setattr('matplotlib.pyplot.show', lambda: None)
    with jax.numpy_rank_promotion('allow'):  # as in the reader's session
        runpy.run_path(str(path))
