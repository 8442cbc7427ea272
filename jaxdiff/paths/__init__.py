"""Gaussian paths: how data turn into noise. `gaussian` holds what a path is and does, the other files make them."""

from jaxdiff.paths.continuous import cosine, vp
from jaxdiff.paths.gaussian import SDE, GaussianPath, bridge, perturb, prior_std, rates, sde, time_of, transition, variance_preserving
from jaxdiff.paths.tables import cosine_betas, discrete, linear_betas, scaled_linear_betas

__all__ = [
    'SDE',
    'GaussianPath',
    'bridge',
    'cosine',
    'cosine_betas',
    'discrete',
    'linear_betas',
    'perturb',
    'prior_std',
    'rates',
    'scaled_linear_betas',
    'sde',
    'time_of',
    'transition',
    'variance_preserving',
    'vp',
]
