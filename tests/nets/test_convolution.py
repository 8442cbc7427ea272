import itertools
from fractions import Fraction

import jax
import jax.numpy as jnp
import jax.test_util
import numpy as np
import pytest

from jaxdiff.nets import convolution, filtering
from jaxdiff.nets.convolution import conv

SHAPES = {  # spatial, size, stride, in, out
    '1-D': ((7,), (3,), (1,), 2, 3),
    '2-D': ((6, 5), (3, 3), (1, 1), 2, 3),
    '2-D, stride 2': ((6, 8), (3, 3), (2, 2), 2, 3),
    '2-D, one axis strided': ((6, 8), (3, 3), (1, 2), 2, 3),
    '2-D, patches': ((6, 8), (2, 4), (2, 4), 2, 3),
    '2-D, pointwise': ((3, 4), (1, 1), (1, 1), 2, 3),
    '2-D, in tiles': ((18, 3), (3, 3), (1, 1), 64, 64),
    '3-D': ((4, 3, 5), (3, 3, 3), (1, 1, 1), 2, 3),
    '3-D, stride 2': ((4, 6, 4), (3, 3, 3), (2, 2, 2), 2, 3),
    '3-D, patches': ((4, 4, 3), (2, 2, 1), (2, 2, 1), 2, 3),
    '3-D, flat': ((4, 3, 5), (1, 3, 3), (1, 1, 1), 2, 3),
    '3-D, in tiles': ((6, 2, 3), (3, 3, 3), (1, 1, 1), 32, 33),
    '3-D, in tiles of tiles': ((4, 16, 2), (3, 3, 3), (1, 1, 1), 64, 64),
}


def by_definition(x, kernel, stride):
    """The sum over taps, in float64 and numpy."""
    size = kernel.shape[:-2]
    pads = [(0, 0)] * len(size) if size == stride else [((n - 1) // 2,) * 2 for n in size]
    x = np.pad(np.float64(x), [*pads, (0, 0)])
    count = [(n - k) // s + 1 for n, k, s in zip(x.shape, size, stride, strict=False)]
    y = np.zeros((*count, kernel.shape[-1]))
    for tap in itertools.product(*map(range, size)):
        seen = x[tuple(slice(j, j + (n - 1) * s + 1, s) for j, n, s in zip(tap, count, stride, strict=True))]
        y += seen @ np.float64(kernel[tap])
    return y


def case(name):
    spatial, size, stride, into, out = SHAPES[name]
    rng = np.random.default_rng(0)
    x, kernel = rng.normal(size=(*spatial, into)), rng.normal(size=(*size, into, out)) / np.sqrt(into * np.prod(size))
    g = rng.normal(size=by_definition(x, kernel, stride).shape)
    return *(np.float32(each) for each in (x, kernel, g)), stride


@pytest.mark.parametrize('name', SHAPES)
def test_values_and_both_gradients(name):
    """y by definition; <g, y'> is the same number whichever of x and the kernel is moved."""
    x, kernel, g, stride = case(name)

    @jax.jit
    def both(x, kernel, g):
        y, back = jax.vjp(lambda x, kernel: conv(x, kernel, stride), x, kernel)
        return y, *back(g)

    y, dx, dk = both(x, kernel, g)
    np.testing.assert_allclose(y, by_definition(x, kernel, stride), atol=1e-4)
    rng = np.random.default_rng(1)
    along, turn = np.float32(rng.normal(size=x.shape)), np.float32(rng.normal(size=kernel.shape))
    scale = np.sqrt(g.size)
    assert abs(np.vdot(g, by_definition(along, kernel, stride)) - np.vdot(dx, along)) / scale < 1e-4
    assert abs(np.vdot(g, by_definition(x, turn, stride)) - np.vdot(dk, turn)) / np.linalg.norm(turn) / scale < 1e-4


@pytest.mark.parametrize('name', ['2-D', '2-D, one axis strided', '3-D, stride 2'])
def test_derivatives_of_any_order_and_mode(name):
    x, kernel, _, stride = case(name)
    energy = lambda x, kernel: jnp.sum(jnp.sin(conv(x, kernel, stride)))
    jax.test_util.check_grads(energy, (x, kernel), order=2, modes=('fwd', 'rev'), atol=3e-2, rtol=3e-2)


@pytest.mark.parametrize('platform', ['cpu', 'tpu'])
def test_what_runs_is_decided_where_it_is_lowered(platform):
    """The gradient in a 3-D kernel: 2-D convolutions on a CPU, one 3-D convolution elsewhere."""
    x, kernel, _, stride = case('3-D')
    step = jax.jit(jax.grad(lambda kernel: jnp.sum(conv(x, kernel, stride) ** 2)))
    text = step.trace(kernel).lower(lowering_platforms=(platform,)).as_text()
    deep = any('dim_numbers' in line and '2' in line.split('dim_numbers')[1][:30] for line in text.splitlines())
    assert deep == (platform == 'tpu')


def test_vmap_over_images_kernels_and_both():
    x, kernel, g, stride = case('2-D')
    xs, kernels = np.stack([x, 2 * x, 3 * x]), np.stack([kernel, -kernel, 5 * kernel])
    y = conv(x, kernel, stride)
    scales = {(0, None): (1, 2, 3), (None, 0): (1, -1, 5), (0, 0): (1, -2, 15)}
    for axes, factors in scales.items():
        given = [every if axis == 0 else one for every, one, axis in zip((xs, kernels), (x, kernel), axes, strict=True)]
        found = jax.vmap(lambda x, kernel: conv(x, kernel, stride), axes)(*given)
        np.testing.assert_allclose(found, np.stack([n * y for n in factors]), rtol=1e-4, atol=1e-4)
    of_one = lambda x: jax.grad(lambda kernel: jnp.vdot(g, conv(x, kernel, stride)))(kernel)
    np.testing.assert_allclose(jax.vmap(of_one)(xs), np.stack([n * of_one(x) for n in (1, 2, 3)]), rtol=1e-4, atol=1e-4)


def test_tiles_are_exact_in_fractions():
    """Equation (1) of `filtering` for every tap and input, without rounding."""
    exact = [[Fraction(round(24 * each), 24) for each in row] for row in filtering.G]
    for p, tap, a in itertools.product(range(4), range(3), range(6)):
        weight = sum(int(filtering.A[p, i]) * exact[i][tap] * int(filtering.B[i, a]) for i in range(6))
        assert weight == (a == p + tap)


def test_halves_take_the_plain_sum():
    x, kernel, _, stride = case('2-D, in tiles')
    x, kernel = x.astype(jnp.bfloat16), kernel.astype(jnp.bfloat16)
    assert not filtering.pays(jnp.asarray(x)[None], kernel.shape, stride, ((1, 1), (1, 1)))
    assert conv(x, kernel, stride).dtype == jnp.bfloat16
    np.testing.assert_allclose(np.float32(conv(x, kernel, stride)), by_definition(x, kernel, stride), atol=0.05)


def test_the_number_of_examples_may_be_unknown():
    from jax import export

    x, kernel, _, stride = case('3-D')
    (count,) = export.symbolic_shape('n')
    told = jax.ShapeDtypeStruct((count, *x.shape), x.dtype)
    program = export.export(jax.jit(jax.vmap(lambda x: conv(x, kernel, stride))), platforms=['cpu', 'cuda', 'tpu'])(told)
    np.testing.assert_allclose(program.call(np.stack([x, x]))[1], conv(x, kernel, stride), atol=1e-5)
    assert convolution.conv_p.name == 'conv'
