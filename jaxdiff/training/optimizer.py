"""The optimizer nearly every diffusion model is trained with: Adam under a clipped gradient and a rate that warms up and decays.

With rate r, W warm-up steps of N in all and final fraction f,

    r_n = r (n+1)/(W+1)                                      n < W      (1)
    r_n = r (f + (1-f) (1 + cos(pi (n-W)/(N-W)))/2)          n >= W     (2)

Adam: Kingma and Ba 2015; decoupled weight decay: Loshchilov and Hutter 2019.
"""

import jax
import jax.numpy as jnp
import optax

from jaxdiff.types import Array


def adam(
    rate: float,
    steps: int,
    *,
    warmup: int = 0,
    final: float = 0.0,
    clip: float = 1.0,
    weight_decay: float = 0.0,
    b1: float = 0.9,
    b2: float = 0.999,
) -> optax.GradientTransformation:
    """Adam(W) for a run of `steps` steps; `clip` bounds the global norm of the gradient (0: no bound); only matrices and kernels decay."""
    kernels = lambda params: jax.tree.map(lambda leaf: leaf.ndim > 1, params)
    clipping = optax.clip_by_global_norm(clip) if clip else optax.identity()
    return optax.chain(clipping, optax.adamw(schedule(rate, steps, warmup, final), b1=b1, b2=b2, weight_decay=weight_decay, mask=kernels))


def schedule(rate: float, steps: int, warmup: int = 0, final: float = 0.0) -> optax.Schedule:
    """step -> rate, equations (1) and (2)."""

    def at(step: Array) -> Array:
        rising = (step + 1) / (warmup + 1)
        progress = jnp.clip((step - warmup) / max(steps - warmup, 1), 0, 1)
        falling = final + (1 - final) * (1 + jnp.cos(jnp.pi * progress)) / 2
        return rate * jnp.where(step < warmup, rising, falling)

    return at
