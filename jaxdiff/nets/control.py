"""ControlNet: a frozen U-Net steered by an image, through a copy of its encoder that learns.

    residuals = zero convolutions of (copy of the encoder and middle)(stem(x) + hint(image)),                             (1)
    output    = trunk(x) with strength * residuals added to what its encoder keeps and to what its middle makes.          (2)

The last convolution of `hint` and all of 1x1 behind the copy start at zero, so that (2) is at first the trunk itself. The copy has the names of the
trunk, so that its parameters can be taken over as they are (`begin`). Zhang, Rao, Agrawala, "Adding conditional control to text-to-image
diffusion models", ICCV 2023.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxdiff.nets import layers
from jaxdiff.nets.unet import UNet
from jaxdiff.types import Array, Params


class ControlNet(UNet):
    """(1): (x, t, hint, conditions) -> a tuple of arrays, what the encoder keeps first, that of the middle last. Fields are the trunk's, and

    Attributes:
        hint_widths: channels of the convolutions on the hint; each after the first halves it, so that it has 2^(n - 1) times the size of
            what the stem makes.
    """

    hint_widths: Sequence[int] = (16,)

    @nn.compact
    def __call__(self, x: Array, t: Array, hint: Array, **conditions: Array | None) -> tuple[Array, ...]:
        """hint (batch, *spatial, c) in [0, 1], or whatever it is trained with; others as for `UNet`."""
        told = dict.fromkeys(('label', 'vector', 'tokens', 'image', 'dropout_key')) | conditions
        return self._over_examples({'x': x, 't': t, 'hint': hint, **told})

    def _example(self, arguments):
        h = self._enter(arguments)
        seen = self._look(arguments['hint'])
        if seen.shape != h.shape:
            raise ValueError(
                f'ControlNet: of a hint {arguments["hint"].shape} becomes {seen.shape}, to be added to {h.shape}; change hint_widths'
            )
        kept, h = self._encode(h + seen, self._stages(arguments))
        return tuple(layers.Dense(each.shape[-1], self.dtype, zero=True, name=f'zero_{n}')(each) for n, each in enumerate([*kept, h]))

    def _look(self, hint):
        conv = lambda width, stride, name: layers.Conv(width, None, (stride,) * self.dims, dtype=self.dtype, name=name)
        h = nn.silu(conv(self.hint_widths[0], 1, 'hint_in')(hint))
        for n, (width, wider) in enumerate(zip(self.hint_widths, self.hint_widths[1:], strict=False)):
            h = nn.silu(conv(width, 1, f'hint_{n}')(h))
            h = nn.silu(conv(wider, 2, f'hint_halve_{n}')(h))
        return layers.Conv(self.widths[0], zero=True, dtype=self.dtype, name='hint_out')(h)


class Controlled(nn.Module):
    """(2): a network called like its trunk, with a `hint` beside the other conditions; without one it is the trunk.

    Parameters are {'trunk': ..., 'control': ...}, the first frozen where the second are trained.

    Attributes:
        trunk: fields of the `UNet`.
        hint: channels of the hint.
        hint_widths: of `ControlNet`.
    """

    trunk: Mapping[str, Any]
    hint: int = 1
    hint_widths: Sequence[int] = (16,)

    @nn.nowrap
    def factor(self) -> tuple[int, ...]:
        """What the size of each axis must be divisible by."""
        return UNet(**self.trunk).factor()

    @nn.nowrap
    def null(self, **conditions: Array) -> dict[str, Array]:
        """The same conditions, all missing; the hint stays."""
        kept = {name: conditions.pop(name) for name in ('hint', 'strength') if name in conditions}
        return kept | UNet(**self.trunk).null(**conditions)

    @nn.compact
    def __call__(
        self, x: Array, t: Array, *, hint: Array | None = None, strength: Array | float = 1.0, **conditions: Array | None
    ) -> Array:
        """hint (batch, *spatial, `hint`); strength a number, or (batch,), by which all that is added is multiplied; others as for `UNet`."""
        trunk = UNet(**self.trunk, name='trunk')
        if hint is None:
            if not self.is_initializing():
                return trunk(x, t, **conditions)
            patches, times = trunk.patches(), 2 ** (len(self.hint_widths) - 1)
            hint = jnp.zeros((len(x), *(size // patch * times for size, patch in zip(x.shape[1:-1], patches, strict=True)), self.hint))
        added = ControlNet(**self.trunk, hint_widths=self.hint_widths, name='control')(x, t, hint, **conditions)
        strength = jnp.reshape(strength, (-1, *(1,) * (x.ndim - 1)))
        return trunk(x, t, control=[strength * each for each in added], **conditions)


def begin(params: Params, trunk: Params) -> Params:
    """Parameters of a `Controlled` with the trunk's in place, and its encoder's copied into the control.

    Args:
        params: {'params': {'trunk': ..., 'control': ...}}, fresh.
        trunk: {'params': ...} of the U-Net.
    """
    own = trunk['params']
    control = {name: own.get(name, leaf) for name, leaf in params['params']['control'].items()}
    if jax.tree.map(jnp.shape, control) != jax.tree.map(jnp.shape, params['params']['control']):
        raise ValueError('ControlNet: the trunk is of another architecture than the copy')
    return {'params': {'trunk': own, 'control': control}}
