"""Codebooks: the nearest of a few vectors in place of any vector, and how the few follow what they stand for.

    j(z) = argmin_j |z - e_j|^2,    quantized: e_j(z), to gradients z                                                    (1)
    N_j <- d N_j + (1 - d) n_j,     m_j <- d m_j + (1 - d) (sum of the z nearest to e_j),                                (2)
    e_j = m_j / N'_j,               N'_j = (N_j + eps) / (N + codes eps) N,   N = sum_j N_j                              (3)

n_j being how many of a batch are nearest to e_j. A code that nothing has been nearest to for long is dead: it begins again at one of the vectors
of the batch. Perplexity is exp of the entropy of the codes' frequencies, from 1 to `codes`.

van den Oord, Vinyals, Kavukcuoglu, "Neural discrete representation learning", NeurIPS 2017 (1); its appendix A.1 (2), (3).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxdiff.types import Array, Key


class Codebook(NamedTuple):
    """Vectors (codes, d), and the averages (2) they come from: counts (codes,), sums (codes, d)."""

    vectors: Array
    counts: Array
    sums: Array


def init(vectors: Array) -> Codebook:
    """Each vector as the mean of one."""
    return Codebook(vectors, jnp.ones(len(vectors)), vectors)


def nearest(vectors: Array, z: Array) -> Array:
    """(1): vectors (codes, d), z (..., d) -> indices (...) int32."""
    products = z @ vectors.T
    distance = jnp.square(vectors).sum(-1).reshape((1,) * (z.ndim - 1) + (-1,)) - 2 * products  # |z|^2 is the same for all codes
    return jnp.argmin(distance, axis=-1).astype(jnp.int32)


def quantize(vectors: Array, z: Array) -> tuple[Array, Array]:
    """(1): z (..., d) -> (quantized (..., d), indices (...)). A gradient in the quantized goes to z as it is, and none to the vectors."""
    indices = nearest(vectors, jax.lax.stop_gradient(z))
    return z + jax.lax.stop_gradient(vectors[indices] - z), indices


def commitment(vectors: Array, z: Array, indices: Array) -> Array:
    """The mean of |z - e_j|^2 / d, whose gradient draws z to its code, not the code to z."""
    return jnp.mean(jnp.square(z - jax.lax.stop_gradient(vectors)[indices]))


def follow(book: Codebook, z: Array, indices: Array, *, decay: float = 0.99, eps: float = 1e-5) -> Codebook:
    """(2) and (3): z (n, d) of a batch, with their indices (n,)."""
    n = jnp.zeros_like(book.counts).at[indices].add(1.0)
    counts = decay * book.counts + (1 - decay) * n
    sums = decay * book.sums + (1 - decay) * jnp.zeros_like(book.sums).at[indices].add(z)
    whole = counts.sum()
    smooth = (counts + eps) / (whole + len(counts) * eps) * whole
    return Codebook(sums / smooth[:, None], counts, sums)


def restart(key: Key, book: Codebook, z: Array, *, least: float = 0.01) -> Codebook:
    """The same with every code whose count has fallen below `least` begun again, as the mean of one of z (n, d), drawn with replacement."""
    dead = book.counts < least
    drawn = z[jax.random.randint(key, (len(book.counts),), 0, len(z))]
    fresh = init(drawn)
    return jax.tree.map(lambda new, old: jnp.where(dead.reshape(-1, *(1,) * (old.ndim - 1)), new, old), fresh, book)


def perplexity(indices: Array, codes: int) -> Array:
    """exp of the entropy of the frequencies of indices (...)."""
    share = jnp.zeros(codes).at[indices.reshape(-1)].add(1.0) / indices.size
    return jnp.exp(-jnp.sum(jax.scipy.special.xlogy(share, share)))
