"""Sample from a trained model: new images, or other versions of your own files, without typing its architecture again.

    python experiments/sample.py                                                 brains from the model that comes with the package
    python experiments/sample.py --model=runs/train --count=8                    from what train.py trained
    python experiments/sample.py --model=runs/train --covariates=0.7,1,0.4,0.5,0.5 --weight=2
    python experiments/sample.py --model=runs/adagn --label='T2, lesion' --weight=2
    python experiments/sample.py --model=runs/text --say='a T2 slice of a brain, wide ventricles, and a lesion'
    python experiments/sample.py --model=runs/concat --given=t1.nii.gz           of what a model is told that is an image, or a hint
    python experiments/sample.py --model=runs/kl --tile=16 --overlap=4           latents, decoded in tiles
    python experiments/sample.py --model=runs/unet --autoencoder=runs/vae        both imported
    python experiments/sample.py --model=runs/train --data=nifti:scans --depth=0.5
    python experiments/sample.py --model=runs/patches --shape=512,512,512 --tile=64 --overlap=16 --count=1     a volume larger than memory

With `--data`, every file is noised to `--depth` (in path time, 1 forgets it) and brought back (Meng et al., "SDEdit", ICLR 2022), and the result
is written in the file's own frame: affine, orientation, number of axes. So is what is drawn beside a file that is `--given`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxdiff import drawing, experiment, latent, model, report, sampling, telling
from jaxdiff.clock import Clock
from jaxdiff.data import layouts, preprocess, volumes
from jaxdiff.data.volumes import SUFFIXES, Frame
from jaxdiff.drawing import Drawn, Given
from jaxdiff.experiment import Evaluation, option
from jaxdiff.export import bill
from jaxdiff.export.kept import sources
from jaxdiff.model import Model
from jaxdiff.solvers import named
from jaxdiff.types import UserError
from jaxdiff.workdir import Workdir, open_workdir, peak_memory


@dataclass(frozen=True, kw_only=True)
class Config(experiment.Config):
    data: str = option('', "'' for new images, nifti:<folder or file> for other versions of these files")
    model: str = option('brain', "workdir of a training, or 'brain', which comes with the package")
    part: str = option('', "model to draw from where a workdir has several, such as 'trunk'; by default 'model', or 'latent'")
    autoencoder: str = option('', 'workdir of the autoencoder of a model of latents, by default its own')
    count: int = option(16, 'new images to draw', low=1)
    depth: float = option(0.5, 'how far a file is noised, as a share of the path', low=0.01, high=1)
    solver: str = option(
        'adams',
        'ddpm, sde_dpmpp_2m and euler_maruyama draw noise along the way, all others follow the probability flow',
        choices=tuple(named.SOLVERS),
    )
    steps: int = option(named.STEPS, 'steps of the solver', low=1)
    covariates: tuple = option((), 'what a model of covariates is told, as it was trained: numbers from 0 to 1, nan for unknown')
    label: str = option('', 'class for a model of classes, its name or its number')
    say: str = option('', 'sentence for a model that reads')
    given: str = option('', 'NIfTI file for a model that is told an image or a hint; every draw is of it')
    weight: float = option(1.0, 'classifier-free guidance: 0 ignores what is told, 1 is plain, above 1 exaggerates it', low=0)
    size: int = option(16, 'images under way at once', low=1)
    shape: tuple = option((), 'pixels of new images along each axis, by default those the model was trained on')
    tile: int = option(
        0,
        'pixels per side of the tiles in which the network sees an image, or latents of those that are decoded; 0 for the whole at once',
        low=0,
    )
    overlap: int = option(16, 'pixels that neighbouring tiles share', low=0)


PRESETS = {'smoke': dict(count=2, steps=2), 'cpu': {}, 'gpu': dict(count=256, size=256), 'paper': dict(count=1000, steps=50)}


def run(config: Config) -> dict[str, Any]:
    """Draw, and write the workdir; returns what result.json holds."""
    clock = Clock()
    drawn = opened(config)
    index = files_of(config.data) if config.data else ()
    given = drawing.read(drawn, config.given) if drawn.picture else None
    if config.dry_run:
        print(f'{model.count(drawn.trained.params):,} parameters, {calls(config)} network calls for each image')
        return bill.bill(jobs(config, drawn, index, given))
    for frame in index:  # every file is looked at before anything is written
        preprocess.apply(drawn.prepare, volumes.read(frame.name))
    files = [Path(frame.name).name for frame in (index or (given.frame,) if given else index)]
    manifest = {'model': drawn.trained.card.get('state_digest'), 'files': files}
    folder = open_workdir(config, manifest, name='sample')
    draw = drawer(config, drawn, given)
    if index:
        shown = [version(config, drawn.prepare, draw, frame, n, folder) for n, frame in enumerate(index)]
        rows, labels = [image for pair in shown[:8] for image in pair], ('file', 'sample') * min(len(shown), 8)
        figure = report.grid(rows, labels=labels)
    else:
        figure = report.grid(report.tiles(new(config, drawn, draw, given, folder)[:48]))
    clock.lap('infer')
    result = {
        **experiment.headline('sample', config, manifest),
        'wall_s': clock.seconds(),
        'peak_memory_bytes': peak_memory(),
        'nfe': calls(config),
        'parameters': model.count(drawn.trained.params),
        **experiment.verdict([Evaluation({}, {}, {})], ()),
    }
    picture = report.picture(figure, f'{config.steps} steps of {config.solver}.', alt='samples', path=folder.figures / 'samples.png')
    experiment.conclude(folder, result, [report.Section('Samples', '', [picture])], receipts=config.receipts)
    return result


def opened(config: Config) -> Drawn:
    """The model of the flags. Raises `UserError` for flags that do not go with it."""
    trained = find(config.model, config.part)
    first = find(config.autoencoder or config.model, 'autoencoder') if config.autoencoder or 'latent' in trained.card else None
    names = ('covariates', 'label', 'say', 'weight')
    told = telling.flags(trained, name=config.model, **{name: getattr(config, name) for name in names})
    picture = telling.picture(trained, name=config.model, given=config.given, data=config.data)
    if picture and config.tile and first is None:
        raise UserError('--tile: an image that is given is not cut into tiles; leave the flag out')
    told |= {'strength': np.float32(1)} if picture == 'hint' else {}
    if first is not None and drawing.latent_scale(trained, first) is None:
        raise UserError(f'--autoencoder: {config.autoencoder} does not say what its latents are multiplied by; import it with --scale')
    shaped = {name: getattr(config, name) for name in ('shape', 'tile', 'overlap')}
    prepare = drawing.sized(trained, first, name=config.part or config.model, **shaped)
    return Drawn(trained, first, prepare, told, picture)


def find(name: str, part: str = '') -> Model:
    """The shipped model of that name, or a part of a workdir, from its newest checkpoint where training did not end."""
    if name == 'brain' and not Path(name).exists() and not part:
        return model.shipped(name)
    root = Path(name)
    if not root.is_dir():
        raise UserError(f"--model={name}: no such workdir; give one that train.py wrote, or 'brain'")
    parts = [file.stem for file in sorted(root.glob('*.npz')) if file.with_suffix('.json').exists()]
    part = part or next((each for each in ('model', 'latent') if each in parts), 'model')
    if part in parts:
        return model.load(root / part)
    if not (root / f'{part}.json').exists() and parts:
        raise UserError(f'{root}: holds no {part}, but {", ".join(parts)}; choose by --part')
    from jaxdiff import plans  # brings all of training with it

    return plans.unfinished(root, part)


def files_of(spec: str) -> layouts.Index:
    """The files that `--data` names."""
    layout, _, where = spec.partition(':')
    if layout != 'nifti' or not where:
        raise UserError(f'--data={spec}: sampling takes nifti:<folder or file>, or nothing for new images')
    return layouts.nifti(where)


def new(config: Config, drawn: Drawn, draw: Callable, given: Given | None, folder: Workdir) -> list[np.ndarray]:
    """Write `--count` new images, each in a frame of its own or in that of the file that is given; their middles, for the figure."""
    frame, record = (given.frame, given.record) if given else preprocess.blank(drawn.prepare)
    each = len(given.pictures) if given else 1
    images = draw(np.zeros((config.count * each, *drawn.prepare.shape, drawn.prepare.channels), np.float32), config.seed)
    groups = images.reshape(config.count, each, *images.shape[1:])
    for n, group in enumerate(groups):
        volumes.write(folder.outputs / f'sample-{n:04d}.nii.gz', preprocess.invert(drawn.prepare, record, group), frame)
    return [report.middle(group[each // 2]) for group in groups]


def drawer(config: Config, drawn: Drawn, given: Given | None) -> Callable[[np.ndarray, int], np.ndarray]:
    """(images (n, *shape), seed) -> one sample from each, noised to the depth first; new images start from noise alone."""
    trained, first = drawn.trained, drawn.first
    recipe = {
        **how(config),
        'told': {name: np.asarray(value).tolist() for name, value in drawn.told.items()},
        'models': [each._replace(params=None)._asdict() for each in (trained, first) if each],
        'script': sources(__file__),
    }
    mapped = sampling.mapper(drawing.walker(drawn, **how(config)), size=at_once(config, drawn, given), name='sampling', recipe=recipe)

    def draw(images: np.ndarray, seed: int) -> np.ndarray:
        told = {drawn.picture: np.resize(given.pictures, (len(images), *given.pictures.shape[1:]))} if given else {}
        found = mapped((trained.params, first and first.params), sampling.keys(jax.random.key(seed), len(images)), images, told)
        latent.trap(denoiser=trained.params, samples=found)
        return np.clip(found, -1, 1)

    return draw


def at_once(config: Config, drawn: Drawn, given: Given | None) -> int:
    """Images under way together."""
    new = config.count * (len(given.pictures) if given else 1)
    return min(config.size, new) if not config.data else config.size if drawn.prepare.dims == 2 else 1


def how(config: Config) -> dict[str, Any]:
    """The flags that say how one walks."""
    names = ('solver', 'steps', 'weight', 'tile', 'overlap')
    return {name: getattr(config, name) for name in names} | {'depth': config.depth if config.data else None}


def jobs(config: Config, drawn: Drawn, index: layouts.Index, given: Given | None) -> tuple[bill.Job, ...]:
    """What the run would do: of files, by their headers alone, every slice or the volume."""
    trained, pre = drawn.trained, drawn.prepare
    slices = [frame.size[pre.axis] if pre.dims == 2 else 1 for frame in index]
    more = {drawn.picture: bill.float32(*given.pictures.shape[1:])} if given else {}
    told = {**drawn.told, **more}
    image, key = bill.float32(*pre.shape, pre.channels), jax.eval_shape(lambda: jax.random.key(0))
    options = bill.network_call(trained, told, (2 if told and config.weight != 1 else 1) * calls(config))
    call, example = options.pop('unit')
    options |= {'size': at_once(config, drawn, given), 'unit': (lambda shared, *rest: call(shared[0], *rest), example)}
    shared = (trained.params, drawn.first and drawn.first.params)
    counts = slices or [config.count * (len(given.pictures) if given else 1)]
    each = [bill.over('sampling', drawing.walker(drawn, **how(config)), shared, (key, image, more), count=n, **options) for n in counts]
    return (each[0]._replace(times=sum(job.times for job in each)),)


def version(config: Config, prepare: preprocess.Preprocess, draw: Callable, frame: Frame, n: int, folder: Workdir) -> list:
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
