"""Phantoms of one contrast with ventricles of any size, and a denoiser that is told nothing: where a control or a student begins."""

from typing import Any

import numpy as np

from jaxdiff import plans
from jaxdiff.data import datasets, phantoms
from jaxdiff.data.datasets import Dataset
from jaxdiff.data.preprocess import to_json
from jaxdiff.data.source import Source
from jaxdiff.model import Model
from jaxdiff.plans import Plan
from jaxdiff.studies.flags import Training, network_of, schedule_of

CONTRAST = 'T1'


def open_data(config: Training) -> Dataset:
    """The phantoms, with their labels."""
    recipe = phantoms.Recipe(size=config.size, contrasts=(CONTRAST,), ventricles=(0.6, 1.5))
    return datasets.cohort([recipe], subjects=config.subjects, held_out=config.held_out)


def sketch(config: Training) -> Dataset:
    """Zeros in the shape of the data."""
    zeros = np.zeros((config.size, config.size, 1), np.float32)
    source = Source(config.batch, lambda index: {'image': zeros, 'labels': zeros[..., 0].astype(np.uint8)}, {})
    return Dataset(source, source, source, datasets.made(2, zeros.shape, (1.0, 1.0, 1.0)))


def blank(config: Training, data: Dataset) -> Model:
    """The model before training."""
    fields: dict[str, Any] = {**network_of(config), 'channels': 1}
    return Model(fields, {'name': config.path}, 'v', None, to_json(data.preprocess), {'shape': list(data.shape)})


def denoiser(name: str, config: Training, data: Dataset) -> Plan:
    """It, as a plan."""
    return plans.denoiser(name, blank(config, data), data.train, **schedule_of(config))
