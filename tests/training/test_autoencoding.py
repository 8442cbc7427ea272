"""Autoencoders that learn: what the codebook follows, that gradients pass it by, and that eight images can be kept."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff.metrics.images import psnr
from jaxdiff.nets import codebook
from jaxdiff.nets.autoencoder import Autoencoder
from jaxdiff.nets.vqvae import VQVAE
from jaxdiff.training import autoencoding
from jaxdiff.training.optimizer import adam

jit = partial(jax.jit, compiler_options={'xla_backend_optimization_level': 0})
KL = {'kind': 'kl', 'weight': 1e-6}
VQ = {'kind': 'vq', 'weight': 0.25, 'least': 0.1}
SMALL = {'widths': (8, 8), 'middle': False, 'extra': 0}
FAST = adam(3e-3, 400, warmup=20, b1=0.5, b2=0.9)


def blobs(count, spatial):
    """Images of one blob each, in [-1, 1]."""
    rng, grid = np.random.default_rng(0), np.stack(np.meshgrid(*(np.linspace(-1, 1, n) for n in spatial), indexing='ij'), -1)
    centres = rng.uniform(-0.6, 0.6, (count, len(spatial)))
    away = np.square(grid[None] - centres.reshape(count, *(1,) * len(spatial), -1)).sum(-1)
    return jnp.asarray(2 * np.exp(-away / 0.15) - 1, jnp.float32)[..., None]


def trained(network, images, steps, optimizer=FAST, **options):
    init, step = autoencoding.trainer(network, images.shape[1:], optimizer, ema=0.9, **options)
    step, state = jit(step), jit(init)(jax.random.key(0))
    for _ in range(steps):
        state, told = step(state, {'image': images})
    return state, {name: float(value) for name, value in told.items()}


def test_eight_images_are_kept():
    images, network = blobs(8, (8, 8)), Autoencoder(latent=4, widths=(16, 32), middle=False, extra=0)
    state, _ = trained(network, images, 400, penalty=KL)
    again = jit(network.apply)(autoencoding.variables(state), images)
    assert psnr(np.asarray(images[..., 0] + 1) / 2, np.asarray(again[..., 0] + 1) / 2, peak=1.0) > 35


def test_a_codebook_is_found_and_used():
    images, network = blobs(16, (8, 8)), Autoencoder(kind='vq', latent=4, codes=16, **SMALL)
    state, told = trained(network, images, 60, penalty=VQ)
    _, first = trained(network, images, 1, penalty=VQ)
    assert first['restarted'] == 16 and told['perplexity'] > 4 and told['mae'] < 0.7 * first['mae']
    variables = autoencoding.variables(state)
    z = jit(network.apply, static_argnames='method')(variables, images, method='encode').reshape(-1, 4)
    spread = jnp.var(z, axis=0).sum()
    away = jnp.square(z - codebook.quantize(variables['codebook']['vectors'], z)[0]).sum(-1).mean()
    assert away < 0.3 * spread


def test_one_step_of_the_codebook_is_its_own_rule_and_no_gradient():
    images, network = blobs(4, (4, 4)), Autoencoder(kind='vq', latent=2, codes=3, **SMALL)
    variables = jit(network.init)(jax.random.key(0), images)
    book = codebook.init(variables['codebook']['vectors'])
    make = autoencoding.vq(network, weight=0.25, least=0.0)
    keys = jax.random.split(jax.random.key(1), 4)
    params = {'params': variables['params']}
    (_, penalty), (after, told) = jit(make)(params, book, keys, {'image': images})
    z = jit(network.apply, static_argnames='method')(variables, images, method='encode')
    indices = codebook.nearest(book.vectors, z)
    want = codebook.follow(book, z.reshape(-1, 2), indices.reshape(-1))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), after, want)
    np.testing.assert_allclose(penalty, 0.25 * jnp.square(z - book.vectors[indices]).mean(), rtol=1e-4)
    assert float(told['restarted']) == 0
    slope = jax.grad(lambda vectors: make(params, book._replace(vectors=vectors), keys, {'image': images})[0][0].sum())(book.vectors)
    assert not slope.any()


def test_the_penalty_is_the_mean_divergence():
    images, network = blobs(2, (4, 4)), Autoencoder(latent=2, **SMALL)
    params = jit(network.init)(jax.random.key(0), images)
    (_, penalty), (aside, told) = jit(autoencoding.kl(network, weight=0.5))(
        params, (), jax.random.split(jax.random.key(0), 2), {'image': images}
    )
    mean, log_variance = jit(network.apply, static_argnames='method')(params, images, method='encode')
    want = jnp.mean(jnp.square(mean) + jnp.exp(log_variance) - 1 - log_variance) / 2
    assert float(told['kl']) == pytest.approx(float(want), rel=1e-4) and float(penalty) == pytest.approx(float(want) / 2, rel=1e-4)
    assert aside == ()


CASES = {
    'kl': (Autoencoder(latent=2, **SMALL), (8, 8), KL),
    'vq volume': (Autoencoder(kind='vq', latent=2, codes=4, dims=3, **SMALL), (8, 8, 8), VQ),
    'vqvae': (VQVAE(latent=2, codes=4, widths=(8,), units=1), (8, 8), VQ),
}


@pytest.mark.parametrize('name', CASES)
def test_every_kind_takes_a_step_with_everything_on(name):
    network, spatial, penalty = CASES[name]
    perception, critic = {'weight': 0.1, 'widths': (4,)}, {'width': 4, 'depth': 1, 'weight': 0.5, 'learns': 0, 'heard': 0}
    init, step = autoencoding.trainer(network, (*spatial, 1), FAST, penalty=penalty, perception=perception, critic=critic)
    state, told = jit(step)(jit(init)(jax.random.key(0)), {'image': blobs(2, spatial)})
    assert all(np.isfinite(float(value)) for value in told.values()) and told['adversarial_share'] > 0
    assert set(told) >= {'loss', 'mae', 'perceptual', 'critic', 'grad_norm'} | ({'kl'} if name == 'kl' else {'perplexity'})
    want = jax.eval_shape(network.init, jax.random.key(0), blobs(1, spatial))
    assert jax.tree.structure(autoencoding.variables(state)) == jax.tree.structure(want)
