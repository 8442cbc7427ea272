"""Convolutions on a CPU: fewer multiplications, and every one of them in XLA's fast form.

XLA runs a channels-last 2-D convolution near the peak of a core, and everything else slowly: 3-D ones, and in loops the transposes that
automatic differentiation would emit. So all is written with that form. Three taps along the first axis give four outputs from six inputs
with six products instead of twelve (Toom and Cook; Winograd, "Arithmetic complexity of computations", 1980; for networks Lavin and Gray,
CVPR 2016), where each product is a convolution over the axes that are left:

    y_p = sum_i A_pi M_i,    M_i = conv(V_i, U_i),    V_i = sum_a B_ia x_a,    U_i = sum_j G_ij k_j      (1)

for a tile of x_0..x_5. Its transpose in k, with the same V:

    dk_j = sum_i G_ij dU_i,    dU_i = sum_tiles to_kernel(V_i, sum_p A_pi dy_p)                          (2)

In float32 the result differs from the plain sum by a few units in 1e-6 of its largest values; other types take the plain sum.
"""

from collections.abc import Callable, Sequence

import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxdiff.types import Array

Pads = Sequence[tuple[int, int]]
TILE = 4
# evaluation at 0, 1, -1, 2, -2 and infinity
A = np.array([[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]])
B = np.array(
    [[4, 0, -5, 0, 1, 0], [0, 4, 4, -1, -1, 0], [0, -4, 4, 1, -1, 0], [0, -2, -1, 2, 1, 0], [0, 2, -1, -2, 1, 0], [0, 4, 0, -5, 0, 1]]
)
G = np.array([[6, 0, 0], [4, 4, 4], [4, -4, 4], [1, 2, 4], [1, -2, 4], [0, 0, 24]]) / 24


def plain(x: Array, kernel: Array, stride: Sequence[int], pads: Pads) -> Array:
    """XLA's convolution: x (N, *spatial, in), kernel (*size, in, out) -> (N, *spatial, out). The project's only call of `lax.conv`.

    A kernel of one pixel is a product of matrices on every platform.
    """
    if pointwise(kernel.shape, stride):
        return x @ kernel.reshape(kernel.shape[-2:])
    letters = 'DHW'[-len(stride) :]
    layout = (f'N{letters}C', f'{letters}IO', f'N{letters}C')
    return lax.conv_general_dilated(x, kernel, stride, pads, dimension_numbers=layout)


def conv(x: Array, kernel: Array, stride: Sequence[int], pads: Pads) -> Array:
    """`plain`, by (1) where that is faster."""
    if pays(x, kernel.shape, stride, pads):
        return tiled(x, kernel, lambda v, u: conv(v, u, stride[1:], pads[1:]))
    if len(stride) < 3 or pointwise(kernel.shape, stride):
        return plain(x, kernel, stride, pads)
    x, count = padded(x, pads[0]), (x.shape[1] + sum(pads[0]) - kernel.shape[0]) // stride[0] + 1
    planes = (
        plain(merged(part), tap, stride[1:], pads[1:]) for part, tap in zip(shifts(x, len(kernel), count, stride[0]), kernel, strict=True)
    )
    y = sum(planes)
    return y.reshape(-1, count, *y.shape[1:])


def to_input(g: Array, kernel: Array, stride: Sequence[int], pads: Pads, spatial: Sequence[int]) -> Array:
    """The transpose of `plain` in x (N, *spatial, in)."""
    apart = [(0, 0, step - 1) for step in stride]
    g = lax.pad(g, jnp.zeros((), g.dtype), [(0, 0, 0), *apart, (0, 0, 0)]) if max(stride) > 1 else g
    size = kernel.shape[:-2]
    back = [(k - 1 - low, n + low - m) for k, (low, _), n, m in zip(size, pads, spatial, g.shape[1:-1], strict=True)]
    flipped = stored(jnp.flip(kernel, range(len(size))).swapaxes(-1, -2))
    return conv(g, flipped, (1,) * len(size), back)


def to_kernel(x: Array, g: Array, stride: Sequence[int], pads: Pads, size: Sequence[int]) -> Array:
    """The transpose of `plain` in the kernel (*size, in, out)."""
    shape = (*size, x.shape[-1], g.shape[-1])
    if pointwise(shape, stride):
        pixels = tuple(range(g.ndim - 1))
        return jnp.tensordot(stored(x), stored(g), (pixels, pixels)).reshape(shape)
    if pays(x, shape, stride, pads):
        return tiled_to_kernel(x, g, pads[1:])
    if len(stride) < 3:
        return correlation(jnp.swapaxes(x, 0, -1), jnp.moveaxis(g, 0, -2), stride, pads, size)
    parts = shifts(padded(x, pads[0]), size[0], g.shape[1], stride[0])
    return jnp.stack([to_kernel(merged(part), merged(g), stride[1:], pads[1:], size[1:]) for part in parts])


def correlation(x: Array, g: Array, stride: Sequence[int], pads: Pads, size: Sequence[int]) -> Array:
    """`to_kernel` as a convolution whose batch are the channels of x (in, *spatial, N) and whose kernel is g (*spatial, N, out)."""
    if max(stride) > 1:
        g = lax.pad(g, jnp.zeros((), g.dtype), [*((0, 0, step - 1) for step in stride), (0, 0, 0), (0, 0, 0)])
    seen = [(low, k - 1 + m - n - low) for k, (low, _), n, m in zip(size, pads, x.shape[1:-1], g.shape[:-2], strict=True)]
    return jnp.moveaxis(plain(x, g, (1,) * len(stride), seen), 0, -2)


def pointwise(shape: Sequence[int], stride: Sequence[int]) -> bool:
    """Whether a kernel of this shape sees one pixel, and every one: a product of matrices."""
    return max(*shape[:-2], *stride) == 1


def pays(x: Array, shape: Sequence[int], stride: Sequence[int], pads: Pads) -> bool:
    """Whether (1) and (2) save more in products than they cost in sums; found by measurement."""
    *size, into, out = shape
    if x.dtype != jnp.float32 or size[0] != 3 or pads[0] != (1, 1) or max(stride) > 1 or len(size) == 1:
        return False
    least, length = (32, 4) if len(size) == 3 else (64, 16)
    return min(into, out) >= least and x.shape[1] >= length


def tiled(x: Array, kernel: Array, inner: Callable[[Array, Array], Array]) -> Array:
    """(1) along the first spatial axis of x; `inner` convolves over the others."""
    seen = tiles(stored(x))
    products = [inner(merged(combine(row, seen)), combine(taps, kernel)) for row, taps in zip(B, G, strict=True)]
    y = jnp.stack([combine(row, products) for row in A], axis=1)
    count = -(-x.shape[1] // TILE)
    y = y.reshape(-1, count, *y.shape[1:])
    return y.reshape(y.shape[0], -1, *y.shape[3:])[:, : x.shape[1]]


def tiled_to_kernel(x: Array, g: Array, pads: Pads) -> Array:
    """(2). All that is convolved is stacked and turned at once, which keeps the sums from being repeated by the turning."""
    seen, outputs = tiles(stored(x)), tiles(stored(g))[1:-1]
    values = jnp.stack([merged(combine(row, seen)) for row in B])
    slopes = jnp.stack([merged(combine(column, outputs)) for column in A.T])
    values, slopes = jnp.swapaxes(values, 1, -1), jnp.moveaxis(slopes, 1, -2)
    products = [correlation(v, h, (1,) * len(pads), pads, (3,) * len(pads)) for v, h in zip(values, slopes, strict=True)]
    return jnp.stack([combine(column, products) for column in G.T])


def tiles(x: Array) -> list[Array]:
    """The pixels before, in and after each tile of four along the first spatial axis: six arrays (N, tiles, ...), 0 outside."""
    x = padded(x, (0, -x.shape[1] % TILE))
    x = x.reshape(x.shape[0], -1, TILE, *x.shape[2:])
    return [padded(x[:, :-1, -1], (1, 0)), *(x[:, :, p] for p in range(TILE)), padded(x[:, 1:, 0], (0, 1))]


def combine(weights: np.ndarray, parts: Sequence[Array] | Array) -> Array:
    """The weighted sum of parts."""
    terms = [part if weight == 1 else float(weight) * part for weight, part in zip(weights, parts, strict=True) if weight]
    return sum(terms[1:], terms[0])


def stored(x: Array) -> Array:
    """x, divided by ones that the compiler does not see through: it repeats sums in every place that reads them, divisions it does not."""
    return x / jnp.where(jnp.isnan(x) & (x < 0), 2.0, 1.0)


def shifts(x: Array, size: int, count: int, step: int) -> list[Array]:
    """What each of `size` taps sees along the first spatial axis."""
    return [x[:, tap : tap + (count - 1) * step + 1 : step] for tap in range(size)]


def padded(x: Array, pads: tuple[int, int]) -> Array:
    """x with zeros before and after along its first spatial axis."""
    return jnp.pad(x, [(0, 0), pads, *[(0, 0)] * (x.ndim - 2)]) if max(pads) else x


def merged(x: Array) -> Array:
    """(N, n, ...) -> (N n, ...)."""
    return x.reshape(-1, *x.shape[2:])
