"""Guidance: a denoiser made from denoisers.

    classifier-free    D = (1 - w) D(null) + w D(condition):    w = 0 unconditional, 1 conditional, above 1 guided         (1)
    energy             D = D + w sigma^2 / alpha g,             g = grad_x log p(y | x, t)                                  (2)
    measurement        D as in (2),                             log p(y | x, t) = -|y - A D(x, t)|^2 / (2 std^2)            (3)
    residual           D = D - w grad_x |y - A D(x, t)|                                                                     (4)
    projection         D = D + w A^+ (y - A D)                                                                              (5)
    proximal           D = argmin_z  w |y - A z|^2 + |z - D|^2                                                              (8)
    static threshold   D = clip(D, low, high)                                                                               (6)
    dynamic threshold  D = clip(D, -c, c) / c * limit,    c = max(limit, a high quantile of |D|)                            (7)

(1) in x0_hat equals (1) in eps, v or score at the same x and t, since all are linear in x0_hat. Papers that write 1 + w' mean w = 1 + w'.

(2) is Bayes' rule, score + w g, or eps - w sigma g: with w = 1 and the true likelihood of noised data it samples the conditional law
exactly; the `_log_likelihood`s below take it from a network trained on noised data. The mean of DDPM's step moves by w beta / sqrt(1 - beta) g
on tables, that is by (variance 'large') g, as Dhariwal and Nichol have it, but for the root.

(3) and (4) know the likelihood of clean data only, and put x0_hat for x0: approximations for any w, at the cost of a gradient through the
denoiser, and so are (5) and (8) without it, of which (5) is the limit of large w where A^+ is exact. (4) is the step of diffusion posterior
sampling as its authors' code takes it, x_s - zeta grad_x |y - A x0_hat| (their algorithm 1 has twice that, the gradient of the square over the
norm), for a solver whose x_s moves by c(t, s) with x0_hat, if w = zeta / c: `per_step` gives it for DDPM, where
c = alpha_s (1 - SNR_t / SNR_s).

A threshold goes outermost: solvers derive the noise anew from the x0_hat they are given. Every weight is a number, an array or a function
of t, and traced: another value compiles nothing.

(1) Ho and Salimans, 2022; (2) Dhariwal and Nichol, "Diffusion models beat GANs", NeurIPS 2021; (4) Chung et al., "Diffusion posterior
sampling", ICLR 2023; (3) with std^2 = noise^2 + r_t^2, less their change of metric: Song et al., "Pseudoinverse-guided diffusion models",
ICLR 2023; (5) Wang, Yu, Zhang, "DDNM", ICLR 2023; (7) Saharia et al., "Imagen", NeurIPS 2022; (8) Chung, Lee, Ye, "Decomposed diffusion
sampler", ICLR 2024; interval: Kynkaanniemi et al., NeurIPS 2024.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxdiff.operators import Operator, conjugate_gradients
from jaxdiff.paths import GaussianPath, bridge
from jaxdiff.predict import convert, evaluate
from jaxdiff.types import Array, Denoiser, Time

Weight = float | Array | Callable[[Time], Array]
LogLikelihood = Callable[[Array, Time], Array]  # x, t -> log p(y | x, t), nats


def classifier_free(conditioned: Callable[[Any], Denoiser], condition: Any, null: Any, weight: Weight) -> Denoiser:
    """Classifier-free guidance (1) in one evaluation of two examples.

    Args:
        conditioned: condition -> denoiser, such as `lambda label: as_denoiser(apply, path, 'v', label=label)`.
        condition, null: trees of arrays of the same shapes.
        weight: w of (1).
    """
    both = jax.tree.map(lambda a, b: jnp.stack([jnp.asarray(a), jnp.asarray(b)]), null, condition)

    def denoise(x, t):
        free, bound = jax.vmap(lambda condition: conditioned(condition)(x, t))(both)
        w = _at(weight, t)
        return (1 - w) * free + w * bound  # exact at w = 0 and w = 1

    return denoise


def energy(
    denoise: Denoiser, path: GaussianPath, log_likelihood: LogLikelihood, scale: Weight = 1.0, *, normalise: bool = False
) -> Denoiser:
    """Guidance by the gradient of any differentiable function of the noised example (2).

    Where alpha is 0, or too small for the dtype, x says nothing of the data and is left unguided.

    Args:
        log_likelihood: of a whole example, a scalar. The gradient is taken at x.
        scale: w of (2); at 0 the answer is that of `denoise`.
        normalise: g / |g| |eps_hat| in place of g, so that the scale does not depend on how the likelihood is scaled.
    """

    def guided(x, t):
        x0, gradient = denoise(x, t), jax.grad(log_likelihood)(x, t)
        if normalise:
            eps = convert(path, x0, x, t, source='x0', target='eps')
            size = _norm(gradient)
            gradient = gradient * (_norm(eps) / jnp.where(size > 0, size, 1.0))
        return x0 + _at(scale, t) * _gain(path, t) * gradient

    return guided


def class_log_likelihood(apply: Callable[..., Array], path: GaussianPath, label: Array) -> LogLikelihood:
    """Of one class among K, from a classifier (x (1, *spatial, C), embedded time (1,)) -> logits (1, K) of noised data; `label` in 0..K-1."""
    return lambda x, t: jax.nn.log_softmax(evaluate(apply, path, x, t, {}))[label]


def labels_log_likelihood(apply: Callable[..., Array], path: GaussianPath, signs: Array) -> LogLikelihood:
    """Of K findings that do not exclude each other, from logits (1, K): `signs` (K,) is 1 for present, -1 for absent, 0 for either."""
    return lambda x, t: jnp.sum(jnp.abs(signs) * jax.nn.log_sigmoid(signs * evaluate(apply, path, x, t, {})))


def value_log_likelihood(apply: Callable[..., Array], path: GaussianPath, y: Array, *, tau: float | Array = 1.0) -> LogLikelihood:
    """Of values y (K,), but for a constant, from a regression (1, K) with errors of standard deviation `tau`: -|f - y|^2 / (2 tau^2)."""
    return lambda x, t: -jnp.sum(jnp.square((evaluate(apply, path, x, t, {}) - y) / tau)) / 2


def mask_log_likelihood(apply: Callable[..., Array], path: GaussianPath, mask: Array, *, reduction: str = 'sum') -> LogLikelihood:
    """Of a segmentation (*spatial,) into classes 0..K-1, from logits (1, *spatial, K): minus the cross-entropy.

    The 'sum' over voxels is the likelihood of voxels independent given x and grows with their number; the 'mean' does not.
    """
    if reduction not in ('sum', 'mean'):
        raise ValueError(f"reduction is 'sum' or 'mean', not {reduction!r}")
    reduce = {'sum': jnp.sum, 'mean': jnp.mean}[reduction]
    chosen = lambda logs: jnp.take_along_axis(logs, jnp.asarray(mask)[..., None], axis=-1)
    return lambda x, t: reduce(chosen(jax.nn.log_softmax(evaluate(apply, path, x, t, {}))))


def dice_log_likelihood(apply: Callable[..., Array], path: GaussianPath, mask: Array) -> LogLikelihood:
    """Log of the soft Dice overlap with a segmentation (*spatial,), the mean over K classes, from logits (1, *spatial, K)."""

    def log_dice(x, t):
        found = jax.nn.softmax(evaluate(apply, path, x, t, {})).reshape(jnp.size(mask), -1)
        wanted = jax.nn.one_hot(jnp.ravel(mask), found.shape[-1], dtype=found.dtype)
        both = jnp.sum(found, axis=0) + jnp.sum(wanted, axis=0)
        return jnp.log(jnp.mean(2 * jnp.sum(found * wanted, axis=0) / both))

    return log_dice


def measurement(
    denoise: Denoiser, path: GaussianPath, forward: Callable[[Array], Array], y: Array, scale: Weight = 1.0, *, std: Weight
) -> Denoiser:
    """Guidance towards a measurement y = A(x0) + noise, with A(x0_hat) for the mean of y (3): one evaluation and its gradient.

    Args:
        forward: A, from an example to what y is, linear or not.
        scale: w of (2).
        std: standard deviation of y given x: the noise of the measurement, and, as a function of t, the doubt about x0,
            such as sqrt(noise^2 + sigma^2 / (alpha^2 + sigma^2)) for data of variance 1.
    """

    def guided(x, t):
        log_likelihood = lambda x0: -jnp.sum(jnp.square((y - forward(x0)) / _at(std, t))) / 2
        x0, gradient = _through(denoise, log_likelihood, x, t)
        return x0 + _at(scale, t) * _gain(path, t) * gradient

    return guided


def residual(denoise: Denoiser, forward: Callable[[Array], Array], y: Array, scale: Weight) -> Denoiser:
    """Guidance down the norm of the residual (4), in which the size of the residual does not count: one evaluation and its gradient.

    Args:
        forward: A, from an example to what y is.
        scale: w of (4); `per_step(path, times, zeta)` for the published one.
    """

    def guided(x, t):
        x0, gradient = _through(denoise, lambda x0: _norm(y - forward(x0)), x, t)
        return x0 - _at(scale, t) * gradient

    return guided


def per_step(path: GaussianPath, times: Array, zeta: float | Array) -> Callable[[Time], Array]:
    """The weight of x0_hat at each time of a strictly falling grid that moves x_s by `zeta` in DDPM's step from there to the next; 0 at the last."""
    rising = jnp.flip(jnp.asarray(times))

    def weight(t):
        s = rising[jnp.maximum(jnp.searchsorted(rising, t) - 1, 0)]
        share = bridge(path, 1.0, 0.0, t, s)[0]
        return jnp.where(share > 0, zeta / jnp.where(share > 0, share, 1.0), 0.0)

    return weight


def project_x0(
    denoise: Denoiser, forward: Callable[[Array], Array], pseudo_inverse: Callable[[Array], Array], y: Array, weight: Weight = 1.0
) -> Denoiser:
    """Move x0_hat towards what was measured (5). With a weight of 1 and a linear A with A A^+ A = A, A x0_hat = y if y is in A's range."""

    def projected(x, t):
        x0 = denoise(x, t)
        return x0 + _at(weight, t) * pseudo_inverse(y - forward(x0))

    return projected


def proximal_x0(denoise: Denoiser, operator: Operator, y: Array, weight: Weight, *, steps: int = 5) -> Denoiser:
    """Move x0_hat to where the measurement and it agree best (8), by `steps` (static) of conjugate gradients from x0_hat.

    One step is exact where A^H A has no eigenvalues but 0 and 1, as for `operators.fourier` and `operators.pixels`; several coils want five or more.

    Args:
        operator: a linear A of real arrays (`operators.on_channels` makes one of complex arrays), its adjoint used alone.
        weight: w of (8), the doubt about x0_hat over the noise of y, as variances; a function of t follows the doubt as it falls.
    """

    def moved(x, t):
        x0, w = denoise(x, t), _at(weight, t)
        normal = lambda z: z + w * operator.adjoint(operator.forward(z))
        return x0 + conjugate_gradients(normal, w * operator.adjoint(y - operator.forward(x0)), steps)

    return moved


def interval(inside: Denoiser, outside: Denoiser, low: float | Array, high: float | Array) -> Denoiser:
    """`inside` at times low < t <= high and `outside` elsewhere; only one of the two is evaluated."""
    return lambda x, t: jax.lax.cond((low < t) & (t <= high), inside, outside, x, t)


def static_threshold(denoise: Denoiser, low: float | Array = -1.0, high: float | Array = 1.0) -> Denoiser:
    """Clip x0_hat to the range of the data (6)."""
    return lambda x, t: jnp.clip(denoise(x, t), low, high)


def dynamic_threshold(
    denoise: Denoiser, quantile: float | Array = 0.995, limit: float | Array = 1.0, axis: int | tuple[int, ...] | None = None
) -> Denoiser:
    """Scale x0_hat back to [-limit, limit] where more than 1 - quantile of its elements leave it (7), along `axis`, or None all of them."""

    def thresholded(x, t):
        x0 = denoise(x, t)
        bound = jnp.maximum(jnp.quantile(jnp.abs(x0), quantile, axis=axis, keepdims=True), limit)
        return jnp.clip(x0, -bound, bound) * (limit / bound)

    return thresholded


def _at(weight: Weight, t: Time) -> Array:
    return weight(t) if callable(weight) else weight


def _gain(path: GaussianPath, t: Time) -> Array:
    """sigma^2 / alpha: how far a unit of score moves x0_hat; falls to 0 where alpha is below what its dtype resolves beside 1."""
    alpha = path.alpha(t)
    return jnp.square(path.sigma(t)) * alpha / (jnp.square(alpha) + jnp.finfo(alpha.dtype).eps ** 2)


def _through(denoise, value, x, t) -> tuple[Array, Array]:
    """x0_hat, and the gradient of a value of it with respect to x."""

    def of(x):
        x0 = denoise(x, t)
        return value(x0), x0

    gradient, x0 = jax.grad(of, has_aux=True)(x)
    return x0, gradient


def _norm(x: Array) -> Array:
    """Euclidean norm, with a gradient of 0 at 0."""
    square = jnp.sum(jnp.square(x))
    return jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1.0)), 0.0)
