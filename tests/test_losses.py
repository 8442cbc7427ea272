"""Losses: exact networks are their minima, and the variational bound is a bound."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest

from jaxdiff import losses, paths, predict, weights

LINEAR, COSINE = paths.discrete(paths.linear_betas(1000)), paths.cosine()
KEYS = jax.random.split(jax.random.key(0), 64)


def point_network(path, kind, known, raw=0.0):
    """A network that has learned one image: its prediction is exact, with `params` added to each head."""

    def apply(params, x, label):
        t = label[0] + 1 if path.steps else label[0] / 1000
        exact = predict.convert(path, jnp.broadcast_to(known, x.shape), x, t, source='x0', target=kind)
        return jnp.concatenate([exact + params[0], jnp.full_like(x, raw) + params[1]], -1)

    return apply


@pytest.mark.parametrize('path', [LINEAR, COSINE], ids=['linear', 'cosine'])
def test_the_denoising_loss_is_zero_at_the_truth_and_square_beside_it(path):
    image = jnp.linspace(-1, 1, 12).reshape(3, 4, 1)

    @jax.jit
    def evaluate(error):
        each = {kind: losses.denoising(point_network(path, kind, image), path, kind) for kind in predict.KINDS}
        return {kind: jax.vmap(lambda key, loss=loss: loss((error, 0.0), key, {'image': image})[0])(KEYS) for kind, loss in each.items()}

    truth, beside = evaluate(0.0), evaluate(3.0)
    for kind in predict.KINDS:
        assert jnp.all(truth[kind] < 1e-4), kind
        np.testing.assert_allclose(beside[kind], 9, rtol=2e-2, err_msg=kind)


def test_times_weights_and_conditions_reach_the_loss():
    def apply(params, x, t, label):
        return jnp.full_like(x, label[0])

    loss = losses.denoising(
        apply,
        COSINE,
        'x0',
        weight=weights.simple('x0'),
        times=lambda key: jnp.float32(0.25),
        condition=lambda key, example: {'label': example['label'] + jax.random.bernoulli(key, 0.5)},
    )
    value, metrics = jax.jit(jax.vmap(loss, (None, 0, None)))((), KEYS, {'image': jnp.zeros((2, 1)), 'label': 3.0})
    np.testing.assert_allclose(jnp.unique(metrics['mse']), [9, 16])
    np.testing.assert_allclose(value, metrics['mse'] / np.tan(np.pi / 8) ** 2, rtol=1e-3)  # times the SNR


@pytest.mark.parametrize('make', [losses.denoising, losses.hybrid])
def test_an_example_may_bring_its_time_and_its_weight(make):
    loss = jax.jit(make(lambda params, x, label: jnp.concatenate([0 * x + label[0] / 1000, 0 * x], -1), LINEAR, 'x0'))
    example = {'image': jnp.zeros((6, 1)), 'time': jnp.float32(300), 'weight': jnp.float32(0.25)}
    for key in KEYS[:2]:
        value, metrics = loss((), key, example)
        np.testing.assert_allclose(metrics['mse'], 0.299**2, rtol=1e-5)  # not weighted
        np.testing.assert_allclose(value, (metrics['mse'] + metrics.get('vb', 0.0)) / 4, rtol=1e-5)


@pytest.mark.parametrize(('path', 'bins'), [(LINEAR, 256), (COSINE, None)], ids=['linear, quantised', 'cosine, continuous'])
def test_only_the_variance_learns_from_the_bound(path, bins):
    image = jnp.linspace(-1, 1, 6).reshape(6, 1)
    loss = losses.hybrid(point_network(path, 'eps', image), path, 'eps', bins=bins, scale=1e-3, weight=lambda log_snr: 2.0)

    def bound(params, key):
        value, metrics = loss(params, key, {'image': image})
        return metrics['vb'], (value, metrics['mse'])

    (vb, (value, mse)), (of_mean, of_variance) = jax.jit(jax.vmap(jax.value_and_grad(bound, has_aux=True), (None, 0)))((0.1, 0.3), KEYS)
    assert jnp.all(of_mean == 0) and jnp.all(of_variance != 0) and jnp.all(jnp.isfinite(vb))
    np.testing.assert_allclose(value, 2 * mse + vb, rtol=1e-5)  # 1e-3 of 1000 steps
    np.testing.assert_allclose(mse, 0.01, rtol=1e-2)


def test_the_terms_of_the_hybrid_loss_are_those_of_the_table():
    """Exact means and the larger variance: a closed form for the step between noisy images, the likelihood for the step to data."""
    betas = np.array([0.05, 0.2])
    first, second = np.cumprod(1 - betas)
    path, image = paths.discrete(betas), jnp.array([[0.2], [-0.4]])
    loss = losses.hybrid(point_network(path, 'v', image, raw=1.0), path, 'v', bins=None)
    _, metrics = jax.jit(jax.vmap(loss, (None, 0, None)))((0.0, 0.0), KEYS, {'image': image})
    small = betas[1] * (1 - first) / (1 - second)
    between = (np.log(betas[1] / small) + small / betas[1] - 1) / 2
    to_data = np.log(2 * np.pi * betas[0]) / 2
    np.testing.assert_allclose(np.unique(np.round(metrics['vb'], 3)), np.sort([between, to_data]) / math.log(2), atol=1e-3)


def test_without_a_scale_the_bound_alone_teaches_mean_and_variance():
    path, image = paths.discrete(np.array([0.1, 0.2, 0.3])), jnp.array([[0.2], [-0.4]])
    network = lambda params, x, t: jnp.concatenate([params[0] * x, params[1] * jnp.ones_like(x)], -1)
    of = lambda scale: lambda params: losses.hybrid(network, path, 'eps', scale=scale, bins=None)(params, KEYS[0], {'image': image})
    (value, metrics), both = jax.value_and_grad(of(None), has_aux=True)((0.3, 0.1))
    np.testing.assert_allclose(value, 3 * metrics['vb'], rtol=1e-6)
    detached = jax.grad(lambda params: of(1.0)(params)[0] - of(0.0)(params)[0])((0.3, 0.1))
    assert both[0] != 0 and abs(detached[0]) < 1e-6
    np.testing.assert_allclose(both[1], detached[1], rtol=1e-5)


def test_a_perfect_step_costs_nothing_and_the_step_to_data_its_likelihood():
    x0, x = jnp.array([0.2, -0.4]), jnp.array([0.1, 0.9])

    def term(t, s, x0_hat, raw):
        t, s = jnp.float32(t), jnp.float32(s)
        return losses.bound_term(LINEAR, x0, x, t, s, x0_hat, predict.log_variance(LINEAR, jnp.full(2, raw), t, s) / 2)

    np.testing.assert_allclose(term(500, 400, x0, -1.0), 0, atol=1e-5)
    assert term(500, 400, x0, 1.0) > 1e-3
    assert term(500, 500, x0 + 1, 1.0) == 0
    decoder = term(1, 0, x0 + 0.01, 1.0)
    likelihood = losses.log_mass(x0, x0 + 0.01, jnp.log(1e-2))
    np.testing.assert_allclose(decoder, -likelihood.mean() / math.log(2), rtol=1e-3)


def test_the_exact_model_bounds_the_entropy_tightly():
    """For the mixture, the sum of all terms and of the prior's lies above the entropy, by little at 1000 steps: by quadrature over x0 and eps."""
    path, mixture = LINEAR, oracles.TEST_BED
    denoise = oracles.denoiser(path, mixture)
    nodes, shares = np.polynomial.hermite_e.hermegauss(24)
    shares = shares / shares.sum()
    x0 = (np.array(mixture.means)[:, None] + np.array(mixture.stds)[:, None] * nodes).ravel()
    weight = jnp.asarray(np.outer(np.outer(mixture.weights, shares), shares).ravel())
    x0, eps = (jnp.asarray(each.ravel()) for each in np.meshgrid(x0, nodes, indexing='ij'))

    @jax.jit
    def bound():
        def term(t):
            x = paths.perturb(path, x0, eps, t)
            log_std = predict.log_variance(path, jnp.float32(1), t, t - 1) / 2
            one = lambda *each: losses.bound_term(path, each[0], each[1], t, t - 1, each[2], log_std, bins=None)
            return weight @ jax.vmap(one)(x0, x, denoise(x, t))

        prior = weight @ losses.gaussian_kl(path.alpha(1000) * x0, jnp.log(path.sigma(1000)), 0.0, 0.0) / math.log(2)
        exact = -(weight @ oracles.log_density(path, mixture, x0, 0.0)) / math.log(2)
        return prior + jax.lax.map(term, jnp.arange(1.0, 1001)).sum() - exact

    assert 0 < bound() < 0.05


def test_the_bins_share_all_the_mass():
    levels = jnp.linspace(-1, 1, 256)
    for mean, std in ((0.3, 0.01), (-1.2, 0.1), (0.0, 2.0)):
        np.testing.assert_allclose(jnp.exp(losses.log_mass(levels, mean, jnp.log(std))).sum(), 1, atol=1e-5)
    density = losses.log_density(levels, 0.3, jnp.log(0.1)) + math.log(2 / 255)
    inner = slice(130, 200)
    np.testing.assert_allclose(losses.log_mass(levels, 0.3, jnp.log(0.1))[inner], density[inner], atol=2e-3)
    z = jnp.linspace(-6, 6, 101)
    np.testing.assert_allclose(losses.tanh_cdf(z), jax.scipy.stats.norm.cdf(z), atol=5e-4)


def test_the_divergence_of_gaussians_is_the_integral():
    x = np.linspace(-12, 12, 200001)
    log_p, log_q = (-(((x - m) / s) ** 2) / 2 - np.log(s * np.sqrt(2 * np.pi)) for m, s in ((0.3, 0.7), (-0.2, 1.1)))
    integral = np.sum(np.exp(log_p) * (log_p - log_q)) * (x[1] - x[0])
    np.testing.assert_allclose(losses.gaussian_kl(0.3, jnp.log(0.7), -0.2, jnp.log(1.1)), integral, rtol=1e-5)


def test_restoration_is_zero_at_the_truth_and_counts_only_where_it_is_asked():
    image = jnp.linspace(-1, 1, 12).reshape(3, 4, 1)
    half = jnp.arange(3)[:, None, None] > 0

    def spoil(key, x0):
        return jnp.where(half, x0 + 1, x0), jnp.float32(0.3), half.astype(x0.dtype)

    for power in (1.0, 2.0):
        loss = losses.restoration(point_network(COSINE, 'v', image), COSINE, 'v', spoil, power=power)
        value, metrics = loss((0.0, 0.0), KEYS[0], {'image': image})
        assert value < 1e-4 and metrics['error'] < 1e-4
    direct = losses.restoration(lambda params, x, t: x, COSINE, 'x0', spoil, power=2.0)  # what gives back what it gets is off by 1 there
    value, metrics = direct((), KEYS[0], {'image': image})
    np.testing.assert_allclose([value, metrics['error']], [2 / 3, 1.0], rtol=1e-5)
