"""Train a diffusion model of images, unconditional or told a subject's covariates, on any data, in two or three dimensions.

    python experiments/train.py --data=brain --preset=cpu --workdir=runs/brain        the model that comes with the package, in two hours on two cores
    python experiments/train.py --data=nifti:scans --dims=3 --size=32 --batch=4       your own volumes
    python experiments/sample.py --model=runs/brain                                   sample from what was trained

Ho, Jain and Abbeel, NeurIPS 2020; the network predicts v (Salimans and Ho, ICLR 2022) along the cosine path.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from jaxdiff import experiment, grids, model, plans, report, study
from jaxdiff.data import brains, layouts, loader, preprocess, scope
from jaxdiff.data.datasets import Dataset, open_dataset
from jaxdiff.data.preprocess import to_json
from jaxdiff.data.source import Source, stack
from jaxdiff.experiment import Bar, Evaluation, option
from jaxdiff.export import bill
from jaxdiff.metrics import synthesis
from jaxdiff.model import Model
from jaxdiff.sampling import drawer
from jaxdiff.solvers import named
from jaxdiff.training import log
from jaxdiff.types import UserError
from jaxdiff.workdir import Workdir


@dataclass(frozen=True, kw_only=True)
class Config(experiment.Config):
    dims: int = option(2, '2: slices, 3: volumes', low=2, high=3)
    size: int = option(64, 'pixels along each axis of an image; 0 takes what the files need', low=0)
    spacing: float = option(3.0, 'mm between pixels of the virtual brains', low=0.5)
    contrast: str = option('T1', 'of the virtual brains', choices=('T1', 'T2', 'FLAIR', 'PD'))
    subjects: int = option(500, 'subjects to train on, where the data are made', low=1)
    held_out: int = option(60, 'subjects to validate on and as many to test on, where the data are made', low=1)
    condition: bool = option(False, 'tell the network the covariates of the subject, one time in ten none')
    kind: str = option('v', 'what the network predicts', choices=('x0', 'eps', 'v'))
    path: str = option('cosine', 'how data turn into noise', choices=tuple(model.PATHS))
    widths: tuple = option((40, 64, 80), 'channels at each resolution', low=1)
    blocks: int = option(2, 'residual blocks per resolution', low=1)
    attention: tuple = option((False, False, True), 'whether each resolution attends')
    patch: int = option(2, 'pixels of a patch folded into channels at the stem', low=1)
    dtype: str = option('float32', 'of convolutions and products', choices=('float32', 'bfloat16'))
    remat: bool = option(False, 'recompute activations in the backward pass: less memory, more time')
    batch: int = option(16, 'examples per step', low=1)
    steps: int = option(9000, 'training steps', low=1)
    rate: float = option(1e-3, 'learning rate after warm-up, before its decay to 0', low=0)
    ema: float = option(0.998, 'decay of the averaged parameters', low=0, high=1)
    accumulate: int = option(1, 'micro-batches per step', low=1)
    fsdp: int = option(1, 'devices that share each large parameter', low=1)
    save_every: int = option(500, 'steps between checkpoints', low=1)
    samples: int = option(300, 'images to judge the model by', low=8)
    sample_steps: int = option(named.STEPS, 'steps of the sampler', low=1)
    evaluations: int = option(3, 'seeds of sampling to judge by', low=1)


PRESETS = {
    'smoke': dict(
        subjects=4, held_out=4, size=32, spacing=6.0, widths=(8, 16), attention=(False, True), blocks=1, batch=4, steps=4, save_every=2,
        samples=8, sample_steps=2, evaluations=1,
    ),
    'cpu': {},
    'gpu': dict(
        size=128, spacing=1.5, widths=(96, 144, 192, 288), attention=(False, False, True, True), batch=64, steps=20000, dtype='bfloat16',
        ema=0.9995,
    ),
    'paper': dict(
        dims=3, size=128, spacing=1.5, widths=(64, 128, 192, 256), attention=(False, False, False, True), patch=1, batch=8, steps=400000,
        rate=1e-4, dtype='bfloat16', remat=True, ema=0.9999,
    ),
}  # fmt: skip


def open_data(config: Config) -> Dataset:
    """The data that the flags name."""
    names = ('dims', 'size', 'spacing', 'contrast', 'subjects', 'held_out')
    return open_dataset(config.data, **{name: getattr(config, name) for name in names})


def sketch(config: Config) -> Dataset:
    """Zeros in the shape of the data: nothing is made or kept. Of files the headers are read, with --size=0 some voxels too."""
    layout, _, folder = config.data.partition(':')
    told = {}
    if layout == 'nifti' and folder:
        training, *_ = layouts.split(layouts.nifti(folder), (0.75, 0.1, 0.15))
        spatial = (config.size,) * config.dims if config.size else preprocess.fit(training, dims=config.dims).shape
        shape = (*spatial, training[0].channels)
    elif config.data == 'brain' or (config.data == 'phantom' and config.dims == 2):
        shape = (*(config.size,) * config.dims, 1)
        told = {'covariates': np.zeros(len(brains.RANGES) + (config.dims == 2), np.float32)} if config.data == 'brain' else {}
    else:
        return open_data(config)  # which says what is wrong
    example = {'image': np.zeros(shape, np.float32), **told}
    source = Source(config.batch, lambda index: example, {})
    seen = scope.Seen((), (), ())
    return Dataset(source, source, source, preprocess.Preprocess(config.dims, shape[:-1], shape[-1], None, 'field', 'fixed', (), (), seen))


def jobs(config: Config, todo: Sequence[plans.Plan]) -> tuple[bill.Job, ...]:
    """What judging draws: from the trained network and from the untrained one, for each evaluation."""
    blank = todo[0].blank
    if synthesis.unfit(blank.card['shape'], config.samples, config.samples):
        return ()
    count, size = 2 * config.evaluations * config.samples, min(config.samples, 60)
    times = grids.default(model.make_path(blank.path), config.sample_steps)
    return (bill.drawing(blank, times=times, count=count, size=size, calls=config.sample_steps),)


def plan(config: Config, data: Dataset) -> tuple[plans.Plan, ...]:
    """One denoiser of the data's images."""
    *spatial, channels = data.shape
    if config.condition and 'covariates' not in data.train.example(0):
        raise UserError(f'--condition: {config.data} has no covariates; leave the flag out')
    told = data.train.example(0)['covariates'].shape if config.condition else None
    network = {
        'name': 'unet', 'channels': channels, 'dims': config.dims, 'widths': config.widths, 'blocks': config.blocks,
        'attention': config.attention, 'patch': config.patch, 'coordinates': True, 'norm': 'adaptive', 'groups': 8,
        'vector': told[0] if told else 0, 'dtype': config.dtype, 'remat': (True,) * len(config.widths) if config.remat else (),
    }  # fmt: skip
    card = {
        'subjects': config.subjects,
        'recipe_of_data': data.train.manifest.get('recipe'),
        'shape': [*spatial, channels],
        'conditioning': {'vector': list(told)} if told else {},
        'covariates': data.train.manifest.get('covariates'),
    }
    blank = model.Model(network, {'name': config.path}, config.kind, None, to_json(data.preprocess), card)
    schedule = dict(
        batch=config.batch, steps=config.steps, rate=config.rate, ema=config.ema, accumulate=config.accumulate, fsdp=config.fsdp
    )
    return (
        plans.denoiser('model', blank, data.train, condition=tell if told else None, augment=loader.flip, seed=config.seed, **schedule),
    )


def tell(key: jax.Array, example: dict) -> dict[str, jax.Array]:
    """The covariates as the network's vector, missing one time in ten so that guidance has something to subtract."""
    covariates = example['covariates']
    return {'vector': jnp.where(jax.random.bernoulli(key, 0.1), jnp.nan, covariates)}


def evaluate(config: Config, models: dict[str, Model], data: Dataset, seed: int) -> Evaluation:
    """Samples beside a Gaussian, real images of other subjects, the same network untrained, and training images issued again."""
    if reason := synthesis.unfit(data.shape, data.train.size, min(data.validation.size, data.test.size)):
        print(f'not judged: {reason}')
        return Evaluation({}, {}, {})
    trained = models['model']
    against = synthesis.reference(stack(data.train), stack(data.validation), stack(data.test))
    rng, key = np.random.default_rng(seed), jax.random.key(seed)
    told = covariates_of(data, rng.integers(data.test.size, size=config.samples)) if config.condition else {}
    draw = sampler(trained, config)
    drawn, untrained = (draw(params, key, config.samples, **told) for params in (trained.params, model.init(trained, key)))
    return Evaluation(*synthesis.compare(drawn, untrained, against, rng)[:3])


def show(config: Config, models: dict[str, Model], data: Dataset, folder: Workdir) -> list[report.Section]:
    """Samples beside real images, and the curve of the loss."""
    trained = models['model']
    told = covariates_of(data, np.arange(16) * data.test.size // 16) if config.condition else {}
    samples = sampler(trained, config)(trained.params, jax.random.key(config.seed), 16, **told)
    real = np.stack([data.test.example(i * data.test.size // 16)['image'] for i in range(16)])
    side = report.tiles([*map(report.middle, real), *map(report.middle, samples)], 8)
    labels = ['real', 'real', 'sample', 'sample']
    lines = log.read(folder.root / 'metrics.jsonl')
    curve = report.curves(
        {'training': ([each['step'] for each in lines], [each['loss'] for each in lines])}, smooth=config.steps // 30, log='y'
    )
    return [
        report.Section('Samples', 'Real images of subjects that the model has not seen, and images that it drew from noise.', [
            report.picture(
                report.grid(side, labels=labels), f'{config.sample_steps} steps of the method of Adams.',
                alt='two rows of real images above two rows of samples', path=folder.figures / 'samples.png',
            ),
        ]),
        report.Section('Training', '', [
            report.picture(curve, 'Mean squared error of the prediction.', alt='training loss falling with steps', path=folder.figures / 'loss.png'),
        ]),
    ]  # fmt: skip


def sampler(trained: Model, config: Config) -> Callable[..., np.ndarray]:
    """What draws from the model."""
    times = grids.default(model.make_path(trained.path), config.sample_steps)
    return drawer(trained, times=times, size=min(config.samples, 60))


def covariates_of(data: Dataset, rows: np.ndarray) -> dict[str, np.ndarray]:
    """What the network is told of these test examples."""
    return {'vector': np.stack([data.test.example(int(i))['covariates'] for i in rows])}


BARS = (Bar('kernel_distance_ratio', '<=', 0.5), Bar('memorised_5', '<=', 0.15))


def run(config: Config) -> dict:
    """Train, judge and write the workdir; returns what result.json holds."""
    bars = BARS if config.preset in ('cpu', 'gpu') else ()
    return study.run(
        'synthesis/train', config, open_data=open_data, plan=plan, evaluate=evaluate, show=show, bars=bars,
        evaluations=config.evaluations, save_every=config.save_every, nfe=config.sample_steps, sketch=sketch, jobs=jobs,
    )  # fmt: skip


if __name__ == '__main__':
    experiment.main(Config, PRESETS, run)
