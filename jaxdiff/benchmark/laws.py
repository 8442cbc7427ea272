"""Laws whose denoiser is a closed form, and paths to them: where samplers are compared without a network."""

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
from scipy.fft import idctn

from jaxdiff import exact, grids, paths
from jaxdiff.exact import Mixture
from jaxdiff.paths import GaussianPath
from jaxdiff.types import Array


def image(side: int = 8, components: int = 4, seed: int = 0) -> Mixture:
    """Images of side^2 pixels of standard deviation 0.47, the power of whose waves falls with their frequency f as (1 + f^2)^(-3/2)."""
    rng = np.random.default_rng(seed)
    power = (1 + np.add.outer(np.arange(side) ** 2, np.arange(side) ** 2).ravel()) ** -1.5
    power *= 0.2 * side**2 / power.sum()
    waves = np.stack([idctn(each.reshape(side, side), norm='ortho').ravel() for each in np.eye(side**2)])  # one a row
    means = np.sqrt(power / 2) * rng.normal(size=(components, side**2))
    spreads = 0.8 * power * np.exp(rng.normal(size=(components, side**2)) / 2)
    covariances = np.einsum('fd,kf,fg->kdg', waves, spreads, waves)
    return exact.mixture(np.full(components, 1 / components), (means - means.mean(0)) @ waves, covariances)


LAWS: dict[str, Callable[[], Mixture]] = {
    'line': lambda: exact.mixture([0.3, 0.5, 0.2], [[-0.6], [0.1], [0.7]], np.square([0.15, 0.2, 0.1])),
    'plane': lambda: exact.mixture(
        [0.5, 0.4, 0.1],
        [[-0.5, -0.2], [0.5, -0.3], [0.1, 0.7]],
        [[[0.04, 0.02], [0.02, 0.03]], [[0.02, -0.01], [-0.01, 0.03]], [[0.01, 0.0], [0.0, 0.01]]],
    ),
    'image': image,
}
PATHS: dict[str, Callable[[], GaussianPath]] = {
    'linear': lambda: paths.discrete(paths.linear_betas(1000)),
    'scaled linear': lambda: paths.discrete(paths.scaled_linear_betas(1000)),
    'cosine': paths.cosine,
    'edm': paths.edm,
}


def levels(path: GaussianPath) -> Array:
    """sigma / alpha (1000,), rising, at the times of a table, or even ones; where time is noise, at those of Karras et al."""
    noise = path.steps is None and path.end > 1
    times = grids.karras(path, 999, zero=False)[::-1] if noise else path.end * (jnp.arange(1000) + 1) / 1000
    return path.sigma(times) / path.alpha(times)
