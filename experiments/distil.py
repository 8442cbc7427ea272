"""Fewer steps by distillation, where the truth is known: six Gaussian modes of unequal weight in the plane.

    python experiments/distil.py --preset=cpu

A small network learns the mixture and draws from it in 32 steps of DDIM. It then teaches students: progressively, halving the steps down to
one; by pairs of noise and sample; and as consistency models, with and without it. Everyone is judged by the sliced Wasserstein distance
between its samples and the truth, beside the teacher itself cut to as few steps.

Salimans and Ho, ICLR 2022; Luhman and Luhman 2021; Song, Dhariwal, Chen, Sutskever, ICML 2023.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdiff import distillation, experiment, grids, losses, model, paths, report, sampling, weights
from jaxdiff.clock import Clock
from jaxdiff.experiment import Bar, Evaluation, option
from jaxdiff.export import bill
from jaxdiff.metrics.sliced import sliced_wasserstein
from jaxdiff.nets.mlp import MLP
from jaxdiff.predict import as_denoiser
from jaxdiff.solvers.ancestral import ddim
from jaxdiff.solvers.consistency import consistency, consistent
from jaxdiff.solvers.loop import Solver, sample
from jaxdiff.training import optimizer, stages, teacher
from jaxdiff.training.state import TrainState, init_state, state_digest
from jaxdiff.training.step import make_step
from jaxdiff.types import Array, Denoiser, Key, Loss, Params, Time, UserError
from jaxdiff.workdir import Workdir, open_workdir, peak_memory


@dataclass(frozen=True, kw_only=True)
class Config(experiment.Config):
    data: str = option('mixture', 'six Gaussian modes in the plane', choices=('mixture',))
    width: int = option(96, 'of the hidden layers of the network', low=1)
    blocks: int = option(3, 'residual blocks of the network', low=1)
    grid: int = option(32, 'steps of the teacher, a power of two', low=4)
    batch: int = option(256, 'examples per step', low=1)
    steps: int = option(5000, 'training steps of the teacher', low=1)
    halving: int = option(1000, 'training steps of each halving', low=1)
    direct: int = option(2000, 'training steps of the students that halve nothing', low=1)
    pairs: int = option(20000, 'pairs of noise and sample to distil knowledge from', low=1)
    rate: float = option(2e-3, 'learning rate of the teacher, before its decay to 0', low=0)
    student_rate: float = option(1e-3, 'learning rate of the students, before its decay to 0', low=0)
    samples: int = option(20000, 'points drawn to judge by, and twice as many true ones', low=8)
    evaluations: int = option(3, 'seeds of training and sampling to judge by', low=1)


TINY = dict(width=16, blocks=1, grid=4, batch=8, steps=4, halving=2, direct=2, pairs=16, samples=64, evaluations=1)
LARGE = dict(width=256, blocks=4, batch=1024, steps=30000, halving=10000, direct=20000, pairs=100000, samples=100000)
PRESETS = {'smoke': TINY, 'cpu': {}, 'gpu': LARGE, 'paper': LARGE}
PATH = paths.cosine()
LAST = 2e-3  # the time at which consistency models are the identity
CONTROLS = ('untrained', 'knowledge, pairs shuffled', 'progressive, teacher shuffled')
LINES = ('DDIM of the teacher', 'progressive', 'consistency, distilled', 'consistency, trained alone', 'knowledge')
BARS = (Bar('distance_ratio_4', '<=', 2.0), Bar('least_gain_over_ddim', '>=', 1.0))


class Mixture(NamedTuple):
    """Isotropic Gaussian modes in the plane."""

    weights: tuple[float, ...] = (0.3, 0.25, 0.2, 0.12, 0.08, 0.05)
    means: tuple[tuple[float, float], ...] = ((-0.9, 0.6), (0.8, 0.9), (0.1, -0.1), (-0.8, -0.9), (1.1, -0.4), (0.2, -1.2))
    stds: tuple[float, ...] = (0.15, 0.2, 0.1, 0.2, 0.1, 0.05)

    def draw(self, rng: np.random.Generator, count: int) -> np.ndarray:
        """(count, 2) float32."""
        mode = rng.choice(len(self.weights), count, p=self.weights)
        points = np.array(self.means)[mode] + np.array(self.stds)[mode, None] * rng.standard_normal((count, 2))
        return points.astype(np.float32)

    def denoise(self, x: Array, t: Time) -> Array:
        """E[x0 | x_t = x] of one point (2,)."""
        alpha, sigma, means, stds = PATH.alpha(t), PATH.sigma(t), jnp.array(self.means), jnp.array(self.stds)
        variances, away = jnp.square(alpha * stds) + jnp.square(sigma), x[None] - alpha * means
        share = jax.nn.softmax(jnp.log(jnp.array(self.weights)) - jnp.square(away).sum(1) / (2 * variances) - jnp.log(variances))
        return share @ (means + (alpha * jnp.square(stds) / variances)[:, None] * away)


MIXTURE = Mixture()
TRUTH, FLOOR, PAIRS = range(1000, 1003)  # seeds of what no training sees


def few(config: Config) -> tuple[int, ...]:
    """The counts at which the teacher's own DDIM fails, where everyone is compared."""
    return tuple(n for n in (1, 2, 4) if 4 * n <= config.grid)


# ---- training


def network(config: Config) -> MLP:
    return MLP(config.width, config.blocks)


def fresh(config: Config, key: Key) -> Params:
    """The parameters of a network that has learnt nothing."""
    return jax.jit(network(config).init)(key, jnp.zeros((1, 2)), jnp.zeros(1))


def points(config: Config, seed: int, start: int) -> Iterator[dict[str, np.ndarray]]:
    """Batches of fresh points of the mixture from number `start` on."""
    while True:
        yield {'image': MIXTURE.draw(np.random.default_rng((seed, start)), config.batch)}
        start += 1


def paired(config: Config, seed: int, noise: np.ndarray, image: np.ndarray, start: int) -> Iterator[dict[str, np.ndarray]]:
    """Batches of pairs of a starting point and the teacher's sample from it."""
    while True:
        rows = np.random.default_rng((seed, start)).integers(len(noise), size=config.batch)
        yield {'noise': noise[rows], 'image': image[rows]}
        start += 1


class Lesson(NamedTuple):
    """How one kind of model learns; made once, so that all who learn alike share a compilation."""

    step: Callable
    optimizer: Any
    steps: int


def lessons(config: Config) -> dict[str, Lesson]:
    """The teacher's, and those of progressive, knowledge and consistency distillation."""
    apply = network(config).apply
    taught = lambda params: partial(as_denoiser, partial(apply, params), PATH, 'v')
    coarse, fine = grids.uniform(PATH, config.grid), grids.uniform(PATH, config.grid, last=LAST)

    def halving(master: tuple[Params, Array], average: Params) -> Loss:
        params, every = master
        return distillation.progressive(apply, PATH, 'v', taught(params), coarse, every=every, weight=weights.snr_trunc('v'))

    def knowledge(master: Any, average: Params) -> Loss:
        return distillation.knowledge(apply, PATH, 'v')

    def consistency(master: Params, average: Params) -> Loss:
        return distillation.consistency(apply, PATH, 'v', fine, teacher=taught(master) if master else None, target=average)

    def lesson(make: Callable, how: Any, steps: int, rate: float, ema: float) -> Lesson:
        adam = optimizer.adam(rate, steps, warmup=steps // 20)
        return Lesson(make(how, adam, ema=ema), adam, steps)

    return {
        'denoising': lesson(make_step, losses.denoising(apply, PATH, 'v'), config.steps, config.rate, 0.995),
        'halving': lesson(teacher.taught_step, halving, config.halving, config.student_rate, 0.99),
        'knowledge': lesson(teacher.taught_step, knowledge, config.direct, config.student_rate, 0.99),
        'consistency': lesson(teacher.taught_step, consistency, config.direct, config.student_rate, 0.95),
    }


def plan(config: Config, by: Mapping[str, Lesson], seed: int, draw: Callable[..., tuple[np.ndarray, np.ndarray]]) -> list[Any]:
    """The teacher, and all who learn from it, as stages named <seed>/<who>."""
    data, named = partial(points, config, seed), lambda who: f'{seed}/{who}'

    def begin(key: Key) -> TrainState:
        return init_state(fresh(config, key), by['denoising'].optimizer, key)

    def student(who: str, how: str, start: Params, master: Any = (), data: Callable = data) -> stages.Stage:
        step, adam, steps = by[how]
        return teacher.student(named(who), step, adam, data, steps, start=start, teacher=master)

    def knowing(who: str, order: Callable[[np.ndarray], np.ndarray]) -> Callable[[Mapping[str, Any]], stages.Stage]:
        def make(trained: Mapping[str, Any]) -> stages.Stage:
            start = trained[named('teacher')].ema
            noise, image = draw(start, grids.uniform(PATH, config.grid), config.pairs, PAIRS + seed)
            return student(who, 'knowledge', start, data=partial(paired, config, seed, noise, order(image)))

        return make

    def distilled(trained: Mapping[str, Any]) -> stages.Stage:
        return student('distilled', 'consistency', trained[named('teacher')].ema, trained[named('teacher')].ema)

    def alone(trained: Mapping[str, Any]) -> stages.Stage:
        return student('alone', 'consistency', trained[named('teacher')].ema)

    def misled(trained: Mapping[str, Any]) -> stages.Stage:
        """Begins as the good student of twice as many steps, and is taught by its parameters in another order."""
        start, n = trained[named(f'student-{2 * few(config)[-1]}')].ema, few(config)[-1]
        nonsense = jax.tree.map(lambda leaf: np.random.default_rng(seed).permutation(np.ravel(leaf)).reshape(leaf.shape), start)
        return student('misled', 'halving', start, (nonsense, jnp.int32(config.grid // (2 * n))))

    step, adam, steps = by['halving']
    return [
        stages.Stage(named('teacher'), begin, by['denoising'].step, data, config.steps),
        *teacher.halving(named('student'), step, adam, data, steps, teacher=named('teacher'), count=config.grid),
        knowing('knowledge', lambda image: image),
        knowing('shuffled', np.random.default_rng(seed).permutation),
        distilled,
        alone,
        misled,
    ]


# ---- sampling


def drawer(config: Config, solver: Solver, wrap: Callable[[Denoiser], Denoiser] = lambda denoise: denoise) -> Callable:
    """(params, times, count, seed) -> starting points and samples, both (count, 2)."""

    def one(shared: tuple[Params, Array], key: Key) -> tuple[Array, Array]:
        params, times = shared
        start, walk = jax.random.split(key)
        x = PATH.sigma(times[0]) * jax.random.normal(start, (2,))
        return x, sample(walk, x, wrap(denoiser(config, params)), solver, times).x

    mapped = sampling.mapper(one, size=min(config.samples, 10000), name='drawing')
    return lambda params, times, count, seed: mapped((params, times), sampling.keys(jax.random.key(seed), count))


def denoiser(config: Config, params: Params) -> Denoiser:
    """A network's answers; without parameters the exact ones."""
    return as_denoiser(partial(network(config).apply, params), PATH, 'v') if params else MIXTURE.denoise


class Judged(NamedTuple):
    """What one seed measured, distances by number of steps and name, and some of the points."""

    evaluation: Evaluation
    curves: dict[str, dict[int, float]]
    points: dict[str, np.ndarray]


def judge(config: Config, trained: Mapping[str, Any], seed: int, walk: Callable, leap: Callable) -> Judged:
    """Distances to the truth of everyone's samples."""
    truth = MIXTURE.draw(np.random.default_rng((TRUTH, seed)), 2 * config.samples)
    params = {name.partition('/')[2]: state.ema for name, state in trained.items()}
    params |= {'exact': {}, 'untrained': fresh(config, jax.random.key(seed))}
    seen: dict[str, dict[int, np.ndarray]] = {
        'fresh draws of the truth': {config.grid: MIXTURE.draw(np.random.default_rng((FLOOR, seed)), config.samples)}
    }

    def drawn(by: str, who: str, n: int) -> None:
        many = leap if who in ('distilled', 'alone') else walk
        seen.setdefault(by, {})[n] = many(params[who], grids.uniform(PATH, n), config.samples, seed)[1]

    halved = [config.grid >> k for k in range(1, config.grid.bit_length())]
    for n in halved:
        drawn('progressive', f'student-{n}', n)
    for n in (config.grid, *halved):
        drawn('DDIM of the teacher', 'teacher', n)
    for n in few(config):
        drawn('consistency, distilled', 'distilled', n)
        drawn('consistency, trained alone', 'alone', n)
        drawn('untrained', 'untrained', n)
    drawn('knowledge', 'knowledge', 1)
    drawn('knowledge, pairs shuffled', 'shuffled', 1)
    drawn('progressive, teacher shuffled', 'misled', few(config)[-1])
    drawn('exact denoiser', 'exact', config.grid)

    curves = {name: {n: sliced_wasserstein(x, truth, directions=64) for n, x in each.items()} for name, each in seen.items()}
    return Judged(
        summary(config, curves), curves, {f'{name}, {n}': x for name, each in seen.items() for n, x in each.items()} | {'truth': truth}
    )


def summary(config: Config, curves: Mapping[str, Mapping[int, float]]) -> Evaluation:
    """Distances, their ratio to the teacher's, and how many times further off its DDIM is at the worst of few counts."""
    cut = curves['DDIM of the teacher']

    def told(curve: Mapping[int, float]) -> dict[str, float]:
        numbers = {f'distance_{n}': curve[n] for n in sorted(curve)}
        numbers |= {f'distance_ratio_{n}': curve[n] / cut[config.grid] for n in few(config) if n in curve}
        if all(n in curve for n in few(config)):
            numbers['least_gain_over_ddim'] = min(cut[n] / curve[n] for n in few(config))
        return numbers

    numbers = {name: told(curve) for name, curve in curves.items()}
    controls = {name: numbers.pop(name) for name in CONTROLS}
    return Evaluation(numbers.pop('progressive'), numbers, controls)


# ---- the run


def run(config: Config) -> dict[str, Any]:
    """Train, distil, judge and write the workdir, once for each seed; returns what result.json holds."""
    clock = Clock()
    if config.grid & (config.grid - 1):
        raise UserError(f'--grid={config.grid}: cannot be halved down to one step; choose a power of two')
    numbers = model.count(jax.eval_shape(partial(fresh, config), jax.random.key(0)))
    seeds = range(config.seed, config.seed + config.evaluations)
    if config.dry_run:
        print(f'networks of {numbers:,} parameters, for each of {len(seeds)} seeds')
        return bill.bill(jobs(config))
    manifest = {'mixture': MIXTURE._asdict()}
    folder = open_workdir(config, manifest, name='distil')
    by, judged, digests = lessons(config), [], {}
    walk, leap = drawer(config, ddim(PATH)), drawer(config, consistency(PATH, LAST), lambda denoise: consistent(PATH, denoise, LAST))
    clock.lap('data')
    often = dict(save_every=config.steps, log_every=max(config.halving // 20, 1))
    for seed in seeds:
        trained = stages.train(plan(config, by, seed, walk), folder.root, jax.random.key(seed), **often)
        digests |= {name: state_digest(state) for name, state in trained.items()}
        clock.lap('train')
        judged.append(judge(config, trained, seed, walk, leap))
        clock.lap('infer')
    sections = show(config, folder, judged)
    result = {
        **experiment.headline('foundations/distillation', config, manifest),
        'seeds': list(seeds),
        'wall_s': clock.seconds(),
        'peak_memory_bytes': peak_memory(),
        'nfe': {'teacher': config.grid, 'students': 'as many as the name of the distance says'},
        'parameters': numbers,
        'state_digest': digests,
        'tables': [curve_table(judged)],
        **experiment.verdict([each.evaluation for each in judged], BARS if config.preset != 'smoke' else ()),
    }
    experiment.conclude(folder, result, sections, receipts=config.receipts)
    return result


def jobs(config: Config) -> list[bill.Job]:
    """The steps of every kind of lesson, and the draws of the teacher; those of students take fewer steps each."""
    by, key = lessons(config), jax.eval_shape(lambda: jax.random.key(0))
    params = jax.eval_shape(partial(fresh, config), key)
    points = bill.float32(config.batch, 2)
    halvings = config.grid.bit_length() - 1
    masters = {
        'denoising': (None, 1),
        'halving': ((params, jax.ShapeDtypeStruct((), jnp.int32)), halvings + 1),
        'knowledge': ((), 2),
        'consistency': (params, 2),
    }

    def training(how: str, master: Any, networks: int) -> bill.Job:
        step, adam, steps = by[how]
        state = jax.eval_shape(lambda params, key: init_state(params, adam, key), params, key)
        batch = {'image': points, **({'noise': points} if how == 'knowledge' else {})}
        whole = state if master is None else teacher.Taught(state, master)
        return bill.Job(f'{how} step', jax.jit(step, donate_argnums=0), (whole, batch), config.evaluations * networks * steps)

    def one(shared: tuple[Params, Array], key: Key) -> Array:
        start, walk = jax.random.split(key)
        params, times = shared
        return sample(walk, jax.random.normal(start, (2,)), denoiser(config, params), ddim(PATH), times).x

    count = config.evaluations * (config.pairs * 2 + config.samples)
    shared = (params, bill.float32(config.grid + 1))
    draws = bill.over('drawing', one, shared, (key,), count=count, size=min(config.samples, 10000))
    return [*(training(how, *each) for how, each in masters.items()), draws]


def curve_table(judged: list[Judged]) -> dict[str, Any]:
    """Distance to the truth by steps, mean and deviation over seeds."""
    counts = sorted({n for curve in judged[0].curves.values() for n in curve})

    def over_seeds(name, n):
        values = [each.curves[name][n] for each in judged if n in each.curves[name]]
        return {'mean': float(np.mean(values)), 'sd': float(np.std(values, ddof=min(1, len(values) - 1)))} if values else None

    rows = [[name, *(over_seeds(name, n) for n in counts)] for name in judged[0].curves]
    caption = 'Sliced Wasserstein distance between samples and truth, by the number of network evaluations.'
    return {'caption': caption, 'header': ['sampler', *(f'{n}' for n in counts)], 'rows': rows}


def show(config: Config, folder: Workdir, judged: list[Judged]) -> list[report.Section]:
    """Distance against steps, and where the points lie."""
    mean = lambda name, n: float(np.mean([each.curves[name][n] for each in judged]))
    lines = {name: (counts := sorted(judged[0].curves[name]), [mean(name, n) for n in counts]) for name in LINES}
    lines['fresh draws of the truth'] = ([1, config.grid], [mean('fresh draws of the truth', config.grid)] * 2)
    curve = report.curves(lines, x='steps', y='sliced Wasserstein distance', log='xy', size=(6.4, 4.2))
    n = few(config)[-1]
    names = (
        'truth',
        f'DDIM of the teacher, {config.grid}', f'DDIM of the teacher, {n}', f'progressive, {n}',
        'progressive, 1', 'knowledge, 1', 'consistency, distilled, 1', 'consistency, trained alone, 1',
    )  # fmt: skip
    clouds = [density(judged[0].points[name]) for name in names]
    rows = [
        report.grid([clouds[k : k + 4]], titles=names[k : k + 4], note='Density of points, root scale, each square 3.6 wide.', size=1.9)
        for k in (0, 4)
    ]
    text = 'Mean over seeds of the distance between the samples and the truth, against the number of network evaluations.'
    return [
        report.Section('Fewer steps', text, [saved(folder, 'distance', curve, 'Distance against steps, both logarithmic.')]),
        report.Section(
            'Where the points lie', '', [saved(folder, f'points-{k}', row, 'Samples of the first seed.') for k, row in enumerate(rows)]
        ),
    ]


def density(x: np.ndarray, pixels: int = 120, half: float = 1.8) -> np.ndarray:
    """(pixels, pixels) in [-1, 1]: a histogram of points, brighter with the root of the count."""
    counts, _, _ = np.histogram2d(x[:, 0], x[:, 1], bins=pixels, range=[[-half, half]] * 2)
    counts = np.sqrt(counts / len(x))
    return 2 * np.clip(counts / np.sqrt(2e-3), 0, 1) - 1


def saved(folder: Workdir, name: str, figure, caption: str) -> report.Picture:
    """The figure in the workdir, and for the page."""
    return report.picture(figure, caption, alt=caption, path=folder.figures / f'{name}.png')


if __name__ == '__main__':
    experiment.main(Config, PRESETS, run)
