"""Sample from a trained model: new images, or other versions of your own files, without typing its architecture again.

    python experiments/sample.py                                                 brains from the model that comes with the package
    python experiments/sample.py --model=runs/train --count=8                    from what train.py trained
    python experiments/sample.py --model=runs/train --covariates=0.7,1,0.4,0.5,0.5 --weight=2
    python experiments/sample.py --model=runs/train --data=nifti:scans --depth=0.5
    python experiments/sample.py --model=runs/patches --shape=512,512,512 --tile=64 --overlap=16 --count=1     a volume larger than memory

With `--data`, every file is noised to `--depth` (in path time, 1 forgets it) and brought back (Meng et al., "SDEdit", ICLR 2022), and the result
is written in the file's own frame: affine, orientation, number of axes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdiff import experiment, grids, model, report, sampling
from jaxdiff.clock import Clock
from jaxdiff.data import layouts, preprocess, volumes
from jaxdiff.data.volumes import SUFFIXES, Frame
from jaxdiff.experiment import Evaluation, option
from jaxdiff.export import bill
from jaxdiff.export.kept import sources
from jaxdiff.guidance import classifier_free
from jaxdiff.model import Model
from jaxdiff.paths import perturb
from jaxdiff.solvers import named
from jaxdiff.solvers.loop import sample
from jaxdiff.tiling import fuse
from jaxdiff.types import Array, Denoiser, UserError
from jaxdiff.workdir import Workdir, open_workdir, peak_memory


@dataclass(frozen=True, kw_only=True)
class Config(experiment.Config):
    data: str = option('', "'' for new images, nifti:<folder or file> for other versions of these files")
    model: str = option('brain', "workdir of a training, or 'brain', which comes with the package")
    count: int = option(16, 'new images to draw', low=1)
    depth: float = option(0.5, 'how far a file is noised, as a share of the path', low=0.01, high=1)
    solver: str = option(
        'adams',
        'ddpm, sde_dpmpp_2m and euler_maruyama draw noise along the way, all others follow the probability flow',
        choices=tuple(named.SOLVERS),
    )
    steps: int = option(named.STEPS, 'steps of the solver', low=1)
    covariates: tuple = option((), 'what a model of covariates is told, as it was trained: numbers from 0 to 1, nan for unknown')
    weight: float = option(1.0, 'classifier-free guidance: 0 ignores the covariates, 1 is plain, above 1 exaggerates them', low=0)
    size: int = option(16, 'images under way at once', low=1)
    shape: tuple = option((), 'pixels of new images along each axis, by default those the model was trained on')
    tile: int = option(0, 'pixels per side of the tiles in which the network sees an image, 0 for the whole at once', low=0)
    overlap: int = option(16, 'pixels that neighbouring tiles share', low=0)


PRESETS = {'smoke': dict(count=2, steps=2), 'cpu': {}, 'gpu': dict(count=256, size=256), 'paper': dict(count=1000, steps=50)}


def run(config: Config) -> dict[str, Any]:
    """Draw, and write the workdir; returns what result.json holds."""
    clock = Clock()
    trained = find(config.model)
    told = covariates(config, trained)
    prepare = sized(config, trained)
    index = files_of(config.data) if config.data else ()
    if config.dry_run:
        print(f'{model.count(trained.params):,} parameters, {calls(config)} network calls for each image')
        return bill.bill(jobs(config, trained, told, index))
    for frame in index:  # every file is looked at before anything is written
        preprocess.apply(prepare, volumes.read(frame.name))
    manifest = {'model': trained.card.get('state_digest'), 'files': [Path(frame.name).name for frame in index]}
    folder = open_workdir(config, manifest, name='sample')
    draw = drawer(config, trained, told)
    if index:
        shown = [version(config, trained, prepare, draw, frame, n, folder) for n, frame in enumerate(index)]
        rows, labels = [image for pair in shown[:8] for image in pair], ('file', 'sample') * min(len(shown), 8)
        figure = report.grid(rows, labels=labels)
    else:
        images = draw(np.zeros((config.count, *prepare.shape, trained.card['shape'][-1]), np.float32), config.seed)
        frame, record = preprocess.blank(prepare)
        for n, image in enumerate(images):
            volumes.write(folder.outputs / f'sample-{n:04d}.nii.gz', preprocess.invert(prepare, record, image[None]), frame)
        figure = report.grid(report.tiles([report.middle(image) for image in images[:48]]))
    clock.lap('infer')
    result = {
        **experiment.headline('sample', config, manifest),
        'wall_s': clock.seconds(),
        'peak_memory_bytes': peak_memory(),
        'nfe': calls(config),
        'parameters': model.count(trained.params),
        **experiment.verdict([Evaluation({}, {}, {})], ()),
    }
    picture = report.picture(figure, f'{config.steps} steps of {config.solver}.', alt='samples', path=folder.figures / 'samples.png')
    experiment.conclude(folder, result, [report.Section('Samples', '', [picture])], receipts=config.receipts)
    return result


def find(name: str) -> Model:
    """The shipped model of that name, or the model of a workdir, from its newest checkpoint where training did not end."""
    if name == 'brain' and not Path(name).exists():
        return model.shipped(name)
    root = Path(name)
    if not root.is_dir():
        raise UserError(f"--model={name}: no such workdir; give one that train.py wrote, or 'brain'")
    if (root / 'model.npz').exists():
        return model.load(root / 'model')
    from jaxdiff import plans  # brings all of training with it

    return plans.unfinished(root, 'model')


def files_of(spec: str) -> layouts.Index:
    """The files that `--data` names."""
    layout, _, where = spec.partition(':')
    if layout != 'nifti' or not where:
        raise UserError(f'--data={spec}: sampling takes nifti:<folder or file>, or nothing for new images')
    return layouts.nifti(where)


def covariates(config: Config, trained: Model) -> dict[str, np.ndarray]:
    """What the network is told, by its keyword."""
    if config.weight != 1 and not trained.card.get('conditioning'):
        raise UserError(f'--weight: the model {config.model} is told nothing that guidance could exaggerate; leave the flag out')
    shape = trained.card.get('conditioning', {}).get('vector')
    names = ', '.join(trained.card.get('covariates') or {}) if shape else ''
    if not config.covariates:
        return {'vector': np.full(shape, np.nan, np.float32)} if shape else {}
    if not shape:
        raise UserError(f'--covariates: the model {config.model} was trained without any; leave the flag out')
    try:
        values = np.array([float(value) for value in config.covariates], np.float32)
    except ValueError:
        raise UserError(f'--covariates={",".join(config.covariates)}: give numbers from 0 to 1, or nan') from None
    if values.shape != tuple(shape):
        raise UserError(f'--covariates: {len(values)} given, the model was told {shape[0]}: {names}')
    return {'vector': values}


def sized(config: Config, trained: Model) -> preprocess.Preprocess:
    """The model's preprocessing, for images of `--shape` where it is given, if the network can take those."""
    prepare, network = preprocess.from_json(trained.preprocess), model.make_network(trained.network)
    if config.shape:
        if not all(size.isdecimal() and int(size) for size in config.shape) or len(config.shape) != len(prepare.shape):
            raise UserError(f'--shape={",".join(config.shape)}: give {len(prepare.shape)} sizes in pixels')
        prepare = prepare._replace(shape=tuple(map(int, config.shape)))
    if config.tile and config.overlap >= config.tile:
        raise UserError(f'--overlap={config.overlap}: must be less than the tile of {config.tile}')
    if config.tile and network.coordinates:
        raise UserError(
            f'--tile: the network of {config.model} sees coordinates and would take every tile for the whole; leave the flag out'
        )
    seen = [min(config.tile or size, size) for size in prepare.shape]
    if any(size % factor for size, factor in zip(seen, network.factor(), strict=True)):
        raise UserError(
            f'--{"tile" if config.tile else "shape"}: the network sees {seen} pixels, and needs multiples of {network.factor()}'
        )
    return prepare


def drawer(config: Config, trained: Model, told: dict[str, np.ndarray]) -> Callable[[np.ndarray, int], np.ndarray]:
    """(images (n, *shape), seed) -> one sample from each, noised to the depth first; new images start from noise alone."""
    flags = {name: getattr(config, name) for name in ('solver', 'steps', 'depth', 'weight', 'tile', 'overlap')}
    told_of = {name: np.asarray(value).tolist() for name, value in told.items()}
    recipe = {
        **flags,
        'files': bool(config.data),
        'told': told_of,
        'model': trained._replace(params=None)._asdict(),
        'script': sources(__file__),
    }
    mapped = sampling.mapper(walker(config, trained, told), size=at_once(config, trained), name='sampling', recipe=recipe)

    def draw(images: np.ndarray, seed: int) -> np.ndarray:
        return np.clip(mapped(trained.params, sampling.keys(jax.random.key(seed), len(images)), images), -1, 1)

    return draw


def at_once(config: Config, trained: Model) -> int:
    """Images under way together."""
    return min(config.size, config.count) if not config.data else config.size if trained.preprocess['dims'] == 2 else 1


def walker(config: Config, trained: Model, told: dict[str, np.ndarray]) -> Callable[[Any, Array, Array], Array]:
    """(params, key, image) -> the sample, for one."""
    path = model.make_path(trained.path)
    solver = named.SOLVERS[config.solver](path)
    start_at = config.depth * path.end if config.data else None

    def denoiser(params: Any) -> Denoiser:
        conditioned = lambda told: model.denoiser(trained._replace(params=params), **told)
        nothing = jax.tree.map(lambda value: jnp.full_like(value, jnp.nan), told)
        denoise = classifier_free(conditioned, told, nothing, config.weight) if told and config.weight != 1 else conditioned(told)
        return fuse(denoise, tile=config.tile, overlap=config.overlap) if config.tile else denoise

    def one(params: Any, key: Array, image: Array) -> Array:
        times = grids.default(path, config.steps, start=start_at)
        start, walk = jax.random.split(key)
        noise = jax.random.normal(start, image.shape)
        x = perturb(path, image, noise, times[0]) if config.data else path.sigma(times[0]) * noise
        return sample(walk, x, denoiser(params), solver, times).x

    return one


def jobs(config: Config, trained: Model, told: dict[str, np.ndarray], index: layouts.Index) -> tuple[bill.Job, ...]:
    """What the run would do: of files, by their headers alone, every slice or the volume."""
    slices = [frame.size[trained.preprocess.get('axis', 2)] if trained.preprocess['dims'] == 2 else 1 for frame in index]
    doubled = 2 if told and config.weight != 1 else 1
    image = bill.float32(*sized(config, trained).shape, trained.card['shape'][-1])
    key = jax.eval_shape(lambda: jax.random.key(0))
    options = dict(size=at_once(config, trained), **bill.network_call(trained, told, doubled * calls(config)))
    one = walker(config, trained, told)
    each = [bill.over('sampling', one, trained.params, (key, image), count=n, **options) for n in slices or [config.count]]
    return (each[0]._replace(times=sum(job.times for job in each)),)


def version(config: Config, trained: Model, prepare: preprocess.Preprocess, draw: Callable, frame: Frame, n: int, folder: Workdir) -> list:
    """Write another version of file n in its own frame; the middle slices of both, for the figure."""
    volume = volumes.read(frame.name)
    examples, record = preprocess.apply(prepare, volume)
    drawn = draw(examples, config.seed + n)
    suffix = max((suffix for suffix in SUFFIXES if frame.name.lower().endswith(suffix)), key=len)
    name = f'{Path(frame.name).name[: -len(suffix)]}-{n:04d}.nii.gz'
    volumes.write(folder.outputs / name, preprocess.invert(prepare, record, drawn, outside=volume.array), volume.frame)
    half = len(examples) // 2
    return [[report.middle(examples[half])], [report.middle(drawn[half])]]


def calls(config: Config) -> int:
    """Network calls per image."""
    return named.calls(config.solver, config.steps)


if __name__ == '__main__':
    experiment.main(Config, PRESETS, run)
