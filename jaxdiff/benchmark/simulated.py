"""What the suite `sharding` runs in processes of its own, whose devices are chosen before JAX starts:

python -m jaxdiff.benchmark.simulated JOB '{"option": value}'      prints the answer as one line of JSON
"""

import json
import os
import signal
import sys
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from jaxdiff import grids, losses, model, parallel, paths, predict, processes
from jaxdiff.benchmark import timing
from jaxdiff.data.loader import batches
from jaxdiff.data.source import Source
from jaxdiff.solvers.loop import sample
from jaxdiff.solvers.runge_kutta import heun
from jaxdiff.training import checkpoint, stages
from jaxdiff.training.optimizer import adam
from jaxdiff.training.state import init_state, state_digest
from jaxdiff.training.step import make_step

SMALLEST = 2**10  # elements of a leaf that is split: the networks here are small
PATH = paths.cosine()


def unet(size: int, widths) -> dict[str, Any]:
    """Fields of a 2-D U-Net that attends at its lowest resolution."""
    attention = [False] * (len(widths) - 1) + [True]
    return {'dims': 2, 'widths': list(widths), 'attention': attention, 'blocks': 1, 'norm': 'adaptive', 'groups': 8}


def make(network: dict[str, Any]) -> Any:
    return model.make_network({'name': 'unet', 'channels': 1, **network})


def trainer(network: dict[str, Any], size: int, mesh: Any) -> tuple[Any, Any]:
    """(init, step) of a denoiser of images of `size` along each axis; the same two where asked again, so that they compile once."""
    return _trainer(json.dumps(network), size, mesh)


@lru_cache
def _trainer(text: str, size: int, mesh: Any) -> tuple[Any, Any]:
    network = json.loads(text)
    net, optimizer = make(network), adam(1e-4, 1000, warmup=2)  # low: where a gradient vanishes Adam takes its rounding for a direction
    loss = parallel.whole(losses.denoising(net.apply, PATH, 'v'), mesh)
    image = (1, *[size] * network['dims'], 1)

    def init(key):
        return init_state(net.init(key, jnp.zeros(image), jnp.zeros(1)), optimizer, key)

    return init, make_step(loss, optimizer, ema=0.99)


def placed(network: dict[str, Any]) -> dict[str, float]:
    """The share of a training state's bytes that the fullest of all devices holds, split over all."""
    mesh = parallel.make_mesh(fsdp=jax.device_count())
    init, _ = trainer(network, 16, mesh)
    shapes = jax.eval_shape(init, jax.random.key(0))._replace(key=None)  # as many parameters at any size
    zeros = lambda: jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    state = jax.jit(zeros, out_shardings=parallel.state_shardings(mesh, shapes))()
    leaves = jax.tree.leaves(state)
    held = {
        device: sum(s.data.nbytes for leaf in leaves for s in leaf.addressable_shards if s.device == device) for device in jax.devices()
    }
    total = sum(leaf.nbytes for leaf in leaves)
    return {'bytes': total, 'share': max(held.values()) / total}


def said(network: dict[str, Any], size: int, batch: int, mesh: tuple[int, int]) -> dict[str, Any]:
    """The collectives of a training step, and of a sampler of two steps."""
    mesh = parallel.make_mesh(*mesh)
    init, step = trainer(network, size, mesh)
    like, places = shapes(init, mesh)
    split = NamedSharding(mesh, PartitionSpec(parallel.AXES))
    images = jax.ShapeDtypeStruct((batch, size, size, 1), jnp.float32, sharding=split)
    training = jax.jit(step, donate_argnums=0, out_shardings=(places, None)).lower(like, {'image': images}).compile()

    def draw(params, noise):
        denoise = predict.as_denoiser(partial(make(network).apply, params), PATH, 'v')
        one = lambda x: sample(jax.random.key(0), x, denoise, heun(PATH), grids.default(PATH, 2)).x
        return jax.vmap(one)(noise)

    whole = NamedSharding(mesh, PartitionSpec())
    params = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=whole), like.params)
    sampling = jax.jit(draw, out_shardings=split).lower(params, images).compile()
    return {
        'training': parallel.collectives(training),
        'sampling': parallel.collectives(sampling),
        'split': sum(not place.is_fully_replicated for place in jax.tree.leaves(places.params)),
        'leaves': len(jax.tree.leaves(like.params)),
    }


def shapes(init, mesh) -> tuple[Any, Any]:
    """What the state will be, and where its leaves live."""
    state = jax.eval_shape(init, jax.random.key(0))
    places = parallel.state_shardings(mesh, state, smallest=SMALLEST)
    return jax.tree.map(lambda leaf, place: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place), state, places), places


def train(
    network: dict[str, Any], size: int, batch: int, steps: int, seed: int, root: str, mesh: tuple[int, int], kill: int = 0
) -> dict[str, Any]:
    """Train on noise, from the checkpoint of every second step where there is one; all processes die by SIGKILL at batch number `kill`."""
    folder, mesh = Path(root), parallel.make_mesh(*mesh)
    if jax.process_index() == 0:
        folder.mkdir(parents=True, exist_ok=True)
    init, step = trainer(network, size, mesh)
    source = Source(64, lambda n: {'image': np.random.default_rng(n).normal(size=(size, size, 1)).astype(np.float32)}, {'recipe': 'noise'})
    share = {'process_index': jax.process_index(), 'process_count': jax.process_count()}

    def data(start):
        for number, each in enumerate(batches(source, batch, seed=seed, start=start, **share), start + 1):
            if number == kill:
                os.kill(os.getpid(), signal.SIGKILL)
            yield each

    placing = {
        'shardings': partial(parallel.state_shardings, mesh, smallest=SMALLEST),
        'place': partial(parallel.place_batch, mesh),
    }
    state = stages.run(stages.Stage('unet', init, step, data, steps), folder, jax.random.key(seed), save_every=2, log_every=1, **placing)
    params = jax.tree.map(parallel.localise, state.params)
    lines = processes.first(lambda: finish(folder, params))
    return {'digest': state_digest(state), 'losses': lines}


def finish(folder: Path, params: Any) -> list[float]:
    named = jax.tree_util.tree_leaves_with_path(params)
    np.savez(folder / 'params.npz', **{jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in named})
    return [json.loads(line)['loss'] for line in (folder / 'metrics.jsonl').read_text().splitlines()]


def restored(network: dict[str, Any], size: int, batch: int, root: str, step: int, **_: Any) -> dict[str, Any]:
    """Whether the checkpoint of `step` is, to the last bit, the same state on meshes of 1, 2 and 4 devices."""
    same, digest = {}, None
    for mesh in ((4, 2), (1, 1), (2, 1), (1, 2), (2, 2), (1, 4)):
        like, _ = shapes(trainer(network, size, parallel.make_mesh(*mesh))[0], parallel.make_mesh(*mesh))
        seen = state_digest(checkpoint.read(Path(root) / 'checkpoints' / 'unet' / str(step), like))
        digest = digest or seen
        same[f'{mesh[0]} x {mesh[1]}'] = seen == digest
    return {'restored': same}


def speed(network: dict[str, Any], size: int, batch: int, rounds: int) -> dict[str, Any]:
    """Seconds of a training step on one device, which has all cores, and on one device for each core, or as many as divide the batch; in turns."""
    contenders = {}
    for count in dict.fromkeys((1, parallel.make_mesh(batch=batch).size)):
        mesh = parallel.make_mesh(count, 1)
        init, step = trainer(network, size, mesh)
        _, places = shapes(init, mesh)
        state = jax.jit(init, out_shardings=places)(jax.random.key(0))
        images = parallel.place_batch(mesh, {'image': np.random.default_rng(0).normal(size=(batch, size, size, 1)).astype(np.float32)})
        contenders[f'{count}'] = partial(timing.compiled(step, state, images)[0], state, images)
    taken = timing.alternate(contenders, rounds=rounds)
    first, *_, last = taken.values() if len(taken) > 1 else (*taken.values(),) * 2
    return {'seconds': {name: each.seconds for name, each in taken.items()}, 'ratio': timing.ratio(first, last).seconds}


JOBS = {'placed': placed, 'said': said, 'train': train, 'restored': restored, 'speed': speed}


def main(job: str, options: str) -> None:
    """Run one job and print its answer."""
    processes.initialize()
    print(json.dumps(JOBS[job](**json.loads(options))), flush=True)


if __name__ == '__main__':
    main(*sys.argv[1:])
