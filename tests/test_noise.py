import jax
import numpy as np

from jaxdiff.noise import gaussian, rademacher


def test_gaussian_noise_is_standard():
    noise = np.asarray(gaussian(jax.random.key(0), (100, 200)))
    assert noise.shape == (100, 200) and noise.dtype == np.float32
    assert abs(noise.mean()) < 4 / np.sqrt(noise.size)
    assert abs(noise.var() - 1) < 4 * np.sqrt(2 / noise.size)


def test_rademacher_noise_is_signs():
    signs = np.asarray(rademacher(jax.random.key(0), (100, 200)))
    assert set(np.unique(signs)) == {-1.0, 1.0} and abs(signs.mean()) < 4 / np.sqrt(signs.size)
