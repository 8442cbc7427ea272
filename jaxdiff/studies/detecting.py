"""How every detector of anomalies is judged: the same patients, the same treatment of maps, the same rows beside it.

A detector is a function of images, its maps are treated as `metrics.anomalies` says, and its figures stand beside those of intensity, z-score,
principal components, the closed-form linear denoiser, and of one healthy denoiser asked once and walked in steps.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxdiff import model, sampling
from jaxdiff.experiment import Evaluation
from jaxdiff.metrics import anomalies, detection
from jaxdiff.metrics.anomalies import Cases
from jaxdiff.model import Model
from jaxdiff.studies.cohorts import Cohort, cases, scans
from jaxdiff.tasks.anomaly.finding import Finding
from jaxdiff.types import Array, Key, Params

Detect = Callable[[Key, np.ndarray], Finding]  # images (n, X, Y, C) in [-1, 1] -> findings, arrays with a leading axis n
OWN = 'own'  # the name of the system's own row in a table
LINEAR = 'linear denoiser'
MOST = 2048  # slices that rows without a network learn from


class Detectors(NamedTuple):
    """What a system is judged with: itself, what stands beside it, what must fail, and what was chosen on validation patients."""

    own: Detect
    beside: Mapping[str, Detect]
    controls: Mapping[str, Detect]
    chosen: Mapping[str, float]


def finder(trained: Model, restore: Callable[..., Finding], *, name: str, size: int = 32) -> Callable[..., Finding]:
    """`find(params, key, images, *values)` -> findings, by `restore(key, image, denoise, *values)` of one image; other values compile nothing."""

    def one(shared: tuple[Params, tuple], key: Key, image: Array) -> Finding:
        params, values = shared
        return restore(key, image, model.denoiser(trained._replace(params=params)), *values)

    return found_by(one, name=name, size=size)


def found_by(one: Callable[[Any, Key, Array], Finding], *, name: str, size: int = 32) -> Callable[..., Finding]:
    """The same by `one((params, values), key, image)`, whatever the parameters are of."""
    mapped = sampling.mapper(one, size=size, name=name)
    return lambda params, key, images, *values: mapped((params, values), sampling.keys(key, len(images)), images)


# ---- choices


def precision(maps: np.ndarray, where: Cases) -> float:
    """Average precision over the brains after the treatment of every map."""
    treated = detection.postprocess(maps, where.brains)
    return detection.average_precision(treated[where.brains], where.lesions[where.brains])


def best(run: Callable[[Any], np.ndarray], candidates: tuple, where: Cases) -> Any:
    """The candidate whose maps `run(candidate)` are the most precise."""
    if len(candidates) == 1:
        return candidates[0]
    return max(candidates, key=lambda each: precision(run(each), where))


# ---- figures


class Maps(NamedTuple):
    """A detector's, untreated: of validation patients, of those to judge by, of healthy people; what it restored and masked of the second."""

    validation: np.ndarray
    test: np.ndarray
    well: np.ndarray | None
    restored: np.ndarray | None = None
    masks: np.ndarray | None = None


class Bench(NamedTuple):
    """The patients of one seed, as arrays, the rows that need no network, and every row's maps once they are made.

    Validation patients and healthy people are the same for every seed: their maps are those of the first.
    """

    validation: Cases
    test: Cases
    well: Cases | None
    simple: Mapping[str, Callable[[np.ndarray], np.ndarray]]
    maps: dict[str, Maps]
    first: Mapping[str, Maps]


def simple_rows(cohort: Cohort) -> Mapping[str, Callable[[np.ndarray], np.ndarray]]:
    """The rows that need no network, from the healthy slices of the cohort."""
    places = np.unique(np.linspace(0, cohort.healthy.size - 1, MOST).astype(int))  # evenly spread, since all may not fit in memory
    return anomalies.baselines((np.stack([cohort.healthy.example(n)['image'] for n in places]) + 1) / 2)


def bench(
    cohort: Cohort, turn: int, simple: Mapping[str, Callable[[np.ndarray], np.ndarray]], first: Mapping[str, Maps] | None = None
) -> Bench:
    """Those of evaluation number `turn`, beside `simple_rows`; `first` are the maps of an earlier evaluation of the same rows."""
    well = None if cohort.well is None else cases(cohort.well)
    on = Bench(cases(cohort.validation), cases(cohort.tests[turn % len(cohort.tests)]), well, simple, {}, first or {})
    for name, score in simple.items():
        on.maps[name] = Maps(score(on.validation.images), score(on.test.images), None if well is None else score(well.images))
    return on


def ask(on: Bench, name: str, detect: Detect, key: Key) -> Maps:
    """The maps of a row; images are drawn for by their number alone."""
    run = lambda where, stream: detect(jax.random.fold_in(key, stream), scans(where))
    found = run(on.test, 1)
    if name in on.first:
        tuned, well = on.first[name].validation, on.first[name].well
    else:
        tuned = np.asarray(run(on.validation, 0).map)
        well = None if on.well is None else np.asarray(run(on.well, 2).map)
    return Maps(tuned, np.asarray(found.map), well, (np.asarray(found.restored) + 1) / 2, np.asarray(found.mask))


def score(on: Bench, maps: Maps) -> dict[str, float]:
    """Figures of a row."""
    found = anomalies.evaluate(maps.validation, on.validation, maps.test, on.test, restored=maps.restored, masks=maps.masks)._asdict()
    raw = np.where(detection.erode(on.test.brains), maps.test, 0)[on.test.brains]
    found |= {'ap_raw': detection.average_precision(raw, on.test.lesions[on.test.brains])}
    if on.well is not None:
        means = np.concatenate([changes(maps.test, on.test.brains), changes(maps.well, on.well.brains)])
        ill = np.concatenate([on.test.lesions.any((1, 2)), np.zeros(len(on.well.brains), bool)])
        found |= {'image_auroc': detection.auroc(means, ill), 'healthy_to_ill': float(means[~ill].mean() / means[ill].mean())}
    return {name: float(value) for name, value in found.items() if np.isfinite(value)}


def changes(maps: np.ndarray, brains: np.ndarray) -> np.ndarray:
    """The mean of each map over its brain, after the usual treatment, (n,)."""
    treated = detection.postprocess(maps, brains)
    return np.where(brains, treated, 0).sum((1, 2)) / brains.sum((1, 2))


def judge(on: Bench, made: Detectors, key: Key, derive: Callable[[Mapping[str, Mapping[str, float]]], Mapping[str, float]]) -> Evaluation:
    """Every row's figures, those of the system's own row with what was chosen and what `derive` makes of the whole table."""
    for name, detect in {OWN: made.own, **made.beside}.items():
        on.maps[name] = ask(on, name, detect, key)
    table = {name: score(on, maps) for name, maps in on.maps.items()}
    controls = {}
    for name, detect in made.controls.items():
        treated = detection.postprocess(np.asarray(detect(jax.random.fold_in(key, 1), scans(on.test)).map), on.test.brains)
        pooled = treated[on.test.brains], on.test.lesions[on.test.brains]
        controls[name] = {'ap': detection.average_precision(*pooled), 'auroc': detection.auroc(*pooled)}
    top = max(table[name]['ap'] for name in on.simple if name != LINEAR)
    for row in (*table.values(), *controls.values()):
        row |= {'ap_over_linear': row['ap'] - table[LINEAR]['ap'], 'ap_over_simple': row['ap'] - top}
    chance = {'chance': {'ap': table[OWN]['chance']}}
    for row in table.values():
        for name in ('chance', 'threshold'):
            row.pop(name)
    metrics = {**table[OWN], **derive(table), **made.chosen}
    return Evaluation(metrics, {**{name: row for name, row in table.items() if name != OWN}, **chance}, controls)


def threshold(on: Bench, maps: Maps) -> float:
    """Of treated maps, that gives validation patients the largest Dice."""
    tuned, where = detection.postprocess(maps.validation, on.validation.brains), on.validation.brains
    return detection.best_threshold(tuned[where], on.validation.lesions[where]).threshold


def sized(on: Bench, maps: Maps) -> tuple[list[float], list[float]]:
    """Mean area and mean Dice of quarters of the slices with a lesion, at the threshold of the validation patients."""
    limit, test = threshold(on, maps), on.test
    treated = detection.postprocess(maps.test, test.brains)
    areas = test.lesions.sum((1, 2))
    order = np.argsort(areas)[(areas == 0).sum() :]
    dice = lambda rows: np.mean([detection.dice((treated[n] > limit) & test.brains[n], test.lesions[n]) for n in rows])
    quarters = [part for part in np.array_split(order, 4) if len(part)]
    return [float(areas[part].mean()) for part in quarters], [float(dice(part)) for part in quarters]
