"""What autoencoders are compared with is made as it says, and codes are counted."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff.model import Model
from jaxdiff.studies import two_stages


def first(**network):
    spec = {'name': 'autoencoder', 'widths': (4, 4, 4), 'middle': False, **network}
    return Model(spec, {}, spec['kind'], None, {}, {'shape': [16, 16, 1]})


def test_a_code_counts_as_one_number():
    assert two_stages.codes_of(first(kind='kl', latent=3)) == 48
    assert two_stages.codes_of(first(kind='vq', latent=3, codes=8)) == 16


@pytest.mark.parametrize('spatial', [(16, 16), (16, 16, 16)])
def test_linear_interpolation_has_at_least_as_many_numbers(spatial):
    """A plane is kept by any number of them, but for what the borders do; noise by all alone."""
    ramp = np.broadcast_to(np.linspace(-1, 1, spatial[0]).reshape(1, -1, *(1,) * len(spatial)), (2, *spatial, 1)).astype(np.float32)
    noise = np.random.default_rng(0).uniform(-1, 1, ramp.shape).astype(np.float32)
    every = int(np.prod(spatial))
    assert np.abs(two_stages.resized(ramp, every // 4) - ramp)[:, 4:-4].max() < 3e-3
    np.testing.assert_allclose(two_stages.resized(noise, every), noise, atol=1e-5)
    loss = [two_stages.psnr(noise, two_stages.resized(noise, every // n)) for n in (2, 4, 8)]
    assert loss[0] > loss[1] > loss[2]


def test_psnr_is_that_of_the_range():
    real = np.zeros((3, 4, 4, 1), np.float32)
    assert two_stages.psnr(real, real + 0.2) == pytest.approx(20, abs=1e-3)  # a tenth of the range


def test_perplexity_counts_the_codes_in_use():
    each = first(kind='vq', latent=1, codes=4)
    params = {'codebook': {'vectors': jnp.array([[0.0], [1.0], [2.0], [3.0]])}}
    z = np.tile(np.array([0.1, 0.9], np.float32), 8).reshape(1, 4, 4, 1)
    found = two_stages.lossiness(each, lambda params, real: (real, z), params, np.zeros((1, 16, 16, 1), np.float32) + 0.1)
    assert found['perplexity'] == pytest.approx(2) and found['perplexity_share'] == pytest.approx(0.5)
