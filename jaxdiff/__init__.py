"""Diffusion models for medical images in JAX: small exact pieces, proved against closed forms. A name is imported when it is asked for."""

import importlib

HOMES = {
    'adams': 'solvers.adams',
    'as_denoiser': 'predict',
    'classifier_free': 'guidance',
    'cosine': 'paths',
    'ddim': 'solvers.ancestral',
    'ddpm': 'solvers.ancestral',
    'denoiser': 'model',
    'denoising': 'losses',
    'discrete': 'paths',
    'heun': 'solvers.runge_kutta',
    'inpaint': 'constraints',
    'make_path': 'model',
    'perturb': 'paths',
    'sample': 'solvers.loop',
    'shipped': 'model',
    'vp': 'paths',
}
__all__ = [*HOMES]


def __getattr__(name: str):
    if name not in HOMES:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    return getattr(importlib.import_module(f'{__name__}.{HOMES[name]}'), name)
