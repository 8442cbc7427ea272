"""Every operator against its adjoint, its pseudo-inverse and what it is worth to guidance."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff import guidance, operators

jit = partial(jax.jit, compiler_options={'xla_backend_optimization_level': 0})
SHAPE = (8, 12)
COLUMNS = (np.arange(12) % 3 == 0) | (abs(np.arange(12) - 6) < 2)
MASK = COLUMNS[None, :, None]
RNG = np.random.default_rng(0)


def noise(shape, dtype=np.complex64):
    values = RNG.standard_normal(shape)
    return (values + 1j * RNG.standard_normal(shape)).astype(dtype) if dtype == np.complex64 else values.astype(dtype)


SENSITIVITIES = noise((*SHAPE, 3))
SENSITIVITIES /= np.linalg.norm(SENSITIVITIES, axis=-1, keepdims=True)
HOLES = RNG.random((*SHAPE, 1)) < 0.5
CASES = {
    'fourier': (operators.fourier(MASK), (*SHAPE, 2), (*SHAPE, 2), np.complex64),
    'fourier of a line': (operators.fourier(MASK[0]), (12, 1), (12, 1), np.complex64),
    'fourier of a volume': (operators.fourier(MASK[None]), (5, *SHAPE, 1), (5, *SHAPE, 1), np.complex64),
    'coils': (operators.coils(SENSITIVITIES, MASK, steps=60, eps=0.0), (*SHAPE, 1), (*SHAPE, 3), np.complex64),
    'pixels': (operators.pixels(HOLES), (*SHAPE, 3), (*SHAPE, 3), np.float32),
    'pixels of a complex image': (operators.pixels(HOLES), (*SHAPE, 1), (*SHAPE, 1), np.complex64),
    'downsample': (operators.downsample(4), (*SHAPE, 2), (2, 3, 2), np.float32),
    'downsample a volume': (operators.downsample(2), (4, *SHAPE, 1), (2, 4, 6, 1), np.float32),
    'fourier on channels': (operators.on_channels(operators.fourier(MASK)), (*SHAPE, 2), (*SHAPE, 2), np.float32),
    'coils on channels': (
        operators.on_channels(operators.coils(SENSITIVITIES, MASK, steps=60, eps=0.0)), (*SHAPE, 2), (*SHAPE, 6), np.float32,
    ),
}  # fmt: skip


@pytest.mark.parametrize('name', CASES)
def test_the_adjoint_is_the_adjoint(name):
    operator, taken, given, dtype = CASES[name]
    x, y = noise(taken, dtype), noise(given, dtype)
    left, right = np.vdot(y, operator.forward(x)), np.vdot(operator.adjoint(y), x)
    assert operator.forward(x).shape == given and operator.adjoint(y).shape == taken
    assert abs(left - right) < 1e-5 * np.linalg.norm(x) * np.linalg.norm(y)


@pytest.mark.parametrize('name', CASES)
def test_the_pseudo_inverse_finds_an_image_that_measures_the_same(name):
    operator, taken, _, dtype = CASES[name]
    measured = operator.forward(noise(taken, dtype))
    found = operator.pseudo_inverse(measured)
    assert found.shape == taken
    np.testing.assert_allclose(operator.forward(found), measured, atol=2e-3 if 'coils' in name else 2e-6)  # conjugate gradients stop early


@pytest.mark.parametrize('name', [name for name in CASES if 'coils' not in name])
def test_the_exact_pseudo_inverse_is_the_least_image(name):
    """A^+ A is an orthogonal projection: Hermitian, and itself when done twice."""
    operator, taken, _, dtype = CASES[name]
    x, other = noise(taken, dtype), noise(taken, dtype)
    project = lambda x: operator.pseudo_inverse(operator.forward(x))
    np.testing.assert_allclose(project(project(x)), project(x), atol=2e-6)
    assert abs(np.vdot(other, project(x)) - np.vdot(project(other), x)) < 1e-4


@pytest.mark.parametrize('shape', [(8, 12, 1), (7, 9, 2), (5, 6, 7, 1)])
def test_the_transform_is_unitary_and_centred(shape):
    x = noise(shape)
    np.testing.assert_allclose(operators.inverse_transform(operators.transform(x)), x, atol=1e-6)
    assert np.linalg.norm(operators.transform(x)) == pytest.approx(np.linalg.norm(x), rel=1e-5)
    constant = np.abs(operators.transform(np.ones(shape, np.complex64)))
    assert {tuple(place[:-1]) for place in np.argwhere(constant > 1e-3)} == {tuple(n // 2 for n in shape[:-1])}
    impulse = np.zeros(shape, np.complex64)
    impulse[tuple(n // 2 for n in shape[:-1])] = 1  # in the middle of the image there is no phase
    np.testing.assert_allclose(operators.transform(impulse), np.prod(shape[:-1]) ** -0.5, atol=1e-6)


def test_measuring_twice_is_measuring_once():
    y = noise((*SHAPE, 1))
    once = operators.pixels(MASK).forward(y)
    np.testing.assert_array_equal(operators.pixels(MASK).forward(once), once)
    assert np.isfinite(operators.pixels(MASK).forward(np.where(MASK, y, np.nan))).all()  # what was not measured is not read


def test_a_full_measurement_is_the_image():
    x, full = noise((*SHAPE, 1)), np.ones((1, 1, 1))
    for operator in (operators.fourier(full), operators.coils(SENSITIVITIES, full, eps=0.0)):
        np.testing.assert_allclose(operator.pseudo_inverse(operator.forward(x)), x, atol=1e-5)


def test_channels_are_real_and_imaginary_in_turn():
    z = noise((*SHAPE, 2))
    channels = operators.to_channels(z)
    np.testing.assert_array_equal(channels[..., 2], z[..., 1].real)
    np.testing.assert_array_equal(channels[..., 1], z[..., 0].imag)
    np.testing.assert_array_equal(operators.to_complex(channels), z)


def test_downsampling_takes_block_means():
    x = noise((*SHAPE, 1), np.float32)
    np.testing.assert_allclose(operators.downsample(4).forward(x)[1, 2], x[4:8, 8:12].mean((0, 1)), atol=1e-6)
    with pytest.raises(ValueError, match='do not fill'):
        operators.downsample(5).forward(x)


def test_conjugate_gradients_solve_a_small_system_exactly():
    matrix = noise((5, 5))
    matrix = matrix.conj().T @ matrix + np.eye(5, dtype=np.complex64)
    b = noise((5,))
    found = operators.conjugate_gradients(lambda x: matrix @ x, jnp.asarray(b), 12)  # more steps than unknowns: what is done stays done
    np.testing.assert_allclose(found, np.linalg.solve(matrix, b), rtol=1e-3, atol=1e-4)
    np.testing.assert_array_equal(operators.conjugate_gradients(lambda x: matrix @ x, jnp.zeros(5, jnp.complex64), 3), 0)


@pytest.mark.parametrize('name', ['fourier on channels', 'coils on channels', 'pixels', 'downsample'])
def test_gradients_are_the_adjoint_of_the_residual(name):
    """The gradient of |y - A x|^2 / 2, as posterior sampling takes it."""
    operator, taken, given, dtype = CASES[name]
    x, y = noise(taken, dtype), noise(given, dtype)
    gradient = jit(jax.grad(lambda x: jnp.sum(jnp.square(y - operator.forward(x))) / 2))(x)
    np.testing.assert_allclose(gradient, operator.adjoint(operator.forward(x) - y), atol=1e-4)
    through = jit(jax.grad(lambda y: jnp.sum(operator.pseudo_inverse(y))))(y)  # the pseudo-inverse of coils is a loop
    assert np.isfinite(through).all()


def test_a_projected_denoiser_measures_what_was_measured():
    operator = operators.on_channels(operators.fourier(MASK))
    truth = noise((*SHAPE, 2), np.float32)
    y = operator.forward(truth)
    denoise = guidance.project_x0(lambda x, t: 0.5 * x, operator.forward, operator.pseudo_inverse, y)
    x0 = denoise(noise((*SHAPE, 2), np.float32), 0.5)
    np.testing.assert_allclose(operator.forward(x0), y, atol=1e-5)
    guided = guidance.residual(lambda x, t: 0.5 * x, operator.forward, y, 1.0)
    assert guided(jnp.asarray(truth), jnp.float32(0.5)).shape == truth.shape
