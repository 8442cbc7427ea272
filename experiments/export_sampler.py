"""Export a trained sampler as a folder that draws without the network's code, on a CPU, a GPU or a TPU; and draw from such a folder.

    python experiments/export_sampler.py                                           the sampler of the model that comes with the package
    python experiments/export_sampler.py --model=runs/train --solver=ddpm --steps=50
    python experiments/export_sampler.py --run=runs/export_sampler/artifact --count=8
    python experiments/export_sampler.py --run=runs/export_sampler/artifact --steps=30 --covariates=0.7,1,0.4,0.5,0.5

What is exported is drawn from and compared with what the model draws from the same key. Images are written in the frame of the model.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import numpy as np
import sample

from jaxdiff import experiment, export, grids, model, report, sampling, telling
from jaxdiff.clock import Clock
from jaxdiff.data import preprocess, volumes
from jaxdiff.experiment import Bar, Evaluation, option
from jaxdiff.export.program import PLATFORMS
from jaxdiff.model import Model
from jaxdiff.solvers import named
from jaxdiff.types import UserError
from jaxdiff.workdir import Workdir, open_workdir, peak_memory


@dataclass(frozen=True, kw_only=True)
class Config(experiment.Config):
    data: str = option('', 'there is none', choices=('',))
    run: str = option('', 'folder of an exported sampler to draw from, instead of exporting one')
    model: str = option('brain', "what to export: workdir of a training, or 'brain', which comes with the package")
    solver: str = option('adams', 'to export', choices=tuple(named.SOLVERS))
    steps: int = option(0, 'of the solver; 0 takes 20 to export, and what was exported to draw', low=0)
    platforms: tuple = option(PLATFORMS, 'to export for, of cpu, cuda, rocm and tpu')
    guided: bool = option(False, 'export a sampler that takes a --weight')
    count: int = option(4, 'images to draw', low=1)
    covariates: tuple = option((), 'what a model of covariates is told, as it was trained: numbers from 0 to 1, nan for unknown')
    weight: float = option(1.0, 'classifier-free guidance: 0 ignores the covariates, 1 is plain, above 1 exaggerates them', low=0)
    size: int = option(16, 'images under way at once', low=1)


PRESETS = {'smoke': dict(count=2), 'cpu': {}, 'gpu': dict(count=256, size=256), 'paper': {}}
BARS = (Bar('difference', '<=', 1e-3),)


class Outcome(NamedTuple):
    """What a run leaves in its workdir: images, none where they cannot be drawn here, what was measured, and what the run was made from."""

    folder: Workdir
    images: np.ndarray
    measured: dict[str, float]
    about: dict[str, Any]


def run(config: Config) -> dict[str, Any]:
    """Export and compare, or draw; returns what result.json holds."""
    clock = Clock()
    done = draw(config) if config.run else write(config)
    if done is None:
        return {}
    clock.lap('infer')
    result = {
        **experiment.headline('export_sampler', config, done.about),
        'wall_s': clock.seconds(),
        'peak_memory_bytes': peak_memory(),
        **experiment.verdict([Evaluation(done.measured, {}, {})], BARS if done.measured else ()),
    }
    sections = []
    if len(done.images):
        figure = report.grid(report.tiles([report.middle(image) for image in done.images[:48]]))
        picture = report.picture(figure, 'Drawn from the folder.', alt='samples', path=done.folder.figures / 'samples.png')
        sections = [report.Section('Samples', '', [picture])]
    experiment.conclude(done.folder, result, sections, receipts=config.receipts)
    return result


def write(config: Config) -> Outcome | None:
    """Export into the workdir, and measure the largest difference between an image of the folder and the model's own."""
    trained = sample.find(config.model)
    if unknown := set(config.platforms) - {*PLATFORMS, 'rocm'}:
        raise UserError(
            f'--platforms={",".join(config.platforms)}: unknown {", ".join(sorted(unknown))}; choose of {", ".join(PLATFORMS)}, rocm'
        )
    if config.guided and not trained.card.get('conditioning'):
        raise UserError(f'--guided: the model {config.model} is told nothing that guidance could exaggerate; leave the flag out')
    if config.weight != 1:
        raise UserError('--weight: is for drawing with --run; an export with --guided takes any')
    path = model.make_path(trained.path)
    solver, times = named.SOLVERS[config.solver](path), grids.default(path, config.steps or named.STEPS)
    told = repeated(config, trained)
    if config.dry_run:
        print(f'{model.count(trained.params):,} parameters, programs for {", ".join(config.platforms)}')
        return None
    about = {'model': trained.card.get('state_digest')}
    folder = open_workdir(config, about, name='export_sampler')
    where = folder.root / 'artifact'
    export.save(
        where, trained, solver=solver, times=times, guided=config.guided, platforms=config.platforms, about={'solver': config.solver}
    )
    print(where)
    if jax.export.default_export_platform() not in config.platforms:
        return Outcome(folder, np.empty(0), {}, about)
    key = jax.random.key(config.seed)
    found = export.load(where, size=config.size).draw(key, config.count, **told)
    expected = sampling.drawer(trained, solver=solver, times=times, size=config.size)(trained.params, key, config.count, **told)
    return Outcome(folder, found, {'difference': float(np.abs(found - expected).max())}, about)


def draw(config: Config) -> Outcome | None:
    """Draw from a folder into the workdir, each image as NIfTI in a frame of the model."""
    sampler = export.load(config.run, size=config.size)
    manifest = sampler.manifest
    if config.weight != 1 and not manifest['guided']:
        raise UserError(f'--weight: {config.run} was exported without guidance; export it again with --guided')
    trained = Model(params=None, preprocess=manifest['preprocess'], **manifest['model'])
    told = repeated(config, trained)
    if config.dry_run:
        print(f'{config.count} images of {tuple(manifest["shape"])} to draw')
        return None
    about = {'files': manifest['files']}
    folder = open_workdir(config, about, name='export_sampler')
    times = grids.default(model.make_path(trained.path), config.steps) if config.steps else None
    images = sampler.draw(jax.random.key(config.seed), config.count, times=times, weight=config.weight, **told)
    prepare = preprocess.from_json(manifest['preprocess'])
    frame, record = preprocess.blank(prepare)
    for n, image in enumerate(images):
        volumes.write(folder.outputs / f'sample-{n:04d}.nii.gz', preprocess.invert(prepare, record, image[None]), frame)
    return Outcome(folder, images, {}, about)


def repeated(config: Config, trained: Model) -> dict[str, np.ndarray]:
    """The covariates of --covariates, for every image."""
    told = telling.flags(trained, name=config.model, covariates=config.covariates) if config.covariates else {}
    return {name: np.broadcast_to(value, (config.count, *value.shape)) for name, value in told.items()}


if __name__ == '__main__':
    experiment.main(Config, PRESETS, run)
