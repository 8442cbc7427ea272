"""Prove the samplers: every solver on mixtures of Gaussians, whose denoiser, density and flow are known exactly.

    python experiments/prove_samplers.py --receipts=results

Solvers of the probability flow are compared with its exact solution, and the order at which they approach it with what is expected of them;
solvers that draw noise, which have no path to follow, with the law they should end in. All of them then draw from a mixture in the plane, and
mean, covariance, the share of its smallest mode and the log-density are compared with the truth. Integrators of stochastic differential
equations are compared with the path of a finer Brownian motion, and log-densities with the exact ones. No network, no training, no data.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy.stats import wasserstein_distance

from jaxdiff import exact, experiment, grids, likelihood, paths, report
from jaxdiff.clock import Clock
from jaxdiff.exact import Mixture
from jaxdiff.experiment import Bar, Evaluation, option
from jaxdiff.export import bill
from jaxdiff.paths import GaussianPath
from jaxdiff.solvers import embedded, langevin, reverse_sde, stochastic, variance
from jaxdiff.solvers.ancestral import ddim, ddpm
from jaxdiff.solvers.churn import churn
from jaxdiff.solvers.dpm_solver import dpmpp, sde_dpmpp
from jaxdiff.solvers.loop import Solver, sample
from jaxdiff.solvers.multistep import plms, pndm, s_pndm
from jaxdiff.solvers.runge_kutta import euler, heun, midpoint, rk4
from jaxdiff.solvers.unipc import unipc
from jaxdiff.training.log import Progress
from jaxdiff.types import Array, Denoiser, UserError
from jaxdiff.workdir import open_workdir, peak_memory


@dataclass(frozen=True, kw_only=True)
class Config(experiment.Config):
    data: str = option('mixture', 'mixtures of Gaussians', choices=('mixture',))
    steps: tuple = option((10, 20, 40, 80, 160, 320), 'numbers of steps of the convergence study, each twice the one before', low=1)
    walkers: int = option(4000, 'walks of the convergence study', low=2)
    draws: int = option(10000, 'points that each solver draws from the plane', low=100)
    brownian: int = option(1000, 'Brownian paths on which the stochastic integrators are compared', low=2)
    points: int = option(32, 'points whose log-density is computed', low=1)
    evaluations: int = option(3, 'seeds of the draws', low=1)


PRESETS = {
    'smoke': dict(steps=(4, 8), walkers=50, draws=200, brownian=20, points=2, evaluations=1),
    'cpu': {},
    'gpu': dict(draws=100_000),
    'paper': dict(draws=1_000_000),
}
BARS = (
    Bar('order_deviation', '<=', 0.1),
    Bar('moments_z', '<=', 4.0),
    Bar('small_mode_z', '<=', 4.0),
    Bar('log_density_z', '<=', 4.0),
    Bar('likelihood_error', '<=', 1e-3),
    Bar('strong_order_deviation', '<=', 0.1),
    Bar('sra1_order', '>=', 1.4),
)


class Case(NamedTuple):
    """A solver, the order expected of its error (None for those that draw noise), the grid it is meant for, how often it corrects at each time,
    and how many steps its draws take."""

    make: Callable[[GaussianPath], Solver]
    order: float | None = None
    grid: Callable[..., Array] = grids.log_snr
    corrections: int = 0
    steps: int = 1000


def corrected(path: GaussianPath) -> Solver:
    return langevin.predictor_corrector(reverse_sde.reverse_diffusion(path), langevin.annealed_langevin(path, step=0.1))


def optimal(path: GaussianPath) -> Solver:
    """DDPM with the variance that is best for the denoiser it is given."""

    def step(key: Array, denoise: Denoiser, memory: Any, x: Array, t: Array, s: Array) -> tuple[Array, Array, Any]:
        best = variance.optimal(path, variance.exact_diagonal(denoise))
        return ddpm(path, variance=best).step(key, denoise, memory, x, t, s)

    return Solver(lambda x: (), step)


CASES = {
    'ddim': Case(ddim, 1.0),
    'euler': Case(euler, 1.0, grids.uniform),
    'heun': Case(partial(heun, clock='sigma'), 2.0, grids.karras, steps=200),
    'midpoint': Case(midpoint, 2.0, grids.karras, steps=200),
    'rk4': Case(partial(rk4, clock='time'), 4.0, steps=50),
    'pndm': Case(pndm, 2.0, steps=200),
    's-pndm': Case(s_pndm, 2.0, steps=200),
    'plms': Case(plms, 2.0, steps=200),
    'dpm++ 2m': Case(partial(dpmpp, order=2), 2.0, steps=200),
    'dpm++ 2m, heun': Case(partial(dpmpp, order=2, variant='heun'), 2.0, steps=200),
    'dpm++ 3m': Case(partial(dpmpp, order=3), 3.05, steps=100),
    'unipc 2': Case(partial(unipc, order=2), 3.0, steps=100),
    'unipc 3': Case(partial(unipc, order=3), 3.9, steps=50),
    'ddpm small': Case(ddpm),
    'ddpm large': Case(partial(ddpm, variance='large')),
    'ddpm optimal': Case(optimal, steps=200),
    'ddim, eta 0.5': Case(partial(ddim, eta=0.5)),
    'heun with churn': Case(lambda path: churn(path, heun(path, clock='sigma'), amount=0.2), grid=grids.karras, steps=200),
    'dpm++ 2m sde': Case(partial(sde_dpmpp, order=2), steps=400),
    'euler-maruyama': Case(partial(reverse_sde.euler_maruyama, clock='time')),
    'milstein': Case(partial(reverse_sde.milstein, clock='time')),
    'stochastic heun': Case(reverse_sde.heun, steps=400),
    'sra1': Case(reverse_sde.sra1, steps=400),
    'reverse diffusion': Case(reverse_sde.reverse_diffusion),
    'predictor-corrector': Case(corrected, corrections=1),
}
PUBLISHED = Case(partial(dpmpp, order=3, peer_compat=True), CASES['dpm++ 3m'].order)  # the control: the third order of several libraries
PATH = paths.vp()
LINE = exact.mixture([0.3, 0.5, 0.2], [[-0.6], [0.1], [0.7]], np.square([0.15, 0.2, 0.1]))
PLANE = exact.mixture(
    [0.5, 0.4, 0.1],
    [[-0.5, -0.2], [0.5, -0.3], [0.1, 0.7]],
    [[[0.04, 0.02], [0.02, 0.03]], [[0.02, -0.01], [-0.01, 0.03]], [[0.01, 0.0], [0.0, 0.01]]],
)
WRONG = PLANE._replace(weights=PLANE.weights[::-1])  # the control: a denoiser of other data
SMALL = 2  # the smallest mode of the plane
LAST = 1e-3  # the convergence study ends here, short of data
REST = -1.0  # no time


class Curve(NamedTuple):
    """Network calls, RMSE to the exact flow (nan where noise is drawn) and Wasserstein distance to the law, for each number of steps."""

    calls: np.ndarray
    rmse: np.ndarray
    distance: np.ndarray

    @property
    def order(self) -> float:
        """Of the error, over the last halving of the step."""
        return float(np.log2(self.rmse[-2] / self.rmse[-1]))


class Adaptive(NamedTuple):
    """Step control: tolerance, whose steps they are, mean network calls of a walk, and RMSE to the exact flow."""

    tolerance: float
    steps_of: str
    calls: float
    rmse: float


class Gaps(NamedTuple):
    """Draws against the mixture in the plane, in standard errors: the largest of mean and covariance, the share of the smallest mode, the mean
    log-density; and that share itself."""

    moments_z: float
    small_mode_z: float
    log_density_z: float
    share: float


def run(config: Config) -> dict[str, Any]:
    """Everything the module's docstring promises; returns what result.json holds."""
    clock = Clock()
    if len(config.steps) < 2 or any(b != 2 * a for a, b in pairwise(config.steps)):
        raise UserError(f'--steps={",".join(map(str, config.steps))}: give at least two numbers, each twice the one before')
    if config.dry_run:
        print(f'{len(CASES)} solvers, no network and no parameters; below, the evaluations of exact denoisers, without what solvers add')
        return bill.bill(jobs(config))
    manifest = {name: [np.asarray(each).tolist() for each in mixture] for name, mixture in (('line', LINE), ('plane', PLANE))}
    folder = open_workdir(config, manifest, name='prove_samplers')
    (study, adapt), compare = convergence(config), comparison(config)
    curves, gaps = {}, {}
    with Progress(len(CASES), name='solvers') as progress:
        for n, (name, case) in enumerate(CASES.items()):
            curves[name], gaps[name] = study(case), compare(case, PLANE)
            progress.update(n + 1)
    published, wrong = study(PUBLISHED), compare(CASES['dpm++ 2m'], WRONG)
    densities, strong = likelihoods(config), strong_orders(config)
    clock.lap('infer')

    seen = [judged(n, curves, gaps, densities, strong, published, wrong) for n in range(config.evaluations)]
    result = {
        **experiment.headline('foundations/solvers', config, manifest),
        'wall_s': clock.seconds(),
        'peak_memory_bytes': peak_memory(),
        'tables': [
            solver_table(config, {**curves, 'dpm++ 3m as published': published}, gaps),
            adaptive_table(adapt()),
            density_table(densities),
            strong_table(strong),
        ],
        **experiment.verdict(seen, BARS),
    }
    experiment.conclude(folder, result, [pictures(folder, curves)], receipts=config.receipts)
    return result


def jobs(config: Config) -> list[bill.Job]:
    """Evaluations of the denoisers: along the flow for every number of steps, and for the draws."""

    def evaluating(name: str, mixture: Mixture, dims: int, count: int, times: int) -> bill.Job:
        many = jax.jit(jax.vmap(exact.denoiser(PATH, mixture), (0, None)))
        return bill.Job(name, many, (bill.float32(count, dims), bill.float32()), times)

    flow = drawn = 0
    for case in CASES.values():
        few, more = (calls(case.make(PATH), langevin.repeat(case.grid(PATH, n), case.corrections)) for n in (4, 6))
        along = lambda n, few=few, more=more: few + (more - few) * (n - 4) // 2  # every step but the first few has as many
        flow, drawn = flow + sum(map(along, config.steps)), drawn + config.evaluations * along(case.steps)
    return [
        evaluating('on the line', LINE, 1, config.walkers, flow),
        evaluating('in the plane', PLANE, 2, config.draws, drawn),
    ]


def judged(n: int, curves: dict, gaps: dict, densities: dict, strong: Sequence, published: 'Curve', wrong: list) -> Evaluation:
    """What evaluation n says of all solvers: their worst; beside it what ought to miss."""
    away = lambda case, curve: abs(curve.order - case.order)
    worst = lambda several: {name: max(abs(getattr(each[n], name)) for each in several) for name in Gaps._fields[:-1]}
    found = {(row.method, row.equation): row for row in strong}
    deviation = lambda row, order: abs(row.found - order)
    return Evaluation(
        {
            'order_deviation': max(away(case, curves[name]) for name, case in CASES.items() if case.order),
            **worst(gaps.values()),
            'likelihood_error': max(densities['mixture'], densities['Gaussian']),
            'strong_order_deviation': max(deviation(row, row.order) for row in strong if row.method != 'sra1'),
            'sra1_order': found['sra1', ADDITIVE].found,
        },
        {
            'ends taken for noise': {
                'likelihood_error': max(densities['mixture, ends taken for noise'], densities['Gaussian, ends taken for noise'])
            }
        },
        {
            'published 3m': {'order_deviation': away(PUBLISHED, published)},
            'another mixture': {'likelihood_error': densities['another mixture'], **worst([wrong])},
            'euler-maruyama for the better method': {
                'strong_order_deviation': deviation(found['euler-maruyama', GEOMETRIC], found['milstein', GEOMETRIC].order),
                'sra1_order': found['euler-maruyama', ADDITIVE].found,
            },
        },
    )


# ---- along the flow


def convergence(config: Config) -> tuple[Callable[[Case], Curve], Callable[[], list[Adaptive]]]:
    """On the line, from t = 1 to LAST, in double precision: case -> its `Curve`; and the solver with step control at several tolerances."""
    count, steps = config.walkers, config.steps
    with jax.enable_x64(True):
        start = PATH.sigma(1.0) * jax.scipy.stats.norm.ppf((jnp.arange(count)[:, None] + 0.5) / count)
        fine = grids.log_snr(PATH, 10 * steps[-1], last=LAST, zero=False)
        flow = walks(rk4(PATH), exact.denoiser(PATH, LINE))(jax.random.key(0), start, fine)
        keys = jax.random.split(jax.random.key(config.seed + 1), 50 * count)
        law = jax.vmap(lambda key: exact.draw(key, LINE))(keys)
        law = np.ravel(PATH.alpha(LAST) * law + PATH.sigma(LAST) * jax.random.normal(keys[0], law.shape))

    def study(case: Case) -> Curve:
        with jax.enable_x64(True):
            solver, seen = case.make(PATH), []
            run = walks(resting(solver), exact.denoiser(PATH, LINE))
            length = (case.corrections + 1) * steps[-1] + 1
            grid = lambda n: langevin.repeat(case.grid(PATH, n, last=LAST, **even(case.grid)), case.corrections)
            few, more = (calls(solver, grid(n)) for n in (4, 6))
            for n in steps:
                times = grid(n)
                ends = run(jax.random.key(config.seed + 2), start, jnp.pad(times, (0, length - len(times)), constant_values=REST))
                rmse = jnp.sqrt(jnp.mean((ends - flow) ** 2)) if case.order else np.nan
                seen.append((few + (more - few) // 2 * (n - 4), float(rmse), wasserstein_distance(np.ravel(ends), law)))
        return Curve(*map(np.array, zip(*seen, strict=True)))

    def adapt() -> list[Adaptive]:
        with jax.enable_x64(True):
            one = lambda x, tolerance, shared=None: embedded.transport(
                x, exact.denoiser(PATH, LINE), PATH, 1.0, LAST, rtol=tolerance, atol=tolerance, shared=shared
            )
            own = jax.jit(jax.vmap(one, (0, None)))
            shared = jax.jit(jax.vmap(partial(one, shared='walks'), (0, None), axis_name='walks'))
            rows = []
            for tolerance in (1e-3, 1e-5, 1e-7):
                for steps_of, run in (('each walk', own), ('all walks', shared)):
                    out = run(start, tolerance)
                    rows.append(
                        Adaptive(tolerance, steps_of, float(out.evaluations.mean()), float(jnp.sqrt(jnp.mean((out.y - flow) ** 2))))
                    )
        return rows

    return study, adapt


def resting(solver: Solver) -> Solver:
    """The same solver, doing nothing where it is to move to the time REST: walks of all lengths are one program, compiled once."""

    def step(key: Array, denoise: Denoiser, memory: Any, x: Array, t: Array, s: Array) -> tuple[Array, Array, Any]:
        move = lambda: solver.step(key, denoise, memory, x, t, s)
        return jax.lax.cond(s == REST, lambda: (x, x, memory), move)

    return Solver(solver.init, step)


def even(grid: Callable[..., Array]) -> dict[str, bool]:
    """Grids in the signal-to-noise ratio are kept from going on to data."""
    return {} if grid is grids.uniform else {'zero': False}


def walks(solver: Solver, denoise: Denoiser) -> Callable[[Array, Array, Array], Array]:
    """(key, starts (n, D), times) -> ends (n, D)."""
    one = lambda key, x, times: sample(key, x, denoise, solver, times).x
    many = jax.jit(jax.vmap(one, (0, 0, None)))
    return lambda key, starts, times: many(jax.random.split(key, len(starts)), starts, times)


def calls(solver: Solver, times: Array) -> int:
    """Evaluations of the denoiser in one walk, counted while it walks, uncompiled; beyond warm-up every step has as many."""
    count = 0

    def denoise(x: Array, t: Array) -> Array:
        nonlocal count
        count += 1
        return x / 2

    with jax.disable_jit():
        sample(jax.random.key(0), jnp.ones(1), denoise, solver, times)
    return count


# ---- the law


def comparison(config: Config) -> Callable[[Case, Mixture], list[Gaps]]:
    """(case, mixture) -> what it draws with the denoiser of that mixture, against the plane, for each evaluation."""
    truth = jax.vmap(lambda key: exact.draw(key, PLANE))(jax.random.split(jax.random.key(config.seed + 3), 20 * config.draws))
    mean, covariance = (np.asarray(each) for each in exact.moments(PLANE))
    log_density = jax.jit(jax.vmap(lambda x: exact.log_density(PATH, PLANE, x, jnp.float32(0))))
    in_small = jax.jit(jax.vmap(lambda x: jnp.argmax(exact.posterior(PATH, PLANE, x, jnp.float32(0))) == SMALL))
    rows, columns = np.triu_indices(2)

    def statistics(x: Array) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        away = np.asarray(x) - mean
        return np.concatenate([away, away[:, rows] * away[:, columns]], axis=1), np.asarray(in_small(x), float), np.asarray(log_density(x))

    moments = np.concatenate([[0, 0], covariance[rows, columns]])
    spread, share, density = statistics(truth)
    expected = (moments, spread.std(0)), (share.mean(), share.std()), (density.mean(), density.std())

    def compare(case: Case, mixture: Mixture) -> list[Gaps]:
        times = langevin.repeat(case.grid(PATH, case.steps), case.corrections)
        draw = walks(case.make(PATH), exact.denoiser(PATH, mixture))
        gaps = []
        for n in range(config.evaluations):
            start, walk = jax.random.split(jax.random.key(config.seed + 4 + n))
            seen = statistics(draw(walk, PATH.sigma(1.0) * jax.random.normal(start, (config.draws, 2)), times))
            z = [np.sqrt(config.draws) * (each.mean(0) - at) / spread for each, (at, spread) in zip(seen, expected, strict=True)]
            gaps.append(Gaps(float(z[0][np.argmax(np.abs(z[0]))]), float(z[1]), float(z[2]), float(seen[1].mean())))
        return gaps

    return compare


# ---- log-densities and stochastic integrators


def likelihoods(config: Config) -> dict[str, float]:
    """Largest error of the log-density, nats per dimension, by the law that is asked for."""
    basis = np.linalg.qr(np.random.default_rng(0).normal(size=(64, 64)))[0]
    broad = exact.mixture([1.0], np.linspace(-0.5, 0.5, 64)[None], (basis * np.geomspace(0.02, 1, 64) @ basis.T)[None])

    def error(model: Mixture, truth: Mixture, *, ends: bool) -> float:
        """`ends`: the density at the end of the path is the model's own, not that of noise."""
        points = jax.vmap(lambda key: exact.draw(key, truth))(jax.random.split(jax.random.key(config.seed + 5), config.points))
        prior = (lambda x: exact.log_density(PATH, model, x, jnp.float32(1))) if ends else None
        flow = jax.jit(jax.vmap(lambda x: likelihood.log_density(x, exact.denoiser(PATH, model), PATH, prior=prior).value))
        known = jax.jit(jax.vmap(lambda x: exact.log_density(PATH, truth, x, jnp.float32(1e-5))))
        return float(jnp.max(jnp.abs(flow(points) - known(points)))) / points.shape[1]

    return {
        'mixture': error(PLANE, PLANE, ends=True),
        'mixture, ends taken for noise': error(PLANE, PLANE, ends=False),
        'Gaussian': error(broad, broad, ends=True),
        'Gaussian, ends taken for noise': error(broad, broad, ends=False),
        'another mixture': error(WRONG, PLANE, ends=True),
    }


class Strong(NamedTuple):
    """The strong order expected of a method for an equation, and found."""

    method: str
    equation: str
    order: float
    found: float


ADDITIVE, GEOMETRIC = 'additive noise', 'geometric Brownian motion'
GROWTH, STEPS = 0.8, (16, 32, 64, 128)
EQUATIONS = {
    ADDITIVE: (lambda x, t: 2 * jnp.sin(x) - x, lambda x, t: 0.5 + t),
    GEOMETRIC: (lambda x, t: x, lambda x, t: GROWTH * x),
}
METHODS = {
    'euler-maruyama': (stochastic.euler_maruyama, {ADDITIVE: 1.0, GEOMETRIC: 0.5}),
    'milstein': (stochastic.milstein, {ADDITIVE: 1.0, GEOMETRIC: 1.0}),
    'derivative-free milstein': (stochastic.derivative_free, {GEOMETRIC: 1.0}),
    'stochastic heun': (stochastic.heun, {ADDITIVE: 1.0}),
    'sra1': (stochastic.sra1, {ADDITIVE: 1.5}),
}


def strong_orders(config: Config) -> list[Strong]:
    """On [0, 1], along Brownian paths whose ends are known: from the closed form, and for additive noise from 1024 steps of SRA1."""
    finest, found = 1024, []
    with jax.enable_x64(True):
        fine = stochastic.brownian(jax.random.key(config.seed + 6), (finest, config.brownian), 1 / finest)

        def walk(equation: str, method: stochastic.Method, n: int) -> Array:
            parts = jax.tree.map(lambda leaf: leaf.reshape(n, finest // n, -1), fine)
            noise = jax.vmap(lambda part: stochastic.join(part, 1 / finest))(parts)
            return stochastic.walk(method, *EQUATIONS[equation], jnp.ones(config.brownian), jnp.linspace(0, 1, n + 1), noise)

        ends = {
            ADDITIVE: walk(ADDITIVE, stochastic.sra1, finest),
            GEOMETRIC: jnp.exp(1 - GROWTH**2 / 2 + GROWTH * jnp.sum(fine.dw, axis=0)),
        }
        for name, (method, expected) in METHODS.items():
            for equation, order in expected.items():
                errors = [float(jnp.sqrt(jnp.mean((walk(equation, method, n) - ends[equation]) ** 2))) for n in STEPS]
                found.append(Strong(name, equation, order, float(-np.polyfit(np.log2(STEPS), np.log2(errors), 1)[0])))
    return found


# ---- what is told


def solver_table(config: Config, curves: dict[str, Curve], gaps: dict[str, list[Gaps]]) -> dict[str, Any]:
    shown = [n for n in (20, 80, 320) if n in config.steps] or [config.steps[-1]]
    at = [config.steps.index(n) for n in shown]
    rows = []
    for name, curve in curves.items():
        case, draws = CASES.get(name, PUBLISHED), gaps.get(name, [])
        z = [float(np.mean([getattr(each, field) for each in draws])) if draws else None for field in Gaps._fields]
        rmse = [float(curve.rmse[i]) if case.order else None for i in at]
        order = [curve.order, case.order] if case.order else [None, None]
        rows.append(
            [name, *order, *rmse, *(float(curve.distance[i]) for i in at), int(curve.calls[at[0]]), case.steps if draws else None, *z]
        )
    return {
        'caption': f'Orders and errors along the flow of a mixture on the line, {config.walkers} walks to t = {LAST}, and {config.draws} draws '
        f'from a mixture in the plane, z in standard errors, means over {config.evaluations} seeds; its smallest mode holds '
        f'{float(PLANE.weights[SMALL]):.1%}.',
        'header': [
            'solver',
            'order',
            'expected',
            *(f'RMSE, {n} steps' for n in shown),
            *(f'distance to the law, {n} steps' for n in shown),
            f'network calls, {shown[0]} steps',
            'steps of the draws',
            'mean and covariance, z',
            'smallest mode, z',
            'log-density, z',
            'smallest mode, share',
        ],
        'rows': rows,
    }


def adaptive_table(rows: Sequence[Adaptive]) -> dict[str, Any]:
    caption = 'The embedded pair of Dormand and Prince along the same flow, with steps of its own for each walk, or shared by all.'
    header = ['tolerance', 'steps of', 'network calls, mean', 'RMSE']
    return {'caption': caption, 'header': header, 'rows': [[f'{row.tolerance:g}', *row[1:]] for row in rows]}


def density_table(densities: dict[str, float]) -> dict[str, Any]:
    caption = (
        'Largest error of the log-density by the probability flow, exact divergence, adaptive steps, nats per dimension: of the mixture in the '
        'plane and a Gaussian in 64 dimensions, from their own density at the end of the path, or from that of the noise walks start from.'
    )
    return {'caption': caption, 'header': ['law', 'error'], 'rows': [*map(list, densities.items())]}


def strong_table(strong: Sequence[Strong]) -> dict[str, Any]:
    caption = 'Strong orders of the stochastic integrators along fixed Brownian paths.'
    return {'caption': caption, 'header': ['method', 'equation', 'expected', 'measured'], 'rows': [*map(list, strong)]}


def pictures(folder: Any, curves: dict[str, Curve]) -> report.Section:
    along = {name: (curve.calls, curve.rmse) for name, curve in curves.items() if CASES[name].order}
    law = {name: (curve.calls, curve.distance) for name, curve in curves.items()}
    draw = lambda series, y, name: report.picture(
        report.curves(series, x='network calls', y=y, log='xy', size=(8.5, 4.6)), '', alt=y, path=folder.figures / f'{name}.png'
    )
    text = 'Left to right: more network calls. Below the noise of a finite number of draws the distance to the law cannot fall.'
    return report.Section(
        'Error against network calls',
        text,
        [draw(along, 'RMSE to the exact flow', 'flow'), draw(law, 'Wasserstein distance to the law', 'law')],
    )


if __name__ == '__main__':
    experiment.main(Config, PRESETS, run)
