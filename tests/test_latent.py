"""Latents: measured so that they are of unit size, drawn as the posterior says, decoded whole or in tiles, and trapped where they are no numbers."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff import grids, latent, model
from jaxdiff.data import loader
from jaxdiff.data.source import Source
from jaxdiff.model import Model
from jaxdiff.types import UserError

jit = partial(jax.jit, compiler_options={'xla_backend_optimization_level': 0})
SPECS = {
    'kl': ({'kind': 'kl', 'latent': 2}, (8, 8, 1)),
    'vq': ({'kind': 'vq', 'latent': 2, 'codes': 4}, (8, 8, 1)),
    'volume': ({'kind': 'kl', 'latent': 1, 'dims': 3}, (8, 8, 8, 1)),
}


def autoencoder(name):
    fields, shape = SPECS[name]
    spec = {'name': 'autoencoder', 'widths': (4, 8), 'middle': False, 'extra': 0, **fields}
    empty = Model(spec, {}, fields['kind'], None, {}, {'shape': list(shape), 'state_digest': name})
    return empty._replace(params=model.init(empty, jax.random.key(0)))


def pictures(shape, count=6):
    images = np.random.default_rng(0).uniform(-1, 1, (count, *shape)).astype(np.float32)
    return Source(count, lambda index: {'image': images[index]}, {'made': 'for a test'})


@pytest.fixture(scope='module')
def first():
    return autoencoder('kl')


@pytest.fixture(scope='module')
def latents(first):
    return latent.source(first, pictures((8, 8, 1)), size=8)


@pytest.mark.parametrize('name', SPECS)
def test_an_image_is_encoded_and_decoded_as_the_network_does(name):
    each = autoencoder(name)
    network, shape = model.make_network(each.network), SPECS[name][1]
    image = jnp.asarray(pictures(shape).example(0)['image'])
    found = jit(lambda x: latent.encode(each, x))(image)
    assert found['image'].shape == latent.shape_of(each) and ('log_variance' in found) == (name != 'vq')
    again = jit(lambda z: latent.decode(each, 3.0 * z, scale=3.0))(found['image'])
    np.testing.assert_allclose(again, jit(network.apply)(each.params, image[None])[0], atol=1e-4)
    assert model.shapes(each).keys() == each.params.keys()


def test_what_training_sees_first_has_a_standard_deviation_of_one(latents):
    scale = latent.measured(latents, 4, seed=3)
    batch = next(loader.batches(latents, 4, seed=3, augment=latent.drawn(scale), workers=0))
    assert set(batch) == {'image'} and batch['image'].dtype == np.float32
    assert batch['image'].std() == pytest.approx(1, rel=0.01)
    made = latent.blank(autoencoder('kl'), latents, {'name': 'unet', 'channels': 2}, batch=4, seed=3)
    assert made.card['latent'] == {'scale': scale, 'shape': [8, 8, 1]} and made.card['shape'] == [4, 4, 2]


def test_draws_are_those_of_the_posterior(latents):
    example, rng = latents.example(1), np.random.default_rng(0)
    z = np.stack([latent.drawn(2.0)(rng, example)['image'] for _ in range(4000)])
    np.testing.assert_allclose(z.mean(0), 2 * example['image'], atol=0.15)
    np.testing.assert_allclose(z.std(0), 2 * np.exp(example['log_variance'] / 2), rtol=0.1)
    exact = {'image': example['image']}
    np.testing.assert_array_equal(latent.drawn(2.0)(rng, exact)['image'], 2 * example['image'])


def test_mirror_images_stand_behind(first, latents):
    images = pictures((8, 8, 1))
    assert latents.size == 12 and latents.manifest['autoencoder'] == 'kl'
    for index, image in ((2, images.example(2)['image']), (8, images.example(2)['image'][::-1])):
        want = jit(lambda x: latent.encode(first, x))(jnp.asarray(image))
        np.testing.assert_allclose(latents.example(index)['image'], want['image'], atol=1e-5)
    assert latent.source(first, images, mirror=None, size=8, at_once=4).size == 6


def test_shapes_in_place_of_parameters_give_zeros(first):
    promised = latent.source(first._replace(params=model.shapes(first)), pictures((8, 8, 1)))
    assert promised.size == 12 and promised.example(7)['image'].shape == (4, 4, 2) and not promised.example(7)['log_variance'].any()
    assert 0 < latent.measured(promised, 4) < 2


@pytest.mark.parametrize('name', ['vq', 'volume'])
def test_tiles_that_hold_all_are_the_whole_and_smaller_ones_nearly(name):
    each = autoencoder(name)
    z = jax.random.normal(jax.random.key(1), latent.shape_of(each))
    whole = jit(lambda z: latent.decode(each, z))(z)
    np.testing.assert_allclose(jit(lambda z: latent.decode(each, z, tile=4, overlap=2))(z), whole, atol=1e-5)
    parts = jit(lambda z: latent.decode(each, z, tile=3, overlap=2))(z)
    assert parts.shape == whole.shape and not np.allclose(parts, whole, atol=1e-5)
    assert np.corrcoef(parts.ravel(), whole.ravel())[0, 1] > 0.7


def test_samples_are_decoded_at_their_scale(first, latents):
    """Sample i hangs on its key alone, and what is decoded is what was drawn divided by the scale."""
    spec = {'name': 'unet', 'channels': 2, 'widths': (4,), 'blocks': 1, 'attention': (False,)}
    made = latent.blank(first, latents, spec, batch=4)
    params = model.init(made, jax.random.key(1))
    path = model.make_path(made.path)
    draw = latent.drawer(made, first, times=grids.uniform(path, 2), size=8)
    images = draw((params, first.params), jax.random.key(0), 3)
    again = draw((params, first.params), jax.random.key(0), 2)
    assert images.shape == (3, 8, 8, 1) and np.abs(images).max() <= 1
    np.testing.assert_allclose(images[:2], again, atol=1e-5)
    other = made._replace(card={**made.card, 'latent': {**made.card['latent'], 'scale': 1e-3 * made.card['latent']['scale']}})
    larger = latent.drawer(other, first, times=grids.uniform(path, 2), size=8)((params, first.params), jax.random.key(0), 3)
    assert not np.allclose(images, larger, atol=0.01)


def test_what_is_not_a_number_is_named(first):
    latent.trap(images=np.zeros(3), nothing=())
    with pytest.raises(UserError, match=r'^latents/image: 1 of 6 numbers are not finite, the first at \(1, 2\)'):
        latent.trap(fine=np.zeros(2), latents={'image': np.array([[0.0, 1, 2], [3, 4, np.nan]]), 'other': np.zeros(1)})
    broken = jax.tree.map(lambda leaf: leaf, first.params)
    broken['params']['encoder']['stem']['kernel'] = broken['params']['encoder']['stem']['kernel'].at[0, 1, 0, 2].set(jnp.inf)
    with pytest.raises(UserError, match=r'^autoencoder/params/encoder/stem/kernel: 1 of 36 .* \(0, 1, 0, 2\)'):
        latent.source(first._replace(params=broken), pictures((8, 8, 1)), size=8)
    bad = Source(6, lambda index: {'image': np.full((8, 8, 1), np.nan if index == 4 else 0.0, np.float32)}, {})
    with pytest.raises(UserError, match=r'^images: 64 of 384 .* \(4, 0, 0, 0\)'):
        latent.source(first, bad, size=8)
