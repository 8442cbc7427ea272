"""What a network predicts, and how any prediction becomes a denoiser.

Every kind of prediction is a combination of the data and the noise of x = alpha x0 + sigma eps, so that any one of them, with x, gives all:

    x0                                                                      (1)
    eps                                                                     (2)
    v        = alpha eps - sigma x0                                         (3)
    score    = -eps / sigma = grad log p(x)                                 (4)
    velocity = alpha' x0 + sigma' eps = dx/dt        (eps - x0 for flows)   (5)
    edm      = sigma / (d r) x0 - alpha d / r eps,   r^2 = alpha^2 d^2 + sigma^2,   d the data's standard deviation     (6)

(6) is the F of x0 = c_skip x / alpha + c_out F, with c_skip = (alpha d / r)^2 and c_out = sigma d / r: of variance 1 for data of variance
d^2, like x / r, what the network sees of x where a path names d. For d = 1 on a variance-preserving path it is -v.

A learned variance (7) lies between the two extremes of the reverse step t -> s, in logarithms, with r a second set of output channels:

    log variance = (1 + r)/2 log beta + (1 - r)/2 log beta~,    beta = sigma_t^2 (1 - SNR_t/SNR_s),    beta~ = sigma_s^2 (1 - SNR_t/SNR_s).

(3) Salimans and Ho, ICLR 2022; (4) Song et al., ICLR 2021; (5) Lipman et al., ICLR 2023; (6) Karras et al., NeurIPS 2022; (7) Nichol and
Dhariwal, ICML 2021.
This is the one place where divisions by alpha or sigma live, and the one place that gives a network its batch axis.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jaxdiff.paths import GaussianPath, bridge, rates, time_of, transition
from jaxdiff.types import Array, Denoiser, Time

KINDS = ('x0', 'eps', 'v', 'score', 'velocity', 'edm')


def convert(path: GaussianPath, value: Array, x: Array, t: Time, *, source: str, target: str) -> Array:
    """A prediction of one kind, made at x and t, as another kind: all have the shape of x.

    Where sigma = 0 the noise cannot be told from x; eps, and the score, are 0 there by convention.
    """
    if source == target:
        return value
    return _combine(path, *_split(path, value, x, t, source), t, target)


def target(path: GaussianPath, kind: str, x0: Array, eps: Array, t: Time) -> Array:
    """What a network of this kind should answer at alpha x0 + sigma eps: (1) to (6)."""
    return _combine(path, x0, eps, t, kind)


def as_denoiser(apply: Callable[..., Array], path: GaussianPath, kind: str, **conditioning: Any) -> Denoiser:
    """A network as a denoiser of one example, (x, t) -> E[x0 | x].

    Args:
        apply: (x (1, *spatial, C), embedded time (1,), **conditioning) -> (1, *spatial, C), or 2C channels with a learned variance, of
            which the first C are the prediction.
        kind: one of KINDS.
        **conditioning: trees of arrays for one example, passed on with a leading axis of 1.
    """
    _check(kind)

    def denoise(x, t):
        output = evaluate(apply, path, x, t, conditioning)
        return convert(path, output[..., : x.shape[-1]], x, t, source=kind, target='x0')

    return denoise


def along(denoise: Denoiser, learnt: GaussianPath, walked: GaussianPath) -> Denoiser:
    """The denoiser of one path for the x of another, without training: E[x0 | x] is a function of x / alpha and of the SNR alone.

    At SNRs that `learnt` does not have, its nearest end is asked.
    """

    def moved(x, t):
        s = time_of(learnt, walked.log_snr(t))
        return denoise(learnt.alpha(s) / walked.alpha(t) * x, s)

    return moved


def learned_variance(apply: Callable[..., Array], path: GaussianPath, **conditioning: Any) -> Callable[[Array, Time, Time], Array]:
    """(x, t, s) -> variance of the reverse step, the shape of x, from the last C of the network's 2C channels (7).

    Inside `jit` the network is not evaluated a second time for it: the compiler merges equal calls.
    """

    def variance(x, t, s):
        output = evaluate(apply, path, x, t, conditioning)
        return jnp.exp(log_variance(path, output[..., x.shape[-1] :], t, s))

    return variance


def log_variance(path: GaussianPath, raw: Array, t: Time, s: Time) -> Array:
    """(7) from raw outputs r, which -1 and 1 bound in spirit but not in fact.

    beta~ is 0 for the step to data; its logarithm there is taken from the step of the same length just above, (2t - s) -> t.
    """
    last = path.sigma(s) == 0
    above, below = jnp.where(last, jnp.minimum(2 * t - s, path.end), t), jnp.where(last, t, s)
    large = transition(path, s, t)[1]
    small = bridge(path, 0.0, 0.0, above, below)[1]
    large, small = (2 * jnp.log(jnp.maximum(std, 1e-15)) for std in (large, small))
    return (large + small) / 2 + raw * (large - small) / 2


def evaluate(apply: Callable[..., Array], path: GaussianPath, x: Array, t: Time, conditioning: Mapping[str, Any]) -> Array:
    """The network's answer for one example x, which it sees scaled to variance 1 where the path names the data's deviation; dtype of x.

    Keys among the conditioning are passed whole: they have no batch.
    """
    seen = x if path.data_std is None else (x / _size(path, t)).astype(x.dtype)
    output = apply(seen[None], path.embed(t)[None], **jax.tree.map(_batched, dict(conditioning)))
    return output[0].astype(x.dtype)


def _batched(value):
    value = jnp.asarray(value)
    return value if jnp.issubdtype(value.dtype, jax.dtypes.prng_key) else value[None]


def _split(path, value, x, t, kind) -> tuple[Array, Array]:
    """(x0, eps) from one prediction and x = alpha x0 + sigma eps."""
    _check(kind)
    alpha, sigma = path.alpha(t), path.sigma(t)
    if kind == 'x0':
        return value, _over(x - alpha * value, sigma)
    if kind == 'score':
        kind, value = 'eps', -sigma * value
    if kind == 'eps':
        return _over(x - sigma * value, alpha), value
    a, b = _shares(path, t, kind)
    determinant = alpha * b - sigma * a
    return (b * x - sigma * value) / determinant, (alpha * value - a * x) / determinant


def _combine(path, x0, eps, t, kind) -> Array:
    _check(kind)
    if kind == 'x0':
        return x0
    if kind == 'eps':
        return eps
    if kind == 'score':
        return _over(-eps, path.sigma(t))
    a, b = _shares(path, t, kind)
    return a * x0 + b * eps


def _shares(path, t, kind) -> tuple[Array, Array]:
    """(a, b) of a prediction a x0 + b eps; never parallel to (alpha, sigma)."""
    if kind == 'velocity':
        return rates(path, t)
    alpha, sigma = path.alpha(t), path.sigma(t)
    if kind == 'v':
        return -sigma, alpha
    std, size = _data_std(path), _size(path, t)
    return sigma / (std * size), -alpha * std / size


def _size(path: GaussianPath, t: Time) -> Array:
    """Standard deviation r of x_t for data of the path's `data_std` (6)."""
    return jnp.hypot(path.alpha(t) * _data_std(path), path.sigma(t))


def _data_std(path: GaussianPath) -> float:
    return 1.0 if path.data_std is None else path.data_std


def _over(numerator: Array, scale: Array) -> Array:
    """numerator / scale, 0 where the scale is 0; differentiable there too."""
    zero = scale == 0
    return jnp.where(zero, 0.0, numerator / jnp.where(zero, 1.0, scale))


def _check(kind: str) -> None:
    if kind not in KINDS:
        raise ValueError(f'unknown kind of prediction {kind!r}: one of {", ".join(KINDS)}')
