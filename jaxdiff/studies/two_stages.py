"""Latent diffusion in two stages, beside a model of pixels: an autoencoder is trained, its latents are learnt, and both models draw.

The autoencoder is judged by what it loses, beside images made smaller and larger again by linear interpolation with as many numbers as it has (a
code counts as one); the latent denoiser by what it draws and how long that takes, beside a denoiser of pixels, trained on the same images and walked
along the same grid by the same solver.
"""

import functools
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from jaxdiff import grids, latent, model, report, sampling, study
from jaxdiff.data.datasets import Dataset
from jaxdiff.data.source import stack
from jaxdiff.experiment import Bar, Evaluation
from jaxdiff.export import bill
from jaxdiff.metrics import images, synthesis
from jaxdiff.model import Model
from jaxdiff.plans import Plan
from jaxdiff.studies import coded
from jaxdiff.studies.coded import Coder, Config
from jaxdiff.training import log
from jaxdiff.types import Params
from jaxdiff.workdir import Workdir

BARS = (Bar('psnr_margin', '>=', 2.0), Bar('kernel_distance_to_pixel', '<=', 1.5), Bar('time_to_pixel', '<=', 0.25))
SHARE = Bar('perplexity_share', '>=', 0.2)  # of the codes, where there are any


def run(system: str, config: Config, coder: Coder, bars: Sequence[Bar] = BARS) -> dict[str, Any]:
    """Train the three models, judge them and write the workdir; returns what result.json holds."""
    coded.check(config)
    tools: dict[str, Callable] = {}  # made once, for all evaluations

    def evaluate(config: Config, models: Mapping[str, Model], data: Dataset, seed: int) -> Evaluation:
        tools.update(tools or tools_of(config, models))
        return judge(config, models, data, seed, tools)

    def picture(config: Config, models: Mapping[str, Model], data: Dataset, folder: Workdir) -> list[report.Section]:
        return show(config, models, data, folder, tools)

    def jobs(config: Config, todo: Sequence[Plan]) -> tuple[bill.Job, ...]:
        draws = dict(count=(config.evaluations + 1) * config.samples, size=coded.at_once(config), calls=config.sample_steps)
        return tuple(
            bill.drawing(plan.blank, times=times_of(config, plan.blank), name=f'drawing {plan.stage.name}', **draws) for plan in todo[1:]
        )

    return study.run(
        system, config, open_data=coded.open_data, plan=lambda config, data: coded.plan(config, data, coder), evaluate=evaluate, show=picture,
        bars=bars if config.preset in ('cpu', 'gpu') else (), evaluations=config.evaluations, save_every=config.save_every,
        nfe=config.sample_steps, sketch=coded.sketch, jobs=jobs,
    )  # fmt: skip


# ---- what they are judged by


def judge(config: Config, models: Mapping[str, Model], data: Dataset, seed: int, tools: Mapping[str, Callable]) -> Evaluation:
    """Reconstructions of half the test images; samples of both denoisers, and of an untrained one."""
    first, trained, pixel = (models[name] for name in ('autoencoder', 'latent', 'pixel'))
    rng, key = np.random.default_rng(seed), jax.random.key(seed)
    real = stack(data.test)[rng.permutation(data.test.size)[: -(-data.test.size // 2)]]
    fresh = model.init(first, key)
    metrics, other = (lossiness(first, tools['reconstruct'], params, real) for params in (first.params, fresh))
    baselines, controls = {'linear': {'psnr': psnr(real, resized(real, codes_of(first)))}}, {'untrained autoencoder': other}
    if reason := synthesis.unfit(data.shape, data.train.size, min(data.validation.size, data.test.size)):
        print(f'samples are not judged: {reason}')
        return Evaluation(metrics, baselines, controls)
    ways = {'latent': (trained.params, first.params), 'pixel': pixel.params}
    drawn, of_pixels = (tools[name](params, key, config.samples) for name, params in ways.items())
    seconds = timed([functools.partial(tools[name], params, key, coded.at_once(config)) for name, params in ways.items()])
    each, pixel_each = np.median(seconds, axis=0) / coded.at_once(config)
    untrained = tools['latent']((model.init(trained, key), first.params), key, config.samples)
    against = synthesis.reference(stack(data.train), stack(data.validation), stack(data.test))
    found, others, failing, _ = synthesis.compare(drawn, untrained, against, rng)
    beside = synthesis.assess(of_pixels, against)[0]
    unit = synthesis.unit(beside, others['pca_gaussian'])
    failing['untrained']['kernel_distance_to_pixel'] = failing['untrained']['kernel_distance'] / unit
    samples = {
        'kernel_distance_to_pixel': found['kernel_distance'] / unit,
        'time_to_pixel': float(np.median(seconds[:, 0] / seconds[:, 1])),
        'seconds': float(each),
    }
    pixels = {**beside, 'kernel_distance_to_pixel': beside['kernel_distance'] / unit, 'time_to_pixel': 1.0, 'seconds': float(pixel_each)}
    return Evaluation({**metrics, **found, **samples}, {**baselines, **others, 'pixel': pixels}, {**controls, **failing})


def lossiness(first: Model, reconstruct: Callable, params: Params, real: np.ndarray) -> dict[str, float]:
    """PSNR, how far it is above that of linear interpolation, and how many of the codes are in use."""
    again, z = reconstruct(params, real)
    value = psnr(real, again)
    found = {'psnr': value, 'psnr_margin': value - psnr(real, resized(real, codes_of(first)))}
    if 'codebook' not in params:
        return found
    vectors = np.asarray(params['codebook']['vectors'])
    flat = z.reshape(-1, z.shape[-1])
    nearest = np.concatenate(
        [(np.square(vectors).sum(1) - 2 * part @ vectors.T).argmin(1) for part in np.array_split(flat, -(-len(flat) // 65536))]
    )
    share = np.bincount(nearest, minlength=len(vectors)) / len(nearest)
    perplexity = float(np.exp(-np.sum(share * np.log(np.maximum(share, 1e-30)))))
    return {**found, 'perplexity': perplexity, 'perplexity_share': perplexity / len(vectors)}


def codes_of(first: Model) -> int:
    """How many numbers the latents of an image are, per channel of the image; a code is one."""
    *spatial, channels = latent.shape_of(first)
    return math.prod(spatial) * (1 if first.network.get('codes') else channels) // first.card['shape'][-1]


def resized(real: np.ndarray, numbers: int) -> np.ndarray:
    """Images (n, *spatial, c) made smaller, to at least so many pixels each, and as large again, both linearly; smoothed before."""
    count, *spatial, channels = real.shape
    share = (numbers / math.prod(spatial)) ** (1 / len(spatial))
    small = (count, *(min(math.ceil(size * share - 1e-6), size) for size in spatial), channels)
    return np.asarray(jax.image.resize(jax.image.resize(real, small, 'linear'), real.shape, 'linear'))


def psnr(real: np.ndarray, again: np.ndarray) -> float:
    """dB, of images (n, *spatial, c) in [-1, 1], whose range is the peak."""
    flat = lambda x: (np.clip(x, -1, 1).reshape(len(x), -1, 1) + 1) / 2
    return images.psnr(flat(real), flat(again), peak=1.0)


def timed(ways: Sequence[Callable[[], Any]], rounds: int = 5) -> np.ndarray:
    """Seconds (rounds, ways) that each takes once it is compiled; they take turns, so that other work on the machine meets all of them."""

    def seconds(way: Callable[[], Any]) -> float:
        start = time.monotonic()
        way()
        return time.monotonic() - start

    return np.array([[seconds(way) for way in ways] for _ in range(rounds)])


def tools_of(config: Config, models: Mapping[str, Model]) -> dict[str, Callable]:
    """What draws from either denoiser, and what reconstructs."""
    first, trained, pixel = (models[name] for name in ('autoencoder', 'latent', 'pixel'))
    tiles = {'tile': config.tile, 'overlap': config.overlap} if config.tile else {}
    return {
        'latent': latent.drawer(trained, first, times=times_of(config, trained), size=coded.at_once(config), **tiles),
        'pixel': sampling.drawer(pixel, times=times_of(config, pixel), size=coded.at_once(config)),
        'reconstruct': latent.reconstructor(first, size=coded.at_once(config)),
    }


def times_of(config: Config, trained: Model) -> jax.Array:
    """The grid of the sampler."""
    return grids.default(model.make_path(trained.path), config.sample_steps)


# ---- what a person looks at


def show(
    config: Config, models: Mapping[str, Model], data: Dataset, folder: Workdir, tools: Mapping[str, Callable]
) -> list[report.Section]:
    """Reconstructions beside the images and beside interpolation, samples of both denoisers, and the curves of the losses."""
    real = np.stack([data.test.example(n)['image'] for n in range(min(8, data.test.size))])
    again = tools['reconstruct'](models['autoencoder'].params, real)[0]
    row = lambda batch: [report.middle(np.clip(image, -1, 1)) for image in batch]
    rebuilt = report.grid(
        [row(real), row(again), row(resized(real, codes_of(models['autoencoder'])))], labels=['real', 'rebuilt', 'linear']
    )
    key = jax.random.key(config.seed)
    drawn = tools['latent']((models['latent'].params, models['autoencoder'].params), key, 8)
    samples = report.grid([row(drawn), row(tools['pixel'](models['pixel'].params, key, 8))], labels=['latents', 'pixels'])
    lines = log.read(folder.root / 'metrics.jsonl')
    series = {
        name: ([each['step'] for each in lines if each['stage'] == name], [each['loss'] for each in lines if each['stage'] == name])
        for name in models
    }
    draw = report.picture
    return [
        report.Section('Reconstructions', 'Test images, what the autoencoder makes of them, and linear interpolation of as many numbers.', [
            draw(rebuilt, 'Nothing is drawn at random.', alt='rows of images and their reconstructions', path=folder.figures / 'rebuilt.png'),
        ]),
        report.Section('Samples', f'{config.sample_steps} steps of the method of Adams, from noise of latents and of pixels.', [
            draw(samples, 'The same grid and solver.', alt='rows of samples', path=folder.figures / 'samples.png'),
        ]),
        report.Section('Training', '', [
            draw(report.curves({name: each for name, each in series.items() if each[0]}, log='y'), 'Losses, each of its own kind.',
                 alt='training losses falling with steps', path=folder.figures / 'loss.png'),
        ]),
    ]  # fmt: skip
