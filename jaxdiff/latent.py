"""Latent diffusion: a denoiser of what an autoencoder makes of images.

With E and D the autoencoder, and the z of the first batch of training,

    z0 = scale z,   z ~ E(x),   scale = 1 / std(all numbers of that batch's z),     x = D(z0 / scale)                   (1)

z is one draw of the posterior, anew at each step, or what stands before the codebook, which then belongs to D. The scale is measured and kept in
the denoiser's card. Latents have no bounds, so nothing is clipped before D. What is encoded once is trained on many times: a `Source` of moments
takes the place of that of images, and `drawn` is its augmentation.

Rombach et al., "High-resolution image synthesis with latent diffusion models", CVPR 2022.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdiff import model, sampling
from jaxdiff.data import loader
from jaxdiff.data.source import Source
from jaxdiff.model import Model
from jaxdiff.solvers.loop import Solver, sample
from jaxdiff.solvers.named import usual
from jaxdiff.tiling import tiled
from jaxdiff.types import Array, Key, Params, UserError

# ---- one image


def encode(first: Model, image: Array) -> dict[str, Array]:
    """(*spatial, channels) -> 'image', the mean of the posterior or what stands before the codebook, and for a posterior 'log_variance'."""
    found = model.make_network(first.network).apply(first.params, image[None], method='encode')
    if isinstance(found, tuple):
        return {'image': found.mean[0], 'log_variance': found.log_variance[0]}
    return {'image': found[0]}


def decode(first: Model, z: Array, *, scale: float | Array = 1.0, tile: int | Sequence[int] = 0, overlap: int | Sequence[int] = 0) -> Array:
    """D(z / scale): (*spatial, latent) -> (*spatial, channels), nothing clipped; with a codebook, of the nearest codes.

    With a `tile` (latents along an axis, or along each) only so much is decoded at a time, neighbours sharing `overlap`, see `tiling.tiled`. What the
    decoder knows of the whole, the statistics of its norms and its attention, it then knows of a tile.
    """
    network = model.make_network(first.network)
    z = z / scale
    if 'codebook' in first.params:
        z = network.apply(first.params, z, method='quantize')
    one = lambda z: network.apply(first.params, z[None], method='decode')[0]
    return (tiled(one, tile=tile, overlap=overlap) if tile else one)(z)


def shape_of(first: Model) -> tuple[int, ...]:
    """(*spatial, latent) of the latents of images of the model's shape."""
    image = jax.ShapeDtypeStruct(tuple(first.card['shape']), jnp.float32)
    return jax.eval_shape(lambda params, x: encode(first._replace(params=params), x), model.shapes(first), image)['image'].shape


# ---- many


def source(first: Model, images: Source, *, mirror: int | None = 0, size: int = 60, at_once: int = 512) -> Source:
    """The examples of `images` encoded: `encode` of each, and with `mirror` of each mirrored along that axis, behind them.

    All are kept in memory; `size` are encoded together, `at_once` read. Of a model that holds shapes in place of parameters, zeros.
    Raises `UserError` where anything is not finite, see `trap`.
    """
    flips = (False, True) if mirror is not None else (False,)
    manifest = {'kind': 'latents', 'images': images.manifest, 'mirror': mirror, 'autoencoder': first.card.get('state_digest')}
    count = len(flips) * images.size
    if any(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in jax.tree.leaves(first.params)):
        blank = jax.eval_shape(lambda params, x: encode(first._replace(params=params), x), first.params, images.example(0)['image'])
        return Source(count, lambda index: {name: np.zeros(each.shape, np.float32) for name, each in blank.items()}, manifest)
    run = sampling.mapper(lambda params, image: encode(first._replace(params=params), image), size=size, name='encoding')
    parts = []
    for flip in flips:
        for start in range(0, images.size, at_once):
            group = np.stack([images.example(n)['image'] for n in range(start, min(start + at_once, images.size))])
            group = np.flip(group, 1 + mirror) if flip else group
            parts.append(run(first.params, np.ascontiguousarray(group)))
            trap(images=group, autoencoder=first.params, latents=parts[-1])
    table = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return Source(count, lambda index: {name: values[index] for name, values in table.items()}, manifest)


def drawn(scale: float) -> loader.Augment:
    """The augmentation that makes z0 of (1) out of moments."""

    def drawn(rng: np.random.Generator, example: loader.Sample) -> loader.Sample:
        z = example['image']
        if 'log_variance' in example:
            z = z + np.exp(example['log_variance'] / 2) * rng.standard_normal(z.shape, np.float32)
        return {'image': (scale * z).astype(np.float32)}

    return drawn


def measured(latents: Source, batch: int, *, seed: int = 0) -> float:
    """The scale of (1), from the first batch that training with this seed will see."""
    std = float(next(loader.batches(latents, batch, seed=seed, augment=drawn(1.0), workers=0))['image'].std())
    return 1 / std if std > 0 else 1.0


def blank(
    first: Model, latents: Source, network: dict[str, Any], *, batch: int, path: str = 'cosine', kind: str = 'v', seed: int = 0
) -> Model:
    """A denoiser of these latents before training, the measured scale in its card under 'latent'."""
    card = {
        'shape': list(latents.example(0)['image'].shape),
        'latent': {'scale': measured(latents, batch, seed=seed), 'shape': first.card['shape']},
    }
    return Model(network, {'name': path}, kind, None, first.preprocess, card)


# ---- drawing


def drawer(
    trained: Model,
    first: Model,
    *,
    solver: Solver | None = None,
    times: Array | None = None,
    size: int = 60,
    tile: int | Sequence[int] = 0,
    overlap: int | Sequence[int] = 0,
    name: str = 'sampling latents',
) -> Callable[..., np.ndarray]:
    """`draw((params, params of the autoencoder), key, count, **told)` -> images (count, *shape) in [-1, 1], as `sampling.drawer`.

    Each latent is decoded as soon as it is drawn. Raises `UserError` where anything is not finite, see `trap`.
    """
    path, scale = model.make_path(trained.path), trained.card['latent']['scale']
    solver, times = usual(path, solver, times)
    std = path.sigma(times[0])

    def one(shared: tuple[Params, Params], key: Key, told: dict[str, Array]) -> tuple[Array, Array]:
        params, outer = shared
        start, walk = jax.random.split(key)
        z = std * jax.random.normal(start, trained.card['shape'])
        z = sample(walk, z, model.denoiser(trained._replace(params=params), **told), solver, times).x
        return z, decode(first._replace(params=outer), z, scale=scale, tile=tile, overlap=overlap)

    mapped = sampling.mapper(one, size=size, name=name)

    def draw(params: tuple[Params, Params], key: Key, count: int, **told: np.ndarray) -> np.ndarray:
        latents, images = mapped(params, sampling.keys(key, count), told)
        trap(denoiser=params[0], latents=latents, autoencoder=params[1], images=images)
        return np.clip(images, -1, 1)

    return draw


def reconstructor(
    first: Model, *, size: int = 60, name: str = 'reconstructing'
) -> Callable[[Params, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """`run(params, images)` -> their reconstructions from the means of their posteriors, or codes, and those latents; nothing is clipped."""

    def one(params: Params, image: Array) -> tuple[Array, Array]:
        z = encode(first._replace(params=params), image)['image']
        return decode(first._replace(params=params), z), z

    return sampling.mapper(one, size=size, name=name)


def trap(**tensors: Any) -> None:
    """Raise `UserError` for the first of these trees, and of its arrays, in which a number is not finite: its name, how many, and where the first is.

    Given in the order in which they were computed, the one named is where it began.
    """
    for name, tree in tensors.items():
        for place, leaf in jax.tree_util.tree_leaves_with_path(tree):
            finite = np.isfinite(np.asarray(leaf, np.float32))
            if finite.all():
                continue
            where = ', '.join(map(str, np.unravel_index(int(np.argmin(finite)), finite.shape)))
            full = '/'.join(filter(None, (name, jax.tree_util.keystr(place, simple=True, separator='/'))))
            count = f'{math.prod(finite.shape) - int(finite.sum())} of {math.prod(finite.shape)}'
            raise UserError(f'{full}: {count} numbers are not finite, the first at ({where}); train again in float32 at a lower rate')
