"""Guidance: identities, thresholds, and exact conditional laws."""

from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest

from jaxdiff import exact, grids, guidance, paths, predict
from jaxdiff.paths import GaussianPath
from jaxdiff.solvers.ancestral import ddim, ddpm
from jaxdiff.solvers.loop import sample

PATH = paths.vp()
MIXTURE = oracles.Mixture((0.5, 0.5), (-0.5, 0.5), (0.2, 0.2))


def conditioned(side):
    """The exact denoiser of the mixture for `side` = 0, of its right component for 1."""
    whole, right = oracles.denoiser(PATH, MIXTURE), oracles.denoiser(PATH, oracles.Mixture((1.0,), (0.5,), (0.2,)))
    return lambda x, t: jnp.where(side > 0, right(x, t), whole(x, t))


def test_guidance_is_exact_without_and_with_unit_weight():
    x, t = jnp.linspace(-2, 2, 11), jnp.float32(0.4)
    guided = lambda w: guidance.classifier_free(conditioned, jnp.float32(1), jnp.float32(0), w)(x, t)
    free, bound = conditioned(0.0)(x, t), conditioned(1.0)(x, t)
    np.testing.assert_array_equal(guided(0.0), free)
    np.testing.assert_array_equal(guided(1.0), bound)
    np.testing.assert_allclose(guided(3.0), free + 3 * (bound - free), atol=1e-6)
    np.testing.assert_array_equal(guided(lambda t: jnp.where(t > 0.3, 1.0, 0.0)), bound)


@pytest.mark.parametrize('kind', ['eps', 'v', 'score', 'velocity'])
def test_guiding_any_kind_is_guiding_the_denoiser(kind):
    x, t = jnp.linspace(-2, 2, 11), jnp.float32(0.4)
    convert = lambda value, **how: predict.convert(PATH, value, x, t, **how)
    free, bound = (convert(conditioned(side)(x, t), source='x0', target=kind) for side in (0.0, 1.0))
    guided = guidance.classifier_free(conditioned, 1.0, 0.0, 2.5)(x, t)
    np.testing.assert_allclose(convert(free + 2.5 * (bound - free), source=kind, target='x0'), guided, atol=1e-5)


def test_the_network_is_called_once():
    calls = []

    def apply(x, t, label):
        calls.append(x.shape)
        return x * label[:, None, None]

    denoiser = lambda told: predict.as_denoiser(apply, PATH, 'x0', **told)
    guided = guidance.classifier_free(denoiser, {'label': jnp.float32(2)}, {'label': jnp.float32(1)}, 2.0)
    np.testing.assert_allclose(guided(jnp.ones((3, 1)), jnp.float32(0.5)), 3)
    assert calls == [(1, 3, 1)]


def test_guided_samples_are_conditional_and_then_beyond():
    x, times = jax.random.normal(jax.random.key(0), (4000,)), grids.log_snr(PATH, 60)

    @jax.jit
    def draw(weight):
        return sample(jax.random.key(1), x, guidance.classifier_free(conditioned, 1.0, 0.0, weight), ddim(PATH), times).x

    free, bound, beyond = (draw(weight) for weight in (0.0, 1.0, 3.0))
    assert abs(free.mean()) < 4 * 0.54 / np.sqrt(4000) and abs(free.std() - MIXTURE.std) < 0.02
    assert abs(bound.mean() - 0.5) < 0.015 and abs(bound.std() - 0.2) < 0.01
    assert beyond.mean() > bound.mean() + 0.02 and beyond.min() > bound.min()


def test_outside_its_interval_only_the_other_denoiser_runs():
    inside, outside = (lambda x, t: x + 1), (lambda x, t: x - 1)
    denoise = jax.jit(guidance.interval(inside, outside, 0.2, 0.6))
    assert [float(denoise(jnp.float32(0), jnp.float32(t))) for t in (0.2, 0.21, 0.6, 0.61)] == [-1, 1, 1, -1]


def test_a_static_threshold_clips():
    denoise = guidance.static_threshold(lambda x, t: x, -1, 0.5)
    np.testing.assert_array_equal(denoise(jnp.array([-3.0, 0.2, 0.9]), 0.1), [-1, jnp.float32(0.2), 0.5])


def test_a_dynamic_threshold_scales_only_what_leaves_the_range():
    denoise = guidance.dynamic_threshold(lambda x, t: x, 0.9)
    within = jnp.linspace(-1, 1, 101)
    np.testing.assert_allclose(denoise(within, 0.1), within, atol=1e-6)
    beyond = denoise(3 * within, 0.1)
    np.testing.assert_allclose(beyond, jnp.clip(3 * within, -2.7, 2.7) / 2.7, atol=1e-5)
    np.testing.assert_allclose(guidance.dynamic_threshold(lambda x, t: x, 0.9, 2.0)(3 * within, 0.1).max(), 2, atol=1e-6)


# ---- gradients

TABLE = paths.discrete(paths.linear_betas(1000))
PAIR = exact.mixture([0.5, 0.5], [[-0.5], [0.5]], [0.04, 0.04])
FIELD = exact.mixture([1.0], [[0.2, -0.1, 0.4]], [[[1.0, 0.6, 0.3], [0.6, 0.8, 0.5], [0.3, 0.5, 0.9]]])
MEASURED, Y, NOISE = np.array([[0.7, -1.2, 0.5]]), np.array([1.6]), 0.4


def forward(x0):
    return jnp.asarray(MEASURED, x0.dtype) @ x0


def of_class(path, k):
    return lambda x, t: jnp.log(exact.posterior(path, PAIR, x, t)[k])


def of_measurement(path, y):
    """log p(y | x_t) for y = A x0 + n and x0 of the Gaussian field: y is normal given x_t."""
    denoise = exact.denoiser(path, FIELD)

    def log_likelihood(x, t):
        spread = (MEASURED @ exact.covariance(path, FIELD, x, t) @ MEASURED.T)[0, 0] + NOISE**2
        return -jnp.sum(jnp.square(y - MEASURED @ denoise(x, t))) / (2 * spread)

    return log_likelihood


@pytest.mark.parametrize('t', [0.05, 0.4, 1.0])
def test_the_gradient_of_a_true_likelihood_makes_the_conditional_denoiser(t):
    x, t = jnp.array([-0.8, 0.1, 0.6]), jnp.float32(t)
    of_each = lambda denoise: jax.vmap(lambda x: denoise(x[None], t)[0])
    guided = of_each(guidance.energy(exact.denoiser(PATH, PAIR), PATH, of_class(PATH, 1)))
    truth = of_each(exact.denoiser(PATH, exact.component(PAIR, 1)))
    np.testing.assert_allclose(jax.jit(guided)(x), jax.jit(truth)(x), atol=1e-4)
    guided = guidance.energy(exact.denoiser(PATH, FIELD), PATH, of_measurement(PATH, Y))
    truth = exact.denoiser(PATH, exact.measured(FIELD, MEASURED, Y, NOISE))
    np.testing.assert_allclose(jax.jit(guided)(x, t), jax.jit(truth)(x, t), atol=1e-4)


def test_a_unit_scale_samples_the_conditional_law():
    """One class of the mixture, and the normal law of the field given a measurement: mean and covariance within Monte-Carlo error."""
    count, times = 2000, grids.log_snr(PATH, 80)

    def draw(denoise, dims):
        walk = lambda key, x: sample(key, x, denoise, ddim(PATH), times).x
        keys = jax.random.split(jax.random.key(1), count)
        return np.asarray(jax.jit(jax.vmap(walk))(keys, jax.random.normal(jax.random.key(0), (count, dims))))

    right = draw(guidance.energy(exact.denoiser(PATH, PAIR), PATH, of_class(PATH, 1)), 1)[:, 0]
    assert abs(right.mean() - 0.5) < 4 * 0.2 / np.sqrt(count) and abs(right.std() / 0.2 - 1) < 4 / np.sqrt(2 * count) + 0.02
    spread = draw(guidance.energy(exact.denoiser(PATH, FIELD), PATH, of_measurement(PATH, Y)), 3)
    mean, covariance = map(np.asarray, exact.moments(exact.measured(FIELD, MEASURED, Y, NOISE)))
    assert np.all(np.abs(spread.mean(0) - mean) < 4 * np.sqrt(np.diag(covariance) / count) + 0.005)
    np.testing.assert_allclose(np.cov(spread.T), covariance, atol=0.1)
    assert np.abs(mean - np.asarray(FIELD.means[0])).max() > 0.3  # the measurement tells


def test_no_scale_changes_no_bit():
    x, t, times = jax.random.normal(jax.random.key(0), (3,)), jnp.float32(0.4), grids.uniform(PATH, 6)
    free, likelihood = exact.denoiser(PATH, FIELD), of_measurement(PATH, Y)
    denoisers = (
        guidance.energy(free, PATH, likelihood, 0.0),
        guidance.energy(free, PATH, likelihood, lambda t: 0 * t, normalise=True),
        guidance.measurement(free, PATH, forward, Y, 0.0, std=0.4),
        guidance.residual(free, forward, Y, 0.0),
        guidance.project_x0(free, forward, lambda r: jnp.asarray(MEASURED.T, r.dtype) @ r, Y, 0.0),
    )
    for denoise in denoisers:
        np.testing.assert_array_equal(denoise(x, t), free(x, t))
    walk = lambda denoise: sample(jax.random.key(1), x, denoise, ddpm(PATH), times).x
    np.testing.assert_allclose(walk(denoisers[0]), walk(free), atol=1e-5)  # compiled, where the order of operations is the compiler's


@pytest.mark.parametrize('t', [1.0, 2.0, 500.0, 1000.0])
def test_guiding_x0_is_guiding_eps_and_moves_the_mean_of_a_step(t):
    """The injection points of Dhariwal and Nichol: eps - w sigma g is the same, and DDPM's mean moves by w beta / sqrt(1 - beta) g."""
    free, likelihood, w = oracles.denoiser(TABLE, MIXTURE), lambda x, t: -jnp.sum(jnp.square(x - 0.3)), 1.7
    with jax.enable_x64(True):
        x, t = jnp.linspace(-2, 2, 5), jnp.float64(t)
        plain, guided, g = free(x, t), guidance.energy(free, TABLE, likelihood, w)(x, t), jax.grad(likelihood)(x, t)
        eps = lambda x0: predict.convert(TABLE, x0, x, t, source='x0', target='eps')
        np.testing.assert_allclose(eps(guided), eps(plain) - w * TABLE.sigma(t) * g, atol=1e-9)
        beta = paths.linear_betas(1000)[int(t) - 1]
        mean = lambda x0: paths.bridge(TABLE, x0, x, t, t - 1)[0]
        np.testing.assert_allclose(mean(guided) - mean(plain), w * beta / np.sqrt(1 - beta) * g, rtol=1e-9)


def test_a_normalised_gradient_has_the_size_of_the_noise():
    x, t, free = jnp.array([1.0, -0.5, 0.2]), jnp.float32(0.4), exact.denoiser(PATH, FIELD)
    moved = lambda by: guidance.energy(free, PATH, lambda x, t: by * jnp.sum(x**3), 0.5, normalise=True)(x, t) - free(x, t)
    eps = predict.convert(PATH, free(x, t), x, t, source='x0', target='eps')
    assert jnp.linalg.norm(moved(1.0)) == pytest.approx(float(0.5 * PATH.sigma(t) ** 2 / PATH.alpha(t) * jnp.linalg.norm(eps)), rel=1e-4)
    np.testing.assert_allclose(moved(1.0), moved(1e3), rtol=1e-4)
    np.testing.assert_array_equal(moved(0.0), 0)


@pytest.mark.parametrize('path', [paths.discrete(np.append(paths.linear_betas(9), 1.0)), paths.cosine()], ids=['zero terminal', 'cosine'])
def test_guidance_is_finite_where_nothing_is_known(path):
    blind = GaussianPath(lambda t: 0.0 * t, jnp.ones_like, lambda t: -jnp.inf * jnp.ones_like(t), 1.0, lambda t: t)
    x, free = jnp.array([1.0, -0.5]), lambda x, t: 0.1 * x
    likelihood = lambda x, t: -jnp.sum(jnp.square(x))
    for end, place in ((path.end, path), (1.0, blind), (0.0, path)):
        t = jnp.float32(end)
        for denoise in (
            guidance.energy(free, place, likelihood),
            guidance.measurement(free, place, jnp.sum, 3.0, std=0.1),
            guidance.residual(free, jnp.sum, 0.05, 1.0),  # nothing left to explain
        ):
            assert jnp.all(jnp.isfinite(denoise(x, t)))
    np.testing.assert_array_equal(guidance.energy(free, blind, likelihood)(x, jnp.float32(1)), free(x, 1))


# ---- networks as likelihoods


def test_log_likelihoods_are_those_of_their_laws():
    x, t = jnp.arange(6.0).reshape(3, 2, 1) / 5, jnp.float32(0.4)
    seen = []

    def logits(x, t):
        seen.append((x.shape, float(t[0])))
        return jnp.concatenate([x, -x, 2 * x + 0.1], axis=-1)

    pooled = lambda x, t: logits(x, t).mean((1, 2))
    raw, shares = np.asarray(pooled(x[None], t[None]))[0], lambda z: np.exp(z) / np.exp(z).sum(-1, keepdims=True)
    sure = lambda z: 1 / (1 + np.exp(-z))
    label = guidance.class_log_likelihood(pooled, PATH, jnp.int32(2))(x, t)
    assert label == pytest.approx(np.log(shares(raw)[2]), rel=1e-5)
    labels = guidance.labels_log_likelihood(pooled, PATH, jnp.array([1.0, -1.0, 0.0]))(x, t)
    assert labels == pytest.approx(np.log(sure(raw[0]) * (1 - sure(raw[1]))), rel=1e-5)
    value = guidance.value_log_likelihood(pooled, PATH, jnp.array([0.1, 0.2, 0.3]), tau=0.5)(x, t)
    assert value == pytest.approx(-np.sum((raw - [0.1, 0.2, 0.3]) ** 2) / (2 * 0.25), rel=1e-5)

    mask = jnp.array([[0, 1], [2, 2], [1, 0]])
    found, wanted = shares(np.asarray(logits(x[None], t[None]))[0]), np.eye(3)[np.asarray(mask)]
    entropy = np.log((found * wanted).sum(-1))
    for reduction, truth in (('sum', entropy.sum()), ('mean', entropy.mean())):
        assert guidance.mask_log_likelihood(logits, PATH, mask, reduction=reduction)(x, t) == pytest.approx(truth, rel=1e-5)
    dice = 2 * (found * wanted).sum((0, 1)) / (found.sum((0, 1)) + wanted.sum((0, 1)))
    assert guidance.dice_log_likelihood(logits, PATH, mask)(x, t) == pytest.approx(np.log(dice.mean()), rel=1e-5)
    assert seen[1] == ((1, 3, 2, 1), 400.0)  # with a batch axis, told the time as networks are
    with pytest.raises(ValueError, match='max'):
        guidance.mask_log_likelihood(logits, PATH, mask, reduction='max')


def test_a_perfect_segmentation_has_no_gradient_and_the_others_lead_to_it():
    mask = jnp.array([[0, 1], [1, 1]])
    logits = lambda x, t: 8 * jnp.concatenate([-x, x], axis=-1)
    for likelihood in (guidance.mask_log_likelihood(logits, PATH, mask), guidance.dice_log_likelihood(logits, PATH, mask)):
        right = jnp.where(mask, 1.0, -1.0)[..., None]
        up = jax.grad(likelihood)(0.1 * right, jnp.float32(0.1))
        assert jnp.all(up * right > 0) and jnp.abs(jax.grad(likelihood)(3 * right, jnp.float32(0.1))).max() < 1e-6


# ---- measurements


def test_a_measurement_is_an_energy_with_the_denoiser_inside():
    free, std = exact.denoiser(PATH, FIELD), lambda t: jnp.sqrt(0.16 + PATH.sigma(t) ** 2)
    x, t = jnp.array([1.0, -0.5, 0.2]), jnp.float32(0.3)
    inside = lambda x, t: -jnp.sum(jnp.square((Y - forward(free(x, t))) / std(t))) / 2
    guided = guidance.measurement(free, PATH, forward, Y, 1.3, std=std)
    np.testing.assert_allclose(jax.jit(guided)(x, t), jax.jit(guidance.energy(free, PATH, inside, 1.3))(x, t), rtol=1e-5)


@pytest.mark.parametrize('solver', [ddpm, lambda path: ddim(path, eta=1.0)], ids=['ddpm', 'ddim'])
def test_guiding_by_the_residual_is_the_published_step(solver):
    """x_s - zeta grad_x |y - A x0_hat(x)| from an unguided step to x_s, at every step of a respaced table."""
    times, zeta, x = grids.trailing(1000, 8), 0.3, jnp.array([1.0, -0.5, 0.2])
    free = exact.denoiser(TABLE, FIELD)
    guided = guidance.residual(free, forward, Y, guidance.per_step(TABLE, times, zeta))
    move = lambda denoise, t, s: solver(TABLE).step(jax.random.key(0), denoise, (), x, t, s)[0]

    @jax.jit
    def both(t, s):
        return move(guided, t, s), move(free, t, s) - zeta * jax.grad(lambda x: jnp.linalg.norm(Y - forward(free(x, t))))(x)

    for t, s in pairwise(times):
        np.testing.assert_allclose(*both(t, s), atol=2e-5)


def test_a_projection_answers_the_measurement():
    """y = A x0_hat where the rows of A are independent, and what A does not see is left as it was."""
    free, x, t = exact.denoiser(PATH, FIELD), jnp.array([1.0, -0.5, 0.2]), jnp.float32(0.4)
    matrix, y = jnp.array([[0.7, -1.2, 0.5], [1.0, 0.0, 2.0]]), jnp.array([0.9, -0.4])
    inverse = jnp.linalg.pinv(matrix)
    projected = lambda w: guidance.project_x0(free, lambda x: matrix @ x, lambda r: inverse @ r, y, w)(x, t)
    np.testing.assert_allclose(matrix @ projected(1.0), y, atol=1e-5)
    np.testing.assert_allclose((jnp.eye(3) - inverse @ matrix) @ (projected(1.0) - free(x, t)), 0, atol=1e-5)
    np.testing.assert_allclose(projected(0.3), 0.7 * free(x, t) + 0.3 * projected(1.0), atol=1e-5)
    np.testing.assert_allclose(projected(lambda t: 2 * t), projected(0.8), atol=1e-6)


def test_weights_and_what_was_measured_compile_nothing_new():
    traces, free, x, times = [], exact.denoiser(PATH, FIELD), jnp.ones(3), grids.uniform(PATH, 4)

    @jax.jit
    def run(key, scale, std, y, mask):
        traces.append(0)
        forward = lambda x0: mask * x0
        denoise = guidance.energy(free, PATH, lambda x, t: -jnp.sum(jnp.square(x - y)), scale)
        denoise = guidance.measurement(denoise, PATH, forward, y, scale, std=std)
        denoise = guidance.residual(denoise, forward, y, guidance.per_step(PATH, times, scale))
        denoise = guidance.project_x0(denoise, forward, forward, y, scale)
        return sample(key, x, denoise, ddpm(PATH), times).x

    first = (jax.random.key(0), 0.1, 1.0, jnp.zeros(3), jnp.array([1.0, 0, 0]))
    others = (jax.random.key(1), 0.2, 2.0, jnp.ones(3), jnp.array([0.0, 1, 1]))
    results = [run(*first)] + [run(*first[:n], others[n], *first[n + 1 :]) for n in range(5)]
    assert len(traces) == 1 and len({tuple(np.asarray(each).tolist()) for each in results}) == 6
