"""Distillation: losses that teach a network to do in few steps what a teacher does in many.

Progressive distillation halves the steps. Two DDIM steps t -> m -> s of the teacher, with answers x1 and x2, end where a single one would
that was told

    x0* = w x2 + (1 - w) x1,    w = expm1((l_m - l_s) / 2) / expm1((l_t - l_s) / 2),    l = log_snr                  (1)

which is (x_s - r x_t) / (alpha_s - r alpha_t), r = sigma_s / sigma_t, without its cancellation; w = 1 where s is data. The student learns x0*.
Knowledge distillation learns one step from pairs of a starting point x_T and the teacher's sample from it,

    L = mean (x0_hat(x_T, T) - sample)^2.                                                                            (2)

Consistency models (f of `solvers.consistency`) agree along the flow: for neighbours s < t of a grid, with a frozen or averaged copy f-,

    L = weight(t, s) distance(f(x_t, t), f-(x_s, s)),                                                                (3)

where x_s is the teacher's step from x_t (distillation), or has the data and the noise that x_t was made of (training).

A teacher is a function of conditioning that makes a denoiser: `partial(as_denoiser, partial(apply, params), path, kind)` for a network,
where params come with the state of training, so that they are arguments of the compiled step.

(1) Salimans and Ho, ICLR 2022; (2) Luhman and Luhman, "Knowledge distillation in iterative generative models", 2021; (3) Song, Dhariwal,
Chen, Sutskever, ICML 2023; Song and Dhariwal, "Improved techniques for training consistency models", ICLR 2024.
"""

import math
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp

from jaxdiff.losses import Condition, unconditional
from jaxdiff.noise import Noise, gaussian
from jaxdiff.paths import GaussianPath, perturb
from jaxdiff.predict import as_denoiser, convert, evaluate
from jaxdiff.solvers.consistency import consistent, jump
from jaxdiff.solvers.flow import flow_of
from jaxdiff.solvers.loop import Solver, one_step
from jaxdiff.types import Array, Denoiser, Loss, Params, Time
from jaxdiff.weights import Weight

Teacher = Callable[..., Denoiser]  # **conditioning of one example -> its denoiser


def progressive(
    apply: Callable[..., Array],
    path: GaussianPath,
    kind: str,
    teacher: Teacher,
    times: Array,
    *,
    every: int | Array = 1,
    weight: Weight | None = None,
    condition: Condition = unconditional,
    noise: Noise = gaussian,
) -> Loss:
    """The loss of a student that takes N steps of DDIM where its teacher takes 2N (1).

    Args:
        apply, kind, condition: as in `losses.denoising`; teacher and student are told the same.
        times, every: the teacher's grid of 2N steps is `times[::every]`, the student's `times[:: 2 * every]`. Halving again is another `every`,
            which may be traced: nothing is compiled for it.
        weight: log_snr -> weight on the error of that kind; `weights.snr_trunc(kind)` is the authors'. None is 1.

    Returns:
        (params, key, example) -> (loss, metrics): `example['image']` is x0, and the metrics hold the unweighted 'mse'.
    """

    def loss(params, key, example):
        pick, noise_key, condition_key = jax.random.split(key, 3)
        x0, told = example['image'], condition(condition_key, example)
        first = 2 * every * jax.random.randint(pick, (), 0, (len(times) - 1) // (2 * every))
        t, m, s = times[first], times[first + every], times[first + 2 * every]
        x = perturb(path, x0, noise(noise_key, x0.shape), t)
        goal = convert(path, two_in_one(path, teacher(**told), x, t, m, s), x, t, source='x0', target=kind)
        output = evaluate(partial(apply, params), path, x, t, told)[..., : x0.shape[-1]]
        mse = jnp.mean(jnp.square(output - jax.lax.stop_gradient(goal)))
        return mse if weight is None else weight(path.log_snr(t)) * mse, {'mse': mse}

    return loss


def two_in_one(path: GaussianPath, denoise: Denoiser, x: Array, t: Time, m: Time, s: Time) -> Array:
    """The x0* (1) with which one DDIM step t -> s from x ends where the denoiser's two, t -> m -> s, end; the shape of x."""
    first = denoise(x, t)
    second = denoise(jump(path, first, x, t, m), m)
    log_snrs = path.log_snr(t), path.log_snr(m), path.log_snr(s)
    share = jnp.expm1((log_snrs[1] - log_snrs[2]) / 2) / jnp.expm1((log_snrs[0] - log_snrs[2]) / 2)
    return share * second + (1 - share) * first


def knowledge(apply: Callable[..., Array], path: GaussianPath, kind: str, *, condition: Condition = unconditional) -> Loss:
    """The loss (2) of a student of one step, from the path's end to data.

    Its examples are pairs: 'noise' is the x_T that the teacher's walk began at, of standard deviation sigma(end), 'image' where it ended.
    """

    def loss(params, key, example):
        student = as_denoiser(partial(apply, params), path, kind, **condition(key, example))
        mse = jnp.mean(jnp.square(student(example['noise'], path.end) - example['image']))
        return mse, {'mse': mse}

    return loss


def consistency(
    apply: Callable[..., Array],
    path: GaussianPath,
    kind: str,
    times: Array,
    *,
    teacher: Teacher | None = None,
    solver: Solver | None = None,
    target: Params | None = None,
    std: float | None = None,
    distance: Callable[[Array, Array], Array] | None = None,
    weight: Callable[[Time, Time], Array] | None = None,
    chances: Array | None = None,
    condition: Condition = unconditional,
    noise: Noise = gaussian,
) -> Loss:
    """The loss (3) of a consistency model, distilled from a `teacher`, or without one trained on the data alone.

    Args:
        times: (N + 1,), decreasing, from the path's end to the time at which f is the identity, above data: `grids.karras(path, N, zero=False)`.
        solver: moves the teacher one step; None is Heun's method.
        target: parameters of f-, such as the running average of the student's; None is the student's own, frozen.
        std: of the data, for the parameterisation of Song et al.; None is DDIM's, as in `solvers.consistency`.
        distance: of two images, a scalar; None is the mean square.
        weight: (t, s) -> weight; None is 1.
        chances: (N,), how often each pair of neighbours is drawn; None is evenly.

    Returns:
        (params, key, example) -> (loss, metrics): the metrics hold the unweighted 'distance'.
    """
    solver, distance = solver or _heun(path), distance or (lambda a, b: jnp.mean(jnp.square(a - b)))

    def loss(params, key, example):
        pick, noise_key, solver_key, condition_key = jax.random.split(key, 4)
        x0, told = example['image'], condition(condition_key, example)
        f = lambda params: consistent(path, as_denoiser(partial(apply, params), path, kind, **told), times[-1], std=std)
        first = jax.random.choice(pick, len(times) - 1, p=chances)
        t, s = times[first], times[first + 1]
        eps = noise(noise_key, x0.shape)
        x = perturb(path, x0, eps, t)
        below = perturb(path, x0, eps, s) if teacher is None else solver.step(solver_key, teacher(**told), solver.init(x), x, t, s)[0]
        goal = f(params if target is None else target)(below, s)
        apart = distance(f(params)(x, t), jax.lax.stop_gradient(goal))
        return apart if weight is None else weight(t, s) * apart, {'distance': apart}

    return loss


def pseudo_huber(c: float | None = None) -> Callable[[Array, Array], Array]:
    """The distance sqrt(|a - b|^2 + c^2) - c; c is by default 0.00054 sqrt(d) for images of d elements (Song and Dhariwal 2024)."""

    def distance(a, b):
        small = 0.00054 * math.sqrt(a.size) if c is None else c
        return jnp.sqrt(jnp.sum(jnp.square(a - b)) + small**2) - small

    return distance


def spacing(path: GaussianPath) -> Callable[[Time, Time], Array]:
    """The weight 1 / (sigma_t / alpha_t - sigma_s / alpha_s) of Song and Dhariwal 2024."""
    ratio = lambda t: jnp.exp(-path.log_snr(t) / 2)
    return lambda t, s: 1 / (ratio(t) - ratio(s))


def lognormal(path: GaussianPath, times: Array, mean: float = -1.1, std: float = 2.0) -> Array:
    """(N,) chances of the N pairs of a grid, as if log(sigma / alpha) were N(mean, std^2) (Song and Dhariwal 2024)."""
    mass = -jnp.diff(jax.scipy.stats.norm.cdf((-path.log_snr(times) / 2 - mean) / std))
    return mass / mass.sum()


def _heun(path: GaussianPath) -> Solver:
    """Heun's method between times above data. That of `solvers` branches at data, which over a batch of times would copy the parameters for each."""
    flow = flow_of(path, 'angle')

    def step(key, denoise, x, t, s):
        x0 = denoise(x, t)
        here = flow.slope(x, x0, t)
        middle = flow.move(x, here, t, s)
        there = flow.slope(middle, denoise(middle, s), s)
        return flow.move(x, (here + there) / 2, t, s), x0

    return one_step(step)
