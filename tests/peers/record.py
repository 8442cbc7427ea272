"""Writes what the peers answer to `recorded.json`, and the tables of docs/peers.md. Needs the extra `peers`.

python tests/peers/record.py
"""

import json
import re
import sys
from pathlib import Path

HERE = Path(__file__).parent
FILE, PAGE = HERE / 'recorded.json', HERE.parents[1] / 'docs' / 'peers.md'
sys.path[:0] = [str(HERE), str(HERE.parent)]

import numpy as np  # noqa: E402
from cases import CASES  # noqa: E402
from differences import DIFFERENCES  # noqa: E402
from walks import ours, theirs, versions  # noqa: E402

MARK = r'(<!-- {0} -->\n).*?(<!-- /{0} -->)'


def read() -> dict:
    return json.loads(FILE.read_text())


def measure() -> dict:
    """Walks and figures of the peers installed, and how far ours are from them."""
    walks, figures = {}, {}
    for case in CASES:
        walk = theirs(case)
        walks[case.name] = {'walk': _digits(walk, 7), 'off': float(f'{np.abs(walk - ours(case)).max():.1e}')}
    for name, each in DIFFERENCES.items():
        figures[name] = {side: [float(f'{getattr(each, side)(at):.3g}') for at in each.over] for side in ('theirs', 'ours')}
    return {'versions': versions(), 'walks': walks, 'differences': figures}


def page(text: str, recorded: dict) -> str:
    """The page with its tables replaced by those of the record."""
    for mark, table in {'versions': _versions, 'walks': _walks, 'differences': _differences}.items():
        text = re.sub(MARK.format(mark), lambda found, table=table: found[1] + table(recorded) + found[2], text, flags=re.DOTALL)
    return text


def _versions(recorded):
    return ', '.join(f'{name} {version}' for name, version in recorded['versions'].items()) + '\n'


def _walks(recorded):
    rows = ['| peer | its settings | ours | steps | largest difference |', '|---|---|---|---|---|']
    for case in CASES:
        given = ', '.join(f'`{key}={value!r}`' for key, value in {**case.settings, **case.stepping}.items())
        options = ''.join(f', {key}={value!r}' for key, value in case.options.items())
        row = f'{case.peer} `{case.scheduler}`', given, f'`{case.solver.split(".")[1]}(path{options})`', str(len(case.times) - 1)
        rows.append(f'| {" | ".join(row)} | {recorded["walks"][case.name]["off"]:.0e} |')
    return '\n'.join(rows) + '\n'


def _differences(recorded):
    parts = []
    for name, each in DIFFERENCES.items():
        figures = recorded['differences'][name]
        parts += [f'**{each.peer}: {each.what}.** {each.measure}.', '']
        parts += [f'| {each.heading} | {" | ".join(str(at) for at in each.over)} |', '|---' * (len(each.over) + 1) + '|']
        parts += [
            f'| {side} | {" | ".join(f"{figure:.3g}" for figure in figures[key])} |'
            for key, side in (('theirs', each.peer), ('ours', 'jaxdiff'))
        ]
        parts += ['']
    return '\n'.join(parts)


def _digits(values, digits):
    return json.loads(json.dumps(np.asarray(values, float).tolist()), parse_float=lambda text: float(f'{float(text):.{digits}g}'))


if __name__ == '__main__':
    recorded = measure()
    FILE.write_text(
        json.dumps(recorded, separators=(',', ':')).replace('"diffusers ', '\n"diffusers ').replace('"monai ', '\n"monai ') + '\n'
    )
    PAGE.write_text(page(PAGE.read_text(), recorded))
