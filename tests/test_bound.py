"""The bounds, for exact denoisers, of which every part has a closed form."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest

from jaxdiff import grids, losses, paths
from jaxdiff.bound import score_bound, variational_bound

LINEAR, COSINE, VP = paths.discrete(paths.linear_betas(1000)), paths.cosine(), paths.vp()
MEAN, STD = 0.2, 0.4
GAUSSIAN = oracles.Mixture((1.0,), (MEAN,), (STD,))
KEYS = jax.random.split(jax.random.key(0), 128)


def optimal(path, mixture, share=1.0):
    """(x, t, s) -> Var[x_s | x_t], by the law of total variance; with less than all of what x0 leaves open, too small."""

    def variance(x, t, s):
        of_x0, std = paths.bridge(path, 1.0, 0.0, t, s)
        return std**2 + share * of_x0**2 * oracles.posterior_variance(path, mixture, x, t)

    return variance


def bits(x, mean=MEAN, std=STD):
    """-log2 N(x; mean, std^2)."""
    return (((x - mean) / std) ** 2 + math.log(2 * math.pi * std**2)) / 2 / math.log(2)


def within(estimates, expected, errors=4):
    """Whether the means over the first axis are within this many standard errors of what is expected."""
    estimates = np.asarray(estimates, float)
    np.testing.assert_array_less(abs(estimates.mean(0) - expected), errors * estimates.std(0) / math.sqrt(len(estimates)) + 1e-5)


def test_the_price_of_the_prior():
    """Published for data of square 1 under the linear table; whatever the model."""
    times, zero = grids.trailing(1000, 2), lambda x, t: jnp.zeros_like(x)
    bound = jax.jit(lambda prior: variational_bound(KEYS[0], jnp.array([1.0, -1.0]), zero, LINEAR, times, prior=prior))
    abar = np.prod(1 - paths.linear_betas(1000))
    first, own, second = bound(1.0), bound(math.sqrt(1 - abar)), bound(2.0)
    np.testing.assert_allclose([first.prior, own.prior], 2.911e-5, rtol=5e-4)
    np.testing.assert_allclose(second.total - first.total, second.prior - first.prior, rtol=1e-4)
    np.testing.assert_allclose(second.prior, (1 / 4 - 1 - math.log((1 - abar) / 4)) / 2 / math.log(2), rtol=1e-4)


@pytest.mark.parametrize('variance', ['small', 'large', 'function'])
def test_the_parts_written_out(variance):
    """In numpy, from the table, for quantised data and the published distribution function."""
    betas = np.array([0.01, 0.05, 0.3])
    path, x0 = paths.discrete(betas), np.array([-1.0, -0.4118, 0.2, 1.0])
    denoise = lambda x, t: 0.9 * x + 0.01 * t
    choice = (lambda x, t, s: 0.02 + 0.0 * x) if variance == 'function' else variance
    options = {'variance': choice, 'cdf': losses.tanh_cdf, 'prior': 1.0}
    got = jax.jit(lambda: variational_bound(KEYS[0], jnp.asarray(x0), denoise, path, grids.trailing(3, 3), **options))()

    abar = np.concatenate([[1.0], np.cumprod(1 - betas)])
    small = [betas[t - 1] * (1 - abar[t - 1]) / (1 - abar[t]) for t in (1, 2, 3)]
    cdf = lambda z: 0.5 * (1 + np.tanh(np.sqrt(2 / np.pi) * (z + 0.044715 * z**3)))
    parts = []
    for i, t in enumerate((3, 2, 1)):
        eps = np.asarray(jax.random.normal(jax.random.fold_in(KEYS[0], i), (4,)), float)
        x = np.sqrt(abar[t]) * x0 + np.sqrt(1 - abar[t]) * eps
        x0_hat = 0.9 * x + 0.01 * t
        of_x0 = betas[t - 1] * np.sqrt(abar[t - 1]) / (1 - abar[t])
        model = {'small': small[max(t - 1, 1)], 'large': betas[t - 1] if t > 1 else small[1], 'function': 0.02}[variance]
        if t > 1:
            kl = (np.log(model / small[t - 1]) + (small[t - 1] + (of_x0 * (x0 - x0_hat)) ** 2) / model - 1) / 2
            parts.append(kl.mean() / np.log(2))
        else:
            upper = np.where(x0 > 0.999, 1, cdf((x0 - x0_hat + 1 / 255) / np.sqrt(model)))
            lower = np.where(x0 < -0.999, 0, cdf((x0 - x0_hat - 1 / 255) / np.sqrt(model)))
            parts.append(-np.log(np.maximum(upper - lower, 1e-12)).mean() / np.log(2))
    prior = (abar[3] * x0**2 - abar[3] - np.log(1 - abar[3])).mean() / 2 / np.log(2)
    np.testing.assert_allclose(got.terms, parts[:2], rtol=1e-3)
    np.testing.assert_allclose(got.decoder, parts[2], rtol=1e-3)
    np.testing.assert_allclose(got.total, prior + sum(parts), rtol=1e-3)


def test_an_optimal_model_is_exact_at_every_image_and_the_smaller_variance_pays_its_gap():
    """Twelve steps: for Gaussian data the steps of the optimal model are those of the data."""
    times, x0, denoise = grids.uniform(COSINE, 12), jnp.array([-0.8, 0.2, 0.5]), oracles.denoiser(COSINE, GAUSSIAN)

    @jax.jit
    def bounds(share, images):
        options = {'variance': optimal(COSINE, GAUSSIAN, share), 'bins': None}
        one = lambda key, x: variational_bound(key, x, denoise, COSINE, times, **options)
        return jax.vmap(jax.vmap(one, (None, 0)))(KEYS, images)

    exact = bounds(1.0, jnp.broadcast_to(x0[:, None], (128, 3, 60)))
    within(exact.total, bits(np.asarray(x0)))

    t, s = times[:-2], times[1:-1]
    of_x0, std = jax.vmap(lambda t, s: paths.bridge(COSINE, 1.0, 0.0, t, s))(t, s)
    gap = np.asarray((of_x0 / std) ** 2 * oracles.posterior_variance(COSINE, GAUSSIAN, jnp.zeros(11), t), float)
    data = MEAN + STD * jax.random.normal(jax.random.key(1), (128, 3, 60))
    best, small = (np.asarray(bounds(share, data).terms, float).mean(1) for share in (1.0, 0.0))
    within(best, np.log1p(gap) / 2 / math.log(2))
    within(small, gap / 2 / math.log(2))
    within(small - best, (gap - np.log1p(gap)) / 2 / math.log(2))


def test_the_bound_of_the_mixture_lies_above_its_entropy():
    """By little: even the best Gaussian step pays for a mixture. By more with another variance."""
    mixture, times = oracles.TEST_BED, grids.leading(1000, 20)
    denoise, data = oracles.denoiser(LINEAR, mixture), oracles.draw(jax.random.key(1), mixture, (128, 500))

    @jax.jit
    def gaps(share):
        exact = -jnp.mean(oracles.log_density(LINEAR, mixture, data, 0.0), -1) / math.log(2)
        options = {'variance': optimal(LINEAR, mixture, share), 'bins': None}
        return jax.vmap(lambda key, x: variational_bound(key, x, denoise, LINEAR, times, **options).total)(KEYS, data) - exact

    best, wide, narrow = (np.asarray(gaps(share)) for share in (1.0, 1.6, 0.6))
    error = best.std() / math.sqrt(len(best))
    assert 4 * error < best.mean() < 0.2
    assert best.mean() < min(wide.mean(), narrow.mean())


def test_bins_are_a_density_times_their_width_where_the_last_step_is_wide():
    times, x0 = grids.uniform(COSINE, 6), jnp.round(jnp.linspace(-0.8, 0.8, 40) * 127.5 + 0.5) / 127.5 - 1 / 255

    @jax.jit
    def bounds():
        variance, denoise = optimal(COSINE, GAUSSIAN), oracles.denoiser(COSINE, GAUSSIAN)
        return [variational_bound(KEYS[0], x0, denoise, COSINE, times, variance=variance, bins=bins).total for bins in (256, None)]

    quantised, continuous = bounds()
    np.testing.assert_allclose(quantised, continuous + math.log2(127.5), atol=2e-3)


@pytest.mark.parametrize('path', [VP, paths.subvp()], ids=['vp', 'subvp'])
def test_the_score_bound_of_an_exact_model_is_exact_at_every_image(path):
    x0 = jnp.array([0.2, -0.8])

    @jax.jit
    def bounds():
        of = lambda key, x: score_bound(key, x, oracles.denoiser(path, GAUSSIAN), path, samples=30)
        return jax.vmap(jax.vmap(of, (None, 0)), (0, None))(KEYS, jnp.broadcast_to(x0[:, None], (2, 100)))

    bound = bounds()
    within(bound.total, bits(np.asarray(x0)))
    np.testing.assert_allclose(bound.total, bound.prior + bound.terms.sum(-1) + bound.decoder, rtol=1e-5, atol=1e-5)


def test_the_score_bound_is_that_of_scoreflow():
    """Its own expression, with the SDE's drift and diffusion and with entropies, for a score that is wrong, by quadrature in time and noise."""
    path, x0, low = paths.subvp(), -0.5, 1e-3
    denoise = lambda x, t: oracles.denoiser(path, GAUSSIAN)(x, t) + 0.5 * t * jnp.cos(x)
    of = lambda key: score_bound(key, jnp.full(400, x0), denoise, path, samples=40, last=low)
    ours = jax.jit(jax.vmap(of))(KEYS).total

    with jax.enable_x64(True):
        sde, (nodes, shares) = paths.sde(path), np.polynomial.hermite_e.hermegauss(20)
        z, shares = jnp.asarray(nodes), jnp.asarray(shares / shares.sum())

        def expected(of, t):
            x = path.alpha(t) * x0 + path.sigma(t) * z
            return shares @ of(x, (path.alpha(t) * denoise(x, t) - x) / path.sigma(t) ** 2)

        @jax.jit
        @jax.vmap
        def integrand(t):
            truth, g2 = -z / path.sigma(t), sde.diffusion(t) ** 2
            return expected(lambda x, score: g2 * ((score - truth) ** 2 - truth**2) - 2 * sde.drift(1.0, t), t) / 2

        low, end = jnp.float64(low), jnp.float64(1.0)
        times = jnp.exp(jnp.linspace(jnp.log(low), 0.0, 4001))
        integral = jnp.trapezoid(integrand(times) * times, jnp.log(times))
        prior = expected(lambda x, score: (x**2 / path.sigma(end) ** 2 + jnp.log(2 * jnp.pi * path.sigma(end) ** 2)) / 2, end)
        alpha, sigma = path.alpha(low), path.sigma(low)
        recon = lambda x, score: (x0 - (x / alpha + sigma**2 * score / alpha)) ** 2 / (2 * (sigma / alpha) ** 2)
        offset = expected(recon, low) + jnp.log(2 * jnp.pi * (sigma / alpha) ** 2) / 2 - (jnp.log(2 * jnp.pi * sigma**2) + 1) / 2
        theirs = (prior + integral + offset) / jnp.log(2)
        within(ours, float(theirs))


def test_times_even_in_the_log_snr_are_those_of_the_likelihood():
    """Their density is g^2 / sigma^2, and its integral is published for the two paths of ScoreFlow."""

    @jax.jit
    def of(low, times):
        each = []
        for path in (VP, paths.subvp()):
            ratio = jax.vmap(lambda t, path=path: (paths.sde(path).diffusion(t) / path.sigma(t)) ** 2)(times)
            each.append((path.log_snr(low) - path.log_snr(1.0), ratio, -jax.vmap(jax.grad(path.log_snr))(times)))
        return each

    with jax.enable_x64(True):
        for (whole, ratio, slope), published in zip(of(1e-5, jnp.array([1e-3, 0.3, 0.9])), (23.864472, 37.678945), strict=True):
            np.testing.assert_allclose(whole, published, rtol=1e-7)
            np.testing.assert_allclose(ratio, slope, rtol=1e-6)


def test_a_step_from_a_time_to_itself_costs_nothing():
    bound = jax.jit(lambda times: variational_bound(KEYS[0], jnp.zeros(3), oracles.denoiser(VP, GAUSSIAN), VP, times))
    terms = bound(jnp.array([1.0, 0.5, 0.5, 0.0])).terms
    assert terms[0] > 0 == terms[1]


def test_quantised_data_and_wrong_words():
    x0, denoise = jnp.array([0.0, 0.2]), oracles.denoiser(VP, GAUSSIAN)
    bound = jax.jit(lambda last: score_bound(KEYS[0], x0, denoise, VP, samples=8, last=last, bins=256))  # `last` compiles nothing new
    assert bound(1e-5).decoder < 0.01 < 1 < bound(0.05).decoder  # noise below the width of a bin hides nothing
    with pytest.raises(ValueError, match='medium'):
        variational_bound(KEYS[0], x0, denoise, VP, grids.uniform(VP, 2), variance='medium')
