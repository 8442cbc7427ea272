"""From a reconstruction of one slice to one of many: what a script makes of the pure functions of `tasks.reconstruction`."""

from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxdiff import model, sampling
from jaxdiff.data.datasets import Dataset
from jaxdiff.data.source import Source
from jaxdiff.metrics import images
from jaxdiff.model import Model
from jaxdiff.operators import to_channels, to_complex
from jaxdiff.studies import kspace
from jaxdiff.studies.kspace import Config, Measured, operator_of
from jaxdiff.tasks.reconstruction import total_variation
from jaxdiff.types import Key

Solve = Callable[[Key, Measured], np.ndarray]  # -> samples (n, count, X, Y, 2)
PEAK = 'slice'  # whose largest value is the peak of PSNR and SSIM
TV_WEIGHTS = (0.003, 0.01, 0.03)


def magnitude(x: np.ndarray) -> np.ndarray:
    """Of complex images as two channels, (..., 2) -> (...)."""
    return np.hypot(x[..., 0], x[..., 1])


def solver(one: Callable[..., Any], *, name: str, size: int = 8) -> Callable[..., np.ndarray]:
    """`solve(shared, key, measured)` -> what `one(shared, key, y, operator)` gives of each image; `size` are under way together."""

    def each(shared: Any, key: Key, y, mask, sensitivities):
        return one(shared, key, y, operator_of(mask, sensitivities))

    mapped = sampling.mapper(each, size=size, name=name)
    return lambda shared, key, at: mapped(shared, sampling.keys(key, len(at.y)), at.y, at.mask, at.sensitivities)


def sampler(trained: Model, draw: Callable[..., Any], *, name: str, size: int = 8) -> Callable[..., np.ndarray]:
    """`solve(params, key, measured, *values)` -> samples, by `draw(key, y, operator, denoise, *values)`, which answers a `Posterior`."""

    def one(shared, key, y, operator):
        params, values = shared
        return draw(key, y, operator, model.denoiser(trained._replace(params=params)), *values).samples

    run = solver(one, name=name, size=size)
    return lambda params, key, at, *values: run((params, values), key, at)


def zero_filled() -> Solve:
    """The adjoint: of several coils their combination by the sensitivities."""
    run = solver(lambda shared, key, y, operator: operator.adjoint(y)[None], name='filling with zeros', size=32)
    return lambda key, at: run((), key, at)


def smoothest() -> Callable[[Key, Measured, float], np.ndarray]:
    """Total variation of one coil: (key, measured, weight) -> images (n, 1, X, Y, 2)."""

    def one(weight, key, y, mask):
        return to_channels(total_variation.reconstruct(to_complex(y), mask, weight).image)[None]

    mapped = sampling.mapper(one, size=32, name='total variation')
    return lambda key, at, weight: mapped(np.float32(weight), sampling.keys(key, len(at.y)), at.y, at.mask)


def learned(trained: Model) -> Solve:
    """The U-Net, once."""

    def one(params, key, y, operator):
        return kspace.denoiser_of(trained, params)(operator.adjoint(y), jnp.zeros(()))[None]

    run = solver(one, name='U-Net', size=32)
    return lambda key, at: run(trained.params, key, at)


def best(values: Sequence[float], solve: Callable[[Key, Measured, float], np.ndarray], at: Measured, key: Key) -> float:
    """The value whose first samples have the highest PSNR."""
    if len(values) == 1:
        return values[0]
    return max(values, key=lambda value: images.psnr(magnitude(at.truth), magnitude(solve(key, at, value)[:, 0]), peak=PEAK))


class Bench:
    """The measured slices of validation and of each seed's test, made once; by mask, what the first seed's samples of both came to."""

    def __init__(self, config: Config, data: Dataset):
        self.config, self.data = config, data
        self.kept: dict[Any, Measured] = {}
        self.order = {part: np.random.default_rng(0).permutation(getattr(data, part).size) for part in ('validation', 'test')}
        self.spreads: dict[str, tuple[Any, Any]] = {}

    def tuning(self, mask: str) -> Measured:
        """Slices of all validation scans alike, which lie one after another."""
        places = self.order['validation'][: self.config.tuning]
        return self._at(('validation', mask), self.data.validation, places, mask, seed=1)

    def test(self, mask: str, turn: int) -> Measured:
        """Of evaluation number `turn`: slices that no other has, as long as there are enough."""
        each, size = self.config.patients, self.data.test.size
        places = self.order['test'][np.unique((turn * each + np.arange(min(each, size))) % size)]
        return self._at((turn, mask), self.data.test, places, mask)

    def _at(self, name: Any, source: Source, places: np.ndarray, mask: str, seed: int = 0) -> Measured:
        if name not in self.kept:
            self.kept[name] = kspace.measure(source, places, mask, seed=seed)
        return self.kept[name]


def opened(config: Config) -> Bench:
    """The data that the flags name, measured before anything is trained, since a slice that cannot be measured is refused."""
    bench = Bench(config, kspace.open_data(config))
    for mask in config.masks:
        bench.tuning(mask)
        for turn in range(config.evaluations):
            bench.test(mask, turn)
    return bench
