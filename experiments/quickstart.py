"""See it work: brains drawn from noise, a lesion found, a hole filled, and a network that learns before your eyes, in five minutes on two cores.

    python experiments/quickstart.py

Uses the model that comes with the package and the virtual brain population (a warped MNI152 head); nothing is downloaded. Writes figures,
NIfTI volumes, result.json and report.html to runs/quickstart.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdiff import experiment, grids, model, plans, report, sampling
from jaxdiff.clock import Clock
from jaxdiff.data import brains, datasets, loader, preprocess, volumes
from jaxdiff.data.source import Source, stack
from jaxdiff.experiment import Bar, Evaluation, option
from jaxdiff.export import bill
from jaxdiff.metrics import detection, synthesis
from jaxdiff.metrics.privacy import Memorisation
from jaxdiff.model import Model
from jaxdiff.solvers import named
from jaxdiff.solvers.ancestral import ddim
from jaxdiff.tasks.anomaly.partial import restore
from jaxdiff.tasks.inpainting.replacement import fill
from jaxdiff.training import log
from jaxdiff.types import UserError
from jaxdiff.workdir import Workdir, open_workdir, peak_memory


@dataclass(frozen=True, kw_only=True)
class Config(experiment.Config):
    data: str = option('brain', 'the virtual brain population', choices=('brain',))
    subjects: int = option(0, 'training subjects to look for copies among; 0: all that the model was trained on', low=0)
    held_out: int = option(60, 'subjects that the model has not seen, half of them to compare with', low=2)
    samples: int = option(300, 'brains to draw', low=8)
    controls: int = option(100, 'images to draw from the untrained network', low=8)
    steps: int = option(15, 'steps of the sampler', low=1)
    tuning: int = option(16, 'subjects with a lesion on whom depth, repeats and map are chosen', low=1)
    patients: int = option(32, 'subjects with a lesion on whom they are judged', low=1)
    depths: tuple = option((0.2, 0.3, 0.4), 'noising depths to choose from, in path time', low=0.05, high=0.95)
    repeats: tuple = option((2, 6), 'numbers of averaged restorations to choose from', low=1)
    walk: int = option(8, 'steps of a restoration', low=1)
    evaluations: int = option(1, 'seeds of noise to judge by', low=1)
    learning: int = option(120, 'steps of training from nothing', low=1)


PRESETS = {
    'smoke': dict(
        subjects=2, held_out=4, samples=8, controls=8, steps=2, tuning=2, patients=2, depths=(0.4,), repeats=(2,), walk=2, learning=2
    ),
    'cpu': {},
    'gpu': dict(samples=1000, controls=1000, steps=named.STEPS, held_out=200, patients=200, learning=2000),
    'paper': dict(samples=1000, controls=1000, steps=named.STEPS, held_out=200, patients=200, learning=2000),
}
MEDIANS = (1, 3, 5)  # widths of the median filter that the map is chosen among, in pixels
BARS = (
    Bar('kernel_distance_ratio', '<=', 0.5),
    Bar('memorised_5', '<=', 0.15),
    Bar('lesion_ap_margin', '>=', 0.1),
)


class Cases(NamedTuple):
    """One slice of each subject with a lesion: the one that shows most of it."""

    images: np.ndarray  # (n, X, Y, 1) in [-1, 1]
    lesions: np.ndarray  # (n, X, Y) bool
    brains: np.ndarray  # (n, X, Y) bool


class Choice(NamedTuple):
    """How a map is made: noising depth (path time), restorations averaged, width of the median filter."""

    depth: float
    repeats: int
    median: int


class Found(NamedTuple):
    """The chosen way to make a map, what makes it, and the patients' maps and restored images (n, X, Y)."""

    choice: Choice
    run: Callable[..., tuple[np.ndarray, np.ndarray]]
    residual: np.ndarray
    restored: np.ndarray


def run(config: Config) -> dict[str, Any]:
    """Everything the module's docstring promises; returns what result.json holds."""
    clock = Clock()
    trained = model.shipped('brain')
    if config.dry_run:
        return forecast(config, trained)
    recipe = brains.Recipe(**trained.card['recipe_of_data'])
    train = brains.slices(recipe, 0, config.subjects or trained.card['subjects'])
    held_out = brains.slices(recipe, datasets.TEST, config.held_out)
    ill = recipe._replace(lesion='mixed')
    tuning, patients = cases(ill, datasets.VALIDATION, config.tuning), cases(ill, datasets.TEST + config.held_out, config.patients)
    manifest = {'train': train.manifest, 'held_out': held_out.manifest}
    folder = open_workdir(config, manifest, name='quickstart')
    clock.lap('data')

    key = jax.random.key(config.seed)
    untrained = trained._replace(params=model.init(trained, jax.random.fold_in(key, 1)))
    seen = []
    for n in reversed(range(config.evaluations)):  # what is shown is the first seed's
        key = jax.random.key(config.seed + n)
        images, drawn, copies, against = drawing(config, trained, untrained, stack(train), stack(held_out), key)
        maps, found = finding(config, trained, untrained, stack(train), tuning, patients, key)
        seen.append(joined(images, maps))
    clock.lap('infer')
    sections = [
        show_samples(folder, drawn, copies, against),
        show_lesions(folder, patients, found),
        show_scan(folder, config, trained, ill, found, key),
        show_filling(folder, trained, against.real, key),
    ]
    clock.lap('show')
    sections.append(show_learning(folder, config, trained, train))
    clock.lap('train')

    result = {
        **experiment.headline('quickstart', config, manifest),
        'wall_s': clock.seconds(),
        'peak_memory_bytes': peak_memory(),
        'nfe': {'drawing': config.steps, 'restoring': config.walk * found.choice.repeats, 'filling': 60},
        'parameters': model.count(trained.params),
        'state_digest': trained.card.get('state_digest'),
        'choice': found.choice._asdict(),
        **experiment.verdict(seen, BARS if config.preset != 'smoke' else ()),
    }
    experiment.conclude(folder, result, sections, receipts=config.receipts)
    return result


def forecast(config: Config, trained: Model) -> dict[str, Any]:
    """What the run would cost, the scan that is shown left out."""
    zeros = {'image': np.zeros(trained.card['shape'], np.float32)}
    learning = learner(config, trained, Source(16, lambda index: zeros, {}))
    restored = config.tuning * len(config.depths) * sum(config.repeats) + 2 * config.patients * max(config.repeats)
    draws = dict(size=min(config.samples, 50), calls=config.steps, times=grids.default(model.make_path(trained.path), config.steps))
    jobs = (
        bill.drawing(trained, count=config.evaluations * (config.samples + config.controls), **draws),
        bill.calling(trained, count=config.evaluations * restored, size=8, calls=config.walk, name='restoring'),
        bill.calling(trained, count=3, size=4, calls=60, name='filling'),
    )
    return plans.forecast([learning], jobs)


def joined(images: Evaluation, maps: Evaluation) -> Evaluation:
    """One evaluation from that of the images and that of the anomaly maps."""
    sides = [{name: {**a.get(name, {}), **b.get(name, {})} for name in {**a, **b}} for a, b in zip(images[1:], maps[1:], strict=True)]
    return Evaluation({**images.metrics, **maps.metrics}, *sides)


# ---- brains from noise


def drawing(config: Config, trained: Model, untrained: Model, train: np.ndarray, held_out: np.ndarray, key: jax.Array):
    """The evaluation of the samples; the samples, what they are nearest to, and what they were compared with."""
    depth = brains.Recipe(**trained.card['recipe_of_data']).shape[2]
    against = synthesis.reference(train, *np.split(held_out, [config.held_out // 2 * depth]))
    times = grids.default(model.make_path(trained.path), config.steps)
    draw = sampling.drawer(trained, times=times, size=min(config.samples, 50), name='drawing brains')
    drawn, noise = draw(trained.params, key, config.samples), draw(untrained.params, key, config.controls)
    *judged, copies = synthesis.compare(drawn, noise, against, np.random.default_rng(config.seed))
    return Evaluation(*judged), drawn, copies, against


def show_samples(folder: Workdir, drawn: np.ndarray, copies: Memorisation, against: synthesis.Reference) -> report.Section:
    """Real brains, drawn ones, and the training image that each drawn one is nearest to."""
    columns = 8
    real = against.real[np.linspace(0, len(against.real) - 1, columns).astype(int)]
    rows = [real, drawn[:columns], against.train[copies.nearest.index[:columns]]]
    figure = report.grid(
        [[image[..., 0] for image in row] for row in rows], labels=('real, unseen', 'drawn', 'nearest in training'), size=1.3
    )
    caption = (
        'Above, real slices of subjects that the model never saw. Below, slices it drew from noise, each over its nearest training slice.'
    )
    return report.Section('Brains from noise', caption, [saved(folder, 'samples', figure, 'Slices of 64 x 64 pixels of 3 mm.')])


# ---- lesions


def cases(recipe: brains.Recipe, first: int, count: int) -> Cases:
    """The slice of each of `count` subjects that shows most of the lesion."""
    source, depth = brains.slices(recipe, first, count), recipe.shape[2]
    chosen = []
    for subject in range(count):
        slices = [source.example(subject * depth + n) for n in range(depth)]
        chosen.append(max(slices, key=lambda each: each['mask'].sum()))
    chosen = [each for each in chosen if each['mask'].any()]
    if not chosen:
        raise UserError('--patients or --tuning: no lesion shows in so few subjects; take more')
    images = np.stack([each['image'] for each in chosen])
    return Cases(images, np.stack([each['mask'][..., 0] > 0 for each in chosen]), head(images))


def head(images: np.ndarray) -> np.ndarray:
    """Where a skull-stripped scan is not background: (n, X, Y, 1) -> (n, X, Y)."""
    return images[..., 0] > -1 + 1e-3


def restorer(trained: Model, repeats: int, name: str):
    """(shared = (params, times), keys, images (n, X, Y, 1)) -> residuals and restored images, both (n, X, Y)."""
    path = model.make_path(trained.path)

    def one(shared: Any, key: jax.Array, image: jax.Array) -> tuple[jax.Array, jax.Array]:
        params, times = shared
        denoise = model.denoiser(trained._replace(params=params))
        result = restore(key, image, denoise, path=path, solver=ddim(path, eta=1.0), times=times, repeats=repeats)
        return result.map, result.restored[..., 0]

    return sampling.mapper(one, size=8, name=name)


def grid(config: Config, trained: Model, depth: float) -> jax.Array:
    """Times of a restoration from `depth`."""
    return grids.uniform(model.make_path(trained.path), config.walk, start=depth)


def precision(score: np.ndarray, where: Cases, median: int) -> float:
    """Average precision over all pixels of the brains, after the treatment that every map gets."""
    treated = detection.postprocess(score, where.brains, median=median)
    return detection.average_precision(treated[where.brains], where.lesions[where.brains])


def finding(config: Config, trained: Model, untrained: Model, healthy: np.ndarray, tuning: Cases, patients: Cases, key: jax.Array):
    """The evaluation of the anomaly maps, and what was found."""
    keys = lambda n, where: sampling.keys(jax.random.fold_in(key, n), len(where.images))
    scores = {}
    runs = {repeats: restorer(trained, repeats, f'restoring {repeats} times') for repeats in config.repeats}
    for repeats, restored in runs.items():
        for depth in config.depths:
            residual, _ = restored((trained.params, grid(config, trained, depth)), keys(2, tuning), tuning.images)
            scores |= {Choice(depth, repeats, median): precision(residual, tuning, median) for median in MEDIANS}
    choice = max(scores, key=scores.get)

    times = grid(config, trained, choice.depth)
    residual, restored = runs[choice.repeats]((trained.params, times), keys(3, patients), patients.images)
    nothing, _ = runs[choice.repeats]((untrained.params, times), keys(3, patients), patients.images)
    z_score = detection.z_score(healthy)
    simple = {
        'intensity': detection.intensity,
        'two-sided intensity': lambda images: detection.contrast(images, head(images)),
        'z_score': z_score,
    }
    baselines = {}
    for name, score in simple.items():
        median = max(MEDIANS, key=lambda median: precision(score(tuning.images), tuning, median))
        baselines[name] = {'lesion_ap': precision(score(patients.images), patients, median)}
    best = max(each['lesion_ap'] for each in baselines.values())
    chance = float(patients.lesions[patients.brains].mean())
    metrics = {'lesion_ap': precision(residual, patients, choice.median)}
    control = {'lesion_ap': precision(nothing, patients, choice.median)}
    for each in (metrics, control):
        each['lesion_ap_margin'] = each['lesion_ap'] - best
    shown = Found(choice, runs[choice.repeats], residual, restored)
    return Evaluation(metrics, {**baselines, 'chance': {'lesion_ap': chance}}, {'untrained': control}), shown


def show_lesions(folder: Workdir, patients: Cases, found: Found) -> report.Section:
    """Scan, restoration and map of a few patients."""
    choice, _, residual, restored = found
    treated = detection.postprocess(residual, patients.brains, median=choice.median)
    few = slice(0, 5)
    figure = report.anomalies(
        patients.images[few, ..., 0],
        treated[few],
        restored=restored[few],
        lesions=patients.lesions[few],
        size=1.7,
        score='|scan - restored|',
    )
    text = (
        'Each scan is noised part of the way and brought back by a model of healthy brains; what does not come back is suspicious. '
        f'Depth {choice.depth:g}, {choice.repeats} restorations averaged and a median filter of {choice.median} pixels were chosen on other subjects.'
    )
    return report.Section('A lesion found', text, [saved(folder, 'lesions', figure, 'Patients that nothing was chosen on.')])


def show_scan(folder: Workdir, config: Config, trained: Model, ill: brains.Recipe, found: Found, key: jax.Array) -> report.Section:
    """One patient's volume, as a file: read, restored slice by slice, and written back in the scan's own frame."""
    person = brains.subject(ill, datasets.TEST + config.held_out)
    scan = folder.outputs / 'scan.nii.gz'
    volumes.write(scan, person.image, volumes.frame(person.image.shape[:3], person.affine))
    volume = volumes.read(scan)
    prepare = preprocess.from_json(trained.preprocess)
    images, record = preprocess.apply(prepare, volume)
    keys = sampling.keys(jax.random.fold_in(key, 4), len(images))
    residual, restored = found.run((trained.params, grid(config, trained, found.choice.depth)), keys, images)
    treated = detection.postprocess(residual, head(images), median=found.choice.median)
    parts = {'restored': (restored, True), 'anomaly': (treated, False)}
    for name, (values, intensity) in parts.items():
        volumes.write(
            folder.outputs / f'{name}.nii.gz', preprocess.invert(prepare, record, values[..., None], intensity=intensity), volume.frame
        )
    volumes.write(folder.outputs / 'lesion.nii.gz', person.lesion[..., None], volume.frame, dtype=np.uint8)
    text = 'scan.nii.gz, restored.nii.gz, anomaly.nii.gz and the true lesion.nii.gz lie in outputs/, all on the grid of the scan.'
    lesion = preprocess.apply_mask(prepare, record, person.lesion[..., None])[..., 0] > 0
    shown = np.sort(np.argsort(lesion.sum((1, 2)))[-3:])  # the slices that show most of it
    parts = images[shown, ..., 0], treated[shown]
    figure = report.anomalies(*parts, restored=restored[shown], lesions=lesion[shown], score='|scan - restored|', size=1.7)
    return report.Section('From file to file', text, [saved(folder, 'volume', figure, 'Slices of the same volume.')])


# ---- a hole


def show_filling(folder: Workdir, trained: Model, real: np.ndarray, key: jax.Array) -> report.Section:
    """One hole, three fillings."""
    path = model.make_path(trained.path)
    image = real[len(real) // 2]
    across, along = np.indices(image.shape[:2])
    known = np.float32(np.square((across - 40) / 9) + np.square((along - 34) / 11) > 1)[..., None]
    times = grids.uniform(path, 60)

    def one(params: Any, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        denoise = model.denoiser(trained._replace(params=params))
        result = fill(key, jnp.asarray(image), jnp.asarray(known), denoise, path=path, solver=ddim(path, eta=1.0), times=times)
        return result.image, result.filled

    holes, filled = sampling.mapper(one, size=4, name='filling a hole')(trained.params, sampling.keys(jax.random.fold_in(key, 5), 3))
    row = [holes[0, ..., 0], *filled[..., 0], image[..., 0]]
    figure = report.grid([row], titles=('with a hole', 'filled', 'filled again', 'and again', 'the truth'), size=1.7)
    text = 'The known pixels stay exactly as they are; another key gives another plausible filling.'
    return report.Section('A hole filled', text, [saved(folder, 'filling', figure, 'An unseen slice with an ellipse taken out.')])


# ---- learning


def learner(config: Config, trained: Model, train: Source) -> plans.Plan:
    """The plan of a short training."""
    schedule = dict(batch=16, steps=config.learning, rate=1e-3, warmup=20, ema=0.99)
    return plans.denoiser('learning', trained._replace(params=None), train, augment=loader.flip, seed=config.seed, **schedule)


def show_learning(folder: Workdir, config: Config, trained: Model, train: Source) -> report.Section:
    """The same network from nothing, for about a minute: loop, curve, checkpoint."""
    often = dict(save_every=max(config.learning // 2, 1), log_every=max(config.learning // 40, 1))
    plans.train([learner(config, trained, train)], folder, seed=config.seed, **often)
    lines = log.read(folder.root / 'metrics.jsonl')
    figure = report.curves({'training': ([each['step'] for each in lines], [each['loss'] for each in lines])}, log='y')
    text = (
        f'{config.learning} steps of the same network, from nothing. Its checkpoints are in checkpoints/learning; '
        'the one that comes with the package learnt on.'
    )
    return report.Section('A network learning', text, [saved(folder, 'learning', figure, 'Mean squared error of its prediction.')])


def saved(folder: Workdir, name: str, figure, caption: str) -> report.Picture:
    """The figure in the workdir, and for the page."""
    return report.picture(figure, caption, alt=caption, path=folder.figures / f'{name}.png')


if __name__ == '__main__':
    experiment.main(Config, PRESETS, run)
