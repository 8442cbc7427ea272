"""Every reconstruction of this folder from the same k-space: one table, one figure.

    python experiments/reconstruction/compare.py --models=models                    what was trained before is taken from models
    python experiments/reconstruction/compare.py --preset=smoke                     two of them

A system is a script beside this one; a new one needs nothing here. Each draws as its own script would, with its own choices on validation slices.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from jaxdiff import experiment, report, study
from jaxdiff.data.datasets import Dataset
from jaxdiff.experiment import Bar, Evaluation, option
from jaxdiff.plans import Later, Plan
from jaxdiff.studies import judging, kspace, solving
from jaxdiff.studies.judging import Models, Parts, Rows
from jaxdiff.studies.siblings import known, renamed, systems
from jaxdiff.studies.solving import Bench, Solve, magnitude
from jaxdiff.workdir import Workdir

SHARED = ('prior', 'unet')


@dataclass(frozen=True, kw_only=True)
class Config(kspace.Config):
    systems: tuple = option(known(__file__), 'scripts of this folder')
    patients: int = option(12, 'slices to judge by, anew for each seed', low=1)


PRESETS = kspace.presets(smoke={'systems': ('cold', 'posterior')})


def plan(config: Config, data: Dataset) -> list[Plan | Later]:
    """What all share, and each system's own under its name."""
    found: list[Plan | Later] = [kspace.prior(config, data), kspace.unet(config, data)]
    for system in systems(__file__, config, PRESETS):
        found += renamed(system, system.parts.plan(system.config, data), SHARED)
    return found


def run(config: Config) -> dict[str, Any]:
    """Train or reuse, judge and write the workdir; returns what result.json holds."""
    kept: dict[str, Any] = {}

    def opened(config: Config) -> Dataset:
        kept['bench'] = solving.opened(config)
        return kept['bench'].data

    def made(models: Models, data: Dataset) -> tuple[Bench, dict[str, Callable[[str], Solve]]]:
        if 'rows' not in kept:
            kept['rows'] = judging.usual(models, kept['bench'])
            for each in systems(__file__, config, PRESETS):
                own = each.parts.rows(each.config, each.own(models, SHARED), data).own
                kept['rows'][each.name] = own
        return kept['bench'], kept['rows']

    def evaluate(config: Config, models: Models, data: Dataset, seed: int) -> Evaluation:
        bench, rows = made(models, data)
        others = {name: each for name, each in rows.items() if name != 'U-Net'}
        seen = judging.judge(config, bench, Rows(rows['U-Net'], others, {}), seed, Parts(plan, None, None))
        base = 'TV' if 'TV' in rows else 'zero-filled'
        table = {**seen.baselines, 'U-Net': seen.metrics}
        over = {mask: [table[name][f'{mask}_psnr_over_{base}'] for name in config.systems] for mask in config.masks}
        metrics = {f'{mask}_systems_4_dB_over_{base}': float(np.sum(np.array(each) >= 4.0)) for mask, each in over.items()}
        return Evaluation(metrics, table, {})

    def show(config: Config, models: Models, data: Dataset, folder: Workdir) -> list[report.Section]:
        return [pictures(config, *made(models, data), folder)]

    base = 'TV' if kspace.coils_of(config) == 1 else 'zero-filled'
    bars = [Bar(f'{mask}_systems_4_dB_over_{base}', '>=', float(len(config.systems))) for mask in config.masks if mask.endswith('4')]
    return study.run(
        'reconstruction/compare', config, open_data=opened, plan=plan, evaluate=evaluate, show=show,
        bars=bars if config.preset in ('cpu', 'gpu') else (), evaluations=config.evaluations, save_every=config.save_every,
        sketch=kspace.sketch, notes={'peak': solving.PEAK}, tables=lambda verdict: [table(config, mask, verdict) for mask in config.masks],
    )  # fmt: skip


def table(config: Config, mask: str, verdict: Mapping[str, Any]) -> dict[str, Any]:
    """A row for each system and for what stands beside them."""
    columns = {
        'psnr': 'PSNR of one sample, dB', 'ssim': 'SSIM', 'nmse': 'NMSE', 'psnr_of_mean': f'PSNR of the mean of {config.count}',
        'ssim_of_mean': 'its SSIM', 'residual': 'unexplained share of the measurement', 'seconds': 'seconds for a sample',
    }  # fmt: skip
    rows = {name.replace('_', ' '): row for name, row in verdict['baselines'].items()}
    caption = f'{config.data}, {mask}: magnitudes, the largest value of each slice as the peak.'
    told = [[name, *(row.get(f'{mask}_{each}') for each in columns)] for name, row in rows.items()]
    return {'caption': caption, 'header': ['', *columns.values()], 'rows': told}


def pictures(config: Config, bench: Bench, rows: dict[str, Callable[[str], Solve]], folder: Workdir) -> report.Section:
    """One slice under every mask by every row: the first sample, and where it is wrong."""
    key, lines, labels = jax.random.key(config.seed), [], []
    for mask in config.masks:
        at = bench.test(mask, 0).first(1)
        truth = magnitude(at.truth)[0]
        found = {name: magnitude(make(mask)(key, at))[0, 0] for name, make in rows.items()}
        lines += [[*found.values(), truth], [*(5 * np.abs(image - truth) for image in found.values()), None]]
        labels += [mask, '|error| x 5']
    titles = [*(name.replace('_', ' ') for name in rows), 'truth']
    text = 'One slice that nothing learnt from, and the first sample of each system.'
    figure = report.grid(lines, titles=titles, labels=labels, window=(0.0, 1.0), size=1.3)
    return report.Section('The same k-space', text, [
        report.picture(figure, text, alt='one slice by every system', path=folder.figures / 'slices.png'),
    ])  # fmt: skip


if __name__ == '__main__':
    experiment.main(Config, PRESETS, run)
