"""How strong guidance is, against what it does: what scripts that compare weights of it share."""

from collections.abc import Callable, Sequence

import numpy as np

from jaxdiff import report
from jaxdiff.data.datasets import Dataset
from jaxdiff.model import Model
from jaxdiff.studies import told
from jaxdiff.types import UserError
from jaxdiff.workdir import Workdir

Draw = Callable[
    [float, dict[str, np.ndarray]], np.ndarray
]  # weight, what is asked for (leading axis n) -> images (n, X, Y, 1), from the same noise


def check_rising(flag: str, weights: Sequence[float]) -> None:
    """Raises `UserError` unless there are two weights or more, each above the one before."""
    if len(weights) < 2 or list(weights) != sorted(set(weights)):
        raise UserError(f'--{flag}={",".join(f"{each:g}" for each in weights)}: give at least two, rising')


def sections(
    config: told.Config, weights: Sequence[float], draw: Draw, judging: Model, data: Dataset, folder: Workdir
) -> list[report.Section]:
    """The same noise under every weight, and the curves of agreement and diversity."""
    across = 8
    wanted = {'label': np.arange(across, dtype=np.int32) % len(told.KINDS), 'vector': np.full((across, 1), np.nan, np.float32)}
    tiles = report.tiles([report.middle(image) for weight in weights for image in draw(weight, wanted)], across)
    figure = report.grid(tiles, labels=[f'w = {weight:g}' for weight in weights])
    wanted, features = told.unsized(told.asked(data, config.samples, config.seed)), told.features_of(data)
    agreed, varied = zip(*(told.scores(judging, features, draw(weight, wanted), wanted['label']) for weight in weights), strict=True)
    curve = report.curves(
        {
            'agreement': (list(weights), list(agreed)),
            'diversity, of that at the first weight': (list(weights), [each / varied[0] for each in varied]),
        },
        x='weight',
        y='share',
    )
    return [
        report.Section('The same noise under every weight', 'A column is one start; classes change from column to column.', [
            report.picture(figure, 'Rows are weights.', alt='rows of samples by weight', path=folder.figures / 'samples.png'),
        ]),
        report.Section('Agreement and diversity', '', [
            report.picture(curve, 'Against the weight of guidance.', alt='agreement and diversity by weight', path=folder.figures / 'weights.png'),
        ]),
    ]  # fmt: skip
