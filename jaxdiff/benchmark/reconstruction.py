"""How long a slice takes to reconstruct: 320 x 320 from one coil at a nominal 4x by posterior sampling, the size of fastMRI's images.

The network has the size of the phantoms' and has learnt nothing, which does not change its speed; the measurement is that of a phantom. Seconds are
from k-space to samples with their mean and deviation, compiled before. What research codes took for one slice or one case was told by their users.
"""

import time
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxdiff import experiment, grids, model, operators
from jaxdiff.benchmark.measured import Measured
from jaxdiff.data import coils, phantoms, undersampling
from jaxdiff.model import Model
from jaxdiff.tasks.reconstruction import posterior
from jaxdiff.types import Array, Key, Params

BARS = (experiment.Bar('seconds', '<=', 60.0),)
BARS_ON_ACCELERATORS = (experiment.Bar('seconds', '<=', 1.0),)
TOLD = (  # by users of the published codes, in threads of their repositories
    ('DiffuseRecon, thread 3', 'a slice', 480.0),
    ('DiffusionMBIR, thread 1', 'a case', 8 * 3600.0),
    ('TPDM, thread 5, A100', 'a case', 15 * 3600.0),
)


def measure(
    *,
    size: int = 320,
    steps: int = 50,
    counts: Sequence[int] = (1, 4),
    widths: Sequence[int] = (32, 48, 64),
    rounds: int = 3,
    seed: int = 0,
) -> Measured:
    """The suite `reconstruction`.

    Args:
        size: pixels along each axis.
        steps: of the sampler, each with five conjugate gradients.
        counts: samples at once; the bar is for the first of them.
        widths: channels of the network.
        rounds: how often each is timed.
    """
    attention = (*[False] * (len(widths) - 1), True)
    network = {'name': 'unet', 'channels': 2, 'widths': list(widths), 'blocks': 1, 'attention': list(attention), 'patch': 2, 'groups': 8}
    blank = Model({**network, 'coordinates': True}, {'name': 'cosine'}, 'v', None, {}, {'shape': [size, size, 2]})
    params, key = model.init(blank, jax.random.key(seed)), jax.random.key(seed)
    image = phantoms.phantom(phantoms.Recipe(size=size), seed).image[..., 0]
    mask = undersampling.random(np.random.RandomState(seed), size, 4, 0.08)[None, :, None]
    y = operators.to_channels(jnp.where(mask, coils.measured(np.random.default_rng(seed), image), 0))

    def seconds(count: int) -> list[float]:
        run = jax.jit(lambda params, key: draw(params, key, y, mask, blank, steps=steps, count=count))
        jax.block_until_ready(run(params, key))
        found = []
        for n in range(rounds):
            start = time.monotonic()
            jax.block_until_ready(run(params, jax.random.fold_in(key, n)))
            found.append(time.monotonic() - start)
        return found

    taken = {count: seconds(count) for count in counts}
    rows = [
        [f'{size} x {size}, {count} {"sample" if count == 1 else "samples"}', 'a slice', float(np.median(each))]
        for count, each in taken.items()
    ]
    table = {
        'caption': f'Seconds on {jax.devices()[0].device_kind}, DDS in {steps} steps, beside what users of published codes told.',
        'header': ['what', 'for', 'seconds'],
        'rows': [*rows, *map(list, TOLD)],
    }
    first = taken[counts[0]]
    return Measured([experiment.Evaluation({'seconds': each}, {}, {}) for each in first], tables=[table])


def draw(params: Params, key: Key, y: Array, mask: Array, blank: Model, *, steps: int, count: int) -> posterior.Posterior:
    """Samples given k-space `y` (X, Y, 2) under a mask, by DDS."""
    path, operator = model.make_path(blank.path), operators.on_channels(operators.fourier(mask))
    denoise = model.denoiser(blank._replace(params=params))
    return posterior.dds(
        key, y, operator, denoise, path=path, times=grids.default(path, steps), shape=tuple(blank.card['shape']), count=count
    )
