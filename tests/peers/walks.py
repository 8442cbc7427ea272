"""The same walks taken by this library and by its peers: one network, one grid, one start, one noise.

The network is a smooth random function v(x, t) of 8 numbers; eps = sigma x + alpha v and x0 = alpha x - sigma v are made of it, so that the
three kinds of prediction describe one walk of size 1. A peer is given our grid where it accepts one, else settings under which its own is
ours, and that is checked; its noise is what our solver draws, through `torch.randn`. What is compared is x after every step.

What is walked stands in `cases`. Torch is imported only inside `theirs`.
"""

import functools
import importlib
import importlib.metadata
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
from cases import Case, T

from jaxdiff import guidance, paths
from jaxdiff.noise import gaussian
from jaxdiff.predict import as_denoiser

SHAPE = (2, 2, 2)
KEY = jax.random.key(7)
START = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)


def _compiled(path):
    """A path whose functions are compiled once, for all the walks."""
    return path._replace(**{name: jax.jit(getattr(path, name)) for name in ('alpha', 'sigma', 'log_snr', 'embed')})


BETAS = {'linear': paths.linear_betas(T), 'scaled': paths.scaled_linear_betas(T), 'short': paths.linear_betas(20, 0.005, 0.6)}
PATHS = {name: _compiled(paths.discrete(betas)) for name, betas in BETAS.items()}
ABAR = {name: np.cumprod(1 - betas) for name, betas in BETAS.items()}

_rng = np.random.default_rng(1)
_INTO, _TIME, _OUT = (scale * _rng.normal(size=size).astype(np.float32) for scale, size in ((0.5, (16, 8)), (2.0, 16), (0.4, (8, 16))))


def velocity(x, t, xp=np):
    """v of x (2, 2, 2), channels last, at time t of 0..1000, by numpy or jax.numpy."""
    hidden = xp.tanh(_INTO @ xp.reshape(x, -1) + _TIME * xp.cos(t / 200 + _TIME))
    return xp.reshape(_OUT @ hidden, SHAPE)


def network(kind: str, table: str | None):
    """(x, t, numpy or jax.numpy) -> prediction, t the index of a table, or 1000 times the time of a flow."""
    if table is None:
        return velocity
    alphas, sigmas = (np.sqrt(each).astype(np.float32) for each in (ABAR[table], 1 - ABAR[table]))

    def predict(x, t, xp=np):
        index = xp.asarray(t).astype(int)
        alpha, sigma, v = xp.asarray(alphas)[index], xp.asarray(sigmas)[index], velocity(x, t, xp)
        return {'eps': sigma * x + alpha * v, 'x0': alpha * x - sigma * v, 'v': v}[kind]

    return predict


def ours(case: Case) -> np.ndarray:
    """x after every step compared, (steps, 2, 2, 2)."""
    return _walk(case.solver, tuple(case.options.items()), tuple(case.times.tolist()), case.kind, case.clip, case.table)[: case.last]


@functools.cache
def _walk(solver, options, times, kind, clip, table):
    """Step by step, as `sample` goes: most solvers then need no compilation of their own, and those that branch one for all grids."""
    init, step = _step(solver, options, kind, clip, table)
    x, states = jnp.asarray(START), []
    memory, times = init(x), np.asarray(times, np.float32)
    for i in range(len(times) - 1):
        x, _, memory = step(_key(i), memory, x, times[i], times[i + 1])
        states.append(x)
    return np.stack(states)


@functools.cache
def _step(solver, options, kind, clip, table):
    path, answer = path_of(table), network(kind, table)
    denoise = as_denoiser(jax.jit(lambda x, t: answer(x[0], t[0], jnp)[None]), path, kind)
    if clip:
        denoise = guidance.static_threshold(denoise)
    file, factory = solver.split('.')
    solver = getattr(importlib.import_module(f'jaxdiff.solvers.{file}'), factory)(path, **dict(options))
    step = lambda key, memory, x, t, s: solver.step(key, denoise, memory, x, t, s)
    return solver.init, jax.jit(step) if file in ('runge_kutta', 'multistep') else step


def theirs(case: Case) -> np.ndarray:
    """The same from the peer."""
    import torch

    scheduler = _scheduler(case)
    answer, scales = network(case.kind, case.table), _scales(case)
    sign = -1 if case.scheduler == 'RFlowScheduler' else 1  # MONAI's velocity is x0 - eps
    draws = (np.asarray(gaussian(_key(i), SHAPE)) for i in range(len(case.times) - 1))  # as our solver draws
    x, states = _torch(START * scales[0]), []
    with mock.patch('torch.randn', lambda *_, **__: _torch(next(draws))):
        for t, after in zip(scheduler.timesteps, [*scheduler.timesteps[1:], 0], strict=True):
            seen = getattr(scheduler, 'scale_model_input', lambda x, t: x)(x, t)
            prediction = _torch(sign * answer(_numpy(seen), np.float32(t)))
            extra = {'next_timestep': after} if case.scheduler == 'RFlowScheduler' else case.stepping
            moved = scheduler.step(prediction, t, x, **extra)
            x = moved[0] if case.peer == 'monai' else moved.prev_sample
            states.append(_numpy(x.to(torch.float32)))
    kept = states if case.calls is None else [states[i] for i in case.calls]
    return np.stack(kept[: case.last]) / scales[1 : len(kept) + 1][: case.last, None, None, None]


def versions() -> dict[str, str]:
    """Of the peers installed."""
    return {name: importlib.metadata.version(name) for name in ('diffusers', 'monai', 'torch')}


def path_of(table: str | None):
    return paths.flow() if table is None else PATHS[table]


def _scheduler(case: Case):
    module = importlib.import_module('diffusers' if case.peer == 'diffusers' else 'monai.networks.schedulers')
    scheduler = getattr(module, case.scheduler)(**case.settings)
    timesteps = np.round(case.times[:-1] * 1000 if case.table is None else case.times[:-1] - 1)
    steps = len(timesteps)
    if case.scheduler == 'FlowMatchEulerDiscreteScheduler':
        scheduler.set_timesteps(sigmas=case.times[:-1])
    elif case.told:
        scheduler.set_timesteps(timesteps=timesteps.astype(int).tolist())
    else:
        scheduler.set_timesteps(steps)
    if case.peer == 'monai' and case.scheduler == 'PNDMScheduler':
        _mend(scheduler, steps)
    visited = scheduler.timesteps.numpy().round()
    assert set(timesteps) <= set(visited), f'{case.name}: {visited} is not our grid'
    return scheduler


def _mend(scheduler, steps):
    """MONAI takes the number of calls for that of steps, and without Runge-Kutta calls the network once at the second time, where its own
    first step, taken twice, needs it twice."""
    scheduler.num_inference_steps = steps
    if scheduler.skip_prk_steps:
        scheduler.timesteps = scheduler.timesteps[[0, 1, *range(1, steps)]]


def _scales(case: Case) -> np.ndarray:
    """Their x / our x at every time: 1, but 1 / alpha for schedulers that walk x / alpha."""
    if case.scheduler not in ('EulerDiscreteScheduler', 'HeunDiscreteScheduler'):
        return np.ones(len(case.times), np.float32)
    return 1 / np.asarray(path_of(case.table).alpha(jnp.asarray(case.times, jnp.float32)))


def _key(step: int):
    """What `sample` gives the solver for a step."""
    return jax.random.split(jax.random.fold_in(KEY, step))[0]


def _torch(x: np.ndarray):
    import torch

    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(np.asarray(x, np.float32), -1, 0))[None])


def _numpy(x) -> np.ndarray:
    return np.moveaxis(x.numpy()[0], 0, -1)
