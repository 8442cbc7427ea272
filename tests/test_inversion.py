"""From an image to its noise and back, on exact denoisers."""

import itertools
import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest

from jaxdiff import grids, inversion, paths
from jaxdiff.solvers.ancestral import ddpm
from jaxdiff.solvers.loop import sample

MIXTURE = oracles.TEST_BED
VP = paths.vp()
STEPS = (25, 50, 100, 200)
GRIDS = {
    'log snr': lambda n: grids.log_snr(VP, n, last=1e-3, zero=False),
    'time': lambda n: grids.uniform(VP, n, last=1e-3),
}


def round_trips(grid, iterations):
    """(RMSE of encoding and decoding, standard deviation of the latents) at STEPS, of even quantiles of the law at t = 1e-3; float64."""
    times = jnp.array([np.pad(grid(n), (0, 200 - n), mode='edge') for n in STEPS])  # a step from a time to itself does nothing
    return map(np.asarray, _trips(jax.scipy.stats.norm.ppf((jnp.arange(500) + 0.5) / 500), times, iterations))


@partial(jax.jit, static_argnums=2)
def _trips(noise, times, iterations):
    denoise = oracles.denoiser(VP, MIXTURE)
    x = oracles.flow(VP, denoise, noise, 1.0, 1e-3, 200)

    def trip(times):
        latent = inversion.encode(x, denoise, VP, times, iterations=iterations)
        return jnp.sqrt(jnp.mean((inversion.decode(latent, denoise, VP, times) - x) ** 2)), jnp.std(latent)

    return jax.lax.map(trip, times)


@pytest.mark.parametrize(
    ('grid', 'iterations', 'errors'),
    [
        ('log snr', 0, (8.3e-2, 4.1e-2, 2.1e-2, 1.0e-2)),
        ('log snr', 1, (5.7e-2, 3.0e-2, 1.5e-2, 7.7e-3)),
        ('time', 0, (8.3e-2, 4.4e-2, 2.3e-2, 1.2e-2)),
        ('time', 1, (4.7e-2, 2.5e-2, 1.3e-2, 6.5e-3)),
    ],
)
def test_explicit_encoding_has_the_measured_errors_of_first_order(grid, iterations, errors):
    with jax.enable_x64(True):
        rmse, spread = round_trips(GRIDS[grid], iterations)
    np.testing.assert_allclose(rmse, errors, rtol=0.1)
    if not iterations:
        np.testing.assert_allclose(rmse[:-1] / rmse[1:], 2, rtol=0.1)
        np.testing.assert_allclose(
            spread, {'log snr': (0.904, 0.955, 0.981, 0.995), 'time': (0.849, 0.922, 0.963, 0.985)}[grid], atol=0.015
        )
        assert np.all(np.diff(spread) > 0) and np.all(spread < 1)


@pytest.mark.parametrize(
    ('iterations', 'errors'),
    [(5, (2.1e-4, 8.7e-6, 3.1e-7, 1.1e-8)), (12, (8e-9, 3e-12, 1e-14, 1e-15))],  # measured with 4 and 12 from the explicit step
)
def test_iterated_encoding_inverts_the_decoder(iterations, errors):
    with jax.enable_x64(True):
        rmse, spread = round_trips(GRIDS['log snr'], iterations)
    assert np.all(rmse < 15 * np.array(errors))
    np.testing.assert_allclose((spread[:-1] - 1) / (spread[1:] - 1), 2, rtol=0.3)


def test_encoding_from_data_and_partway():
    """Down to t = 0 an iterated encoder still inverts; encoding to a depth and decoding from it is the identity likewise."""
    denoise, x = oracles.denoiser(VP, MIXTURE), oracles.draw(jax.random.key(0), MIXTURE, (6, 5, 1))
    times = grids.partial(grids.log_snr(VP, 60, last=1e-3), 0.4)

    @jax.jit
    def trip(x):
        latent = inversion.encode(x, denoise, VP, times, iterations=12)
        return latent, inversion.decode(latent, denoise, VP, times)

    latent, back = trip(x)
    np.testing.assert_allclose(back, x, atol=1e-4)
    assert jnp.all(jnp.abs(latent - x) > 1e-3)


@pytest.mark.parametrize('iterations', [0, 3])
@pytest.mark.parametrize('path', [paths.discrete(np.append(paths.linear_betas(999), 1.0)), paths.cosine(), paths.flow()], ids=range(3))
def test_encoders_are_finite_at_both_ends_of_time(path, iterations):
    encoder, denoise = inversion.ddim_encoder(path, iterations=iterations), oracles.denoiser(path, MIXTURE)
    x = oracles.draw(jax.random.key(0), MIXTURE, (6, 5, 1))
    walk = jax.jit(lambda times: sample(jax.random.key(0), x, denoise, encoder, times))
    for times in ([0, 0.1, 1.0], [0, 0, 1.0], [0.9, 1.0, 1.0]):
        out = walk(path.end * jnp.array(times))
        assert out.x.shape == out.x0.shape == x.shape and out.x.dtype == jnp.float32
        assert jnp.all(jnp.isfinite(out.x)) and jnp.all(jnp.isfinite(out.x0))


def test_noising_and_back_returns_as_much_as_a_gaussian_should():
    """For data N(0, c^2) the ancestral walk is exact: the output has correlation alpha_L^2 c^2 / v with the input."""
    c, n = 0.5, 20_000
    denoise = oracles.denoiser(VP, oracles.Mixture((1.0,), (0.0,), (c,)))
    solver = ddpm(VP, variance=lambda x, t, s: exact_variance(c, t, s) * jnp.ones_like(x))
    x = c * jax.random.normal(jax.random.key(0), (n,))
    back = jax.jit(lambda key, x, times: inversion.image_to_image(key, x, denoise, VP, solver, times))
    distances = []
    for depth in (0.1, 0.3, 0.6, 1.0):
        out = back(jax.random.key(1), x, jnp.append(jnp.linspace(depth, 0.01, 8), 0.0))
        kept = (VP.alpha(depth) * c) ** 2 / ((VP.alpha(depth) * c) ** 2 + VP.sigma(depth) ** 2)
        distances.append(jnp.mean((out - x) ** 2))
        np.testing.assert_allclose(distances[-1], 2 * c**2 * (1 - kept), rtol=0.04)
        np.testing.assert_allclose(jnp.corrcoef(out, x)[0, 1], kept, atol=0.02)
    assert distances == sorted(distances)
    whole = inversion.image_to_image(jax.random.key(1), x, denoise, VP, solver, grids.partial(jnp.linspace(1, 0, 9), 0))
    np.testing.assert_array_equal(whole, x)


def exact_variance(c, t, s):
    """Var[x_s | x_t] where x0 is N(0, c^2)."""
    total = lambda t: (VP.alpha(t) * c) ** 2 + VP.sigma(t) ** 2
    scale, std = paths.transition(VP, s, t)
    return total(s) * std**2 / (scale**2 * total(s) + std**2)


def test_interpolation_keeps_the_ends_and_slerp_the_norm():
    a, b = jax.random.normal(jax.random.key(0), (2, 8, 8, 4, 1))
    b = b * jnp.linalg.norm(a) / jnp.linalg.norm(b)
    weights = jnp.linspace(0, 1, 11)
    round_, straight = (jax.vmap(between, (None, None, 0))(a, b, weights) for between in (inversion.slerp, inversion.lerp))
    for path in (round_, straight):
        np.testing.assert_allclose(path[jnp.array([0, -1])], jnp.stack([a, b]), atol=1e-5)
    np.testing.assert_allclose(jax.vmap(jnp.linalg.norm)(round_), jnp.linalg.norm(a), rtol=1e-5)
    steps = jax.vmap(jnp.linalg.norm)(jnp.diff(round_, axis=0))
    np.testing.assert_allclose(steps, steps[0], rtol=1e-4)
    np.testing.assert_allclose(jnp.linalg.norm(straight[5]), jnp.linalg.norm(a) / math.sqrt(2), rtol=0.1)


@pytest.mark.parametrize('factor', [1.0, 2.0, -1.0, 0.0, 1.00001])
def test_slerp_of_parallel_arrays_is_straight(factor):
    a = jax.random.normal(jax.random.key(0), (50,))
    np.testing.assert_allclose(inversion.slerp(a, factor * a, 0.3), (0.7 + 0.3 * factor) * a, rtol=1e-5)


def test_guided_decoding_moves_towards_the_class():
    """Towards the rightmost component, by the exact gradient of its log probability: x0_hat += scale sigma^2 / alpha grad."""
    denoise, times = oracles.denoiser(VP, MIXTURE), grids.log_snr(VP, 40, start=0.5, last=1e-3)
    right = oracles.Mixture(*((each[2],) for each in MIXTURE))

    def log_class(x, t):
        return oracles.log_density(VP, right, x, t) - oracles.log_density(VP, MIXTURE, x, t)

    def guided(scale):
        gradient = jax.grad(lambda x, t: jnp.sum(log_class(x, t)))
        return lambda x, t: denoise(x, t) + scale * VP.sigma(t) ** 2 / VP.alpha(t) * gradient(x, t)

    x = oracles.draw(jax.random.key(0), MIXTURE, (300,))
    latent = jax.jit(lambda x: inversion.encode(x, denoise, VP, times, iterations=8))(x)
    decode = jax.jit(lambda scale: inversion.decode(latent, guided(scale), VP, times))
    outs = [decode(scale) for scale in (0.0, 0.3, 1.0, 3.0)]
    np.testing.assert_allclose(outs[0], x, atol=2e-3)
    certainty = [jnp.mean(jnp.exp(log_class(out, 1e-3))) for out in outs]
    assert all(after > before for before, after in itertools.pairwise(certainty)), certainty
    already = jnp.exp(log_class(x, 1e-3)) > 0.99
    assert jnp.mean(jnp.abs(outs[2] - x)[already]) < jnp.mean(jnp.abs(outs[2] - x)[~already]) / 2


def test_translation_between_gaussians_is_the_monotone_transport():
    source, target = (oracles.Mixture((1.0,), (mean,), (std,)) for mean, std in ((-0.4, 0.2), (0.5, 0.4)))
    denoisers = oracles.denoiser(VP, source), oracles.denoiser(VP, target)
    x = oracles.draw(jax.random.key(0), source, (200,))

    @jax.jit
    def there_and_back(x, times):
        there = inversion.translate(x, *denoisers, VP, times, iterations=0)
        return there, inversion.translate(there, *denoisers[::-1], VP, times, iterations=0)

    errors, cycles = [], []
    for n in (50, 100, 200):
        there, back = there_and_back(x, grids.log_snr(VP, n, last=1e-3, zero=False))
        errors.append(jnp.sqrt(jnp.mean((there - (0.5 + 0.4 / 0.2 * (x + 0.4))) ** 2)))
        cycles.append(jnp.sqrt(jnp.mean((back - x) ** 2)))
    for each in (errors, cycles):
        np.testing.assert_allclose(np.divide(each[:-1], each[1:]), 2, rtol=0.2)
    assert errors[-1] < 0.02 and cycles[-1] < 0.02
