"""What is drawn, and how: a model, the autoencoder of a model of latents, what the network is told, and the grid that a file is told on."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxdiff import grids, latent, model, telling
from jaxdiff.data import preprocess, volumes
from jaxdiff.data.volumes import Frame
from jaxdiff.guidance import classifier_free
from jaxdiff.model import Model
from jaxdiff.paths import perturb
from jaxdiff.predict import KINDS
from jaxdiff.solvers import named
from jaxdiff.solvers.loop import sample
from jaxdiff.tiling import fuse
from jaxdiff.types import Array, Denoiser, UserError


class Drawn(NamedTuple):
    """What is drawn from: the model, the autoencoder of a model of latents, what the network is told, and the picture among it."""

    trained: Model
    first: Model | None
    prepare: preprocess.Preprocess  # of images, for the shape that is drawn
    told: dict[str, np.ndarray]
    picture: str | None  # its keyword, see `telling.PICTURES`


class Given(NamedTuple):
    """The pictures (n, *shape, c) of a file, what was done to it, and its frame."""

    pictures: np.ndarray
    record: preprocess.Record
    frame: Frame


def latent_scale(trained: Model, first: Model) -> float | None:
    """What latents are multiplied by: as it was measured for the denoiser, else as the autoencoder's card has it."""
    return (trained.card.get('latent') or first.card.get('latent') or {}).get('scale')


def sized(
    trained: Model, first: Model | None = None, *, name: str, shape: Sequence[str] = (), tile: int = 0, overlap: int = 0
) -> preprocess.Preprocess:
    """The preprocessing of the images that are drawn, of a `shape` where it is given, if the networks can take those."""
    if trained.kind not in KINDS or not trained.preprocess:
        raise UserError(f'--part: {name} is no denoiser, nothing can be drawn from it; choose another')
    prepare, factor = (
        preprocess.from_json((first or trained).preprocess or trained.preprocess),
        model.make_network(trained.network).factor(),
    )
    times, channels = (1,) * len(factor), trained.card['shape'][-1]
    if first is not None:
        times, channels = model.make_network(first.network).factor(), first.card['shape'][-1]
        if latent.shape_of(first)[-1] != trained.card['shape'][-1]:
            raise UserError(
                f'--autoencoder: its latents have {latent.shape_of(first)[-1]} channels, the model draws {trained.card["shape"][-1]}; name another'
            )
    wide = lambda ends: (ends * channels)[:channels]
    usual = tuple(size * each for size, each in zip(trained.card['shape'], times, strict=False))
    prepare = prepare._replace(shape=usual, channels=channels, low=wide(prepare.low), high=wide(prepare.high))
    if shape:
        if not all(size.isdecimal() and int(size) for size in shape) or len(shape) != len(usual):
            raise UserError(f'--shape={",".join(shape)}: give {len(usual)} sizes in pixels')
        prepare = prepare._replace(shape=tuple(map(int, shape)))
    if tile and overlap >= tile:
        raise UserError(f'--overlap={overlap}: must be less than the tile of {tile}')
    tile = 0 if first else tile  # of latents, decoded
    if tile and telling.inner(trained.network).get('coordinates'):
        raise UserError(f'--tile: the network of {name} sees coordinates and would take every tile for the whole; leave the flag out')
    seen, factor = [min(tile or size, size) for size in prepare.shape], tuple(a * b for a, b in zip(factor, times, strict=True))
    if any(size % each for size, each in zip(seen, factor, strict=True)):
        raise UserError(f'--{"tile" if tile else "shape"}: the network sees {seen} pixels, and needs multiples of {factor}')
    return prepare


def read(drawn: Drawn, file: str) -> Given:
    """The file of `--given`, on the grid that the model draws on; the values of a hint are told as they are."""
    *shape, channels = drawn.trained.card['conditioning'][drawn.picture]
    own, pre = drawn.trained.card['shape'], drawn.prepare
    times = model.make_network(drawn.first.network).factor() if drawn.first else (1,) * len(shape)
    shape = tuple(size * told // (each * at) for size, told, each, at in zip(pre.shape, shape, own, times, strict=False))
    wide = lambda ends: (ends * channels)[:channels]
    seen = pre.seen._replace(intensity=wide(pre.seen.intensity))
    pre = pre._replace(shape=shape, channels=channels, low=wide(pre.low), high=wide(pre.high), seen=seen)
    if drawn.picture == 'hint':
        pre = pre._replace(centre='field', intensity='percentile', low=(0.0,) * channels, high=(100.0,) * channels)
    volume = volumes.read(file, mask=drawn.picture == 'hint')
    pictures, record = preprocess.apply(pre, volume)
    if drawn.picture == 'hint':
        pictures = preprocess.apply_mask(pre, record, volume.array)
    _, units = preprocess.blank(drawn.prepare)  # what is drawn is another image than what is given
    return Given(pictures, record._replace(low=units.low, high=units.high), volume.frame)


def walker(
    drawn: Drawn, *, solver: str, steps: int, depth: float | None = None, weight: float = 1.0, tile: int = 0, overlap: int = 0
) -> Callable[[Any, Array, Array, dict[str, Array]], Array]:
    """((params, those of the autoencoder), key, image, told of it) -> the sample, for one; with a `depth` the image is noised so far first."""
    trained, first = drawn.trained, drawn.first
    path = model.make_path(trained.path)
    walk_by = named.SOLVERS[solver](path)
    start_at = None if depth is None else depth * path.end
    tiles = {'tile': tile, 'overlap': overlap} if tile else {}
    ratio = model.make_network(first.network).factor() if first else ()

    def denoiser(params: Any, told: dict[str, Array]) -> Denoiser:
        conditioned = lambda told: model.denoiser(trained._replace(params=params), **told)
        guided = told and weight != 1
        denoise = classifier_free(conditioned, told, telling.nothing(trained, told), weight) if guided else conditioned(told)
        return fuse(denoise, **tiles) if tiles and first is None else denoise

    def one(shared: tuple[Any, Any], key: Array, image: Array, more: dict[str, Array]) -> Array:
        params, outer = shared
        coder = first and first._replace(params=outer)
        scale = latent_scale(trained, first) if first else 1.0
        times = grids.default(path, steps, start=start_at)
        start, walk = jax.random.split(key)
        shape = (
            (*(size // each for size, each in zip(image.shape, ratio, strict=False)), trained.card['shape'][-1]) if first else image.shape
        )
        noise = jax.random.normal(start, shape)
        if depth is not None:
            x = perturb(path, scale * latent.encode(coder, image)['image'] if first else image, noise, times[0])
        else:
            x = path.sigma(times[0]) * noise
        x = sample(walk, x, denoiser(params, {**drawn.told, **more}), walk_by, times).x
        return latent.decode(coder, x, scale=scale, **tiles) if first else x

    return one
