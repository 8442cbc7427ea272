"""What experiments in anomaly detection share: the denoiser of health, the rows that stand beside every system, and the page.

One denoiser of healthy slices, of white noise, is walked (the row 'chain') and asked once (the row 'single step'), averaged over --repeats draws, and
asked once for each call of the walk ('single step, as many calls'). Depths are path times, chosen on validation patients for each row by itself.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxdiff import experiment, grids, model, plans, report, study
from jaxdiff.data import loader, patients
from jaxdiff.data.preprocess import to_json
from jaxdiff.data.source import Source
from jaxdiff.experiment import Bar, option
from jaxdiff.export import bill
from jaxdiff.metrics import detection
from jaxdiff.model import Model
from jaxdiff.noise import named
from jaxdiff.paths import GaussianPath
from jaxdiff.plans import Plan
from jaxdiff.solvers.ancestral import ddpm
from jaxdiff.studies import cohorts, detecting, flags
from jaxdiff.studies.cohorts import Cohort, cases, scans
from jaxdiff.studies.detecting import Bench, Detect, Detectors
from jaxdiff.studies.flags import network_of, schedule_of
from jaxdiff.tasks.anomaly import partial, single
from jaxdiff.tasks.anomaly.finding import Finding
from jaxdiff.workdir import Workdir

Models = Mapping[str, Model]
AHEAD = 0.15  # of the best of intensity, z-score and principal components
BRAIN = (Bar('ap_over_simple', '>=', AHEAD),)


@dataclass(frozen=True, kw_only=True)
class Config(cohorts.Config):
    """The flags of every detector."""

    path: str = option(
        'cosine', 'how data turn into noise, from time 0 to 1, of which depths are shares', choices=('cosine', 'flow', 'vp', 'subvp')
    )
    steps: int = option(3000, 'training steps of a denoiser', low=1)
    rate: float = option(2e-3, 'learning rate after warm-up, before its decay to 0', low=0)
    depths: tuple = option((0.1, 0.15, 0.25, 0.4, 0.6), 'noising depths to choose from, in path time', low=0.01, high=0.99)
    repeats: int = option(4, 'restorations that are averaged', low=1)
    walk: int = option(12, 'steps of a restoration', low=1)


def presets(**own: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Those of every detector, with what a script says of its own flags: smoke=..., gpu=..., paper=..."""
    common = {
        'smoke': {**flags.PRESETS['smoke'], 'tuning': 4, 'patients': 4, 'depths': (0.35,), 'repeats': 2, 'walk': 2},
        'cpu': {},
        'gpu': {**flags.PRESETS['gpu'], 'subjects': 4000, 'patients': 200},
        'paper': {**flags.PRESETS['paper'], 'walk': 250},
    }
    for fields in common.values():
        fields.pop('held_out', None)
    return {name: {**fields, **own.get(name, {})} for name, fields in common.items()}


class Parts(NamedTuple):
    """What a script adds: what it trains, and what it is judged with once that is trained."""

    plan: Callable[[Any, Cohort], Sequence[Plan | plans.Later]]
    detectors: Callable[[Any, Models, Cohort], Detectors]
    derive: Callable[[Mapping[str, Mapping[str, float]]], Mapping[str, float]] = lambda table: {}
    show: Callable[[Any, Models, Cohort, Workdir], Sequence[report.Section]] = lambda config, models, cohort, folder: ()
    tables: Callable[[Any, Models, Cohort, Mapping[str, float]], Sequence[Mapping[str, Any]]] = lambda config, models, cohort, chosen: ()
    labelled: bool = False  # whether it is told which slices show a lesion
    calls: Callable[[Any], int] = lambda config: config.walk * config.repeats  # of a network, for one image


# ---- the denoiser of health


def blank(config: Config, cohort: Cohort, *, kind: str = 'v', **fields: Any) -> Model:
    """A denoiser before training; `fields` are more of its network's own."""
    network = {**network_of(config), 'channels': cohort.shape[-1], **fields}
    return Model(network, {'name': config.path}, kind, None, to_json(cohort.preprocess), {'shape': list(cohort.shape)})


def denoiser(
    name: str, config: Config, cohort: Cohort, *, source: Source | None = None, network: Mapping[str, Any] | None = None, **options: Any
) -> Plan:
    """Of healthy slices, mirrored at random, or of `source`. `network` are more fields of its network, `options` those of `plans.denoiser`,
    which come before what the flags say."""
    made = blank(config, cohort, **(network or {}))
    options = {**schedule_of(config), **options}
    return plans.denoiser(name, made, cohort.healthy if source is None else source, augment=loader.flip, **options)


def blobs(config: Config) -> dict[str, Any]:
    """Simplex noise as `noise.named` takes it, whose largest blobs are a quarter of the image."""
    return {'name': 'simplex', 'wavelength': config.size / 4, 'octaves': 6, 'persistence': 0.8, 'bank': 512}


def chain(config: Config, trained: Model, *, noise: dict[str, Any] | None = None, repeats: int = 0, name: str = 'restoring'):
    """`find(params, key, images, times)`: averaged partial diffusion with the noise that the denoiser learnt."""
    path, draw = model.make_path(trained.path), named(noise, trained.card['shape'])
    solver = ddpm(path, noise=draw)

    def restore(key, image, denoise, times):
        return partial.restore(
            key, image, denoise, path=path, solver=solver, times=times, repeats=repeats or config.repeats, noise=draw
        )  # fmt: skip

    return detecting.finder(trained, restore, name=name)


def once(config: Config, trained: Model, *, noise: dict[str, Any] | None = None, repeats: int = 0, name: str = 'asking once'):
    """`find(params, key, images, time)`: one call for each draw."""
    path, draw = model.make_path(trained.path), named(noise, trained.card['shape'])

    def restore(key, image, denoise, time):
        return single.restore(key, image, denoise, path=path, time=time, repeats=repeats or config.repeats, noise=draw)

    return detecting.finder(trained, restore, name=name)


def times(config: Config, path: GaussianPath, depth: float) -> jax.Array:
    """Of a walk from `depth` to 0."""
    return grids.uniform(path, config.walk, start=depth)


def chosen(config: Config, cohort: Cohort, find: Callable[[jax.Array, np.ndarray, Any], Finding], candidates: Sequence[Any] = ()) -> Any:
    """Of --depths, or other candidates, the one whose maps `find(key, images, depth)` are the most precise on validation patients."""
    where, candidates = cases(cohort.validation), tuple(candidates or config.depths)
    return detecting.best(lambda each: np.asarray(find(jax.random.key(config.seed), scans(where), each).map), candidates, where)


def usual(config: Config, models: Models, cohort: Cohort) -> dict[str, Detect]:
    """The rows of the model 'healthy', each at its own best depth."""
    trained = models['healthy']
    path = model.make_path(trained.path)
    walk, ask = chain(config, trained, name='chain'), once(config, trained, name='single step')
    ways = {
        'chain': lambda key, images, depth: walk(trained.params, key, images, times(config, path, depth)),
        'single step': lambda key, images, depth: ask(trained.params, key, images, np.float32(depth)),
    }
    depths = {name: chosen(config, cohort, way) for name, way in ways.items()}
    often, more = 'single step, as many calls', once(config, trained, repeats=config.repeats * config.walk, name='single step, more draws')
    ways[often] = lambda key, images, depth: more(trained.params, key, images, np.float32(depth))
    depths[often] = depths['single step']
    return {name: lambda key, images, way=way, depth=depths[name]: way(key, images, depth) for name, way in ways.items()}


def untrained(config: Config, trained: Model) -> Any:
    """Fresh parameters of a network, with those that begin at 0 drawn as others are: left alone, they answer nothing and a map is the image."""
    fresh = model.init(trained, jax.random.key(config.seed))
    leaves, tree = jax.tree.flatten(fresh)
    keys = jax.random.split(jax.random.key(config.seed + 1), len(leaves))
    drawn = [
        each if each.ndim < 2 or each.any() else jax.random.normal(key, each.shape, each.dtype) / np.sqrt(np.prod(each.shape[:-1]))
        for key, each in zip(keys, leaves, strict=True)
    ]
    return jax.tree.unflatten(tree, drawn)


# ---- running


def run(system: str, config: Config, parts: Parts, bars: Sequence[Bar]) -> dict[str, Any]:
    """Train, judge and write the workdir; returns what result.json holds. `bars` are asked of phantoms, `BRAIN` of virtual brains."""
    asked = {'phantom': bars, 'brain': BRAIN}.get(config.data, ()) if config.preset in ('cpu', 'gpu') else ()
    kept: dict[Any, Any] = {}  # what is made once for all seeds

    def made(models: Models, cohort: Cohort) -> Detectors:
        if 'detectors' not in kept:
            own = parts.detectors(config, models, cohort)
            kept['detectors'] = own._replace(beside={**own.beside, **usual(config, models, cohort)})
            kept['simple'] = detecting.simple_rows(cohort)
        return kept['detectors']

    def evaluate(config: Config, models: Models, cohort: Cohort, seed: int) -> experiment.Evaluation:
        own = made(models, cohort)
        first = kept[config.seed].maps if config.seed in kept else None
        on = kept[seed] = detecting.bench(cohort, seed - config.seed, kept['simple'], first)
        return detecting.judge(on, own, jax.random.key(seed), parts.derive)

    def show(config: Config, models: Models, cohort: Cohort, folder: Workdir) -> list[report.Section]:
        sections = findings(config, made(models, cohort), cohort, kept[config.seed], folder)
        deliver(config, made(models, cohort), cohort, kept[config.seed], folder)
        kept['tables'] = parts.tables(config, models, cohort, made(models, cohort).chosen)
        return [*sections, *parts.show(config, models, cohort, folder)]

    def plan(config: Config, cohort: Cohort) -> list[Plan | plans.Later]:
        own = list(parts.plan(config, cohort))
        named = [each.stage.name for each in own if isinstance(each, Plan)]
        return own if 'healthy' in named else [denoiser('healthy', config, cohort), *own]

    return study.run(
        system, config, open_data=lambda config: cohorts.open_cohort(config, labelled=parts.labelled), plan=plan, evaluate=evaluate, show=show,
        bars=asked, evaluations=config.evaluations, save_every=config.save_every,
        nfe=parts.calls(config), sketch=lambda config: cohorts.sketch(config, labelled=parts.labelled), jobs=jobs,
        tables=lambda verdict: kept['tables'],
    )  # fmt: skip


def jobs(config: Config, todo: Sequence[Plan]) -> tuple[bill.Job, ...]:
    """What judging asks of the denoiser of health; other rows cost about as much each."""
    first = next(plan.blank for plan in todo if plan.stage.name == 'healthy')
    slices = config.evaluations * 2 * sum(given or usual for given, usual in zip((config.tuning, config.patients), (64, 128), strict=True))
    return (bill.calling(first, count=slices * config.repeats, size=32, calls=config.walk, name='restoring'),)


# ---- what a person looks at


def findings(config: Config, made: Detectors, cohort: Cohort, on: Bench, folder: Workdir) -> list[report.Section]:
    """Patients with what was restored and the map over them, and how the Dice depends on the size of a lesion."""
    key = jax.random.key(config.seed)
    where = cohorts.few(cohort.tests[0], 5)
    found = made.own(key, scans(where))
    treated = detection.postprocess(np.asarray(found.map), where.brains)
    figure = report.anomalies(
        scans(where)[..., 0],
        treated,
        restored=np.asarray(found.restored)[..., 0],
        lesions=where.lesions,
        size=1.7,
        score='|scan - restored|',
    )
    curve = report.curves(by_size(on), x='area of the lesion, pixels', y='Dice')
    text = (
        'Patients that nothing was learnt from or chosen on. The map is what the figures are made of: eroded brain, median of 5 x 5 pixels.'
    )
    sizes = 'Mean Dice of a quarter of the patients, at the threshold that validation patients chose.'
    return [
        report.Section('Found', text, [
            report.picture(figure, text, alt='scans, restorations and maps', path=folder.figures / 'findings.png'),
        ]),
        report.Section('By the size of a lesion', sizes, [
            report.picture(curve, sizes, alt='Dice against lesion size', path=folder.figures / 'sizes.png'),
        ]),
    ]  # fmt: skip


def by_size(on: Bench) -> dict[str, tuple[list[float], list[float]]]:
    """Area and Dice of quarters of the patients, for the system, the single step and the linear denoiser."""
    rows = {'this system': detecting.OWN, 'single step': 'single step', detecting.LINEAR: detecting.LINEAR}
    return {name: detecting.sized(on, on.maps[row]) for name, row in rows.items()}


def deliver(config: Config, made: Detectors, cohort: Cohort, on: Bench, folder: Workdir) -> None:
    """For each scan to be judged by: what was restored, the map, and the mask above the threshold of validation patients, in the scan's own frame.

    Where nobody's files were given, the slices that are shown, as arrays.
    """
    key = jax.random.key(config.seed)
    threshold = detecting.threshold(on, on.maps[detecting.OWN])
    if not cohort.scans:
        where = cohorts.few(cohort.tests[0], 5)
        found = made.own(key, scans(where))
        maps = detection.postprocess(np.asarray(found.map), where.brains)
        arrays = {'scan': scans(where), 'restored': found.restored, 'anomaly': maps, 'mask': maps > threshold, 'lesion': where.lesions}
        folder.outputs.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(folder.outputs / 'findings.npz', **arrays)
        return
    for number, patient in enumerate(cohort.scans):
        scan = patients.examine(patient, cohort.preprocess)
        found = made.own(key, scan.images)
        maps = detection.postprocess(np.asarray(found.map), scan.heads[..., 0])
        parts = {'restored': np.asarray(found.restored), 'anomaly': maps, 'mask': maps > threshold}
        patients.write(folder.outputs / f'{number:03d}-{patient.name}', patient, cohort.preprocess, scan, parts)
