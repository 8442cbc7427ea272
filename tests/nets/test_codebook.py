"""Codebooks: gradients that pass straight through, averages that find the means, codes that are not lost."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxdiff.nets import codebook

VECTORS = jnp.array([[0.0, 0.0], [1.0, 1.0], [-1.0, 2.0]])


def test_the_nearest_is_the_nearest():
    z = jax.random.normal(jax.random.key(0), (4, 5, 2))
    distance = np.sum((np.asarray(z)[..., None, :] - np.asarray(VECTORS)) ** 2, -1)
    np.testing.assert_array_equal(codebook.nearest(VECTORS, z), distance.argmin(-1))


def test_gradients_pass_straight_through():
    z, weights = jnp.array([[0.9, 1.2], [0.1, -0.3]]), jnp.array([[1.0, 2.0], [3.0, 4.0]])
    quantized, indices = codebook.quantize(VECTORS, z)
    np.testing.assert_allclose(quantized, VECTORS[indices], atol=1e-6)
    slope = jax.grad(lambda z, vectors: jnp.sum(weights * codebook.quantize(vectors, z)[0]), argnums=(0, 1))(z, VECTORS)
    np.testing.assert_array_equal(slope[0], weights)
    assert not slope[1].any()
    slope = jax.grad(lambda z, vectors: codebook.commitment(vectors, z, indices), argnums=(0, 1))(z, VECTORS)
    np.testing.assert_allclose(slope[0], (z - VECTORS[indices]) / 2, atol=1e-6)
    assert not slope[1].any()


def test_at_fixed_assignment_codes_become_the_means_of_what_is_nearest():
    z = jax.random.normal(jax.random.key(0), (60, 2))
    indices = jnp.arange(60) % 3
    book, follow = codebook.init(VECTORS), jax.jit(codebook.follow)
    for _ in range(1500):
        book = follow(book, z, indices)
    means = jnp.stack([z[indices == n].mean(0) for n in range(3)])
    np.testing.assert_allclose(book.vectors, means, atol=1e-4)
    np.testing.assert_allclose(book.counts, 20, rtol=1e-4)


def test_one_average_is_that_of_the_formula():
    book = codebook.follow(codebook.init(VECTORS), jnp.array([[2.0, 0.0], [4.0, 0.0]]), jnp.array([1, 1]), decay=0.5, eps=0.0)
    np.testing.assert_allclose(book.counts, [0.5, 1.5, 0.5])
    np.testing.assert_allclose(book.vectors[1], np.array([3.5, 0.5]) / 1.5, atol=1e-6)
    np.testing.assert_allclose(book.vectors[2], VECTORS[2], atol=1e-6)


def test_dead_codes_begin_again_where_there_is_something():
    z = 5.0 + jax.random.normal(jax.random.key(0), (40, 2))
    book = codebook.init(VECTORS)._replace(counts=jnp.array([0.001, 3.0, 0.005]))
    again = codebook.restart(jax.random.key(1), book, z)
    np.testing.assert_array_equal(again.vectors[1], VECTORS[1])
    for n in (0, 2):
        assert (z == again.vectors[n][None]).all(-1).any() and again.counts[n] == 1
        np.testing.assert_array_equal(again.sums[n], again.vectors[n])


def test_perplexity_counts_the_codes_in_use():
    np.testing.assert_allclose(codebook.perplexity(jnp.array([[0, 1], [2, 3]]), 8), 4, rtol=1e-5)
    np.testing.assert_allclose(codebook.perplexity(jnp.zeros(9, int), 8), 1, rtol=1e-5)
