"""Which walks are compared, and the settings under which a peer's is ours."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from jaxdiff import grids

T = 1000


class Case(NamedTuple):
    """One comparison.

    Attributes:
        peer, scheduler, settings: 'diffusers' or 'monai', the class, and the keywords that make it.
        solver, options: ours, 'file.factory' in `solvers`, and its keywords.
        times: our grid; the peer's timesteps are times[:-1] - 1 for a table, 1000 times[:-1] for flows.
        told: the peer is told its timesteps, not only their number.
        kind: what the network predicts. clip: x0_hat is clipped to [-1, 1] on both sides.
        stepping: keywords of the peer's `step`.
        calls: calls of the network after which the peer's x is our x; by default every one.
        last: steps compared; by default all.
        table: a key of `walks.PATHS`, or None for a flow.
    """

    peer: str
    scheduler: str
    settings: Mapping[str, Any]
    solver: str
    options: Mapping[str, Any]
    times: np.ndarray
    told: bool = False
    kind: str = 'eps'
    clip: bool = False
    stepping: Mapping[str, Any] = {}
    calls: tuple[int, ...] | None = None
    last: int | None = None
    table: str | None = 'linear'

    @property
    def name(self):
        given = {**self.settings, **self.stepping}
        return ' '.join(
            [self.peer, self.scheduler, *(f'{key}={value}' for key, value in given.items()), self.kind, f'{len(self.times) - 1}']
        )


def _cases():
    diffusers = lambda scheduler, settings, *rest, **more: Case('diffusers', scheduler, settings, *rest, **more)
    monai = lambda scheduler, settings, *rest, **more: Case('monai', scheduler, settings, *rest, **more)
    kinds = {'eps': 'epsilon', 'x0': 'sample', 'v': 'v_prediction'}
    trailing, leading = np.asarray(grids.trailing(T, 10)), np.asarray(grids.leading(T, 10))
    even = np.linspace(1, 0, 11)
    linear = {'beta_start': 1e-4, 'beta_end': 0.02, 'beta_schedule': 'linear'}

    for variance in ('small', 'large'):
        for clip in (False, True):
            settings = {'variance_type': f'fixed_{variance}', 'clip_sample': clip}
            yield diffusers('DDPMScheduler', settings, 'ancestral.ddpm', {'variance': variance}, leading, told=True, clip=clip)
    for kind, prediction in kinds.items():
        settings = {'timestep_spacing': 'trailing', 'clip_sample': False, 'prediction_type': prediction}
        yield diffusers('DDIMScheduler', settings, 'ancestral.ddim', {'eta': 0.0}, trailing, kind=kind)
    for eta in (0.5, 1.0):
        yield diffusers('DDIMScheduler', {'clip_sample': False}, 'ancestral.ddim', {'eta': eta}, leading, stepping={'eta': eta})
    trailing_to_first = np.append(trailing[:-1], 1)
    settings = {'timestep_spacing': 'trailing', 'clip_sample': False, 'set_alpha_to_one': False}
    yield diffusers('DDIMScheduler', settings, 'ancestral.ddim', {'eta': 0.0}, trailing_to_first)
    settings = {'timestep_spacing': 'trailing', 'clip_sample': True}
    yield diffusers(
        'DDIMScheduler', settings, 'ancestral.ddim', {'eta': 0.0}, trailing, clip=True, stepping={'use_clipped_model_output': True}
    )
    for kind, prediction in list(kinds.items())[::2]:
        yield diffusers(
            'EulerDiscreteScheduler',
            {'prediction_type': prediction},
            'runge_kutta.euler',
            {'clock': 'sigma'},
            trailing,
            told=True,
            kind=kind,
        )
    settings, calls = linear, (*range(1, 18, 2), 18)
    yield diffusers('HeunDiscreteScheduler', settings, 'runge_kutta.heun', {'clock': 'sigma'}, trailing, told=True, calls=calls)

    # Their last step to data takes a mean of slopes, ours returns x0_hat: it is left out, or the walk ends at the first index.
    settings, kept = {'skip_prk_steps': False}, (3, 7, 11, *range(12, 19))
    yield diffusers('PNDMScheduler', settings, 'multistep.pndm', {}, leading, calls=kept, last=9)
    yield diffusers('PNDMScheduler', {**settings, 'timestep_spacing': 'trailing'}, 'multistep.pndm', {}, trailing_to_first, calls=kept)
    settings, kept = {'skip_prk_steps': True}, tuple(range(1, 11))
    yield diffusers('PNDMScheduler', settings, 'multistep.plms', {}, leading, calls=kept, last=9)
    yield diffusers('PNDMScheduler', {**settings, 'timestep_spacing': 'trailing'}, 'multistep.plms', {}, trailing_to_first, calls=kept)

    # A last step to data is of first order in both. Below 15 steps `lower_order_final` would lower the one before it too, if that is of third.
    uneven = np.array([1000, 910, 780, 690, 560, 420, 350, 200, 110, 40, 0])
    uneven_to_first = np.append(uneven[:-1], 1)
    dpm = lambda settings, *rest, **more: diffusers('DPMSolverMultistepScheduler', settings, *rest, told=True, **more)
    for variant in ('midpoint', 'heun'):
        yield dpm({'solver_type': variant}, 'dpm_solver.dpmpp', {'order': 2, 'variant': variant}, uneven)
    for kind in ('x0', 'v'):
        yield dpm({'prediction_type': kinds[kind]}, 'dpm_solver.dpmpp', {'order': 2}, uneven, kind=kind)
    to_first = {'lower_order_final': False, 'final_sigmas_type': 'sigma_min'}
    yield dpm(to_first, 'dpm_solver.dpmpp', {'order': 2}, uneven_to_first)
    third = {'order': 3, 'peer_compat': True}
    yield dpm({'solver_order': 3, 'lower_order_final': False}, 'dpm_solver.dpmpp', third, uneven)
    yield dpm({'solver_order': 3, **to_first}, 'dpm_solver.dpmpp', third, uneven_to_first)
    for order in (1, 2):
        yield dpm({'algorithm_type': 'sde-dpmsolver++', 'solver_order': order}, 'dpm_solver.sde_dpmpp', {'order': order}, uneven)

    # With bh1 their last step to data is not a number; of third order, `lower_order_final` has to be off, which a step to data forbids.
    # The first index of the linear table, 1 - abar = 1e-4, has 4 digits in float32, as theirs is; a long step there shows it.
    scaled = {'beta_schedule': 'scaled_linear', 'beta_start': 8.5e-4, 'beta_end': 0.012}
    unipc = lambda settings, options, times, **more: diffusers(
        'UniPCMultistepScheduler', {**settings, 'timestep_spacing': 'trailing'}, 'unipc.unipc', options, times, **more
    )
    yield unipc({'solver_type': 'bh2'}, {'order': 2, 'b': 'bh2'}, trailing)
    for b in ('bh1', 'bh2'):
        for order in (2, 3):
            settings = {'solver_type': b, 'solver_order': order, **to_first, **scaled}
            yield unipc(settings, {'order': order, 'b': b}, trailing_to_first, table='scaled')
    yield unipc({'disable_corrector': list(range(10))}, {'order': 2, 'corrector': False}, trailing)

    yield diffusers('FlowMatchEulerDiscreteScheduler', {}, 'runge_kutta.euler', {'clock': 'time'}, even, kind='velocity', table=None)

    whole = np.arange(20, -1, -1)
    short = {'num_train_timesteps': 20, 'beta_start': 0.005, 'beta_end': 0.6, 'clip_sample': False}
    for variance in ('small', 'large'):
        settings = {**short, 'variance_type': f'fixed_{variance}'}
        yield monai('DDPMScheduler', settings, 'ancestral.ddpm', {'variance': variance}, whole, table='short')
    for kind, prediction in kinds.items():
        yield monai(
            'DDIMScheduler',
            {'clip_sample': False, 'steps_offset': 99, 'prediction_type': prediction},
            'ancestral.ddim',
            {'eta': 0.0},
            trailing,
            kind=kind,
        )
    yield monai(
        'DDIMScheduler', {'clip_sample': False, 'steps_offset': 99}, 'ancestral.ddim', {'eta': 1.0}, trailing, stepping={'eta': 1.0}
    )
    settings, kept = {'skip_prk_steps': False}, (3, 7, 11, *range(12, 19))
    yield monai('PNDMScheduler', settings, 'multistep.pndm', {}, leading, calls=kept, last=9)
    settings, kept = {'skip_prk_steps': True}, tuple(range(1, 11))
    yield monai('PNDMScheduler', settings, 'multistep.plms', {}, leading, calls=kept, last=9)
    yield monai('RFlowScheduler', {}, 'runge_kutta.euler', {'clock': 'time'}, even, kind='velocity', table=None)


CASES = list(_cases())
