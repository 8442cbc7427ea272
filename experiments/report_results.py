"""Write RESULTS.md, and the tables within docs/, from the receipts in results/.

python experiments/report_results.py
"""

from dataclasses import dataclass
from pathlib import Path

from jaxdiff import experiment, report
from jaxdiff.experiment import option
from jaxdiff.types import UserError
from jaxdiff.workdir import read_json


@dataclass(frozen=True, kw_only=True)
class Config(experiment.Config):
    results: str = option('results', 'folder of the receipts')
    out: str = option('RESULTS.md', 'file to write; with --workdir, inside it')
    docs: str = option('docs', 'folder of pages with places for tables; with --workdir they are written inside it')


PRESETS = {'smoke': {}, 'cpu': {}, 'gpu': {}, 'paper': {}}
HEAD = """# Results

Generated from the receipts in `results/`. Means and standard deviations are over evaluation seeds; a missed bar stays visible as missed.

"""


def run(config: Config) -> dict:
    """Read every receipt, write the table."""
    files = sorted(Path(config.results).glob('**/*.json'))
    if not files:
        raise UserError(f'--results={config.results}: holds no receipt; run from the root of the repository')
    receipts = [read_json(file) for file in files]
    for file, receipt in zip(files, receipts, strict=True):
        if not isinstance(receipt, dict):
            raise UserError(f'{file}: not a receipt; remove it, or let its script write it again')
    out = Path(config.workdir, config.out)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(HEAD + report.results_table(receipts))
    print(out)
    for page in sorted(Path(config.docs).glob('*.md')):
        before = page.read_text()
        after = report.filled(before, receipts)
        if after != before:
            target = Path(config.workdir, page.name) if config.workdir else page
            target.write_text(after)
            print(target)
    return {}


if __name__ == '__main__':
    experiment.main(Config, PRESETS, run)
