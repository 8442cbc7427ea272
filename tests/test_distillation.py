"""Distillation: targets that land where they must, exact students of exact teachers, consistency along exact flows."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from scipy.stats import norm

from jaxdiff import distillation, grids, paths, predict, weights
from jaxdiff.solvers.ancestral import ddim
from jaxdiff.solvers.loop import one_step, sample

COSINE = paths.cosine()
PATHS = {'cosine': COSINE, 'zero terminal': paths.discrete(np.append(paths.linear_betas(999), 1.0))}
KEYS = jax.random.split(jax.random.key(0), 64)
MEAN, COVARIANCE = jnp.array([0.3, -0.5]), jnp.array([[0.5, 0.2], [0.2, 0.25]])
GAUSSIAN = oracles.gaussian_denoiser(COSINE, MEAN, COVARIANCE)
EXAMPLE = {'image': jnp.array([0.4, -0.2])}


def one_ddim_step(path, x0, x, t, s):
    return ddim(path).step(jax.random.key(0), lambda x, t: x0, (), x, t, s)[0]


@pytest.mark.parametrize('path', PATHS.values(), ids=PATHS)
def test_one_step_lands_where_two_do(path):
    denoise = oracles.denoiser(path, oracles.TEST_BED)
    t, m, s = path.end * jnp.array([[1.0, 0.5, 0.0], [1.0, 0.9, 0.8], [0.5, 0.3, 0.1], [0.02, 0.01, 0.0], [0.002, 0.001, 0.0]]).T

    @jax.jit
    @partial(jax.vmap, in_axes=(None, 0, 0, 0))
    def compare(x, t, m, s):
        goal = distillation.two_in_one(path, denoise, x, t, m, s)
        middle = one_ddim_step(path, denoise(x, t), x, t, m)
        second = denoise(middle, m)
        end = one_ddim_step(path, second, middle, m, s)
        ratio = path.sigma(s) / path.sigma(t)
        published = (end - ratio * x) / (path.alpha(s) - ratio * path.alpha(t))
        return goal, second, end, one_ddim_step(path, goal, x, t, s), published

    x = jax.random.normal(jax.random.key(1), (100,))
    goal, second, end, landed, _ = compare(x, t, m, s)
    np.testing.assert_allclose(landed, end, atol=1e-6)
    np.testing.assert_array_equal(goal[s == 0], second[s == 0])  # the step to data
    with jax.enable_x64(True):
        goal, _, end, landed, published = compare(*(jnp.asarray(np.asarray(each), float) for each in (x, t, m, s)))
        np.testing.assert_allclose(landed, end, atol=1e-13)
        np.testing.assert_allclose(goal, published, atol=1e-11)


def taught(kind, denoise=GAUSSIAN, **options):
    """The loss of a student of one step, whose network is right by `params`."""

    def network(params, x, t):
        goal = distillation.two_in_one(COSINE, denoise, x[0], *grids.uniform(COSINE, 2))
        return (predict.convert(COSINE, goal, x[0], 1.0, source='x0', target=kind) + params)[None]

    return distillation.progressive(network, COSINE, kind, lambda **told: denoise, grids.uniform(COSINE, 2), **options)


def test_every_kind_learns_the_same_target():
    @jax.jit
    def evaluate(error):
        return {kind: jax.vmap(taught(kind), (None, 0, None))(error, KEYS, EXAMPLE)[0] for kind in ('x0', 'eps', 'v')}

    truth, beside = evaluate(0.0), evaluate(0.5)
    for kind in truth:
        assert jnp.all(truth[kind] < 1e-12), kind
        np.testing.assert_allclose(beside[kind], 0.25, rtol=1e-4, err_msg=kind)


def test_the_weight_of_the_authors_is_the_larger_of_two_errors():
    """max(SNR, 1) |x0 error|^2 is max(|x0 error|^2, |eps error|^2), whatever the network predicts."""
    times, x0 = jnp.array([0.7, 0.35, 0.0]), EXAMPLE['image']
    for key, grid in zip(KEYS[:2], (times, times / 2), strict=True):  # below and above SNR 1
        x = []
        teacher = lambda **told: lambda y, t: x.append(y) or GAUSSIAN(y, t)  # noqa: B023
        loss = distillation.progressive(lambda params, x, t: 0 * x, COSINE, 'v', teacher, grid, weight=weights.snr_trunc('v'))
        value = loss((), key, EXAMPLE)[0]
        goal, said = distillation.two_in_one(COSINE, GAUSSIAN, x[0], *grid), COSINE.alpha(grid[0]) * x[0]
        as_noise = partial(predict.convert, COSINE, x=x[0], t=grid[0], source='x0', target='eps')
        errors = [jnp.mean(jnp.square(a - b)) for a, b in ((goal, said), (as_noise(goal), as_noise(said)))]
        np.testing.assert_allclose(value, max(errors), rtol=1e-4)
        assert abs(errors[0] / errors[1] - 1) > 0.2 and x0.shape == x[0].shape


def test_a_coarser_grid_is_another_stride():
    times, traces = grids.uniform(COSINE, 8), []

    def network(params, x, t):
        traces.append(0)
        return params * x

    def values(times, every):
        loss = distillation.progressive(network, COSINE, 'v', lambda **told: GAUSSIAN, times, every=every)
        return jax.vmap(loss, (None, 0, None))(0.3, KEYS, EXAMPLE)[0]

    run = jax.jit(lambda every: values(times, every))
    strides = [run(every) for every in (1, 2, 4)]
    assert len(traces) == 1
    direct = jax.jit(lambda: [values(times[::every], 1) for every in (1, 2, 4)])()
    np.testing.assert_allclose(strides, direct, rtol=1e-5)
    assert not np.allclose(strides[0], strides[1])


def affine(x, y):
    """The least squares fit of y (n, 2) by x (n, 2), as a matrix (2, 3)."""
    return np.linalg.lstsq(np.column_stack([x, np.ones(len(x))]), y)[0].T


def test_the_fitted_student_of_a_gaussian_draws_what_its_teacher_draws():
    """All targets are affine in x, so a student that is affine at each of its times has no error, and N of its steps are 2N of the teacher's."""
    with jax.enable_x64(True):
        times, x = grids.uniform(COSINE, 4), jax.random.normal(jax.random.key(2), (500, 2))
        pairs = (times[:-1:2], times[1::2], times[2::2])
        goals = jax.jit(jax.vmap(lambda t, m, s: jax.vmap(lambda x: distillation.two_in_one(COSINE, GAUSSIAN, x, t, m, s))(x)))(*pairs)
        fits = jnp.stack([affine(x, goal) for goal in goals])

        def network(params, x, t):
            fit = params[jnp.where(t[0] > 750, 0, 1)]
            return (fit[:, :2] @ x[0] + fit[:, 2])[None]

        @jax.jit
        def evaluate(fits):
            loss = distillation.progressive(network, COSINE, 'x0', lambda **told: GAUSSIAN, times)
            student = predict.as_denoiser(partial(network, fits), COSINE, 'x0')
            walk = lambda denoise, times: jax.vmap(lambda x: sample(KEYS[0], x, denoise, ddim(COSINE), times).x)(x)
            return jax.vmap(loss, (None, 0, None))(fits, KEYS, EXAMPLE)[0], walk(student, times[::2]), walk(GAUSSIAN, times)

        values, mine, teachers = evaluate(fits)
        assert jnp.all(values < 1e-20)
        np.testing.assert_allclose(mine, teachers, atol=1e-10)


def test_a_linear_teacher_is_known_exactly():
    times, x = grids.uniform(COSINE, 20), jax.random.normal(jax.random.key(3), (300, 2))
    drawn = jax.jit(jax.vmap(lambda x: sample(KEYS[0], x, GAUSSIAN, ddim(COSINE), times).x))(x)
    fit = affine(x, drawn)
    loss = distillation.knowledge(lambda fit, x, t: (fit[:, :2] @ x[0] + fit[:, 2])[None], COSINE, 'x0')
    run = jax.jit(jax.vmap(loss, (None, None, 0)))
    assert jnp.all(run(fit, KEYS[0], {'noise': x, 'image': drawn})[0] < 1e-10)
    beside, metrics = run(fit + 0.5 * np.eye(1, 3, 2), KEYS[0], {'noise': x, 'image': drawn})
    np.testing.assert_allclose(beside, 0.25, rtol=1e-3)
    np.testing.assert_array_equal(beside, metrics['mse'])


# ---- consistency

LAST = 0.01
TIMES = grids.uniform(COSINE, 6, last=LAST)


def flow_of_gaussian(x, t, s):
    """The exact flow of N(MEAN, COVARIANCE): along each principal axis, deviations scale as the marginal's."""
    values, vectors = jnp.linalg.eigh(COVARIANCE)
    std = lambda t: jnp.sqrt(COSINE.alpha(t) ** 2 * values + COSINE.sigma(t) ** 2)
    return COSINE.alpha(s) * MEAN + vectors @ (std(s) / std(t) * (vectors.T @ (x - COSINE.alpha(t) * MEAN)))


def exact_network(params, x, t):
    """x0_hat of which DDIM's step to LAST is the exact flow, plus `params`."""
    t, ratio = t[0] / 1000, COSINE.sigma(LAST) / COSINE.sigma(t[0] / 1000)
    gap = jnp.maximum(COSINE.alpha(LAST) - ratio * COSINE.alpha(t), 1e-12)
    return ((flow_of_gaussian(x[0], t, LAST) - ratio * x[0]) / gap + params)[None]


EXACT = one_step(lambda key, denoise, x, t, s: (flow_of_gaussian(x, t, s), x))


def test_the_exact_flow_is_consistent():
    with jax.enable_x64(True):
        times = grids.uniform(COSINE, 6, last=LAST)
        loss = distillation.consistency(exact_network, COSINE, 'x0', times, teacher=lambda **told: GAUSSIAN, solver=EXACT)
        run = jax.jit(jax.vmap(loss, (None, 0, None)))
        assert jnp.all(run(0.0, KEYS, EXAMPLE)[0] < 1e-13)  # its axes are known in single precision
        assert jnp.all(run(jnp.array([0.1, -0.1]), KEYS, EXAMPLE)[0] > 1e-8)  # the shares of x0_hat at t and s differ
        heun = distillation.consistency(exact_network, COSINE, 'x0', grids.uniform(COSINE, 60, last=LAST), teacher=lambda **told: GAUSSIAN)
        assert jnp.all(jax.jit(jax.vmap(heun, (None, 0, None)))(0.0, KEYS, EXAMPLE)[0] < 1e-8)


def test_training_alone_is_consistent_for_data_of_one_point():
    network = lambda params, x, t: EXAMPLE['image'][None] + params
    loss = jax.jit(jax.vmap(distillation.consistency(network, COSINE, 'x0', TIMES), (None, 0, None)))
    assert jnp.all(loss(0.0, KEYS, EXAMPLE)[0] < 1e-11)
    assert jnp.any(loss(0.5, KEYS, EXAMPLE)[0] > 1e-4)


def test_without_a_teacher_the_data_teach():
    network = lambda params, x, t: params * x
    knowing = lambda **told: lambda x, t: EXAMPLE['image']
    alone = distillation.consistency(network, COSINE, 'v', TIMES)
    guided = distillation.consistency(network, COSINE, 'v', TIMES, teacher=knowing, solver=ddim(COSINE))
    values = [jax.jit(jax.vmap(loss, (None, 0, None)))(0.4, KEYS, EXAMPLE)[0] for loss in (alone, guided)]
    np.testing.assert_allclose(*values, rtol=1e-4, atol=1e-7)


def test_the_target_is_another_network_and_learns_nothing():
    network = lambda params, x, t: params * x

    @jax.jit
    @partial(jax.grad, argnums=(0, 1))
    def slopes(params, target):
        with_target = distillation.consistency(network, COSINE, 'v', TIMES, target=target)
        return jnp.mean(jax.vmap(with_target, (None, 0, None))(params, KEYS, EXAMPLE)[0])

    frozen = lambda params: jnp.mean(
        jax.vmap(distillation.consistency(network, COSINE, 'v', TIMES), (None, 0, None))(params, KEYS, EXAMPLE)[0]
    )
    of_params, of_target = slopes(0.4, 0.4)
    assert of_target == 0
    np.testing.assert_allclose(of_params, jax.jit(jax.grad(frozen))(0.4), rtol=1e-5)
    assert abs(slopes(0.4, 0.1)[0] / of_params - 1) > 0.1


def test_weights_distances_and_chances():
    a, b = jnp.array([3.0, 4.0]), jnp.zeros(2)
    np.testing.assert_allclose(distillation.pseudo_huber(12.0)(a, b), 1)
    np.testing.assert_allclose(distillation.pseudo_huber()(a, b), 5, rtol=1e-3)
    assert jnp.all(jax.grad(distillation.pseudo_huber())(b, b) == 0)
    ratio = lambda t: COSINE.sigma(t) / COSINE.alpha(t)
    np.testing.assert_allclose(distillation.spacing(COSINE)(0.5, 0.25), 1 / (ratio(0.5) - ratio(0.25)), rtol=1e-5)
    chances = distillation.lognormal(COSINE, TIMES)
    mass = -np.diff(norm.cdf(np.log(ratio(TIMES)), -1.1, 2.0))
    np.testing.assert_allclose(chances, mass / mass.sum(), rtol=1e-4)

    network = lambda params, x, t: 0 * x
    first = distillation.consistency(
        network, COSINE, 'v', TIMES, chances=jnp.eye(6)[5], weight=lambda t, s: jnp.stack([t, s]), distance=lambda a, b: 1.0
    )
    np.testing.assert_allclose(first((), KEYS[0], EXAMPLE)[0], TIMES[5:], rtol=1e-6)
