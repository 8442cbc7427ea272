"""Score-MRI: the predictor and the corrector of a variance-exploding path, each followed by data consistency.

    x <- x + w A^+ (y - A x)                        w = 1 hard, below 1 soft, for measurements with noise                      (1)
    D(x) = (D(Re x), D(Im x))                       a denoiser of one real channel, for each part of a complex image           (2)

By (2) a prior of magnitude images serves complex ones. With several coils the operator holds the sensitivities and x is the one image that
all coils see, v = sum_c conj(S_c) x_c, so that coils never disagree; (1) is then as exact as the conjugate gradients of A^+.

Chung and Ye, "Score-based diffusion models for accelerated MRI", Medical Image Analysis 2022.
"""

from collections.abc import Sequence

import jax

from jaxdiff.constraints import consistent
from jaxdiff.operators import Operator
from jaxdiff.paths import GaussianPath
from jaxdiff.solvers.langevin import langevin_corrector, predictor_corrector, repeat
from jaxdiff.solvers.loop import sample
from jaxdiff.solvers.reverse_sde import reverse_diffusion
from jaxdiff.tasks.reconstruction.draws import Posterior, several
from jaxdiff.types import Array, Denoiser, Key


def by_parts(denoise: Denoiser) -> Denoiser:
    """(2): a denoiser of (*spatial, C) from one of (*spatial, 1), each channel by itself."""
    return lambda x, t: jax.vmap(lambda part: denoise(part[..., None], t)[..., 0], in_axes=-1, out_axes=-1)(x)


def reconstruct(
    key: Key,
    y: Array,
    operator: Operator,
    denoise: Denoiser,
    *,
    path: GaussianPath,
    times: Array,
    shape: Sequence[int],
    weight: float | Array = 1.0,
    snr: float | Array = 0.16,
    corrections: int = 1,
    count: int = 4,
) -> Posterior:
    """Samples given y, their mean and their standard deviation, (corrections + 1) evaluations a step.

    Args:
        y: what `operator.forward` gives, real.
        operator: A of real arrays; with an exact pseudo-inverse and a weight of 1 every sample explains y to rounding.
        path: `paths.ve`, its largest sigma at least the distance between two images.
        times: (steps + 1,) from the path's end to 0.
        shape: of an image (*spatial, C).
        weight: w of (1).
        snr: of the corrector, as for `langevin_corrector`.
        corrections: before each prediction, static; 0 leaves the predictor alone.
        count: samples, static. Sample i is that of fold_in(key, i), whatever the count.
    """
    solver = predictor_corrector(reverse_diffusion(path), langevin_corrector(path, snr=snr))
    hold = consistent(operator.forward, operator.pseudo_inverse, y, weight)

    def one(key):
        start, walk = jax.random.split(key)
        noise = path.sigma(times[0]) * jax.random.normal(start, tuple(shape))
        return sample(walk, noise, denoise, solver, repeat(times, corrections), constrain=hold).x

    return several(one, key, count)
