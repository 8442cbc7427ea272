"""The schedulers of diffusers, walked with an exact denoiser: every one that can do with few network calls, in every option it offers of its own.

Walks are told nothing but numbers. The flow of any path in y = x / alpha depends on its noise level sigma / alpha alone, so a path is handed over
as the levels (1000,) of its times, rising, from which the betas are made; for schedulers that bring levels of their own, as their ends. What is
asked of the network is the denoiser at the level by which the scheduler moves, or, where it tells no such level, at its timestep, interpolated:
what rounding of timesteps costs a peer elsewhere it does not pay here. All start from the same y, in double precision where they keep it.
"""

import inspect
import warnings
from collections.abc import Callable, Iterator, Mapping
from itertools import product
from typing import Any, NamedTuple

import numpy as np

NOISES = {f'{name}Scheduler' for name in ('LMSDiscrete', 'EulerDiscrete', 'HeunDiscrete', 'KDPM2Discrete', 'EulerAncestralDiscrete')}
NOISES |= {'KDPM2AncestralDiscreteScheduler'}  # those that walk x / alpha, and scale it for the network
LEVELS = {f'{name}Scheduler' for name in ('DPMSolverMultistep', 'DPMSolverSinglestep', 'UniPCMultistep', 'DEISMultistep', 'SASolver')}
SPACINGS = tuple({'timestep_spacing': spacing} for spacing in ('linspace', 'leading', 'trailing'))
SIGMAS = tuple({f'use_{name}_sigmas': True} for name in ('karras', 'exponential', 'beta'))
LU = {'use_lu_lambdas': True}
CLIPPED = tuple({**spacing, 'lambda_min_clipped': -5.1} for spacing in SPACINGS)  # advised for cosine tables
SHORT = {'final_sigmas_type': 'sigma_min'}
FULL = {'lower_order_final': False}
STD = 0.5  # of the data, as the schedulers of EDM have it

Denoise = Callable[[np.ndarray, float], np.ndarray]  # y (n, D), noise level -> x0_hat (n, D)


class Entry(NamedTuple):
    """A scheduler and its options: keywords that make it, and keywords of its step."""

    scheduler: str
    options: Mapping[str, Any] = {}
    stepping: Mapping[str, Any] = {}

    @property
    def name(self) -> str:
        told = {**self.options, **self.stepping}
        return ' '.join([self.scheduler.removesuffix('Scheduler'), *(f'{key}={value}' for key, value in told.items())])


class Impossible(Exception):
    """The scheduler has no such walk."""


def flows() -> Iterator[Entry]:
    """Schedulers that follow the probability flow."""
    grids = SPACINGS + SIGMAS
    for spacing in SPACINGS:
        yield Entry('DDIMScheduler', {**spacing, 'clip_sample': False})
        for skip, one in product((True, False), repeat=2):
            yield Entry('PNDMScheduler', {**spacing, 'skip_prk_steps': skip, 'set_alpha_to_one': one})
    for name, grid in product(('LMSDiscrete', 'EulerDiscrete', 'HeunDiscrete', 'KDPM2Discrete'), grids):
        yield Entry(f'{name}Scheduler', grid)
    finals = ({}, {'euler_at_final': True}, FULL, SHORT, {**SHORT, **FULL})
    for order, kind, grid in product((1, 2, 3), ('midpoint', 'heun'), (*grids, LU, *CLIPPED)):
        options = {'solver_order': order, 'solver_type': kind, **grid}
        for final in finals:
            yield Entry('DPMSolverMultistepScheduler', {**options, **final})
        for final in finals[3:]:
            yield Entry('DPMSolverMultistepScheduler', {**options, 'algorithm_type': 'dpmsolver', **final})
    for order, kind, grid, final in product((1, 2, 3), ('midpoint', 'heun'), ({}, *SIGMAS), ({}, FULL, SHORT, {**SHORT, **FULL})):
        for algorithm in ('dpmsolver++', 'dpmsolver') if 'final_sigmas_type' in final else ('dpmsolver++',):
            options = {'solver_order': order, 'solver_type': kind, 'algorithm_type': algorithm}
            yield Entry('DPMSolverSinglestepScheduler', {**options, **grid, **final})
    for order, kind, grid, final in product((1, 2, 3), ('bh1', 'bh2'), grids, ({}, SHORT, {**SHORT, **FULL})):
        for x0 in (True, False) if final else (True,):
            yield Entry('UniPCMultistepScheduler', {'solver_order': order, 'solver_type': kind, 'predict_x0': x0, **grid, **final})
    for order, grid, final in product((1, 2, 3), grids, ({}, FULL)):
        yield Entry('DEISMultistepScheduler', {'solver_order': order, **grid, **final})
        for corrector in (order, order + 1):
            options = {'predictor_order': order, 'corrector_order': corrector, 'tau_func': still}
            yield Entry('SASolverScheduler', {**options, **grid, **final})
    for schedule in ('karras', 'exponential'):
        yield Entry('EDMEulerScheduler', {'sigma_schedule': schedule})
        for order, kind, final in product((2, 3), ('midpoint', 'heun'), finals):
            yield Entry('EDMDPMSolverMultistepScheduler', {'sigma_schedule': schedule, 'solver_order': order, 'solver_type': kind, **final})
    yield Entry('IPNDMScheduler')


def draws() -> Iterator[Entry]:
    """Schedulers that draw noise on the way."""
    grids = SPACINGS + SIGMAS
    for spacing in SPACINGS:
        yield Entry('DDIMScheduler', {**spacing, 'clip_sample': False}, {'eta': 1.0})
        yield Entry('EulerAncestralDiscreteScheduler', spacing)
        for variance in ('fixed_small', 'fixed_large'):
            yield Entry('DDPMScheduler', {**spacing, 'variance_type': variance, 'clip_sample': False})
    for grid in grids:
        yield Entry('KDPM2AncestralDiscreteScheduler', grid)
        for order in (1, 2, 3):
            yield Entry('DPMSolverMultistepScheduler', {'algorithm_type': 'sde-dpmsolver++', 'solver_order': order, **grid})
            yield Entry('SASolverScheduler', {'predictor_order': order, 'corrector_order': order, **grid})


def walk(entry: Entry, levels: np.ndarray, denoise: Denoise, y: np.ndarray, calls: int, seed: int = 0) -> np.ndarray:
    """Ends (n, D) of the walk of as many steps as at most `calls` network calls allow; `Impossible` where there is none."""
    import torch

    scheduler = _scheduled(entry, levels, calls)
    told = {**entry.stepping}
    if 'generator' in inspect.signature(scheduler.step).parameters:
        told['generator'] = torch.Generator().manual_seed(seed)
    own = entry.scheduler.startswith('EDM')
    x = torch.from_numpy(y / (1.0 if own or entry.scheduler in NOISES else np.hypot(1.0, levels[-1])))
    for i, t in enumerate(scheduler.timesteps):
        seen = scheduler.scale_model_input(x, t)
        level = _level(entry, scheduler, levels, i, float(t))
        answer = _preconditioned if own else _velocity
        prediction = answer(denoise, x.numpy() if own else seen.numpy(), level)
        try:
            x = scheduler.step(torch.from_numpy(prediction), t, x, **told).prev_sample.double()
        except (AssertionError, IndexError, TypeError) as error:
            raise Impossible(str(error)) from None
    return x.numpy()


def still(t: float) -> float:
    """No noise, for SA-Solver."""
    return 0.0


def _scheduled(entry, levels, calls):
    import diffusers

    diffusers.logging.set_verbosity_error()  # they tell of every option they change
    warnings.filterwarnings('ignore', category=FutureWarning, module='diffusers')
    make = getattr(diffusers, entry.scheduler)
    if entry.scheduler.startswith('EDM'):
        scheduler = make(sigma_min=float(levels[0]), sigma_max=float(levels[-1]), sigma_data=STD, **entry.options)
    elif entry.scheduler == 'IPNDMScheduler':
        scheduler = make()
    else:
        kept = 1 / (1 + levels**2)
        betas = 1 - kept / np.append(1.0, kept[:-1])
        scheduler = make(num_train_timesteps=len(levels), trained_betas=betas, prediction_type='v_prediction', **entry.options)
    for steps in range(calls, 0, -1):
        try:
            scheduler.set_timesteps(steps)
        except (AssertionError, IndexError, ValueError) as error:
            raise Impossible(str(error)) from None
        if len(scheduler.timesteps) <= calls:
            getattr(scheduler, 'set_begin_index', lambda begin: None)(0)
            return scheduler
    raise Impossible(f'{entry.name} takes more than {calls} network calls')


def _level(entry, scheduler, levels, i, t):
    if entry.scheduler == 'IPNDMScheduler':  # its angle in units of pi / 2
        return min(float(np.tan(t * np.pi / 2)), levels[-1]) if t < 1 else levels[-1]
    if entry.scheduler in LEVELS or entry.scheduler.startswith('EDM'):
        return float(scheduler.sigmas[i])
    return float(np.exp(np.interp(t, np.arange(len(levels)), np.log(levels))))


def _velocity(denoise, x, level):
    """v of x with alpha^2 + sigma^2 = 1."""
    alpha = 1 / np.hypot(1.0, level)
    x = x.astype(np.float64)
    return (alpha * x - denoise(x / alpha, level)) / (alpha * level)


def _preconditioned(denoise, x, level):
    """F of x = x0 + level eps."""
    whole = np.hypot(level, STD)
    return (denoise(x, level) - (STD / whole) ** 2 * x) * whole / (level * STD)
