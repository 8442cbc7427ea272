"""One network with the same weights here and in PyTorch, and the programs of both that do the same work: MONAI's DiffusionModelUNet.

Ours are as scripts run them: written for one example, mapped over the batch, the batch spread over the devices (on CPU one for each core). A step
of training is forward, mean squared error, backward and Adam on both sides. Before the programs are handed out their answers are compared.
"""

import math
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdiff import grids, guidance, model, parallel, paths, predict
from jaxdiff.benchmark import peers
from jaxdiff.export import cost
from jaxdiff.export.cost import Cost
from jaxdiff.interop import monai
from jaxdiff.solvers.ancestral import ddim
from jaxdiff.solvers.loop import sample
from jaxdiff.training.optimizer import adam
from jaxdiff.training.step import gradient
from jaxdiff.types import Params, UserError

RATE = 1e-4
TOLERANCE = {'float32': 1e-4, 'bfloat16': 5e-2}  # of answers, relative to the largest


class Case(NamedTuple):
    """A network of `blocks` at each level that attends at the last, and a batch of images of one channel, `size` along each axis."""

    dims: int
    size: int
    widths: tuple[int, ...]
    batch: int
    dtype: str = 'float32'
    blocks: int = 2


class Twins(NamedTuple):
    """A case; our network and its parameters on the devices; PyTorch's, or None; inputs, times and targets as numpy; where arrays go."""

    case: Case
    spec: dict[str, Any]
    params: Params
    net: Any
    batch: dict[str, np.ndarray]
    split: jax.NamedSharding
    whole: jax.NamedSharding


class Program(NamedTuple):
    """One of ours: compiled, the seconds that tracing and compiling took, and what a call costs."""

    run: Callable
    seconds: float
    cost: Cost


class Work(NamedTuple):
    """The same work in several ways, a call without arguments for each by name; and those of them that are programs of ours."""

    name: str
    calls: dict[str, Callable[[], Any]]
    programs: dict[str, Program]


def arguments(case: Case) -> dict[str, Any]:
    """Of MONAI's DiffusionModelUNet: heads of 32 channels, groups of the norms 32, or what the widths allow."""
    return {
        'spatial_dims': case.dims,
        'in_channels': 1,
        'out_channels': 1,
        'channels': case.widths,
        'num_res_blocks': case.blocks,
        'attention_levels': (False,) * (len(case.widths) - 1) + (True,),
        'num_head_channels': math.gcd(32, case.widths[-1]),
        'norm_num_groups': math.gcd(32, *case.widths),
    }


def make(case: Case, *, beside: bool, seed: int = 0) -> Twins:
    """The twins, or with `beside` False ours alone. Raises `UserError` for a size that the network cannot halve."""
    described = arguments(case)
    state = peers.random_weights(monai.unet.shapes(**described), seed)
    spec, params = monai.unet.read(state, **described)
    if case.size % (factor := 2 ** (len(case.widths) - 1)):
        raise UserError(f'--size={case.size}: {len(case.widths)} levels need a multiple of {factor}')
    rng = np.random.default_rng(seed)
    draw = lambda: rng.standard_normal((case.batch, *(case.size,) * case.dims, 1), np.float32)
    batch = {'x': draw(), 't': np.linspace(10, 900, case.batch, dtype=np.float32), 'target': draw()}
    mesh = parallel.make_mesh(batch=case.batch)
    split, whole = jax.NamedSharding(mesh, jax.P(parallel.AXES)), jax.NamedSharding(mesh, jax.P())
    net = peers.unet(state, **described) if beside else None
    return Twins(case, {**spec, 'dtype': case.dtype}, jax.device_put(params, whole), net, batch, split, whole)


def forward(twins: Twins, *, torch_compile: bool = True) -> tuple[Work, list[str]]:
    """Answers to a batch. Raises `ValueError` where ours is not theirs."""
    network = model.make_network(twins.spec)
    one = lambda params, x, t: network.apply(params, x[None], t[None])[0]
    x, t = (jax.device_put(twins.batch[name], twins.split) for name in ('x', 't'))
    program = _compiled(twins.case, jax.vmap(one, (None, 0, 0)), twins.params, x, t, out_shardings=twins.split)
    calls, notes = {'jaxdiff': lambda: program.run(twins.params, x, t)}, []
    if twins.net is not None:
        make = lambda **way: peers.forward(twins.net, twins.batch['x'], twins.batch['t'], dtype=twins.case.dtype, **way)
        theirs, notes = peers.contenders(make, compiled=torch_compile)
        agree(twins.case, np.asarray(calls['jaxdiff']()), peers.to_numpy(next(iter(theirs.values()))()))
        calls |= theirs
    return Work('forward', calls, {'jaxdiff': program}), notes


def train(twins: Twins, *, remat: bool, torch_compile: bool = True) -> tuple[Work, list[str]]:
    """Steps of training, each of which goes on from the one before.

    Raises `ValueError` where our losses, before and after the first step, are not theirs.
    """
    batch = jax.device_put(twins.batch, twins.split)
    ways = {'jaxdiff': ()} | ({'jaxdiff, remat': (True,) * len(twins.case.widths)} if remat else {})
    calls, programs, losses = {}, {}, {}
    for name, levels in ways.items():
        start, step = _step({**twins.spec, 'remat': levels}, twins.case.batch)
        state = jax.jit(start, out_shardings=twins.whole)(twins.params)
        programs[name] = _compiled(twins.case, step, state, batch, donate_argnums=0, out_shardings=twins.whole)
        calls[name] = _going_on(programs[name].run, state, batch)
        losses[name] = [float(calls[name]()) for _ in range(2)]
    notes = []
    if twins.net is not None:
        make = lambda **way: peers.train_step(twins.net, *twins.batch.values(), rate=RATE, dtype=twins.case.dtype, **way)
        step = make()
        expected = np.array([float(step()) for _ in range(2)])
        for name, loss in losses.items():
            agree(twins.case, np.array(loss), expected, name)
        theirs, notes = peers.contenders(make, compiled=torch_compile)
        calls |= theirs
    return Work('train', calls, programs), notes


def guided(twins: Twins, steps: int) -> Work:
    """DDIM over a cosine path, and the same towards a measurement of half of the image, by a gradient through the network in every step."""
    path = paths.cosine()
    apply = model.make_network(twins.spec).apply
    times = grids.default(path, steps)

    def unguided(params):
        return predict.as_denoiser(lambda x, t: apply(params, x, t), path, 'v')

    def towards(params):
        half = lambda x0: x0[: twins.case.size // 2]
        return guidance.measurement(unguided(params), path, half, jnp.zeros(()), 1e-3, std=1.0)

    keys = jax.random.split(jax.random.key(0), twins.case.batch)
    keys, x = jax.device_put((keys, twins.batch['x']), twins.split)
    calls, programs = {}, {}
    for name, denoiser in (('unguided', unguided), ('guided', towards)):
        walk = lambda params, key, x, denoiser=denoiser: sample(key, x, denoiser(params), ddim(path), times).x
        programs[name] = _compiled(twins.case, jax.vmap(walk, (None, 0, 0)), twins.params, keys, x, out_shardings=twins.split)
        calls[name] = lambda program=programs[name]: program.run(twins.params, keys, x)
    return Work('guidance', calls, programs)


def agree(case: Case, ours: np.ndarray, theirs: np.ndarray, what: str = 'forward') -> None:
    """Raises `ValueError` where two answers differ by more than the dtype explains."""
    off = float(np.max(np.abs(ours - theirs)) / np.max(np.abs(theirs)))
    if not off <= TOLERANCE[case.dtype]:
        raise ValueError(f'{what}: ours and theirs differ by {off:.1e} of the largest, more than {TOLERANCE[case.dtype]:.0e}: {case}')


def _step(spec, size):
    """params -> (params, what Adam remembers), and (state, batch) -> (state, loss)."""
    network, optimizer = model.make_network(spec), adam(RATE, 1, final=1.0, clip=0)

    def loss(params, key, each):
        return jnp.mean(jnp.square(network.apply(params, each['x'][None], each['t'][None])[0] - each['target'])), {}

    def step(state, batch):
        params, memory = state
        slopes, each = gradient(loss)(params, jax.random.split(jax.random.key(0), size), batch)
        updates, memory = optimizer.update(slopes, memory, params)
        return (jax.tree.map(jnp.add, params, updates), memory), jnp.mean(each['loss'])

    return lambda params: (jax.tree.map(jnp.copy, params), optimizer.init(params)), step


def _going_on(program, state, batch):
    def call():
        nonlocal state
        state, loss = program(state, batch)
        return loss

    return call


def _compiled(case, fn, *args, **options):
    start = time.perf_counter()
    traced = jax.jit(fn, **options).trace(*args)
    lowered = traced.lower()
    run = lowered.compile()
    seconds = time.perf_counter() - start
    return Program(run, seconds, cost.account(traced, lowered, run, case.dtype))
