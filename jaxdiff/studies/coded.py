"""Latent diffusion as plans: an autoencoder, a denoiser of pixels to compare with, and a denoiser of latents."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from jaxdiff import experiment, latent, model, plans
from jaxdiff.data import datasets, loader
from jaxdiff.data.datasets import Dataset
from jaxdiff.data.preprocess import to_json
from jaxdiff.data.source import Source
from jaxdiff.experiment import option
from jaxdiff.model import Model
from jaxdiff.plans import Plan
from jaxdiff.solvers import named
from jaxdiff.types import UserError


@dataclass(frozen=True, kw_only=True)
class Coding:
    """The flags of an autoencoder and of the denoiser of its latents."""

    latent: int = option(3, 'channels of the latents', low=1)
    coder_widths: tuple = option((8, 24, 48), 'channels of the autoencoder at each resolution', low=1)
    coder_blocks: int = option(1, 'residual blocks of its encoder per resolution', low=1)
    coder_steps: int = option(2000, 'training steps of the autoencoder', low=1)
    coder_rate: float = option(2e-3, 'its learning rate after warm-up, before the decay to 0', low=0)
    perceptual: float = option(0.1, 'weight of the perceptual distance', low=0)
    perceptual_widths: tuple = option((8, 16, 32), 'channels of the fixed network that it is measured in', low=1)
    critic: float = option(0.1, 'how hard the critic pulls at the last kernel, relative to the rest; 0 for none', low=0)
    critic_width: int = option(8, 'channels of its first convolution', low=1)
    critic_depth: int = option(2, 'its convolutions of stride 2', low=1)
    critic_learns: float = option(0.5, 'share of the training of the autoencoder after which it learns', low=0, high=1)
    critic_heard: float = option(0.6, 'share after which the autoencoder hears of it', low=0, high=1)
    latent_widths: tuple = option((24, 48), 'channels of the denoiser of latents at each resolution', low=1)
    latent_attention: tuple = option((False, True), 'whether each of its resolutions attends')
    latent_steps: int = option(6000, 'its training steps', low=1)


@dataclass(frozen=True, kw_only=True)
class Config(Coding, experiment.Config):
    """The flags of latent diffusion beside a denoiser of pixels, whichever the autoencoder."""

    data: str = option('phantom', "'phantom', 'brain' or '<layout>:<folder>', such as nifti:scans")
    dims: int = option(2, '2: slices, 3: volumes', low=2, high=3)
    size: int = option(64, 'pixels along each axis of an image; 0 takes what the files need', low=0)
    spacing: float = option(3.0, 'mm between pixels of the virtual brains', low=0.5)
    contrast: str = option('T1', 'of what is made', choices=('T1', 'T2', 'PD'))
    subjects: int = option(1000, 'subjects to train on, where the data are made', low=1)
    held_out: int = option(600, 'subjects to validate on and as many to test on, where the data are made', low=1)
    widths: tuple = option((40, 64, 80), 'channels of the denoiser of pixels at each resolution', low=1)
    attention: tuple = option((False, False, True), 'whether each of its resolutions attends')
    patch: int = option(2, 'pixels of a patch folded into channels at its stem', low=1)
    steps: int = option(2000, 'its training steps', low=1)
    blocks: int = option(1, 'residual blocks of both denoisers per resolution', low=1)
    batch: int = option(16, 'examples per step', low=1)
    rate: float = option(1e-3, 'learning rate of both denoisers after warm-up, before its decay to 0', low=0)
    ema: float = option(0.998, 'decay of the averaged parameters', low=0, high=1)
    dtype: str = option('float32', 'of convolutions and products', choices=('float32', 'bfloat16'))
    tile: int = option(0, 'latents along each axis that are decoded at a time, 0 for all', low=0)
    overlap: int = option(4, 'latents that neighbouring tiles share', low=0)
    save_every: int = option(500, 'steps between checkpoints', low=1)
    samples: int = option(600, 'images to judge the models by', low=8)
    sample_steps: int = option(named.STEPS, 'steps of the sampler', low=1)
    evaluations: int = option(3, 'seeds of sampling to judge by', low=1)


PRESETS = {
    'smoke': dict(
        size=32, subjects=8, held_out=8, coder_widths=(4, 8), coder_steps=4, perceptual_widths=(4,), critic_width=4, critic_depth=1,
        widths=(8, 16), attention=(False, True), steps=4, latent_widths=(8, 8), latent_attention=(False, False), latent_steps=4, batch=4,
        save_every=2, samples=8, sample_steps=2, evaluations=1,
    ),
    'cpu': {},
    'gpu': dict(
        size=128, subjects=5000, coder_widths=(32, 64, 128), coder_blocks=2, coder_steps=10000, coder_rate=5e-4, perceptual_widths=(16, 32, 64),
        critic_width=32, critic_depth=3, widths=(96, 144, 192, 288), attention=(False, False, True, True), steps=10000,
        latent_widths=(96, 144, 192), latent_attention=(False, True, True), latent_steps=15000, blocks=2, batch=64, dtype='bfloat16', ema=0.9995,
    ),
    'paper': dict(
        data='brain', dims=3, size=160, spacing=1.0, subjects=20000, coder_widths=(64, 128, 128, 128), coder_blocks=2, coder_steps=200000,
        coder_rate=1e-4, perceptual_widths=(64, 128, 256), critic_width=64, critic_depth=3, widths=(64, 128, 192, 256),
        attention=(False, False, False, True), patch=2, steps=400000, latent_widths=(256, 512, 768), latent_attention=(False, True, True),
        latent_steps=400000, blocks=2, batch=8, rate=1e-4, dtype='bfloat16', ema=0.9999,
    ),
}  # fmt: skip


class Coder(NamedTuple):
    """What the scripts differ in."""

    network: Mapping[str, Any]  # fields of `nets.autoencoder.Autoencoder` beside those of the flags
    penalty: Mapping[str, Any]  # as in `training.autoencoding.trainer`


def check(config: Config) -> None:
    """Raises `UserError` for flags that do not go together."""
    if config.tile and config.overlap >= config.tile:
        raise UserError(f'--overlap={config.overlap}: must be less than the tile of {config.tile}')
    if config.critic_heard < config.critic_learns:
        raise UserError(f'--critic_heard={config.critic_heard}: must be at least --critic_learns={config.critic_learns}')


def open_data(config: Config) -> Dataset:
    """The data that the flags name."""
    names = ('dims', 'size', 'spacing', 'contrast', 'subjects', 'held_out')
    return datasets.open_dataset(config.data, **{name: getattr(config, name) for name in names})


def sketch(config: Config) -> Dataset:
    """Zeros in the shape of the data, where they are made."""
    if config.data not in ('brain', 'phantom') or (config.data == 'phantom' and config.dims != 2):
        return open_data(config)
    shape = (config.size,) * config.dims
    source = Source(config.batch, lambda index: {'image': np.zeros((*shape, 1), np.float32)}, {})
    return Dataset(source, source, source, datasets.made(config.dims, shape + (1,) * (3 - config.dims), (1.0, 1.0, 1.0)))


def plan(config: Config, data: Dataset, coder: Coder) -> tuple[Plan | plans.Later, ...]:
    """The autoencoder, the denoiser of pixels, and once the first is trained the denoiser of its latents.

    Raises `UserError` for a network that does not fit, before anything is trained.
    """
    first, pixels = autoencoder(config, data, coder), pixel_denoiser(config, data)
    later = lambda trained: latent_denoiser(config, data, trained['autoencoder'])
    later({'autoencoder': first.blank._replace(params=model.shapes(first.blank))})
    return first, pixels, later


def autoencoder(config: Config, data: Dataset, coder: Coder) -> Plan:
    network = {
        'name': 'autoencoder', 'channels': data.shape[-1], 'dims': config.dims, 'latent': config.latent, 'widths': config.coder_widths,
        'blocks': config.coder_blocks, 'middle': config.dims == 2, 'dtype': config.dtype, **coder.network,
    }  # fmt: skip
    blank = Model(network, {}, network['kind'], None, to_json(data.preprocess), {'shape': list(data.shape)})
    perception = {'weight': config.perceptual, 'widths': config.perceptual_widths} if config.perceptual else None
    critic = {
        'width': config.critic_width, 'depth': config.critic_depth, 'weight': config.critic,
        'learns': int(config.critic_learns * config.coder_steps), 'heard': int(config.critic_heard * config.coder_steps),
    }  # fmt: skip
    return plans.autoencoder(
        'autoencoder', blank, data.train, penalty=dict(coder.penalty), perception=perception, critic=critic if config.critic else None,
        batch=config.batch, steps=config.coder_steps, rate=config.coder_rate, ema=config.ema, augment=loader.flip, seed=config.seed,
    )  # fmt: skip


def pixel_denoiser(config: Config, data: Dataset) -> Plan:
    network = {**unet(config, data.shape), 'widths': config.widths, 'attention': config.attention, 'patch': config.patch}
    blank = Model(network, {'name': 'cosine'}, 'v', None, to_json(data.preprocess), {'shape': list(data.shape)})
    return plans.denoiser('pixel', blank, data.train, steps=config.steps, augment=loader.flip, **schedule(config))


def latent_denoiser(config: Config, data: Dataset, first: Model) -> Plan:
    """Of latents of the training images and of their mirror images; measures the scale."""
    latents = latent.source(first, data.train, size=at_once(config))
    network = {**unet(config, latent.shape_of(first)), 'widths': config.latent_widths, 'attention': config.latent_attention}
    blank = latent.blank(first, latents, network, batch=config.batch, seed=config.seed)
    augment = latent.drawn(blank.card['latent']['scale'])
    return plans.denoiser('latent', blank, latents, steps=config.latent_steps, augment=augment, **schedule(config))


def unet(config: Config, shape: Sequence[int]) -> dict[str, Any]:
    """Fields that both denoisers have."""
    fields = {'channels': shape[-1], 'dims': config.dims, 'blocks': config.blocks, 'dtype': config.dtype}
    return {'name': 'unet', 'groups': 8, 'norm': 'adaptive', 'coordinates': True, **fields}


def schedule(config: Config) -> dict[str, Any]:
    return {name: getattr(config, name) for name in ('batch', 'rate', 'ema', 'seed')}


def at_once(config: Config) -> int:
    """Images under way together."""
    return min(config.samples, 60 if config.dims == 2 else 4)
