"""What a trained model costs, and a trained model that needs no network code: names are imported when they are asked for, `load` without Flax."""

import importlib

HOMES = {'save': 'program', 'load': 'artifact', 'Sampler': 'artifact', 'predict': 'cost', 'Cost': 'cost'}
__all__ = [*HOMES]


def __getattr__(name: str):
    if name not in HOMES:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    return getattr(importlib.import_module(f'{__name__}.{HOMES[name]}'), name)
