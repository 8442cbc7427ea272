"""Prove the posteriors: fill holes in a Gaussian field, whose conditional law is known in closed form.

    python experiments/prove_posteriors.py

The field is 16 x 16 pixels of variance 1, correlated as exp(-d^2 / 2 l^2); half of it, all but the centre, or a random half is known. Each
method draws the rest, and the mean and the covariance of its draws are compared with the truth, in the hole alone. Three of them have bars to
pass: sampling with the exact conditional score, right for small steps; predictor-corrector replacement, right for many corrections; and RePaint,
whose mean is right for many resamplings. RePaint with one resampling, which is replacement, and the prior alone are the controls. Diffusion
posterior sampling and DDNM are approximations in any limit; how far off they are is measured as a function of their weight.

Every draw is made twice under the same noise, towards the field y and towards -y. For a method linear in field and noise half the difference
is then the mean of its law, without Monte-Carlo error, and half the sum a draw of the deviation; for the others, by symmetry, both are so on
average, and the variance of the mean over draws is subtracted from its squared error. Fields are drawn in orthogonal directions, as many as there
are pixels, so that the error of linear methods is that over all fields, without Monte-Carlo error either. No network, no training, no data.

Lugmayr et al., "RePaint", CVPR 2022; Song et al., ICLR 2021 (predictor-corrector); Chung et al., "DPS", ICLR 2023; Song et al., "Pseudoinverse-
guided diffusion models", ICLR 2023; Wang, Yu, Zhang, "DDNM", ICLR 2023.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy.ndimage import binary_dilation

from jaxdiff import exact, experiment, grids, guidance, paths, report
from jaxdiff.clock import Clock
from jaxdiff.constraints import inpaint
from jaxdiff.experiment import Bar, Evaluation, option
from jaxdiff.export import bill
from jaxdiff.solvers.ancestral import ddim, ddpm
from jaxdiff.solvers.langevin import annealed_langevin, predictor_corrector, repeat
from jaxdiff.solvers.loop import sample
from jaxdiff.solvers.resampling import resampling
from jaxdiff.training.log import Progress
from jaxdiff.types import Array, Denoiser, Key, UserError
from jaxdiff.workdir import Workdir, open_workdir, peak_memory


@dataclass(frozen=True, kw_only=True)
class Config(experiment.Config):
    data: str = option('field', 'the Gaussian field', choices=('field',))
    length: float = option(1.0, 'correlation length of the field, in pixels', low=0.1)
    fields: int = option(
        256, 'fields to fill, of each mask; all 256 together have exactly the second moments of their law', low=1, high=256
    )
    draws: int = option(2, 'pairs of draws for each', low=2)
    steps: int = option(250, 'steps of a walk down', low=2)
    jump: int = option(10, 'steps of a jump of RePaint', low=1)
    resamplings: int = option(10, 'times that RePaint walks each stretch', low=2)
    eta: float = option(1.4, 'noise of a second RePaint, in units of that of DDPM', low=0, high=3)
    levels: int = option(100, 'levels of the predictor-corrector method', low=2)
    corrections: int = option(20, 'Langevin steps at each', low=0)
    zetas: tuple = option((0.03, 0.1, 0.3, 1.0, 3.0), 'weights of DPS as published', low=1e-6)
    scales: tuple = option((0.25, 0.5, 1.0, 2.0, 4.0), 'weights of DPS as a Gaussian likelihood', low=1e-6)
    weights: tuple = option((0.25, 0.5, 0.75, 1.0), 'weights of DDNM', low=1e-6)
    lengths: tuple = option((1.0, 2.0, 3.0), 'correlation lengths of the study of resamplings', low=0.1)
    study: tuple = option((1, 3, 10, 30), 'resamplings of that study', low=1)
    evaluations: int = option(3, 'seeds of fields and noise', low=1)


PRESETS = {
    'smoke': dict(
        fields=2, draws=2, steps=12, jump=3, resamplings=2, levels=6, corrections=1, zetas=(0.3,), scales=(1.0,), weights=(1.0,),
        lengths=(1.0,), study=(2,), evaluations=1,
    ),
    'cpu': {},
    'gpu': dict(draws=16, study=(1, 3, 10, 30, 100)),
    'paper': dict(draws=16, study=(1, 3, 10, 30, 100)),
}  # fmt: skip
BARS = (
    Bar('exact_score_mean_error', '<=', 0.1),
    Bar('exact_score_covariance_error', '<=', 0.1),
    Bar('corrected_mean_error', '<=', 0.1),
    Bar('corrected_covariance_error', '<=', 0.1),
    Bar('repaint_mean_error', '<=', 0.1),
    Bar('repaint_covariance_error', '<=', 0.1),
    Bar('repaint_border_gain', '>=', 3.0),
    Bar('repaint_long_mean_error', '<=', 0.1),
)
PATH = paths.cosine()
SIDE = 16
MASKS = ('half', 'centre', 'random')
WHITE = 1e-4  # the share of white noise in the field, without which long correlations have no inverse in floating point
LANGEVIN = 0.2  # the corrector's steps, in units of sigma^2


class Prior(NamedTuple):
    """Principal axes (SIDE, SIDE), in columns, of the field along either side, and variances (SIDE, SIDE) along their products."""

    axes: Array
    variances: Array


class Case(NamedTuple):
    """A mask and the conditional law of the field given what it shows, D = SIDE^2 pixels in row-major order.

    mask (SIDE, SIDE, 1), 1 where known; the mean is gain (D, D) times the field; principal axes (D, D) and variances (D,) of the covariance.
    """

    mask: Array
    gain: Array
    axes: Array
    variances: Array


class Found(NamedTuple):
    """What a method drew: for each mask the root of the mean squared error of its mean, in the hole and on its border, the trace of its
    covariance over the true one (masks,); mean of the first field and standard deviation (masks, SIDE, SIDE)."""

    error: np.ndarray
    border: np.ndarray
    ratio: np.ndarray
    mean: np.ndarray
    std: np.ndarray


class Method(NamedTuple):
    """`run` (prior, case, key, field, weight) -> a draw (SIDE, SIDE, 1) given what the mask of the case shows of the field; how often it
    calls the denoiser; the weights to run it at."""

    run: Callable[[Prior, Case, Key, Array, Array], Array]
    calls: int
    weights: Sequence[float]


def run(config: Config) -> dict[str, Any]:
    """Everything the module's docstring promises; returns what result.json holds."""
    clock = Clock()
    if config.jump >= config.steps:
        raise UserError(f'--jump={config.jump}: no jump of so many steps fits into a walk of --steps={config.steps}; take fewer')
    ways = methods(config)
    if config.dry_run:
        print(f'{len(ways)} methods, no network and no parameters; below, evaluations of the exact denoiser alone')
        return bill.bill(jobs(config, ways))
    manifest = {'length': config.length, 'white': WHITE, 'side': SIDE, 'masks': MASKS}
    folder = open_workdir(config, manifest, name='prove_posteriors')
    draws, seen = {name: drawer(way) for name, way in ways.items()}, []
    with Progress(config.evaluations * len(ways), name='posteriors') as progress:
        for n in range(config.evaluations):
            seen.append({})
            for name, way in ways.items():
                seen[n] |= {(name, weight): measure(config, draws[name], config.seed + n, weight) for weight in way.weights}
                progress.update(n * len(ways) + list(ways).index(name) + 1)
    study = resampling_study(config)
    clock.lap('infer')
    sections = [show_maps(config, folder, seen[0]), show_weights(config, folder, seen[0]), show_study(folder, study)]
    clock.lap('show')
    result = {
        **experiment.headline('foundations/posteriors', config, manifest),
        'wall_s': clock.seconds(),
        'peak_memory_bytes': peak_memory(),
        'nfe': {name: way.calls for name, way in ways.items()},
        **experiment.verdict([judge(config, each, study) for each in seen], BARS if config.preset != 'smoke' else ()),
        'tables': [method_table(ways, seen), study_table(study)],
    }
    experiment.conclude(folder, result, sections, receipts=config.receipts)
    return result


def jobs(config: Config, ways: Mapping[str, Method]) -> list[bill.Job]:
    """Evaluations of the denoiser, of all fields, draws, masks and signs at once."""
    prior = jax.tree.map(lambda leaf: bill.float32(*leaf.shape), field_prior(config.length))
    many = jax.jit(jax.vmap(lambda prior, x, t: unconditional(prior)(x, t), (None, 0, None)))
    again = [int(np.sum(np.diff(grids.repaint(grids.uniform(PATH, config.steps), config.jump, n)) < 0)) for n in config.study]

    def evaluating(name: str, draws: int, times: int) -> bill.Job:
        x = bill.float32(config.fields * draws * len(MASKS) * 2, SIDE, SIDE, 1)
        return bill.Job(name, many, (prior, x, bill.float32()), times)

    compared = config.evaluations * sum(way.calls * len(way.weights) for way in ways.values())
    return [evaluating('methods', config.draws, compared), evaluating('study of resamplings', 2, len(config.lengths) * sum(again))]


# ---- the field


def field_prior(length: float) -> Prior:
    """The field of unit variance and this correlation length."""
    place = np.arange(SIDE)
    values, axes = np.linalg.eigh(np.exp(-np.square(place[:, None] - place[None]) / (2 * length**2)))
    return Prior(*map(jnp.asarray, (axes, (1 - WHITE) * np.outer(values, values).clip(0) + WHITE)))


def draw_fields(prior: Prior, key: Key, count: int) -> Array:
    """(count, SIDE, SIDE, 1), count <= SIDE^2: orthogonal directions in place of independent ones, of the length that these have on average.

    One field is as good as random; all SIDE^2 have the covariance of the prior exactly, and so have methods that are linear their exact error.
    """
    white = SIDE * jax.random.orthogonal(key, SIDE**2)[:count].reshape(count, SIDE, SIDE)
    return (prior.axes @ (jnp.sqrt(prior.variances)[None] * white) @ prior.axes.T)[..., None]


def covariance_of(prior: Prior) -> np.ndarray:
    """(D, D), float64."""
    axes = np.kron(*2 * (np.asarray(prior.axes, np.float64),))
    return axes * np.asarray(prior.variances, np.float64).ravel() @ axes.T


def conditional(covariance: np.ndarray, mask: np.ndarray) -> Case:
    """The conditional law given the pixels where the mask (SIDE, SIDE, 1) is 1, in float64."""
    known = mask.ravel() > 0
    gain, spread = np.diag(known.astype(float)), np.zeros_like(covariance)
    across = covariance[np.ix_(known, ~known)]
    gain[np.ix_(~known, known)] = np.linalg.solve(covariance[np.ix_(known, known)], across).T
    spread[np.ix_(~known, ~known)] = covariance[np.ix_(~known, ~known)] - gain[np.ix_(~known, known)] @ across
    variances, axes = np.linalg.eigh(spread)
    return Case(*map(jnp.asarray, (mask, gain, axes, variances.clip(0))))


def masks() -> np.ndarray:
    """(masks, SIDE, SIDE, 1), 1 where known."""
    half, centre = np.zeros((SIDE, SIDE)), np.ones((SIDE, SIDE))
    half[: SIDE // 2], centre[SIDE // 4 : -SIDE // 4, SIDE // 4 : -SIDE // 4] = 1, 0
    return np.stack([half, centre, np.random.default_rng(0).random((SIDE, SIDE)) < 0.5])[..., None].astype(np.float32)


@cache
def laws_of(length: float) -> tuple[Prior, Case]:
    """The field, and its conditional laws under all masks, stacked."""
    prior = field_prior(length)
    covariance = covariance_of(prior)
    return prior, jax.tree.map(lambda *each: jnp.stack(each), *(conditional(covariance, mask) for mask in masks()))


def unconditional(prior: Prior) -> Denoiser:
    """E[x0 | x] of the field: diagonal in its principal axes."""

    def denoise(x, t):
        alpha, sigma = PATH.alpha(t), PATH.sigma(t)
        shrink = alpha * prior.variances / (alpha**2 * prior.variances + sigma**2)
        along = prior.axes.T @ x[..., 0] @ prior.axes
        return (prior.axes @ (shrink * along) @ prior.axes.T)[..., None]

    return denoise


# ---- the methods


def methods(config: Config) -> dict[str, Method]:
    """What is compared."""
    times, n = grids.uniform(PATH, config.steps), config.steps
    levels = repeat(grids.uniform(PATH, config.levels), config.corrections)
    again = grids.repaint(times, config.jump, config.resamplings)

    def prior_alone(prior, case, key, field, weight):
        return walk(key, unconditional(prior), ddpm(PATH), times)

    def exact_score(prior, case, key, field, weight):
        law = exact.Mixture(jnp.ones(1), (case.gain @ field.ravel())[None], case.axes[None], case.variances[None])
        return walk(key, exact.denoiser(PATH, law), ddpm(PATH), times)

    def replacement(make, along):
        return lambda prior, case, key, field, weight: walk(
            key, unconditional(prior), make(weight), along, constrain=inpaint(PATH, field, case.mask)
        )

    def guided(guide):
        return lambda prior, case, key, field, weight: walk(
            key, guide(unconditional(prior), lambda x: case.mask * x, case.mask * field, weight), ddpm(PATH), times
        )

    corrected = lambda step: predictor_corrector(ddpm(PATH), annealed_langevin(PATH, step=step))
    repainted = lambda eta: resampling(PATH, ddim(PATH, eta=eta))
    spread = lambda t: PATH.sigma(t) / jnp.hypot(PATH.alpha(t), PATH.sigma(t))
    published = lambda free, forward, y, zeta: guidance.residual(free, forward, y, guidance.per_step(PATH, times, zeta))
    likelihood = lambda free, forward, y, scale: guidance.measurement(free, PATH, forward, y, scale, std=spread)
    projected = lambda free, forward, y, weight: guidance.project_x0(free, forward, forward, y, weight)
    etas = tuple(dict.fromkeys((1.0, config.eta)))
    return {
        'prior': Method(prior_alone, n, (0.0,)),
        'exact score': Method(exact_score, n, (1.0,)),
        'predictor-corrector': Method(replacement(corrected, levels), len(levels) - 1, (LANGEVIN,)),
        'RePaint': Method(replacement(repainted, again), int(np.sum(np.diff(again) < 0)), etas),
        'one resampling': Method(replacement(repainted, times), n, etas),
        'DPS': Method(guided(published), n, config.zetas),
        'DPS, Gaussian': Method(guided(likelihood), n, config.scales),
        'DDNM': Method(guided(projected), n, config.weights),
    }


def walk(key: Key, denoise: Denoiser, solver: Any, times: Array, **options: Any) -> Array:
    """One draw (SIDE, SIDE, 1), from noise."""
    start, rest = jax.random.split(key)
    x = PATH.sigma(times[0]) * jax.random.normal(start, (SIDE, SIDE, 1))
    return sample(rest, x, denoise, solver, times, **options).x


def drawer(way: Method) -> Callable[..., Array]:
    """(prior, cases, keys (fields, draws), fields (fields, SIDE, SIDE, 1), weight) -> (fields, draws, masks, 2, SIDE, SIDE): towards y, -y."""

    def draw(prior, cases, keys, fields, weight):
        one = lambda key, field, case, sign: way.run(prior, case, key, sign * field, weight)[..., 0]
        signs = jax.vmap(one, (None, None, None, 0))  # innermost, so that noise is drawn once for both signs and all masks
        each = jax.vmap(jax.vmap(jax.vmap(signs, (None, None, 0, None)), (0, None, None, None)), (0, 0, None, None))
        return each(keys, fields, cases, jnp.array([1.0, -1.0]))

    return jax.jit(draw)


# ---- the measure


def measure(
    config: Config, draw: Callable[..., Array], seed: int, weight: float, length: float | None = None, draws: int | None = None
) -> Found:
    """A method at one weight, against the closed form."""
    (prior, laws), (first, second) = laws_of(length or config.length), jax.random.split(jax.random.key(seed))
    fields = draw_fields(prior, first, config.fields)
    x = draw(prior, laws, jax.random.split(second, (config.fields, draws or config.draws)), fields, jnp.float32(weight))
    return compare(laws, np.asarray(fields, np.float64), np.asarray(x, np.float64))


def compare(laws: Case, fields: np.ndarray, x: np.ndarray) -> Found:
    """Draws (fields, draws, masks, 2, SIDE, SIDE) against the closed forms."""
    apart, together = (x[..., 0, :, :] - x[..., 1, :, :]) / 2, (x[..., 0, :, :] + x[..., 1, :, :]) / 2
    mean, doubt = apart.mean(1), apart.var(1, ddof=1)  # of the half difference: 0 but for rounding where the method is linear
    truth = np.einsum('mde,fe->fmd', np.asarray(laws.gain, np.float64), fields.reshape(len(fields), -1)).reshape(mean.shape)
    square = np.mean(np.square(mean - truth) - doubt / x.shape[1], axis=0)
    variance = np.mean(np.square(together), axis=(0, 1)) + doubt.mean(0)
    known = np.asarray(laws.mask)[..., 0] > 0
    border = np.stack([binary_dilation(each) & ~each for each in known])
    over = lambda values, where: np.sqrt(np.maximum([values[m][where[m]].mean() for m in range(len(where))], 0))
    ratio = np.array([variance[m][~known[m]].sum() for m in range(len(known))]) / np.asarray(laws.variances).sum(-1)
    return Found(over(square, ~known), over(square, border), ratio, mean[0], np.sqrt(variance))


def judge(config: Config, found: Mapping[tuple[str, float], Found], study: Mapping[float, Sequence[tuple[int, Found]]]) -> Evaluation:
    """The worst over the masks, of the methods with a bar; beside them RePaint with more noise and the best of each approximation.

    'repaint_long_mean_error' is the worst over the correlation lengths of the study too.
    """
    worst = lambda name, each: {
        f'{name}_mean_error': float(each.error.max()),
        f'{name}_covariance_error': float(np.abs(each.ratio - 1).max()),
    }
    gain = lambda eta: {'repaint_border_gain': float(np.min(found['one resampling', eta].border / found['RePaint', eta].border))}
    best = lambda name: min((each for (of, _), each in found.items() if of == name), key=lambda each: each.error.max())
    metrics = {
        **worst('exact_score', found['exact score', 1.0]),
        **worst('corrected', found['predictor-corrector', LANGEVIN]),
        **worst('repaint', found['RePaint', 1.0]),
        **gain(1.0),
    }
    baselines = {f'{name}, best weight': worst('repaint', best(name)) for name in ('DPS', 'DPS, Gaussian', 'DDNM')}
    noisier = {f'RePaint, eta {config.eta:g}': {**worst('repaint', found['RePaint', config.eta]), **gain(config.eta)}}
    long = {n: max(float(of.error.max()) for each in study.values() for m, of in each if m == n) for n in config.study}
    if config.resamplings in long:
        metrics['repaint_long_mean_error'] = long[config.resamplings]
    nothing = {
        name: value for method in ('exact_score', 'corrected', 'repaint') for name, value in worst(method, found['prior', 0.0]).items()
    }
    once = {'repaint_long_mean_error': long[1]} if 1 in long else {}
    controls = {'one resampling': {**worst('repaint', found['one resampling', 1.0]), **once}, 'prior': nothing}
    return Evaluation(metrics, {**noisier, **baselines}, controls)


def resampling_study(config: Config) -> dict[float, list[Found]]:
    """RePaint with the noise of DDPM: for each correlation length, the mean at each number of resamplings."""
    times, found = grids.uniform(PATH, config.steps), {length: [] for length in config.lengths}
    for resamplings in config.study:
        again = grids.repaint(times, config.jump, resamplings)
        way = lambda prior, case, key, field, weight, again=again: walk(
            key, unconditional(prior), resampling(PATH, ddim(PATH, eta=weight)), again, constrain=inpaint(PATH, field, case.mask)
        )
        draw = drawer(Method(way, 0, ()))
        for length in config.lengths:
            found[length].append(measure(config, draw, config.seed, 1.0, length, draws=2))
    return {length: list(zip(config.study, each, strict=True)) for length, each in found.items()}


# ---- what a person looks at


def show_maps(config: Config, folder: Workdir, found: Mapping[tuple[str, float], Found]) -> report.Section:
    """Means and standard deviations of the methods, beside the closed form."""
    prior, laws = laws_of(config.length)
    known = np.asarray(laws.mask)[..., 0] > 0
    first = np.asarray(draw_fields(prior, jax.random.split(jax.random.key(config.seed))[0], config.fields)[0, ..., 0])
    truth = np.einsum('mde,e->md', np.asarray(laws.gain), first.ravel()).reshape(-1, SIDE, SIDE)
    std = np.sqrt(np.einsum('mde,me->md', np.square(np.asarray(laws.axes)), np.asarray(laws.variances))).reshape(-1, SIDE, SIDE)
    nearest = lambda name: min((each for each in found if each[0] == name), key=lambda each: found[each].error.max())
    chosen = {
        'exact score': ('exact score', 1.0),
        'pred.-corrector': ('predictor-corrector', LANGEVIN),
        f'RePaint, {config.resamplings}': ('RePaint', 1.0),
        'RePaint, 1': ('one resampling', 1.0),
        **{f'{name}, {nearest(name)[1]:g}': nearest(name) for name in ('DPS', 'DPS, Gaussian', 'DDNM')},
    }
    looks, pixels = dict(labels=MASKS, note='', size=1.35), lambda rows: [[np.kron(each, np.ones((8, 8))) for each in row] for row in rows]
    means = [[np.where(known[m], first, -9), truth[m], *(found[each].mean[m] for each in chosen.values())] for m in range(len(MASKS))]
    stds = [[std[m], *(np.where(known[m], 0, found[each].std[m]) for each in chosen.values())] for m in range(len(MASKS))]
    titles = ('what is known', 'closed form', *chosen)
    pictures = [
        saved(
            folder,
            'means',
            report.grid(pixels(means), titles=titles, window=(-2.5, 2.5), **looks),
            'Mean of the field given what is known.',
        ),
        saved(
            folder,
            'deviations',
            report.grid(pixels(stds), titles=titles[1:], window=(0.0, 1.1), **looks),
            'Standard deviation of every pixel.',
        ),
    ]
    text = (
        'Methods that are right in a limit agree with the closed form; one resampling, which is replacement, does not. '
        'Approximations are shown at the weight whose mean is nearest to the truth.'
    )
    return report.Section('Means and deviations', text, pictures)


def show_weights(config: Config, folder: Workdir, found: Mapping[tuple[str, float], Found]) -> report.Section:
    """Error of the mean and trace of the covariance against the weight of each approximation."""
    pictures = []
    for quantity, y in (('error', 'error of the mean, prior deviations'), ('ratio', 'trace of covariance over the true one')):
        series = {
            f'{name}, {MASKS[m]}': tuple(
                zip(*sorted((w, getattr(each, quantity)[m]) for (of, w), each in found.items() if of == name), strict=True)
            )
            for name in ('DPS', 'DPS, Gaussian', 'DDNM')
            for m in range(len(MASKS))
        }
        figure = report.curves(series, x='weight', y=y, log='xy', size=(8.6, 3.6))
        pictures.append(saved(folder, f'weights_{quantity}', figure, f'{y.capitalize()}, against the weight.'))
    text = (
        'DPS, with the gradient of the norm of the residual (as published) and of a Gaussian likelihood, and DDNM are approximations: how far '
        'off they are depends on the weight, and which weight is best on the method and on the mask.'
    )
    return report.Section('Weights of the approximations', text, pictures)


def show_study(folder: Workdir, study: Mapping[float, Sequence[tuple[int, Found]]]) -> report.Section:
    """Error of RePaint's mean against resamplings."""
    series = {f'length {length:g}': ([n for n, _ in each], [found.error.max() for _, found in each]) for length, each in study.items()}
    figure = report.curves(series, x='resamplings', y='error of the mean, worst mask', log='xy')
    text = (
        'RePaint with the noise of DDPM. What has been decided at one level of noise is revised only within the reach of a jump, so the error '
        'falls slowly, and the longer the correlations of the field the more resamplings it takes.'
    )
    return report.Section('How many resamplings', text, [saved(folder, 'resamplings', figure, 'Error of the mean, prior deviations.')])


def saved(folder: Workdir, name: str, figure: Any, caption: str) -> report.Picture:
    """The figure in the workdir, and for the page."""
    return report.picture(figure, caption, alt=caption, path=folder.figures / f'{name}.png')


def method_table(ways: Mapping[str, Method], seen: Sequence[Mapping[tuple[str, float], Found]]) -> dict[str, Any]:
    """Every method at every weight, mean and deviation over seeds."""

    def over_seeds(each, quantity, m):
        values = [getattr(found[each], quantity)[m] for found in seen]
        return {'mean': float(np.mean(values)), 'sd': float(np.std(values, ddof=1))} if len(values) > 1 else float(values[0])

    names = {
        'predictor-corrector': 'step',
        'RePaint': 'eta',
        'one resampling': 'eta',
        'DPS': 'zeta',
        'DPS, Gaussian': 'scale',
        'DDNM': 'weight',
    }
    rows = [
        [
            name,
            f'{names[name]} {weight:g}' if name in names else None,
            ways[name].calls,
            *(over_seeds((name, weight), quantity, m) for quantity in ('error', 'ratio') for m in range(len(MASKS))),
        ]
        for name, weight in seen[0]
    ]
    heads = [f'{quantity}, {mask}' for quantity in ('error of mean', 'covariance ratio') for mask in MASKS]
    caption = (
        'Draws given what a mask shows, against the closed form: root mean squared error of the mean in the hole, in deviations of the prior, and '
        'trace of the covariance over the true one. DPS and DDNM are approximations; the others are right in a limit, RePaint in its mean, but '
        'for the prior alone and for one resampling.'
    )
    return {'caption': caption, 'header': ['method', 'weight', 'evaluations', *heads], 'rows': rows}


def study_table(study: Mapping[float, Sequence[tuple[int, Found]]]) -> dict[str, Any]:
    """RePaint for each correlation length and number of resamplings."""
    rows = [[f'{length:g}', n, *map(float, (*found.error, *found.ratio))] for length, each in study.items() for n, found in each]
    caption = 'RePaint with the noise of DDPM, first seed: as above, for fields of longer correlations and other numbers of resamplings.'
    heads = [f'{quantity}, {mask}' for quantity in ('error of mean', 'covariance ratio') for mask in MASKS]
    return {'caption': caption, 'header': ['correlation length, pixels', 'resamplings', *heads], 'rows': rows}


if __name__ == '__main__':
    experiment.main(Config, PRESETS, run)
