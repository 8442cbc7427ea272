"""Losses of one example: what training lowers.

The denoising loss, with t drawn at random and x_t = alpha x0 + sigma eps,

    L = weight(log_snr(t)) mean (network(x_t, t) - target)^2,                                             (1)

teaches the mean of the reverse process. The hybrid loss also teaches its variance, by the variational bound at the same t, cut into n steps
t -> s of equal length, with the mean taken as given (no gradient goes through it),

    L + scale n B_t,    B_t = KL(q(x_s | x_t, x0) || N(mean(x0_hat, x_t), variance)),   or  -log p(x0 | x_t)  for the step to data,     (2)

in bits per element. The step to data is a Gaussian integrated over the bins of quantised data, or its density where data are continuous.

(1) Ho, Jain, Abbeel, NeurIPS 2020; (2) Nichol and Dhariwal, ICML 2021.
"""

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jaxdiff import weights
from jaxdiff.noise import Noise, gaussian
from jaxdiff.paths import GaussianPath, bridge, perturb
from jaxdiff.predict import convert, evaluate, log_variance, target
from jaxdiff.types import Array, Example, Key, Loss, Time

Condition = Callable[[Key, Example], Mapping[str, Any]]  # example -> what the network is told, by keyword; may drop some at random


def unconditional(key: Key, example: Example) -> Mapping[str, Any]:
    """The network is told nothing but x and t."""
    return {}


def denoising(
    apply: Callable[..., Array],
    path: GaussianPath,
    kind: str,
    *,
    weight: weights.Weight | None = None,
    times: Callable[[Key], Time] | None = None,
    condition: Condition = unconditional,
    noise: Noise = gaussian,
) -> Loss:
    """The denoising loss (1).

    Args:
        apply: (params, x (1, *spatial, C), embedded time (1,), **condition) -> (1, *spatial, C or 2C); the first C are trained.
        kind: what the network predicts, one of `predict.KINDS`.
        weight: log_snr -> weight on the error of that kind, as in `weights`; None is 1.
        times: key -> t; None is `weights.uniform(path)`.
        condition: (key, example) -> keyword arguments of the network for this example.

    Returns:
        (params, key, example) -> (loss, metrics): `example['image']` is x0 (*spatial, C), and the metrics hold the unweighted 'mse'. A scalar
        `example['time']` takes the place of a time drawn, and `example['weight']` multiplies the loss.
    """
    draw = _draw(apply, path, times or weights.uniform(path), condition, noise)

    def loss(params, key, example):
        t, x0, eps, _, output = draw(params, key, example)
        mse = jnp.mean(jnp.square(output[..., : x0.shape[-1]] - target(path, kind, x0, eps, t)))
        value = mse if weight is None else weight(path.log_snr(t)) * mse
        return _share(example) * value, {'mse': mse}

    return loss


def restoration(
    apply: Callable[..., Array],
    path: GaussianPath,
    kind: str,
    spoil: Callable[[Key, Array], tuple[Array, Time, Array]],
    *,
    power: float = 2.0,
) -> Loss:
    """mean weight |x0_hat(x, t) - x0|^power, of images spoilt in other ways than by noise everywhere.

    Args:
        kind: what the network predicts, one of `predict.KINDS`.
        spoil: (key, x0 (*spatial, C)) -> x, the time t that the network is told, and the weight, which broadcasts to the image.

    Returns:
        (params, key, example) -> (loss, metrics): `example['image']` is x0, and the metrics hold the mean absolute 'error' where the weight is.
    """

    def loss(params, key, example):
        x0 = example['image']
        x, t, weight = spoil(key, x0)
        answer = evaluate(partial(apply, params), path, x, t, {})
        away = jnp.abs(convert(path, answer[..., : x0.shape[-1]], x, t, source=kind, target='x0') - x0)
        weight = jnp.broadcast_to(weight, x0.shape)
        return _share(example) * jnp.mean(weight * away**power), {'error': jnp.sum(weight * away) / jnp.maximum(weight.sum(), 1e-6)}

    return loss


def classification(apply: Callable[..., Array], path: GaussianPath, *, times: Callable[[Key], Time] | None = None) -> Loss:
    """Cross-entropy of the class of a noised image, nats.

    Args:
        apply: (params, x (1, *spatial, C), embedded time (1,)) -> a number for each class (1, classes).
        times: key -> t; None is `weights.uniform(path)`.

    Returns:
        (params, key, example) -> (loss, metrics): `example['image']` is x0, `example['label']` its class, and the metrics hold 'accuracy'.
    """
    times = times or weights.uniform(path)

    def loss(params, key, example):
        time_key, noise_key = jax.random.split(key)
        t, x0, label = times(time_key), example['image'], example['label']
        x = perturb(path, x0, gaussian(noise_key, x0.shape), t)
        scores = jax.nn.log_softmax(apply(params, x[None], path.embed(t)[None])[0].astype(jnp.float32))
        return _share(example) * -scores[label], {'accuracy': (jnp.argmax(scores) == label).astype(jnp.float32)}

    return loss


def hybrid(
    apply: Callable[..., Array],
    path: GaussianPath,
    kind: str,
    *,
    weight: weights.Weight | None = None,
    steps: int | None = None,
    scale: float | None = 1e-3,
    bins: int | None = 256,
    condition: Condition = unconditional,
    noise: Noise = gaussian,
) -> Loss:
    """The denoising loss plus `scale` times the variational bound, which teaches the last C of the network's 2C channels (2).

    Args:
        steps: how many the bound is cut into, and how many times there are to draw from; None is T for tables, 1000 else.
        scale: of the bound; None trains the bound alone, mean and variance, n B_t. Its terms differ by orders of magnitude between times,
            which `training.importance` then draws by their loss.
        bins: the data are this many levels from -1 to 1; None where they are continuous.
        Others as in `denoising`.

    Returns:
        A loss as in `denoising` with metrics 'mse' and 'vb', the bound's term in bits per element, not multiplied by `steps`.
    """
    steps = steps or path.steps or 1000
    length = path.end / steps
    draw = _draw(apply, path, lambda key: length * jax.random.randint(key, (), 1, steps + 1), condition, noise)

    def loss(params, key, example):
        t, x0, eps, x, output = draw(params, key, example)
        channels = x0.shape[-1]
        prediction, raw = output[..., :channels], output[..., channels:]
        mse = jnp.mean(jnp.square(prediction - target(path, kind, x0, eps, t)))
        taught = prediction if scale is None else jax.lax.stop_gradient(prediction)
        x0_hat = convert(path, taught, x, t, source=kind, target='x0')
        vb = bound_term(path, x0, x, t, t - length, x0_hat, log_variance(path, raw, t, t - length) / 2, bins=bins)
        mean = mse if weight is None else weight(path.log_snr(t)) * mse
        value = steps * vb if scale is None else mean + scale * steps * vb
        return _share(example) * value, {'mse': mse, 'vb': vb}

    return loss


def bound_term(
    path: GaussianPath,
    x0: Array,
    x: Array,
    t: Time,
    s: Time,
    x0_hat: Array,
    log_std: Array,
    *,
    bins: int | None = 256,
    cdf: Callable[[Array], Array] = jax.scipy.stats.norm.cdf,
) -> Array:
    """One term of the variational bound (2), bits per element, of a reverse step with mean from x0_hat and exp(log_std) of deviation.

    A step from a time to itself costs nothing; `bins` and `cdf` are those of `log_mass`, or None where data are continuous.
    """
    true_mean, true_std = bridge(path, x0, x, t, s)
    mean, moves = bridge(path, x0_hat, x, t, s)[0], true_std > 0
    kl = jnp.where(moves, gaussian_kl(true_mean, jnp.log(jnp.where(moves, true_std, 1.0)), mean, log_std), 0.0)
    likelihood = log_density(x0, mean, log_std) if bins is None else log_mass(x0, mean, log_std, bins, cdf)
    return jnp.mean(jnp.where(s == 0, -likelihood, kl)) / math.log(2)


def gaussian_kl(mean: Array, log_std: Array, other_mean: Array, other_log_std: Array) -> Array:
    """KL(N(mean, std^2) || N(other mean, other std^2)) of every element, nats."""
    difference = jnp.square(mean - other_mean) * jnp.exp(-2 * other_log_std)
    return other_log_std - log_std + (jnp.expm1(2 * (log_std - other_log_std)) + difference) / 2


def log_density(x: Array, mean: Array, log_std: Array) -> Array:
    """log N(x; mean, std^2) of every element, nats."""
    return -(jnp.square((x - mean) * jnp.exp(-log_std)) + math.log(2 * math.pi)) / 2 - log_std


def log_mass(x: Array, mean: Array, log_std: Array, bins: int = 256, cdf: Callable[[Array], Array] = jax.scipy.stats.norm.cdf) -> Array:
    """log probability that N(mean, std^2) falls in the bin around x, of every element, nats; at least log 1e-12.

    `bins` levels lie from -1 to 1, and the two outermost bins are open. `tanh_cdf` reproduces published numbers.
    """
    half = 1 / (bins - 1)
    upper = jnp.where(x > 1 - half / 4, 1.0, cdf((x - mean + half) * jnp.exp(-log_std)))
    lower = jnp.where(x < -1 + half / 4, 0.0, cdf((x - mean - half) * jnp.exp(-log_std)))
    return jnp.log(jnp.maximum(upper - lower, 1e-12))


def tanh_cdf(z: Array) -> Array:
    """The approximation to the standard normal distribution function used by Ho et al. and since."""
    return (1 + jnp.tanh(math.sqrt(2 / math.pi) * (z + 0.044715 * z**3))) / 2


def _draw(apply, path, times, condition, noise):
    """(params, key, example) -> t, x0, eps, x_t and the network's answer."""

    def draw(params, key, example):
        time_key, noise_key, condition_key = jax.random.split(key, 3)
        t, x0 = example['time'] if 'time' in example else times(time_key), example['image']
        eps = noise(noise_key, x0.shape)
        x = perturb(path, x0, eps, t)
        return t, x0, eps, x, evaluate(partial(apply, params), path, x, t, condition(condition_key, example))

    return draw


def _share(example: Example) -> Array | float:
    return example.get('weight', 1.0)
