"""Convolution, channels last, with derivatives that stay channels last and a way of its own on every platform.

    y = conv(x, k),   y[p] = sum_j k[j] x[stride p + j - low],  x zero outside                           (1)

is linear in x and in k. Its transposes, `to_input(g, k)` and `to_kernel(x, g)`, give a loss's gradients from g = dL/dy; each of the three
is bilinear, and their transposes are one another, so that they are closed under derivatives of any order and mode, and under `vmap`. What
runs is decided where a program is lowered: on a CPU `nets.filtering`, elsewhere XLA's convolution and its transposes.
"""

from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any

import jax
from jax.core import ShapedArray
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from jaxdiff.nets import filtering
from jaxdiff.nets.filtering import Pads, plain
from jaxdiff.nets.folding import fold
from jaxdiff.types import Array


def conv(x: Array, kernel: Array, stride: Sequence[int] | None = None) -> Array:
    """(1) for one example: x (*spatial, in), kernel (*size, in, out) -> (*spatial / stride, out).

    Both ends of an axis are padded by (size - 1) // 2: a stride of 1 keeps odd sizes, and a stride of 2 samples where other libraries do.
    """
    size = kernel.shape[:-2]
    stride = tuple(stride or (1,) * len(size))
    if stride == size:  # patches that do not overlap
        x, kernel = fold(x, size), kernel.reshape(*(1,) * len(size), -1, kernel.shape[-1])
        size = stride = (1,) * len(size)
    return conv_p.bind(x[None], kernel, stride=stride, pads=tuple(((n - 1) // 2,) * 2 for n in size))[0]


# ---- elsewhere: XLA's own


def plain_to_input(g: Array, kernel: Array, *, stride: Sequence[int], pads: Pads, spatial: Sequence[int]) -> Array:
    x = jax.ShapeDtypeStruct((g.shape[0], *spatial, kernel.shape[-2]), g.dtype)
    return jax.linear_transpose(lambda x: plain(x, kernel, stride, pads), x)(g)[0]


def plain_to_kernel(x: Array, g: Array, *, stride: Sequence[int], pads: Pads, size: Sequence[int]) -> Array:
    kernel = jax.ShapeDtypeStruct((*size, x.shape[-1], g.shape[-1]), x.dtype)
    return jax.linear_transpose(lambda kernel: plain(x, kernel, stride, pads), kernel)(g)[0]


# ---- three primitives


def primitive(name: str, everywhere: Callable, on_cpu: Callable, shape: Callable[..., tuple[int, ...]], batched: bool) -> Primitive:
    """A bilinear function of two arrays: `everywhere`, or `on_cpu` where it is lowered for a CPU. With `batched`, the result has the batch
    axis of the first operand, which takes up a `vmap` over that operand alone."""
    this = Primitive(name)
    this.def_abstract_eval(lambda a, b, **how: ShapedArray(shape(a.shape, b.shape, **how), a.dtype))
    this.def_impl(lambda a, b, **how: _eager(this, tuple(how.items()))(a, b))
    mlir.register_lowering(this, mlir.lower_fun(everywhere, multiple_results=False))
    mlir.register_lowering(this, mlir.lower_fun(on_cpu, multiple_results=False), platform='cpu')

    def batch(operands: Sequence[Array], axes: Sequence[Any], **how: Any) -> tuple[Array, int]:
        a, b = (x if axis is None else jax.numpy.moveaxis(x, axis, 0) for x, axis in zip(operands, axes, strict=True))
        mapped = tuple(axis is not None for axis in axes)
        if not batched or mapped != (True, False):
            return jax.vmap(partial(everywhere, **how), in_axes=tuple(0 if each else None for each in mapped))(a, b), 0
        y = this.bind(a.reshape(-1, *a.shape[2:]), b, **how)
        return y.reshape(*a.shape[:2], *y.shape[1:]), 0

    batching.primitive_batchers[this] = batch
    return this


@cache
def _eager(this: Primitive, how: tuple[tuple[str, Any], ...]) -> Callable:
    return jax.jit(partial(this.bind, **dict(how)))


def _output(x, kernel, *, stride, pads):
    out = ((n + sum(pad) - k) // s + 1 for n, k, s, pad in zip(x[1:-1], kernel[:-2], stride, pads, strict=True))
    return x[0], *out, kernel[-1]


conv_p = primitive(
    'conv',
    lambda x, kernel, *, stride, pads: plain(x, kernel, stride, pads),
    lambda x, kernel, *, stride, pads: filtering.conv(x, kernel, stride, pads),
    _output,
    True,
)
to_input_p = primitive(
    'conv_to_input',
    plain_to_input,
    lambda g, kernel, **how: filtering.to_input(g, kernel, **how),
    lambda g, kernel, *, stride, pads, spatial: (g[0], *spatial, kernel[-2]),
    True,
)
to_kernel_p = primitive(
    'conv_to_kernel',
    plain_to_kernel,
    lambda x, g, **how: filtering.to_kernel(x, g, **how),
    lambda x, g, *, stride, pads, size: (*size, x[-1], g[-1]),
    False,
)


ad.defbilinear(
    conv_p,
    lambda g, x, kernel, **how: to_input_p.bind(g, kernel, **how, spatial=x.aval.shape[1:-1]),
    lambda g, x, kernel, **how: to_kernel_p.bind(x, g, **how, size=kernel.aval.shape[:-2]),
)
ad.defbilinear(
    to_input_p,
    lambda ct, g, kernel, *, spatial, **how: conv_p.bind(ct, kernel, **how),
    lambda ct, g, kernel, *, spatial, **how: to_kernel_p.bind(ct, g, **how, size=kernel.aval.shape[:-2]),
)
ad.defbilinear(
    to_kernel_p,
    lambda ct, x, g, *, size, **how: to_input_p.bind(g, ct, **how, spatial=x.aval.shape[1:-1]),
    lambda ct, x, g, *, size, **how: conv_p.bind(x, ct, **how),
)
