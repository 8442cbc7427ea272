"""A residual network for points told the time: where data are two numbers, and everything about them is known.

With e an embedding of t, made of sinusoids by two layers,

    h <- A x,    then in each block    h <- h + C silu(B silu(h) + D e),    and at last    y = E silu(h).        (1)

E starts at zero, so that a new network returns exactly 0. After the residual blocks of Ho, Jain and Abbeel 2020, without convolutions and norms.
"""

import flax.linen as nn
import jax

from jaxdiff.nets.layers import sinusoid
from jaxdiff.types import Array


class MLP(nn.Module):
    """x (B, d), t (B,) -> (B, d), or `features` numbers for each point. Every field is JSON.

    Attributes:
        width: of the hidden layers and of the embedding of time.
        blocks: residual blocks of two layers each.
        features: numbers returned for each point; None: as many as it has.
    """

    width: int = 128
    blocks: int = 3
    features: int | None = None

    @nn.compact
    def __call__(self, x: Array, t: Array) -> Array:
        dense = lambda name: nn.Dense(self.width, name=name)
        e = jax.vmap(sinusoid, (0, None))(t, self.width)
        e = nn.silu(dense('time_out')(nn.silu(dense('time_in')(e))))
        h = dense('stem')(x)
        for n in range(self.blocks):
            inner = dense(f'in_{n}')(nn.silu(h)) + nn.Dense(self.width, use_bias=False, name=f'time_{n}')(e)
            h = h + dense(f'out_{n}')(nn.silu(inner))
        head = nn.Dense(self.features or x.shape[-1], kernel_init=nn.initializers.zeros, name='head')
        return head(nn.silu(h))
