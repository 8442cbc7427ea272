"""One self-contained HTML page per run, and the Markdown table of all results.

The page loads nothing: pictures are embedded, fonts are the system's, every text is escaped, and a content security policy forbids
the rest. Bars, baselines and facts come from the content of result.json, so that no number is typed by hand.
"""

import base64
import html
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxdiff.report.pictures import Picture

_SIGNS = {'<': '<', '<=': '≤', '>': '>', '>=': '≥', '==': '='}
_NOT_FACTS = ('metrics', 'baselines', 'controls', 'bars', 'tables', 'passed')
_NAMES = {'wall_s': 'seconds', 'nfe': 'network evaluations', 'peak_memory_bytes': 'peak memory, bytes'}


class Table(NamedTuple):
    """Rows of cells (numbers are rounded to four figures) under a header; the first cell names its row."""

    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[Any]]


class Section(NamedTuple):
    """A part of a page: heading, plain text (blank lines separate paragraphs), pictures, tables."""

    heading: str
    text: str = ''
    pictures: Sequence[Picture] = ()
    tables: Sequence[Table] = ()


def page(
    path: str | Path, *, title: str, lead: str = '', sections: Sequence[Section] = (), result: Mapping[str, Any] | None = None
) -> None:
    """Write one HTML file that needs no other: verdict and bars, sections, comparison with baselines and controls, facts of the run.

    `result` is the content of result.json; every text is escaped, every picture embedded, and the file appears whole or not at all.
    """
    result = dict(result or {})
    body = [f'<h1>{_text(title)}</h1>', _paragraphs(lead)]
    if result.get('bars'):
        body += [_verdict(result['bars']), _bars(result['bars'])]
    for section in sections:
        parts = [*map(_figure, section.pictures), *map(_table, section.tables)]
        body.append(f'<section><h2>{_text(section.heading)}</h2>{_paragraphs(section.text)}{"".join(parts)}</section>')
    if result.get('tables'):
        rows = lambda table: [[*map(_cell, row)] for row in table['rows']]
        tables = ''.join(_table(Table(each['caption'], each['header'], rows(each))) for each in result['tables'])
        body.append(f'<section><h2>Tables</h2>{tables}</section>')
    if result.get('metrics'):
        body.append(f'<section><h2>Beside the baselines</h2>{_table(_comparison(result))}</section>')
    if result:
        facts = Table('', ('', ''), [(_name(name), value) for name, value in result.items() if name not in _NOT_FACTS])
        source = _text(json.dumps(result, indent=2, default=str))
        details = f'<details><summary>result.json</summary><pre>{source}</pre></details>'
        body.append(f'<section><h2>The run</h2>{_table(facts, "facts")}{details}</section>')
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(path.name + '.part')
    draft.write_text(_PAGE.format(title=_text(title), style=_STYLE, body='\n'.join(body)), encoding='utf-8')
    os.replace(draft, path)


def results_table(receipts: Iterable[Mapping[str, Any]]) -> str:
    """The Markdown of RESULTS.md from receipts (the content of results/**/*.json), in the order of systems: a row per bar, then the tables that
    receipts hold under 'tables', {caption, header, rows} each, under a heading of their system."""
    receipts = sorted(receipts, key=lambda receipt: str(receipt.get('system', '')))
    lines = ['| system | data | quantity | measured | bar | verdict | baselines and controls | seeds |', '|---' * 8 + '|']
    for receipt in receipts:
        seeds = receipt.get('seeds', receipt.get('seed', ''))
        for bar in receipt.get('bars', ()):
            beside = {**receipt.get('baselines', {}), **receipt.get('controls', {})}
            others = ', '.join(f'{name} {_value(values[bar["name"]])}' for name, values in beside.items() if bar['name'] in values)
            data = ', '.join(str(receipt[name]) for name in ('data', 'preset') if name in receipt)
            cells = (
                receipt.get('system', ''),
                data,
                _name(bar['name']),
                _measured(bar),
                _requirement(bar),
                _word(bar),
                others,
                _value(seeds),
            )
            lines.append(_markdown_row(cells))
    for receipt in receipts:
        if receipt.get('tables'):
            lines += ['', f'## {receipt.get("system", "")}', '', *_markdown_tables(receipt)]
    return '\n'.join(lines) + '\n'


def filled(text: str, receipts: Iterable[Mapping[str, Any]]) -> str:
    """Markdown with the tables of receipts between its lines '<!-- results: <system> -->' and '<!-- /results -->', in place of what stands there."""
    by_system = {str(receipt.get('system', '')): receipt for receipt in receipts}

    def tables(match: re.Match) -> str:
        receipt = by_system.get(match['system'])
        body = ['No receipt is filed yet.'] if receipt is None or not receipt.get('tables') else _markdown_tables(receipt)
        return '\n'.join([match['first'], *body, match['last']])

    return _RESULTS.sub(tables, text)


_RESULTS = re.compile(r'(?P<first><!-- results: (?P<system>\S+) -->)\n.*?(?P<last><!-- /results -->)', re.DOTALL)


def _markdown_tables(receipt):
    lines = []
    for table in receipt['tables']:
        lines += [table['caption'], '', _markdown_row(table['header']), '|---' * len(table['header']) + '|']
        lines += [*(_markdown_row(map(_cell, row)) for row in table['rows']), '']
    return lines[:-1]


def _markdown_row(cells):
    return '| ' + ' | '.join(str(cell).replace('|', '\\|').replace('\n', ' ') for cell in cells) + ' |'


def _cell(value):
    """A cell of a table: what does not apply is a dash."""
    return '–' if value is None else _value(value)


def _verdict(bars):
    missed = sum(not bar.get('passed') for bar in bars)
    if len(bars) == 1:
        words = f'The bar is {"missed" if missed else "passed"}'
    else:
        words = f'{missed} of {len(bars)} bars missed' if missed else f'All {len(bars)} bars passed'
    return f'<p class="verdict {"missed" if missed else "passed"}">{words}</p>'


def _bars(bars):
    cells = [
        f'<tr><th scope="row">{_text(_name(bar["name"]))}</th><td>{_text(_measured(bar))}</td><td>{_text(_requirement(bar))}</td>'
        f'<td><span class="{_word(bar)}">{_word(bar)}</span></td></tr>'
        for bar in bars
    ]
    head = ''.join(f'<th scope="col">{name}</th>' for name in ('quantity', 'measured', 'bar', 'verdict'))
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{"".join(cells)}</tbody></table></div>'


def _comparison(result):
    columns = {'this run': result['metrics']}
    columns |= {f'{kind}: {name}': values for kind in ('baseline', 'control') for name, values in result.get(f'{kind}s', {}).items()}
    names = dict.fromkeys(name for values in columns.values() for name in values)  # in order of first appearance
    return Table('', ('', *columns), [(_name(name), *(values.get(name, '–') for values in columns.values())) for name in names])


def _table(table, kind='plain'):
    caption = f'<caption>{_text(table.caption)}</caption>' if table.caption else ''
    head = ''.join(f'<th scope="col">{_text(name)}</th>' for name in table.header)
    head = f'<thead><tr>{head}</tr></thead>' if any(table.header) else ''
    rows = [
        f'<tr><th scope="row">{_text(_value(first))}</th>' + ''.join(f'<td>{_text(_value(cell))}</td>' for cell in rest) + '</tr>'
        for first, *rest in table.rows
    ]
    return f'<div class="scroll"><table class="{kind}">{caption}{head}<tbody>{"".join(rows)}</tbody></table></div>'


def _figure(picture):
    data = base64.b64encode(picture.png).decode()
    image = f'<img src="data:image/png;base64,{data}" alt="{_text(picture.alt)}">'
    return f'<figure>{image}<figcaption>{_text(picture.caption)}</figcaption></figure>'


def _paragraphs(text):
    return ''.join(f'<p>{_text(part)}</p>' for part in text.split('\n\n') if part.strip())


def _measured(bar):
    return _value({'mean': bar['value'], 'sd': bar['sd']} if 'sd' in bar else bar['value'])


def _requirement(bar):
    return f'{_SIGNS.get(bar["op"], bar["op"])} {_value(bar["bar"])}'


def _word(bar):
    return 'passed' if bar.get('passed') else 'missed'


def _value(value):
    """A cell as people write it: four figures, a mean as exactly as it is known, yes and no, lists and dictionaries in words."""
    match value:
        case None:
            return 'not measured'
        case bool() | np.bool_():
            return 'yes' if value else 'no'
        case int() | np.integer():
            return f'{value:,}'
        case float() | np.floating():
            return f'{value:.4g}' if np.isfinite(value) else {np.inf: '∞', -np.inf: '−∞'}.get(value, 'not a number')
        case {'mean': mean, 'sd': sd}:
            return _spread(mean, sd)
        case dict():
            return ', '.join(f'{name} {_value(part)}' for name, part in value.items())
        case list() | tuple():
            return ', '.join(map(_value, value))
    return str(value)


def _spread(mean, sd):
    """Mean ± sd to two figures of the deviation; 4.57e-06 ± 8.9e-07 where there would be more zeros than figures."""
    if not (np.isfinite(mean) and np.isfinite(sd) and sd > 0):
        return f'{_value(mean)} ± {_value(sd)}'
    places = 1 - int(np.floor(np.log10(sd)))
    if places > 6:
        return f'{mean:.3g} ± {sd:.2g}'
    return ' ± '.join(f'{round(each, places):.{max(places, 0)}f}' for each in (mean, sd))


def _name(name):
    return _NAMES.get(name, name.replace('_', ' '))


def _text(value):
    return html.escape(str(value), quote=True)


_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<main>
{body}
</main>
</body>
</html>
"""

_STYLE = """
:root { color-scheme: light; --ink: #1c2126; --soft: #5c6670; --rule: #d5d9dd; --good: #17693f; --bad: #a3271b; }
* { box-sizing: border-box; }
body { margin: 0; color: var(--ink); background: #fff; font: 16px/1.55 system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif; }
main { max-width: 60rem; margin: 0 auto; padding: 2rem 1.25rem 4rem; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .5rem; letter-spacing: -.01em; }
h2 { font-size: 1.25rem; margin: 2.75rem 0 .5rem; padding-top: 1.25rem; border-top: 1px solid var(--rule); }
p { max-width: 42rem; margin: .5rem 0 1rem; }
figure { margin: 1.5rem 0; }
img { display: block; max-width: 100%; height: auto; border-radius: 4px; }
figcaption { max-width: 42rem; margin-top: .6rem; color: var(--soft); font-size: .9rem; }
.scroll { overflow-x: auto; margin: 1rem 0; }
table { border-collapse: collapse; font-size: .92rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; color: var(--soft); padding-bottom: .4rem; }
th, td { text-align: left; vertical-align: top; padding: .4rem 1.25rem .4rem 0; border-bottom: 1px solid var(--rule); }
thead th { color: var(--soft); font-weight: 500; }
tbody th { font-weight: 500; }
.facts td { overflow-wrap: anywhere; }
.facts th { white-space: nowrap; }
.verdict { font-weight: 600; padding: .7rem 1rem; border-left: 4px solid; background: #f4f6f7; }
.passed { color: var(--good); }
.missed { color: var(--bad); }
td .passed, td .missed { font-weight: 600; }
details { margin: 1rem 0; }
summary { cursor: pointer; color: var(--soft); }
pre { overflow-x: auto; font: .8rem/1.45 ui-monospace, Menlo, Consolas, monospace; background: #f4f6f7; padding: 1rem; border-radius: 4px; }
@media (max-width: 34rem) {
  main { padding: 1.25rem 1rem 3rem; }
  h1 { font-size: 1.5rem; }
  th, td { padding-right: .8rem; }
}
@media print {
  .scroll { overflow: visible; }
  main { max-width: none; padding: 0; }
  body { font-size: 10.5pt; }
  figure, tr, .verdict { break-inside: avoid; }
  h2 { break-after: avoid; }
  details { display: none; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
}
"""
