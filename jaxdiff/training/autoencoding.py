"""What autoencoders are trained by: faithful reconstructions, and latents that a second model can learn.

    f(x, y) = mean |x - y| + a d(x, y),         d the distance of `nets.perceptual`                                     (1)
    'kl':   z ~ q(z | x),       p = b mean KL(q(z | x) || N(0, 1))                                                      (2)
    'vq':   z = e_j(x),         p = b mean |z(x) - sg(e_j)|^2,      the codebook follows the z nearest to each code     (3)

All are means: over pixels, and over the numbers of the latents. Published weights belong to sums over pixels and over latents, and a mean
weighs KL in (2) less by how many times fewer numbers latents have: 1e-6 for sums is 1e-6 latents / pixels here. Nor is there a learned scale of f.
b stands before the commitment, as in the paper, not before the codebook's own term, which the averages of `nets.codebook` take the place of.

Rombach et al., "High-resolution image synthesis with latent diffusion models", CVPR 2022 (2);
van den Oord, Vinyals, Kavukcuoglu, "Neural discrete representation learning", NeurIPS 2017 (3).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxdiff.nets import codebook, perceptual
from jaxdiff.nets.discriminator import PatchDiscriminator
from jaxdiff.nets.vqvae import VQVAE
from jaxdiff.training.adversarial import Critic, Duel, Faithful, Make, duel_step, init_duel
from jaxdiff.training.step import Batch
from jaxdiff.types import Array, Key, Params

Distance = Callable[[Key, Array, Array], Array]  # of two images


def kl(network: Any, *, weight: float = 1e-4) -> Make:
    """(2): reconstructs one draw of each posterior; metrics hold 'kl', nats per number of the latents."""

    def make(params: Params, aside: Any, keys: Key, batch: Batch):
        posterior = network.apply(params, batch['image'], method='encode')
        z = jax.vmap(lambda posterior, key: posterior.draw(key))(posterior, keys)
        rate = posterior.divergence().mean()
        return (network.apply(params, z, method='decode'), weight * rate), (aside, {'kl': rate})

    return make


def vq(network: Any, *, weight: float = 0.25, decay: float = 0.99, least: float = 0.1) -> Make:
    """(3), with a `Codebook` aside. Codes whose count has fallen below `least` begin again at vectors of the batch, all of them at the first step.

    Metrics hold 'commitment', 'perplexity' of the batch, and 'restarted', how many codes began again.
    """

    def make(params: Params, book: codebook.Codebook, keys: Key, batch: Batch):
        variables = {**params, 'codebook': {'vectors': book.vectors}}
        z = network.apply(variables, batch['image'], method='encode')
        flat = jax.lax.stop_gradient(z).reshape(-1, z.shape[-1])
        restarted = jnp.sum(book.counts < least)
        book = codebook.restart(keys[0], book, flat, least=least)
        quantized, indices = codebook.quantize(book.vectors, z)
        commitment = codebook.commitment(book.vectors, z, indices)
        told = {
            'commitment': commitment,
            'perplexity': codebook.perplexity(indices, len(book.vectors)),
            'restarted': restarted.astype(jnp.float32),
        }
        image = network.apply(variables, quantized, method='decode')
        return (image, weight * commitment), (codebook.follow(book, flat, indices.reshape(-1), decay=decay), told)

    return make


def unused(vectors: Array) -> codebook.Codebook:
    """A codebook that nothing has been near to yet: `vq` begins every code at a vector of the first batch."""
    return codebook.init(vectors)._replace(counts=jnp.zeros(len(vectors)))


def faithful(distance: Distance | None = None, *, weight: float = 0.1) -> Faithful:
    """(1), a mean over the batch; metrics hold 'mae' and 'perceptual'."""

    def judge(keys: Key, real: Array, fake: Array):
        mae = jnp.mean(jnp.abs(real - fake))
        if distance is None:
            return mae, {'mae': mae}
        seen = jnp.mean(jax.vmap(distance)(keys, real, fake))
        return mae + weight * seen, {'mae': mae, 'perceptual': seen}

    return judge


def distance(dims: int, channels: int, widths: Sequence[int], *, slices: int = 2) -> Distance:
    """The perceptual distance in a fixed random network with these widths: of images, or of volumes by `slices` slices drawn along each axis."""
    features = perceptual.fixed(channels, widths=tuple(widths), depths=(1,) * len(widths))
    if dims == 2:
        return lambda key, x, y: perceptual.distance(features, x, y)
    return lambda key, x, y: perceptual.of_volumes(features, key, x, y, slices=slices)


def trainer(
    network: Any,
    shape: Sequence[int],
    optimizer: optax.GradientTransformation,
    *,
    penalty: Mapping[str, Any],
    perception: Mapping[str, Any] | None = None,
    critic: Mapping[str, Any] | None = None,
    ema: float = 0.999,
    together: Callable[[Callable], Callable] = lambda fn: fn,
) -> tuple[Callable[[Key], Duel], Callable]:
    """The first state and the step of an autoencoder of images of `shape` (*spatial, channels).

    Args:
        penalty: {'kind': 'kl' or 'vq', **arguments} of the function of that name.
        perception: {'weight': a, 'widths': of the random network}, None for none.
        critic: {'width', 'depth'} of a `PatchDiscriminator` and {'weight', 'learns', 'heard'} of `adversarial.Critic`, None for none.
        together: what a function of parameters becomes where they are spread over devices, see `parallel.whole`.
    """
    dims, channels = len(shape) - 1, shape[-1]
    options = {name: value for name, value in penalty.items() if name != 'kind'}
    make = {'kl': kl, 'vq': vq}[penalty['kind']](network, **options)
    judge = faithful(distance(dims, channels, perception['widths']), weight=perception['weight']) if perception else faithful()
    rival = critic and _critic(shape, optimizer, together, **critic)

    def init(key: Key) -> Duel:
        own, rest = jax.random.split(key)
        fresh = network.init(own, jnp.zeros((1, *shape)))
        book = unused(fresh['codebook']['vectors']) if 'codebook' in fresh else ()
        return init_duel(rest, {'params': fresh['params']}, book, optimizer, rival)

    last = ('double_0', 'kernel') if isinstance(network, VQVAE) else ('decoder', 'head', 'kernel')
    return init, duel_step(together(make), judge, optimizer, rival, last=('params', *last), ema=ema)


def variables(state: Duel) -> Params:
    """What the trained network is called with: averaged parameters, and the codebook where there is one."""
    return {**state.ema, **({'codebook': {'vectors': state.aside.vectors}} if state.aside else {})}


def _critic(shape, optimizer, together, *, width: int, depth: int, weight: float, learns: int, heard: int) -> Critic:
    network = PatchDiscriminator(width, depth)
    init = lambda key: network.init(key, jnp.zeros((1, *shape)))
    return Critic(together(network.apply), init, optimizer, weight, learns, heard)
