"""A toy training: imported by the tests, and run as a script where a test needs a process to kill.

    python training_worker.py WORKDIR --steps=60 --pause=.01

It prints the number of each step before it is taken, and at the end the digests of the final states.
"""

import argparse
import os
import signal
import sys
import time
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from jaxdiff import parallel, processes
from jaxdiff.data.loader import batches, flip
from jaxdiff.data.source import Source
from jaxdiff.training import checkpoint, stages
from jaxdiff.training.loop import Interrupted
from jaxdiff.training.optimizer import adam
from jaxdiff.training.state import init_state, state_digest
from jaxdiff.training.step import make_step

WIDTH = 128


def example(index: int) -> dict[str, np.ndarray]:
    """Curves of a random phase, (8, 1)."""
    phase = np.random.default_rng(index).uniform(0, 6.28)
    return {'image': np.sin(np.linspace(0, 6, 8) + phase).astype(np.float32)[:, None]}


SOURCE = Source(37, example, {'recipe': 'sines'})


def parameters(key, width=WIDTH):
    first, second = jax.random.split(key)
    return {
        'into': {'kernel': 0.3 * jax.random.normal(first, (8, width)), 'bias': jnp.zeros(width)},
        'out': {'kernel': 0.1 * jax.random.normal(second, (width, 8))},
    }


def loss(params, key, example):
    """Denoise at one noise level: what a diffusion loss is to a loop."""
    x0 = example['image'][:, 0]
    noise = jax.random.normal(key, x0.shape)
    hidden = jnp.tanh((x0 + noise) @ params['into']['kernel'] + params['into']['bias'])
    return jnp.mean(jnp.square(hidden @ params['out']['kernel'] - x0)), {'first': noise[0]}


OPTIMIZER = adam(3e-3, 100, warmup=5, weight_decay=0.01)
STEP = make_step(loss, OPTIMIZER, ema=0.9)  # one object, so that the tests of one process share its compilation


def init(key, width=WIDTH):
    return init_state(parameters(key, width), OPTIMIZER, key)


def data(start, batch=8):
    share = {'process_index': jax.process_index(), 'process_count': jax.process_count()}
    return batches(SOURCE, batch, seed=3, start=start, augment=flip, workers=1, **share)


def stage(steps, *, name='toy'):
    return stages.Stage(name, init, STEP, data, steps)


def over(mesh):
    """The options that put a stage on a mesh; the toy's leaves are small, so that fsdp splits all it can."""
    return {'shardings': partial(parallel.state_shardings, mesh, smallest=1), 'place': partial(parallel.place_batch, mesh)}


def evaluate(params, mesh):
    """The mean loss of five examples by both runners, which each process computes alone."""
    keys, examples = jax.random.split(jax.random.key(9), 5), {'image': np.stack([example(index)['image'] for index in range(5)])}
    fn = lambda *one: loss(*one)[0]
    return [f'{run(params, keys, examples).mean():.4f}' for run in (parallel.shard(fn, mesh), parallel.pmap(fn))]


def refuse(load, step, path, like):
    if path.name == str(step):
        raise OSError('unreadable from here')
    return load(path, like)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('workdir')
    parser.add_argument('--steps', type=int, default=60)
    parser.add_argument('--pause', type=float, default=0.0)
    parser.add_argument('--fsdp', type=int, default=1)
    parser.add_argument('--stop', type=int, default=0, help='process 0 sends itself SIGTERM before this step')
    parser.add_argument('--blind', type=int, default=0, help='process 1 cannot read the checkpoint of this step')
    args = parser.parse_args()
    processes.initialize()
    if args.blind and jax.process_index() == 1:
        checkpoint.load = partial(refuse, checkpoint.load, args.blind)

    def slowly(start):
        for number, batch in enumerate(data(start), start + 1):
            print('step', number, flush=True)
            time.sleep(args.pause)
            if number == args.stop and jax.process_index() == 0:
                os.kill(os.getpid(), signal.SIGTERM)
            yield batch

    mesh, toy = parallel.make_mesh(fsdp=args.fsdp), stage(args.steps)._replace(data=slowly)
    try:
        trained = stages.train((toy, toy._replace(name='twin')), args.workdir, jax.random.key(0), save_every=4, log_every=1, **over(mesh))
    except Interrupted as interruption:
        print('interrupted', interruption.step, flush=True)
        sys.exit(130)
    evaluated = evaluate(trained['toy'].ema, mesh)
    print('digests', *(state_digest(state) for state in trained.values()), *evaluated, flush=True)


if __name__ == '__main__':
    main()
