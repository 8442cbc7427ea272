"""The sampling loops of the peers: diffusers' schedulers as its pipelines call them, and MONAI's inferer with its own schedulers.

Each is made for a PyTorch network (x, t) -> noise, runs where x is, and is a call without arguments that returns once its sample is there.
Schedulers keep their published schedule of a thousand noises.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from jaxdiff.benchmark import peers
from jaxdiff.benchmark.cases import Case

DIFFUSERS = {  # by our names
    'ddpm': ('DDPMScheduler', {}),
    'ddim': ('DDIMScheduler', {}),
    'dpmpp_2m': ('DPMSolverMultistepScheduler', {}),
    'unipc': ('UniPCMultistepScheduler', {'solver_order': 3}),
    'heun': ('HeunDiscreteScheduler', {}),
    'pndm': ('PNDMScheduler', {}),
}
MONAI = {'ddpm': 'DDPMScheduler', 'ddim': 'DDIMScheduler', 'pndm': 'PNDMScheduler'}


def contest(network: Mapping[str, Any], case: Case, names: Sequence[str]) -> dict[str, tuple[Callable, Callable, int]]:
    """Of the peers `names`, those that have the solver of the case: name -> (walk, one forward, network calls).

    The network is MONAI's U-Net with the widths of `network`, a specification of ours, on images of the same shape folded by its patches, so
    that the loops move as many numbers as ours.
    """
    import torch

    widths, patch = network['widths'], network['patch']
    size, channels = [each // patch for each in case.shape], patch ** len(case.shape)
    net = peers.unet(
        spatial_dims=len(size),
        in_channels=channels,
        out_channels=channels,
        channels=widths,
        num_res_blocks=2,
        attention_levels=network['attention'],
        num_head_channels=widths[-1] // 4,
        norm_num_groups=math.gcd(*widths),
    ).eval()
    start = np.random.default_rng(0).standard_normal((case.batch, *size, channels), np.float32)
    x = torch.from_numpy(np.moveaxis(start, -1, 1).copy()).to(peers.device())
    forward = peers.forward(net, start, np.full(case.batch, 500.0), dtype=case.dtype)
    found = {}
    for name in names:
        if walk := loop(name, net, case.solver, case.steps, x, dtype=case.dtype):
            calls = network_calls(lambda net, name=name: loop(name, net, case.solver, case.steps, x))
            found[name] = (walk, forward, calls)
    return found


def loop(peer: str, net: Callable, solver: str, steps: int, x: Any, *, dtype: str = 'float32') -> Callable[[], Any] | None:
    """A walk of `steps` steps from the noise x (batch, channels, *spatial), or None where 'diffusers' or 'monai' has no such solver."""
    import torch

    schedule = {'diffusers': _diffusers, 'monai': _monai}[peer](solver)
    if schedule is None:
        return None

    def call():
        with torch.inference_mode(), torch.autocast(x.device.type, getattr(torch, dtype), enabled=dtype != 'float32'):
            sample = schedule(net, steps, x)
        if sample.is_cuda:
            torch.cuda.synchronize()
        return sample

    return call


def network_calls(make: Callable[[Callable], Callable[[], Any]]) -> int:
    """How often the walk that `make` makes of a network calls it, counted while it walks with one that does nothing."""
    count = 0

    def counting(x, *_, **__):
        nonlocal count
        count += 1
        return x

    make(counting)()
    return count


def _diffusers(solver):
    if solver not in DIFFUSERS:
        return None
    import diffusers

    name, options = DIFFUSERS[solver]
    scheduler = getattr(diffusers, name)(num_train_timesteps=1000, **options)

    def walk(net, steps, x):
        scheduler.set_timesteps(steps, device=x.device)
        x = x * scheduler.init_noise_sigma
        for t in scheduler.timesteps:
            x = scheduler.step(net(scheduler.scale_model_input(x, t), t.expand(len(x))), t, x).prev_sample
        return x

    return walk


def _monai(solver):
    if solver not in MONAI:
        return None
    from monai.inferers import DiffusionInferer
    from monai.networks import schedulers

    scheduler = getattr(schedulers, MONAI[solver])(num_train_timesteps=1000)

    def walk(net, steps, x):
        scheduler.set_timesteps(steps, device=x.device)
        return DiffusionInferer(scheduler).sample(x, net, scheduler, verbose=False)

    return walk
