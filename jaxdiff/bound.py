"""Bounds on -log p(x0) of a denoiser's model of the data, in bits per element.

A walk down a grid of times, whose steps t -> s draw from N(mean(x0_hat, x_t), variance), has for every x0

    -log p(x0) <= KL(q(x_T | x0) || N(0, prior^2))                                                                          prior
                  + sum E KL(q(x_s | x_t, x0) || N(mean(x0_hat, x_t), variance))                                            terms
                  - E log N(x0; x0_hat, variance)      for the step to data, integrated over the bins of quantised data     decoder   (1)

and in the limit of short steps, down to a time e > 0, whose own step to data has the variance (sigma_e / alpha_e)^2,

    terms -> 1/2 int E SNR |x0 - x0_hat|^2 du = 1/2 int E g^2 |s - grad log q(x_t | x0)|^2 dt,     u = -log SNR.             (2)

The right side is the loss weighted for the likelihood of the stochastic differential equation with the score s of the denoiser, drift f
and diffusion g, as g^2 dt = sigma^2 du. Times even in u, which are times of density g^2 / sigma^2, leave a plain mean squared error of eps;

    1/2 E |eps - eps_hat|^2 = 1/2 E |eps - eps_hat|^2 - a (|eps|^2 - d)                                                      (3)

varies least for an a that falls from 1 near data, where eps_hat is 0, to 0 near noise, where it is eps; here a = (SNR / (1 + SNR))^2. The
bound of ScoreFlow takes a = 1 and integrates the d in closed form, which is where its divergence of f and its entropies come from.

The bounds hold on average over the draws they are made from, and say nothing about the probability flow of a denoiser that is not exact.

Ho, Jain, Abbeel, NeurIPS 2020 (1); Kingma et al., "Variational diffusion models", NeurIPS 2021, and Song, Durkan, Murray, Ermon, "Maximum
likelihood training of score-based diffusion models" (ScoreFlow), NeurIPS 2021 (2).
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxdiff.losses import bound_term, gaussian_kl, log_mass
from jaxdiff.noise import gaussian
from jaxdiff.paths import GaussianPath, perturb, prior_std, time_of
from jaxdiff.predict import log_variance
from jaxdiff.types import Array, Denoiser, Key, Time

_BITS = 1 / math.log(2)


class Bound(NamedTuple):
    """A bound and its parts, all in bits per element.

    Attributes:
        total: prior + the sum of terms + decoder.
        prior: that x_T is not yet noise; exact.
        terms: (N - 1,) of the N - 1 steps between noisy images, or (samples,) of as many parts of (2).
        decoder: of the step to data.
    """

    total: Array
    prior: Array
    terms: Array
    decoder: Array


def variational_bound(
    key: Key,
    x0: Array,
    denoise: Denoiser,
    path: GaussianPath,
    times: Array,
    *,
    variance: str | Callable[[Array, Time, Time], Array] = 'small',
    prior: float | Array | None = None,
    bins: int | None = 256,
    cdf: Callable[[Array], Array] = jax.scipy.stats.norm.cdf,
) -> Bound:
    """The bound (1) of one example x0 (*spatial, C), from one draw of x_t at every time of a grid.

    Args:
        times: (N + 1,), decreasing, the last of them 0; `grids.trailing(T, T)` for all of a table.
        variance: 'small', 'large' or (x, t, s) -> variance, as in `solvers.ancestral.ddpm`. For the step to data both words take the
            smaller variance of a step of the same length just above, as Ho et al. did; where that is not near (sigma / alpha)^2, as on
            paths whose noise does not begin at 0, take a function.
        prior: standard deviation of what walks start from; None is `prior_std(path)`.
        bins: the data are this many levels from -1 to 1; None where they are continuous, and the bound is on their density.
        cdf: of the standard normal; `losses.tanh_cdf` reproduces published numbers.
    """
    if variance not in ('small', 'large') and not callable(variance):
        raise ValueError(f"variance is 'small', 'large' or a function of x, t and s, not {variance!r}")

    def log_std(x, t, s):
        if callable(variance):
            return jnp.log(jnp.maximum(variance(x, t, s), 1e-30)) / 2
        return log_variance(path, jnp.where((path.sigma(s) > 0) & (variance == 'large'), 1.0, -1.0), t, s) / 2

    def term(inputs):
        i, t, s = inputs
        x = perturb(path, x0, gaussian(jax.random.fold_in(key, i), x0.shape), t)
        return bound_term(path, x0, x, t, s, denoise(x, t), log_std(x, t, s), bins=bins, cdf=cdf)

    terms = jax.lax.map(term, (jnp.arange(len(times) - 1), times[:-1], times[1:]))
    return _bound(_prior(path, x0, times[0], prior), terms[:-1], terms[-1])


def score_bound(
    key: Key,
    x0: Array,
    denoise: Denoiser,
    path: GaussianPath,
    *,
    samples: int = 1000,
    last: float | Array | None = None,
    prior: float | Array | None = None,
    bins: int | None = None,
) -> Bound:
    """The bound (2) of one example x0 (*spatial, C), from `samples` + 1 evaluations of the denoiser.

    Args:
        samples: times, one drawn from each of as many equal parts of the range of log-SNR.
        last: the time e; None is index 0 of a table and 1e-5 of a continuous path. Float32 rounds noise below 1e-5 away.
        prior, bins: as in `variational_bound`.
    """
    if last is None:
        last = 1e-5 * path.end if path.steps is None else 1.0
    time_key, noise_key = jax.random.split(key)
    highest, lowest = path.log_snr(last), path.log_snr(path.end)
    shares = (jnp.arange(samples) + jax.random.uniform(time_key, (samples,))) / samples
    times = jnp.append(time_of(path, highest + (lowest - highest) * shares), last)

    def term(inputs):
        i, t = inputs
        eps, log_snr = gaussian(jax.random.fold_in(noise_key, i), x0.shape), path.log_snr(t)
        x0_hat = denoise(perturb(path, x0, eps, t), t)
        error = jnp.exp(log_snr) * jnp.square(x0 - x0_hat) - jnp.square(jax.nn.sigmoid(log_snr)) * (jnp.square(eps) - 1)
        density = -(error + math.log(2 * math.pi) - log_snr) / 2
        likelihood = density if bins is None else log_mass(x0, x0_hat, -log_snr / 2, bins)
        return jnp.mean(error) / 2, -jnp.mean(likelihood)

    errors, likelihoods = jax.lax.map(term, (jnp.arange(samples + 1), times))
    terms = _BITS * (highest - lowest) / samples * errors[:-1]
    return _bound(_prior(path, x0, path.end, prior), terms, _BITS * likelihoods[-1])


def _prior(path: GaussianPath, x0: Array, t: Time, std: float | Array | None) -> Array:
    std = prior_std(path) if std is None else std
    return _BITS * jnp.mean(gaussian_kl(path.alpha(t) * x0, jnp.log(path.sigma(t)), 0.0, jnp.log(std)))


def _bound(prior: Array, terms: Array, decoder: Array) -> Bound:
    return Bound(prior + jnp.sum(terms) + decoder, prior, terms, decoder)
