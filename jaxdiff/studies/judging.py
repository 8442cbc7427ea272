"""How every reconstruction is judged: the same k-space, the same figures, the same rows beside it.

Figures are of magnitudes, by fastMRI's conventions with the largest value of each slice as the peak: PSNR, SSIM and NMSE of one sample, and of the
mean of all where there are several. Beside a system stand the zero-filled image, total variation with the weight that is best on validation slices
(one coil), and a U-Net trained for as many steps. Standard deviations are multiplied by the factor with which 80 % intervals hold 80 % of the pixels
of validation slices, and are judged on the test slices of every seed with that factor.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdiff.data.datasets import Dataset
from jaxdiff.data.undersampling import acceleration
from jaxdiff.experiment import Bar, Evaluation
from jaxdiff.metrics import calibration, images
from jaxdiff.model import Model
from jaxdiff.plans import Later, Plan
from jaxdiff.studies import kspace
from jaxdiff.studies.kspace import Config, Measured, operator_of
from jaxdiff.studies.solving import PEAK, TV_WEIGHTS, Bench, Solve, best, learned, magnitude, smoothest, zero_filled

Models = Mapping[str, Model]
LEVEL = 0.8
INSIDE = 0.05  # of the largest magnitude: intervals are judged where there is something
OWN = 'own'
QUALITY = ('psnr', 'ssim')  # figures of controls: what was measured returns from an untrained network too


class Rows(NamedTuple):
    """What a system is judged with: itself, what stands beside it, and what must fail; for each mask, since some choose by it."""

    own: Callable[[str], Solve]
    beside: Mapping[str, Callable[[str], Solve]]
    controls: Mapping[str, Callable[[str], Solve]]


class Sweep(NamedTuple):
    """A system at other values of what is not learnt: what is changed, the values, and `solve(value, mask)`."""

    of: str
    values: Sequence[float]
    solve: Callable[[float, str], Solve]


class Parts(NamedTuple):
    """What a script adds."""

    plan: Callable[[Any, Dataset], Sequence[Plan | Later]]
    rows: Callable[[Any, Models, Dataset], Rows]
    nfe: Callable[[Any], int]  # network calls for all samples of an image
    derive: Callable[[Mapping[str, Mapping[str, float]], str], Mapping[str, float]] = lambda table, mask: {}
    sweeps: Callable[[Any, Models, Dataset], Sequence[Sweep]] = lambda config, models, data: ()
    tried: Callable[[Any], int] = lambda config: 0  # network calls of the sweeps for an image


def fidelity(truth: np.ndarray, found: np.ndarray) -> dict[str, float]:
    """Of magnitudes (n, X, Y)."""
    each = [images.nmse(a[None], b[None]) for a, b in zip(truth, found, strict=True)]
    return {'psnr': images.psnr(truth, found, peak=PEAK), 'ssim': images.ssim(truth, found, peak=PEAK), 'nmse': float(np.mean(each))}


def score(at: Measured, samples: np.ndarray) -> dict[str, float]:
    """Of the first sample, and of the mean where there are several; the share of what was measured that the first does not explain."""
    truth = magnitude(at.truth)
    found = fidelity(truth, magnitude(samples[:, 0]))
    if samples.shape[1] > 1:
        whole = fidelity(truth, magnitude(samples.mean(1)))
        found |= {f'{name}_of_mean': value for name, value in whole.items()} | {'gain_of_mean': whole['psnr'] - found['psnr']}
    return found | {'residual': residual(at, samples[:, 0])}


def residual(at: Measured, found: np.ndarray) -> float:
    """|A x - y| / |y|, the largest over images."""
    forward = jax.jit(jax.vmap(lambda x, y, mask, maps: jnp.linalg.norm(operator_of(mask, maps).forward(x) - y) / jnp.linalg.norm(y)))
    return float(np.max(forward(found, at.y, at.mask, at.sensitivities)))


class Spread(NamedTuple):
    """Pixels within images: magnitude of the mean of samples, deviation of their magnitudes, and the truth, each (pixels,)."""

    mean: np.ndarray
    deviation: np.ndarray
    truth: np.ndarray


def spread(at: Measured, samples: np.ndarray) -> Spread:
    """Where the truth is above INSIDE."""
    truth, drawn = magnitude(at.truth), magnitude(samples)
    inside = truth > INSIDE
    return Spread(magnitude(samples.mean(1))[inside], drawn.std(1, ddof=1)[inside], truth[inside])


def calibrated(tuned: Spread, seen: Spread) -> dict[str, float]:
    """The factor of the validation slices, the shares that intervals hold of the test slices without and with it, and the correlation of the
    deviation with the size of the error."""
    factor = calibration.fitted(*tuned, level=LEVEL)
    found = {
        'calibration_factor': factor,
        'deviation_against_error': float(np.corrcoef(seen.deviation, np.abs(seen.truth - seen.mean))[0, 1]),
    }
    for name, size in (('coverage_raw', 1.0), ('coverage', factor)):
        shares = calibration.held(seen.mean, size * seen.deviation, seen.truth)
        found |= {f'{name}_{level * 100:g}': share for level, share in zip(calibration.LEVELS, shares, strict=True)}
    return found


def usual(models: Models, bench: Bench) -> dict[str, Callable[[str], Solve]]:
    """The rows beside every system."""
    fill, smooth, net = zero_filled(), smoothest(), learned(models['unet'])
    rows: dict[str, Callable[[str], Solve]] = {'zero-filled': lambda mask: fill, 'U-Net': lambda mask: net}
    if bench.tuning(bench.config.masks[0]).sensitivities is None:
        key = jax.random.key(0)
        weights = {mask: best(TV_WEIGHTS, smooth, bench.tuning(mask), key) for mask in bench.config.masks}
        rows['TV'] = lambda mask: lambda key, at: smooth(key, at, weights[mask])
    return rows


def judge(config: Config, bench: Bench, rows: Rows, seed: int, parts: Parts) -> Evaluation:
    """Every row under every mask; names of figures begin with the mask's."""
    key, turn, base = jax.random.key(seed), seed - config.seed, 'TV' if 'TV' in rows.beside else 'zero-filled'
    own, beside, controls = {}, {name: {} for name in rows.beside}, {name: {} for name in rows.controls}
    for mask in config.masks:
        at, table = bench.test(mask, turn), {}
        for name, make in {OWN: rows.own, **rows.beside, **rows.controls}.items():
            solve = make(mask)
            if turn == 0:  # so that what is timed is compiled
                solve(key, at.first(1))
            start = time.monotonic()
            samples = solve(jax.random.fold_in(key, 1), at)
            table[name] = score(at, samples) | {'seconds': (time.monotonic() - start) / samples[:, :, 0, 0, 0].size}
            if name == OWN and samples.shape[1] > 1:
                seen = spread(at, samples)
                if mask not in bench.spreads:
                    tuned = bench.tuning(mask)
                    bench.spreads[mask] = spread(tuned, solve(jax.random.fold_in(key, 2), tuned)), seen
                table[name] |= calibrated(bench.spreads[mask][0], seen)
        for row in table.values():
            row |= {f'{each}_over_{base}': row[each] - table[base][each] for each in ('psnr', 'ssim')}
        table[OWN] |= {**parts.derive(table, mask), 'acceleration': acceleration(at.mask)}
        for name, row in table.items():
            into = own if name == OWN else controls[name] if name in controls else beside[name]
            told = {each: row[each] for each in (*QUALITY, *(f'{each}_over_{base}' for each in QUALITY))} if name in controls else row
            into.update({f'{mask}_{each}': value for each, value in told.items()})
    return Evaluation(own, beside, controls)


def swept(config: Config, bench: Bench, sweep: Sweep) -> dict[str, Any]:
    """A table of validation slices: for each value PSNR of one sample and of the mean of all, under every mask."""
    rows = []
    for value in sweep.values:
        row = [f'{value:g}']
        for mask in config.masks:
            at = bench.tuning(mask)
            seen = score(at, sweep.solve(value, mask)(jax.random.key(config.seed), at))
            row += [seen['psnr'], seen.get('psnr_of_mean')]
        rows.append(row)
    header = [sweep.of, *(f'{mask}, {what}' for mask in config.masks for what in ('one sample', f'mean of {config.count}'))]
    return {'caption': f'{config.data}, validation slices: PSNR in dB.', 'header': header, 'rows': rows}


def usual_bars(config: Config) -> tuple[Bar, ...]:
    """Of every system that draws samples, for the masks of acceleration 4."""
    found, single = [], kspace.coils_of(config) == 1
    for mask in config.masks:
        if mask.endswith('4'):
            if single:  # total variation is of one coil, and no image explains the noise of several
                found += [
                    Bar(f'{mask}_residual', '<=', 1e-5), Bar(f'{mask}_psnr_over_TV', '>=', 4.0), Bar(f'{mask}_ssim_over_TV', '>=', 0.0),
                ]  # fmt: skip
            else:
                found += [Bar(f'{mask}_psnr_over_zero-filled', '>=', 4.0)]
            if config.count > 1:
                found += [
                    Bar(f'{mask}_gain_of_mean', '>=', 1.0), Bar(f'{mask}_coverage_80', '>=', 0.75), Bar(f'{mask}_coverage_80', '<=', 0.85),
                ]  # fmt: skip
    return tuple(found)
