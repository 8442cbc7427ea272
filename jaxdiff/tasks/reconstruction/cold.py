"""Cold diffusion of k-space: the degradation takes frequencies away, one after another, and no noise is added.

A measured mask M leaves n entries out. In a random order of these, M_t keeps all but the first floor(t n), so that M_0 = 1 and M_1 = M:

    x_t = D(x0, t) = F^-1 M_t F x0                                     linear in x0, deterministic given the order        (1)
    |R(x_t, t) - x0|                                                   what a restorer R is trained to lower              (2)
    x_s = x_t - D(R, t) + D(R, s) = x_t + F^-1 (M_s - M_t) F R         the improved step, t > s                           (3)
    x_s = D(R, s)                                                      the naive one                                      (4)

(3) fills in the entries that M_s has and M_t lacks from what R says now, and leaves those that stood as they were: measured ones never change.
(4) forgets them. Nothing is random but the order; several orders give several images, whose mean is better than each.

Times here are shares of the way, 0 the image and 1 what was measured. A mask is broadcast to k-space: columns enter as (1, W, 1).

Shen et al., "Learning to reconstruct accelerated MRI through k-space cold diffusion without noise", Scientific Reports 2024; (3) Bansal et
al., "Cold diffusion", NeurIPS 2023.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxdiff.operators import inverse_transform, to_channels, to_complex, transform
from jaxdiff.tasks.reconstruction.draws import Posterior, several
from jaxdiff.types import Array, Key, Time

Restorer = Callable[[Array, Time], Array]  # x_t (*spatial, 2 C), t in [0, 1] -> x0_hat


def order(key: Key, mask: Array) -> Array:
    """The turn at which each entry of a mask is taken away, int of its shape: 0 to n - 1 where it is 0, and n or more where it is 1."""
    drawn = jnp.where(jnp.asarray(mask) > 0, 2.0, jax.random.uniform(key, jnp.shape(mask)))
    return jnp.argsort(jnp.argsort(drawn.ravel())).reshape(drawn.shape)


def kept(turns: Array, mask: Array, t: Time) -> Array:
    """M_t, bool of the mask's shape, for `turns` of `order`."""
    n = jnp.sum(jnp.asarray(mask) <= 0)
    return turns >= jnp.floor(t * n + 1e-3)  # t n may be a rounding below a whole number


def degrade(x0: Array, turns: Array, mask: Array, t: Time) -> Array:
    """D(x0, t) of (1), the real channels (*spatial, 2 C) of a complex image."""
    return _image(jnp.where(kept(turns, mask, t), _kspace(x0), 0))


def pair(key: Key, x0: Array, mask: Array, steps: int = 1000) -> tuple[Array, Time]:
    """What a restorer is trained on: x_t and t, even among 0, 1 / steps, ..., 1, in an order of its own; x0 is the answer."""
    when, which = jax.random.split(key)
    t = jax.random.randint(when, (), 0, steps + 1) / steps
    return degrade(x0, order(which, mask), mask, t), t


def restore(key: Key, y: Array, mask: Array, restorer: Restorer, *, times: Array, count: int = 1, naive: bool = False) -> Posterior:
    """Walk from what was measured to an image by (3), or by (4) if `naive`, once for each of `count` (static) orders.

    Args:
        y: k-space (*spatial, 2 C), real and imaginary in turn, as `operators.on_channels(operators.fourier(mask))` gives it.
        times: (steps + 1,) falling from 1 to 0; more steps than n repeat masks and gain nothing. [1, 0] is one shot, made consistent.
    """

    def one(key):
        turns = order(key, mask)

        def step(k, pair):
            t, s = pair
            found, now = _kspace(restorer(_image(k), t)), kept(turns, mask, s)
            return (jnp.where(now, found, 0) if naive else jnp.where(now & ~kept(turns, mask, t), found, k)), None

        return _image(jax.lax.scan(step, jnp.where(jnp.asarray(mask) > 0, to_complex(y), 0), (times[:-1], times[1:]))[0])

    return several(one, key, count)


def one_shot(y: Array, mask: Array, restorer: Restorer) -> Array:
    """R(x_1, 1), which need not explain what was measured."""
    return restorer(_image(jnp.where(jnp.asarray(mask) > 0, to_complex(y), 0)), jnp.float32(1.0))


def _kspace(x: Array) -> Array:
    return transform(to_complex(x))


def _image(k: Array) -> Array:
    return to_channels(inverse_transform(k))
