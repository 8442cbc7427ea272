"""The divergence of a field of vectors, the trace of its Jacobian, for examples of any shape.

Exact from the derivatives along every axis, or estimated without bias from probes z of mean 0 and covariance I,

    div f = tr J = E z^T J z.                                                                              (1)

Hutchinson, "A stochastic estimator of the trace of the influence matrix", 1990.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxdiff.noise import Noise, rademacher
from jaxdiff.types import Array, Key

# field, x -> its value there and its divergence, () if exact, (probes,) if estimated
Divergence = Callable[[Callable[[Array], Array], Array], tuple[Array, Array]]


def exact_trace(field: Callable[[Array], Array], x: Array) -> tuple[Array, Array]:
    """The divergence from the derivatives along every axis: x.size of them, kept at once, so for small x."""
    value, push = jax.linearize(field, x)
    axes = jnp.eye(x.size, dtype=x.dtype).reshape(-1, *x.shape)
    return value, jnp.sum(jax.vmap(lambda axis: jnp.sum(axis * push(axis)))(axes))


def hutchinson(key: Key, probes: int = 1, *, noise: Noise = rademacher) -> Divergence:
    """The divergence estimated by (1) from each of `probes` draws of `noise`, the same at every evaluation."""

    def estimate(field, x):
        value, push = jax.linearize(field, x)
        return value, jax.vmap(lambda z: jnp.sum(z * push(z)))(noise(key, (probes, *x.shape)).astype(x.dtype))

    return estimate
