"""Measure speed, size and exactness side by side with the alternatives, one suite at a time.

    python experiments/benchmark_samplers.py --receipts=results                                     what samplers cost beyond their networks
    python experiments/benchmark_samplers.py --receipts=results --peers=diffusers,monai             beside the loops of the peers
    python experiments/benchmark_samplers.py --receipts=results --suite=networks --train --peers=monai
    python experiments/benchmark_samplers.py --preset=gpu --suite=samplers --shapes=64x64,256x256,32x32x32

Contenders take turns in one process, A B A B; compilation is timed apart, results are waited for, and ratios are taken round by round. Flags that
a suite has no use for are ignored; those that are not given are the suite's own. Every timed case is a line of measurements.jsonl.
"""

import importlib
import inspect
import json
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import jax

from jaxdiff import experiment, report
from jaxdiff.clock import Clock
from jaxdiff.experiment import option
from jaxdiff.export import bill
from jaxdiff.types import UserError
from jaxdiff.workdir import Workdir, open_workdir, peak_memory

PEERS = ('diffusers', 'monai')


@dataclass(frozen=True, kw_only=True)
class Config(experiment.Config):
    data: str = option('keys', 'arrays made from random keys: speed does not depend on what they hold', choices=('keys',))
    suite: str = option(
        'samplers',
        'what is measured',
        choices=('samplers', 'networks', 'accuracy', 'compilation', 'memory', 'sharding', 'volumes', 'reconstruction'),
    )
    shapes: tuple = option((), 'of images, such as 64x64 or 32x32x32; samplers: every solver walks the first, one solver the others')
    solvers: tuple = option((), 'all of them, by default')
    steps: tuple = option((), 'of the solvers')
    batches: tuple = option((), 'images at once')
    dtypes: tuple = option((), 'of the network: float32, bfloat16')
    widths: tuple = option((), 'channels of the U-Net at each resolution')
    peers: tuple = option((), 'of diffusers and monai, those timed beside where they are installed')
    train: bool = option(False, 'networks: time training too, with and without remat')
    rounds: int = option(0, 'turns that each contender takes, each of them an evaluation; 0 is as many as the suite takes', low=0)


PRESETS = {'smoke': {}, 'cpu': {}, 'gpu': {}, 'paper': dict(rounds=9)}
FLAGS: dict[str, Callable[[Config], dict[str, Any]]] = {  # arguments of a suite; what is empty is left to it
    'samplers': lambda config: {
        'shapes': config.shapes,
        'solvers': config.solvers,
        'steps': whole(config, 'steps'),
        'batches': whole(config, 'batches'),
        'dtypes': config.dtypes,
        'widths': whole(config, 'widths'),
        'rivals': config.peers,
        'rounds': config.rounds,
        'seed': config.seed,
    },
    'networks': lambda config: {
        'dims': tuple(dict.fromkeys(len(shape.split('x')) for shape in config.shapes)),
        'size': first_size(config),
        'widths': whole(config, 'widths'),
        'batch': (*whole(config, 'batches'), 0)[0],
        'dtype': (*config.dtypes, '')[0],
        'peers': 'monai' in config.peers,
        'train': config.train,
        'rounds': config.rounds,
    },
    'compilation': lambda config: {
        'size': first_size(config),
        'steps': whole(config, 'steps'),
        'solvers': config.solvers,
        'rounds': config.rounds,
    },
    'accuracy': lambda config: {'peers': 'diffusers' in config.peers, 'seeds': config.rounds},
    'sharding': lambda config: {'rounds': config.rounds, 'seed': config.seed},
    'volumes': lambda config: {'evaluations': config.rounds, 'seed': config.seed},
    'memory': lambda config: {'widths': whole(config, 'widths'), 'runs': config.rounds},
    'reconstruction': lambda config: {
        'size': first_size(config),
        'steps': (*whole(config, 'steps'), 0)[0],
        'counts': whole(config, 'batches'),
        'widths': whole(config, 'widths'),
        'rounds': config.rounds,
        'seed': config.seed,
    },
}
TINY = {'name': 'unet', 'channels': 1, 'widths': [4], 'blocks': 0, 'attention': [], 'groups': 2}
PRESETS_OF: dict[str, dict[str, Callable[[ModuleType], dict[str, Any]]]] = {  # what presets change of the suite, given its module
    'samplers': {
        'smoke': lambda suite: dict(shapes=('16x16',), solvers=('heun', 'ddpm'), steps=(2,), widths=(8, 8), least=0.01, rounds=1),
        'gpu': lambda suite: dict(
            shapes=('64x64', '128x128', '256x256', '32x32x32', '64x64x64', '128x128x128'), batches=(16,), dtypes=('bfloat16',)
        ),
    },
    'networks': {
        'smoke': lambda suite: dict(dims=(2,), size=16, widths=(8, 8, 8), batch=2, rounds=1, steps=2),
        'gpu': lambda suite: dict(dtype='bfloat16'),
    },
    'compilation': {
        'smoke': lambda suite: dict(network=TINY, size=4, steps=(2, 50), solvers=('ddim',), rounds=1, flags=('--preset=smoke',))
    },
    'accuracy': {
        'smoke': lambda suite: dict(walkers=20, seeds=1, laws=tuple(suite.LAWS)[:1], on=tuple(suite.PATHS)[:1], curve=(), finalists=2)
    },
    'sharding': {
        'smoke': lambda suite: dict(
            size=8,
            widths=(8,),
            batch=8,
            steps=2,
            evaluations=1,
            meshes=((1, 8),),
            large={},
            speed_size=8,
            speed_widths=(8,),
            speed_batch=2,
            rounds=1,
        )
    },
    'volumes': {
        'smoke': lambda suite: dict(
            **dict(shape=(24, 20), length=1.0, tile=14, overlap=8, steps=3, evaluations=1, large=32, large_tile=8, large_overlap=2),
            **dict(widths=(4,), real=32, real_tile=8, real_overlap=2, real_widths=(4,)),
        )
    },
    'reconstruction': {'smoke': lambda suite: dict(size=32, steps=2, counts=(1,), widths=(8, 8), rounds=1)},
    'memory': {'smoke': lambda suite: dict(cases=(suite.Case(2, 'sampling', 32, 8, (8,), (False,)),), sides=(), runs=1)},
}


def run(config: Config) -> dict[str, Any]:
    """Measure one suite, and write the workdir; returns what result.json holds."""
    clock = Clock()
    for peer in config.peers:
        if peer not in PEERS:
            raise UserError(f'--peers={peer}: choose of {", ".join(PEERS)}')
    suite = importlib.import_module(f'jaxdiff.benchmark.{config.suite}')
    given = arguments(config, suite)
    if hasattr(suite, 'check'):
        suite.check(**given)
    if config.dry_run:
        print(f'{config.suite}: ' + ', '.join(f'{name}={shown(value)}' for name, value in given.items()))
        return bill.bill(suite.jobs(**given)) if hasattr(suite, 'jobs') else {}
    folder = open_workdir(config, {'suite': config.suite}, name='benchmark_samplers')
    measured = suite.measure(**given)
    clock.lap('infer')
    with open(folder.root / 'measurements.jsonl', 'a') as file:
        file.writelines(json.dumps({'suite': config.suite, **line}) + '\n' for line in measured.lines)
    on_cpu = jax.default_backend() == 'cpu'
    bars = suite.BARS if on_cpu else getattr(suite, 'BARS_ON_ACCELERATORS', suite.BARS)
    result = {
        **experiment.headline(f'performance/{config.suite}', config, {'suite': config.suite}),
        'wall_s': clock.seconds(),
        'peak_memory_bytes': peak_memory(),
        'accelerator': not on_cpu,
        'notes': [*measured.notes],
        'tables': [*measured.tables],
        **experiment.verdict(measured.evaluations, bars),
    }
    print(report.results_table([result]))
    draw(folder, measured.sections)
    experiment.conclude(folder, result, measured.sections, receipts=config.receipts)
    return result


def arguments(config: Config, suite: ModuleType) -> dict[str, Any]:
    """What the suite is called with: what the flags say, else what the preset says, else what the suite takes itself."""
    preset = PRESETS_OF.get(config.suite, {}).get(config.preset, lambda suite: {})(suite)
    flags = FLAGS.get(config.suite, lambda config: {})(config)
    given = {name: value for name, value in flags.items() if value or value is False}
    bound = inspect.signature(suite.measure).bind(**{**preset, **given})
    bound.apply_defaults()
    return bound.kwargs


def whole(config: Config, name: str) -> tuple[int, ...]:
    """A list of whole numbers from a flag."""
    try:
        return tuple(int(each) for each in getattr(config, name))
    except ValueError:
        raise UserError(f'--{name}={",".join(map(str, getattr(config, name)))}: give whole numbers, separated by commas') from None


def first_size(config: Config) -> int:
    """The first number of --shapes."""
    size = config.shapes[0].split('x')[0] if config.shapes else '0'
    if not size.isdecimal():
        raise UserError(f'--shapes={config.shapes[0]}: give sizes, such as 64x64')
    return int(size)


def shown(value: Any) -> str:
    """A value as a flag would have it."""
    return ','.join(map(str, value)) if isinstance(value, tuple) else str(value)


def draw(folder: Workdir, sections: tuple[report.Section, ...]) -> None:
    """The figures of the page as files."""
    for n, picture in enumerate(picture for section in sections for picture in section.pictures):
        (folder.figures / f'figure-{n}.png').write_bytes(picture.png)


if __name__ == '__main__':
    experiment.main(Config, PRESETS, run)
