"""The flags of scripts that train a denoiser on phantoms, and what their presets say."""

from dataclasses import dataclass
from typing import Any

from jaxdiff import experiment, model
from jaxdiff.experiment import option
from jaxdiff.solvers import named

LESIONS = {'lesions': (6.0, 9.0), 'lesion_level': 1.0}  # of recipes where one look is to tell whether there is a lesion: large and bright


@dataclass(frozen=True, kw_only=True)
class Training(experiment.Config):
    """What is drawn, learned and judged, and for how long."""

    data: str = option('phantom', 'parametric slices whose truth is known', choices=('phantom',))
    size: int = option(64, 'pixels along each axis of an image', low=16)
    subjects: int = option(2000, 'to train on', low=8)
    held_out: int = option(400, 'subjects to validate on and as many to test on', low=8)
    widths: tuple = option((32, 48, 64), 'channels at each resolution', low=1)
    blocks: int = option(1, 'residual blocks per resolution', low=1)
    attention: tuple = option((False, False, True), 'whether each resolution attends')
    patch: int = option(2, 'pixels of a patch folded into channels at the stem', low=1)
    dtype: str = option('float32', 'of convolutions and products', choices=('float32', 'bfloat16'))
    path: str = option('cosine', 'how data turn into noise', choices=tuple(model.PATHS))
    batch: int = option(16, 'examples per step', low=1)
    steps: int = option(5000, 'training steps of the denoiser', low=1)
    rate: float = option(1e-3, 'learning rate after warm-up, before its decay to 0', low=0)
    ema: float = option(0.998, 'decay of the averaged parameters', low=0, high=1)
    save_every: int = option(500, 'steps between checkpoints', low=1)
    samples: int = option(200, 'images to judge the model by', low=8)
    sample_steps: int = option(named.STEPS, 'steps of the sampler', low=1)
    evaluations: int = option(3, 'seeds of sampling to judge by', low=1)


PRESETS = {
    'smoke': dict(
        size=32, subjects=8, held_out=8, widths=(8, 16), attention=(False, True), batch=4, steps=4, save_every=2, samples=8,
        sample_steps=2, evaluations=1,
    ),
    'cpu': {},
    'gpu': dict(size=128, subjects=10000, widths=(64, 96, 128), blocks=2, batch=64, steps=20000, dtype='bfloat16', ema=0.9995),
    'paper': dict(
        size=256, subjects=50000, widths=(128, 128, 256, 256, 512), attention=(False, False, False, True, True), blocks=2, patch=1, batch=128,
        steps=500000, rate=1e-4, dtype='bfloat16', ema=0.9999,
    ),
}  # fmt: skip


def network_of(config: Training) -> dict[str, Any]:
    """Fields that all the networks have."""
    fields = {name: getattr(config, name) for name in ('widths', 'blocks', 'attention', 'patch', 'dtype')}
    return {'name': 'unet', 'groups': 8, 'coordinates': True, **fields}


def schedule_of(config: Training) -> dict[str, Any]:
    """Of the denoiser."""
    return {name: getattr(config, name) for name in ('batch', 'steps', 'rate', 'ema', 'seed')}
