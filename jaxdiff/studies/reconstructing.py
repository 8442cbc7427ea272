"""A reconstruction as an experiment: trained, judged, and delivered as pictures, as how far to trust a deviation, and as NIfTI files."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxdiff import report, study
from jaxdiff.data import patients
from jaxdiff.data.datasets import Dataset
from jaxdiff.data.source import Source
from jaxdiff.data.volumes import frame, write
from jaxdiff.experiment import Bar, Evaluation
from jaxdiff.export import bill
from jaxdiff.metrics import calibration
from jaxdiff.plans import Plan
from jaxdiff.studies import judging, kspace, solving
from jaxdiff.studies.judging import Models, Parts, Rows
from jaxdiff.studies.kspace import Config, Measured
from jaxdiff.studies.solving import PEAK, Bench, magnitude
from jaxdiff.workdir import Workdir


def run(system: str, config: Config, parts: Parts, bars: Sequence[Bar]) -> dict[str, Any]:
    """Train, judge and write the workdir; returns what result.json holds."""
    kept: dict[str, Any] = {}

    def made(models: Models, data: Dataset) -> tuple[Bench, Rows]:
        if 'rows' not in kept:
            own = parts.rows(config, models, data)
            kept['rows'] = own._replace(beside={**judging.usual(models, kept['bench']), **own.beside})
        return kept['bench'], kept['rows']

    def opened(config: Config) -> Dataset:
        kept['bench'] = solving.opened(config)
        return kept['bench'].data

    def evaluate(config: Config, models: Models, data: Dataset, seed: int) -> Evaluation:
        return judging.judge(config, *made(models, data), seed, parts)

    def show(config: Config, models: Models, data: Dataset, folder: Workdir) -> list[report.Section]:
        deliver(config, data, made(models, data)[1], folder)
        kept['tables'] = [judging.swept(config, kept['bench'], each) for each in parts.sweeps(config, models, data)]
        return pictures(config, *made(models, data), folder)

    return study.run(
        system, config, open_data=opened, plan=lambda config, data: (*parts.plan(config, data), kspace.unet(config, data)),
        evaluate=evaluate, show=show, bars=bars if config.preset in ('cpu', 'gpu') else (), evaluations=config.evaluations,
        save_every=config.save_every, nfe=parts.nfe(config), sketch=kspace.sketch, notes={'peak': PEAK},
        jobs=lambda config, todo: jobs(config, todo, parts), tables=lambda verdict: kept['tables'],
    )  # fmt: skip


def jobs(config: Config, todo: Sequence[Plan], parts: Parts) -> tuple[bill.Job, ...]:
    """What judging and the tables ask of the system's own network; other rows cost about as much each."""
    tuning = len(config.masks) * config.tuning
    slices = config.evaluations * len(config.masks) * config.patients + tuning
    calls = {'reconstructing': (slices, parts.nfe(config)), 'trying what is not learnt': (tuning, parts.tried(config))}
    return tuple(bill.calling(todo[0].blank, count=count, size=8, calls=each, name=name) for name, (count, each) in calls.items() if each)


def pictures(config: Config, bench: Bench, rows: Rows, folder: Workdir) -> list[report.Section]:
    """Slices under the first mask, and how wide intervals are for how much they hold."""
    mask, key = config.masks[0], jax.random.key(config.seed)
    at = bench.test(mask, 0).first(3)
    lines = {name: magnitude(make(mask)(key, at)[:, 0]) for name, make in rows.beside.items()}
    samples = rows.own(mask)(key, at)
    truth, mean = magnitude(at.truth), magnitude(samples.mean(1))
    lines |= {'one sample': magnitude(samples[:, 0]), 'mean': mean, 'truth': truth}
    if samples.shape[1] > 1:
        lines |= {'deviation x 5': 5 * magnitude(samples).std(1, ddof=1)}
    lines |= {'|error| x 5': 5 * np.abs(mean - truth)}
    figure = report.grid([list(images) for images in lines.values()], labels=list(lines), window=(0.0, 1.0), size=1.3)
    fewer = 1 / bench.test(mask, 0).mask.mean()
    text = f'Magnitudes under the mask {mask}, {fewer:.1f} times fewer samples than all. Slices that nothing learnt from.'
    sections = [
        report.Section('Reconstructions', text, [
            report.picture(figure, text, alt='rows of reconstructions', path=folder.figures / 'reconstructions.png'),
        ]),
    ]  # fmt: skip
    if samples.shape[1] > 1:
        sections.append(trust(bench, folder))
    return sections


def trust(bench: Bench, folder: Workdir) -> report.Section:
    """Shares that intervals hold, without and with the factor."""
    levels, lines = np.linspace(0.1, 0.95, 12), {'as it should be': ([0, 1], [0, 1])}
    for mask, (tuned, seen) in bench.spreads.items():
        factor = calibration.fitted(*tuned, level=judging.LEVEL)
        for name, size in ((mask, 1.0), (f'{mask}, calibrated', factor)):
            lines[name] = levels, calibration.held(seen.mean, size * seen.deviation, seen.truth, levels)
    figure = report.curves(lines, x='share that an interval should hold', y='share that it holds')
    text = (
        'Intervals of mean and standard deviation over pixels of test slices; calibrated: deviations times the factor of validation slices.'
    )
    return report.Section('How far to trust the deviation', text, [
        report.picture(figure, text, alt='coverage of intervals', path=folder.figures / 'calibration.png'),
    ])  # fmt: skip


def deliver(config: Config, data: Dataset, rows: Rows, folder: Workdir) -> None:
    """The first test scan as NIfTI: the mean, the deviation, and what was there before and is known, in the units of the data.

    Scans that came as NIfTI are answered in their own frame; slices of other files, or that were made, are stacked.
    """
    mask = config.masks[0]
    if config.data.startswith('nifti:'):
        patient, pre, scan, source, signal = kspace.first_scan(config)
        scale, (low,), (high,) = scales(source), scan.record.low, scan.record.high
        for name, slices in delivered(config, rows, mask, kspace.measure(source, np.arange(source.size), mask)).items():
            values = np.zeros(scan.images.shape[:3], np.float32)
            values[signal] = slices * scale
            found = (high - low) * values if name == 'deviation' else 2 * values[..., None] - 1
            patients.write(folder.outputs, patient, pre, scan, {name: found})
        return
    where = np.arange(file_of(data.test) or min(config.patients, data.test.size))
    scale = scales(data.test, where)
    for name, slices in delivered(config, rows, mask, kspace.measure(data.test, where, mask)).items():
        volume = np.moveaxis(slices * scale, 0, -1).astype(np.float32)[..., None]
        write(folder.outputs / f'{name}.nii.gz', volume, frame(volume.shape[:3], np.eye(4)))


def delivered(config: Config, rows: Rows, mask: str, at: Measured) -> dict[str, np.ndarray]:
    """Magnitudes (n, X, Y) by name, in the units that were measured; deviations are as they were drawn, without a factor of calibration."""
    samples = rows.own(mask)(jax.random.key(config.seed), at)
    found = {
        'reconstructed': magnitude(samples.mean(1)),
        'deviation': magnitude(samples).std(1, ddof=min(1, samples.shape[1] - 1)),
        'zero_filled': magnitude(rows.beside['zero-filled'](mask)(jax.random.key(0), at)[:, 0]),
        'fully_sampled': magnitude(at.truth),
    }
    return {name: slices * at.scale[:, None, None] for name, slices in found.items()}


def scales(source: Source, places: Sequence[int] | None = None) -> np.ndarray:
    """What the largest magnitude of each slice was, (n, 1, 1)."""
    places = range(source.size) if places is None else places
    return np.array([source.example(int(n))['scale'][0] for n in places])[:, None, None]


def file_of(source: Source) -> int:
    """How many of the first slices are of one scan: those of one file, or of one folder of files; 0 where no files were read."""
    files = source.manifest.get('files') or [{'slices': 0}]
    folders = [Path(each.get('name', '')).parent for each in files]
    return files[0].get('slices', folders.count(folders[0]))
