"""Diffusion models for medical images in JAX: small exact pieces, proved against closed forms."""

from jaxdiff.constraints import inpaint
from jaxdiff.guidance import classifier_free
from jaxdiff.losses import denoising
from jaxdiff.model import denoiser, make_path, shipped
from jaxdiff.paths import cosine, discrete, perturb, vp
from jaxdiff.predict import as_denoiser
from jaxdiff.solvers.ancestral import ddim, ddpm
from jaxdiff.solvers.loop import sample
from jaxdiff.solvers.runge_kutta import heun

__all__ = [
    'as_denoiser',
    'classifier_free',
    'cosine',
    'ddim',
    'ddpm',
    'denoiser',
    'denoising',
    'discrete',
    'heun',
    'inpaint',
    'make_path',
    'perturb',
    'sample',
    'shipped',
    'vp',
]
