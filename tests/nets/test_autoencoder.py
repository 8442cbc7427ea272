"""Autoencoders: shapes, what a posterior is, codes beside the parameters, no meeting of examples."""

import json
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff.nets import codebook
from jaxdiff.nets.autoencoder import Autoencoder, Posterior
from jaxdiff.nets.vqvae import VQVAE

jit = partial(jax.jit, compiler_options={'xla_backend_optimization_level': 0}, static_argnames='method')
SMALL = {'channels': 2, 'latent': 3, 'widths': (8, 12), 'attention': (False, True)}
NETS = {
    'kl': (Autoencoder(**SMALL), (4, 6), (2, 3)),
    'vq': (Autoencoder(**SMALL, kind='vq', codes=5, middle=(False, True), extra=0, bottleneck=7), (4, 4), (2, 2)),
    'volume': (Autoencoder(**SMALL, dims=3, resample=(True, True, False)), (4, 2, 3), (2, 1, 3)),
    'flat': (Autoencoder(**SMALL | {'widths': (8,), 'attention': ()}), (4, 3), (4, 3)),
    'vqvae': (VQVAE(channels=2, latent=3, codes=5, widths=(8, 12), units=1), (8, 4), (2, 1)),
    'vqvae volume': (VQVAE(channels=1, latent=3, codes=5, widths=(8,), inner=(4,), dims=3), (4, 4, 2), (2, 2, 1)),
}


def normal(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)


@pytest.mark.parametrize('name', NETS)
def test_latents_are_smaller_and_images_come_back(name):
    net, spatial, inside = NETS[name]
    x = normal(0, 2, *spatial, net.channels)
    params = jit(net.init)(jax.random.key(0), x)
    z = jit(net.apply, static_argnames='method')(params, x, method='encode')
    kl = isinstance(z, Posterior)
    assert kl == (name in ('kl', 'volume', 'flat'))
    z = z.mean if kl else z
    assert z.shape == (2, *inside, 3) and z.dtype == jnp.float32
    assert tuple(s // f for s, f in zip(spatial, net.factor(), strict=True)) == inside
    whole = jit(net.apply)(params, x)
    assert whole.shape == x.shape and jnp.isfinite(whole).all()
    quantized = z if kl else codebook.quantize(params['codebook']['vectors'], z)[0]
    np.testing.assert_allclose(jit(net.apply)(params, quantized, method='decode'), whole, atol=1e-4)
    assert ('codebook' in params) != kl
    np.testing.assert_allclose(jit(net.apply)(params, x[1:])[0], whole[1], atol=1e-4)


def test_a_posterior_draws_what_it_says_and_its_divergence_is_that_of_its_draws():
    mean, log_variance = jnp.array([0.5, -1.0, 2.0]), jnp.array([0.3, -2.0, 0.0])
    posterior = Posterior(mean, log_variance)
    z = jax.vmap(posterior.draw)(jax.random.split(jax.random.key(0), 200_000))
    np.testing.assert_allclose(z.mean(0), mean, atol=0.01)
    np.testing.assert_allclose(z.std(0), jnp.exp(log_variance / 2), atol=0.01)
    log_p = jax.scipy.stats.norm.logpdf(z)
    log_q = jax.scipy.stats.norm.logpdf(z, mean[None], jnp.exp(log_variance / 2)[None])
    np.testing.assert_allclose(posterior.divergence(), (log_q - log_p).mean(0), atol=0.02)


def test_json_rebuilds_the_network():
    fields = {**SMALL, 'kind': 'vq', 'codes': 5, 'middle': (False, True), 'resample': ((True, False),)}
    net, again = Autoencoder(**fields), Autoencoder(**json.loads(json.dumps(fields)))
    shapes = lambda net: jax.tree.map(lambda leaf: leaf.shape, jax.eval_shape(net.init, jax.random.key(0), jnp.zeros((1, 4, 4, 2))))
    assert shapes(net) == shapes(again) and again.factor() == (2, 1)


@pytest.mark.parametrize('name', ['kl', 'vqvae'])
def test_bfloat16_is_near_float32(name):
    net, spatial, _ = NETS[name]
    x = normal(0, 2, *spatial, net.channels)
    params = jit(net.init)(jax.random.key(0), x)
    encode = lambda net: jax.tree.leaves(jit(net.apply)(params, x, method='encode'))[0]
    full, half = encode(net), encode(net.clone(dtype='bfloat16'))
    assert half.dtype == jnp.float32 and jnp.abs(half - full).max() < 3e-2 * jnp.abs(full).max()


def test_refusals():
    with pytest.raises(ValueError, match='codes'):
        Autoencoder(kind='vq')
    with pytest.raises(ValueError, match='entry for each'):
        Autoencoder(blocks=(1, 2), widths=(8,))
    for name in ('kl', 'vqvae'):
        with pytest.raises(ValueError, match='pad or crop'):
            NETS[name][0].init(jax.random.key(0), jnp.zeros((1, 5, 4, 2)))
