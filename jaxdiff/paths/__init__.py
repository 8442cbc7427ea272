"""Gaussian paths: how data turn into noise. `gaussian` holds what a path is and does, the other files make them."""

from jaxdiff.paths.continuous import cosine, edm, flow, subvp, ve, vp
from jaxdiff.paths.gaussian import SDE, GaussianPath, bridge, perturb, prior_std, rates, sde, time_of, transition, variance_preserving
from jaxdiff.paths.learned import Schedule, learned, learned_params
from jaxdiff.paths.tables import cosine_betas, discrete, linear_betas, rescale_zero_snr, respace, scaled_linear_betas, sigmoid_betas

__all__ = [
    'SDE',
    'GaussianPath',
    'Schedule',
    'bridge',
    'cosine',
    'cosine_betas',
    'discrete',
    'edm',
    'flow',
    'learned',
    'learned_params',
    'linear_betas',
    'perturb',
    'prior_std',
    'rates',
    'rescale_zero_snr',
    'respace',
    'scaled_linear_betas',
    'sde',
    'sigmoid_betas',
    'subvp',
    'time_of',
    'transition',
    'variance_preserving',
    've',
    'vp',
]
