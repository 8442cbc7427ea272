"""Every detector of this folder on the same patients: one table, one figure.

    python experiments/anomaly/compare.py --models=models                    phantoms; what was trained before is taken from models
    python experiments/anomaly/compare.py --models=models --data=brain       virtual brains
    python experiments/anomaly/compare.py --preset=smoke                     two of them

A system is a script beside this one; a new one needs nothing here. Each runs as its own script would, with its own choices on validation patients.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxdiff import experiment, report, study
from jaxdiff.experiment import Bar, Evaluation, option
from jaxdiff.metrics import detection
from jaxdiff.plans import Later, Plan
from jaxdiff.studies import cohorts, detecting, healthy
from jaxdiff.studies.cohorts import Cohort, scans
from jaxdiff.studies.detecting import Bench, Detect, Detectors
from jaxdiff.studies.healthy import Models
from jaxdiff.studies.siblings import System, known, renamed, systems
from jaxdiff.workdir import Workdir


@dataclass(frozen=True, kw_only=True)
class Config(healthy.Config):
    systems: tuple = option(known(__file__), 'scripts of this folder')


PRESETS = healthy.presets(smoke={'systems': ('coarse', 'latent')})
SHARED = 'healthy'  # the name of the denoiser that all are compared with
BARS = {'brain': (Bar('systems_ahead_of_simple_rows', '>=', 5.0),), 'phantom': (Bar('systems_above_linear', '>=', 7.0),)}


class Both(NamedTuple):
    """The same patients, with a train split of healthy slices, and one in which half show a lesion."""

    plain: Cohort
    labelled: Cohort

    @property
    def manifest(self) -> dict[str, Any]:
        return {name: each.manifest for name, each in self._asdict().items()}

    def of(self, system: System) -> Cohort:
        return self.labelled if system.parts.labelled else self.plain


def both(make: Callable[..., Cohort], config: Config) -> Both:
    """Of `cohorts.open_cohort` or `cohorts.sketch`."""
    return Both(make(config), make(config, labelled=True))


def plan(config: Config, cohort: Both) -> list[Plan | Later]:
    """The denoiser of health, and each system's under its name."""
    found = [healthy.denoiser(SHARED, config, cohort.plain)]
    for system in systems(__file__, config, PRESETS):
        found += renamed(system, system.parts.plan(system.config, cohort.of(system)), (SHARED,))
    return found


def run(config: Config) -> dict[str, Any]:
    """Train or reuse, judge and write the workdir; returns what result.json holds."""
    kept: dict[str, Detect] = {}
    benches: dict[int, Bench] = {}
    simple: dict[str, Any] = {}
    chosen: dict[str, float] = {}

    def made(models: Models, cohort: Both) -> dict[str, Detect]:
        if not kept:
            simple.update(detecting.simple_rows(cohort.plain))
            for each in systems(__file__, config, PRESETS):
                found = each.parts.detectors(each.config, each.own(models, (SHARED,)), cohort.of(each))
                kept[each.name] = found.own
                chosen.update({f'{each.name}_{name}': value for name, value in found.chosen.items()})
            kept.update(healthy.usual(config, models, cohort.plain))
        return kept

    def evaluate(config: Config, models: Models, cohort: Both, seed: int) -> Evaluation:
        rows = made(models, cohort)
        first = benches[config.seed].maps if config.seed in benches else None
        on = benches[seed] = detecting.bench(cohort.plain, seed - config.seed, simple, first)
        nothing = Detectors(rows['chain'], {name: each for name, each in rows.items() if name != 'chain'}, {}, {})
        seen = detecting.judge(on, nothing, jax.random.key(seed), lambda table: {})
        table = {**seen.baselines, 'chain': {name: seen.metrics[name] for name in seen.baselines['single step'] if name in seen.metrics}}
        own = {name: table[name] for name in config.systems}
        metrics = {
            **chosen,
            'systems_above_linear': float(sum(row['ap_over_linear'] > 0 for row in own.values())),
            'systems_ahead_of_simple_rows': float(sum(row['ap_over_simple'] >= healthy.AHEAD for row in own.values())),
            'best_ap': max(row['ap'] for row in own.values()),
        }
        return Evaluation(metrics, table, {})

    def show(config: Config, models: Models, cohort: Both, folder: Workdir) -> list[report.Section]:
        return pictures(config, made(models, cohort), cohort.plain, benches[config.seed], folder)

    whole = config.preset in ('cpu', 'gpu') and set(config.systems) == set(known(__file__))
    asked = BARS.get(config.data, ()) if whole else ()
    return study.run(
        'anomaly/compare', config, open_data=lambda config: both(cohorts.open_cohort, config), plan=plan, evaluate=evaluate, show=show,
        bars=asked, evaluations=config.evaluations, save_every=config.save_every,
        sketch=lambda config: both(cohorts.sketch, config), jobs=healthy.jobs, tables=lambda verdict: [table(config, verdict)],
    )  # fmt: skip


def table(config: Config, verdict: Mapping[str, Any]) -> dict[str, Any]:
    """A row for each system and for what stands beside them, the most precise first."""
    columns = {
        'ap': 'AP', 'ap_over_linear': 'over linear', 'ap_over_simple': 'over intensity, z-score, PCA', 'auroc': 'AUROC',
        'dice': 'Dice', 'dice_upper_bound': 'best Dice (upper bound)',
        'healthy_mae': 'MAE of healthy pixels', 'image_auroc': 'AUROC of slices',
    }  # fmt: skip
    rows = {name.replace('_', ' '): row for name, row in verdict['baselines'].items()}
    mean = lambda value: value['mean'] if isinstance(value, dict) else value
    ordered = sorted(rows, key=lambda name: -mean(rows[name]['ap']))
    caption = (
        f'{config.data}: pixels of the brains of patients that nothing learnt from; the threshold of Dice is that of validation patients.'
    )
    return {
        'caption': caption,
        'header': ['', *columns.values()],
        'rows': [[name, *(rows[name].get(each) for each in columns)] for name in ordered],
    }


def pictures(config: Config, rows: Mapping[str, Any], cohort: Cohort, on: Bench, folder: Workdir) -> Sequence[report.Section]:
    """The map of every row over the same patients, and the Dice of every row by the size of the lesion."""
    where, key = cohorts.few(cohort.tests[0], 6), jax.random.key(config.seed)
    scale = lambda maps: np.clip(2 * maps / np.percentile(maps, 99.5) - 1, -1, 1)
    lines = {'scan': scans(where)[..., 0], 'lesion': 2.0 * where.lesions - 1}
    treat = lambda maps: detection.postprocess(maps, where.brains)
    lines[detecting.LINEAR] = scale(treat(on.simple[detecting.LINEAR](where.images)))
    lines |= {name: scale(treat(np.asarray(detect(key, scans(where)).map))) for name, detect in rows.items()}
    maps = report.grid([list(line) for line in lines.values()], labels=[name.replace('_', ' ') for name in lines], size=1.1)
    names = {**{name: name for name in rows if name != 'chain'}, 'chain': detecting.OWN, detecting.LINEAR: detecting.LINEAR}
    sizes = {name.replace('_', ' '): detecting.sized(on, on.maps[row]) for name, row in names.items()}
    curve = report.curves(sizes, x='area of the lesion, pixels', y='Dice')
    text = 'Maps after the treatment that all get, each from 0 to its own 99.5th percentile.'
    by_size = 'Mean Dice of a quarter of the patients, at the threshold that validation patients chose.'
    return [
        report.Section('The same patients', text, [
            report.picture(maps, text, alt='anomaly maps of every system', path=folder.figures / 'maps.png'),
        ]),
        report.Section('By the size of a lesion', by_size, [
            report.picture(curve, by_size, alt='Dice against lesion size', path=folder.figures / 'sizes.png'),
        ]),
    ]  # fmt: skip


if __name__ == '__main__':
    experiment.main(Config, PRESETS, run)
