"""The README's code runs as it stands, at toy size, and names only what `jaxdiff` has."""

import re
from pathlib import Path

import jaxdiff

README = (Path(__file__).parents[1] / 'README.md').read_text()
SAMPLE, TRAIN = re.findall(r'```python\n(.*?)```', README, re.DOTALL)


def smaller(block, parts):
    for part, less in parts.items():
        assert part in block
        block = block.replace(part, less)
    return block


def test_ten_lines_each():
    for block in (SAMPLE, TRAIN):
        assert len([line for line in block.splitlines() if line and not line.startswith(('import', 'from'))]) <= 10


def test_sampling_block():
    scope = {}
    exec(smaller(SAMPLE, {'path, 20)': 'path, 2)', ', 16))': ', 2))'}), scope)
    assert scope['images'].shape == (2, 64, 64, 1)


def test_training_block(monkeypatch, tmp_path):
    monkeypatch.setenv('JAXDIFF_CACHE', str(tmp_path))
    scope = {}
    parts = {'steps=1000': 'steps=2', 'count=100': 'count=1', 'source, 16': 'source, 2', 'UNet(': 'UNet(widths=(8, 8, 8), '}
    exec(smaller(TRAIN, parts), scope)
    assert int(scope['trained'].step) == 2


def test_public_names():
    used = set(re.findall(r'\bjd\.(\w+)', README))
    assert used <= set(jaxdiff.__all__)
    assert all(hasattr(jaxdiff, name) for name in jaxdiff.__all__)
