"""Healing latents: a vector-quantised autoencoder, a denoiser of its latents, and only what is unlikely to it is made anew.

    python experiments/anomaly/latent.py                    phantoms with a lesion, after healthy ones
    python experiments/anomaly/latent.py --data=brain       virtual brains
    python experiments/anomaly/latent.py --preset=smoke

Beside it stand what the autoencoder alone does not give back, the healed image without the mask, and the mask alone. Thresholds of the mask, one
for each position, are quantiles over healthy validation slices. Pinaya et al., "Fast unsupervised brain anomaly detection and segmentation with
diffusion models", MICCAI 2022.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdiff import experiment, latent, model, plans
from jaxdiff.experiment import Bar, option
from jaxdiff.plans import Plan
from jaxdiff.solvers.ancestral import ddpm
from jaxdiff.studies import coded, detecting, healthy
from jaxdiff.studies.cohorts import Cohort, cases, scans
from jaxdiff.studies.detecting import OWN, Detectors
from jaxdiff.studies.healthy import Models, Parts
from jaxdiff.tasks.anomaly import latent as healing


@dataclass(frozen=True, kw_only=True)
class Config(coded.Coding, healthy.Config):
    dims = 2
    latent: int = option(4, 'length of the codes', low=1)
    codes: int = option(128, 'vectors of the codebook', low=2)
    band: tuple = option((0.4, 0.5, 0.6), 'path times at which latents are asked how likely they are', low=0.01, high=0.99)
    draws: int = option(4, 'noises at each of them', low=1)
    quantiles: tuple = option((0.8, 0.9, 0.975), 'of healthy slices, above which a position is healed, to choose from', low=0, high=1)
    heal: float = option(0.5, 'depth of the healing, in path time', low=0.01, high=0.99)


_SMOKE = {name: value for name, value in coded.PRESETS['smoke'].items() if name.startswith(('coder', 'perceptual', 'critic', 'latent'))}
_GPU = {name: value for name, value in coded.PRESETS['gpu'].items() if name.startswith(('coder', 'perceptual', 'critic', 'latent'))}
PRESETS = healthy.presets(smoke={**_SMOKE, 'codes': 16, 'draws': 1, 'band': (0.5,), 'quantiles': (0.9,)}, gpu=_GPU, paper=_GPU)
BARS = (
    Bar('ap_over_linear', '>=', 0.05),
    Bar('ap_over_residual', '>=', 0.1),
    Bar('ap_over_unmasked', '>=', 0.0),
    Bar('image_auroc', '>=', 0.9),
)


def plan(config: Config, cohort: Cohort) -> tuple[Plan | plans.Later, ...]:
    """The autoencoder, and once it is trained the denoiser of its latents."""
    penalty = {'kind': 'vq', 'weight': 0.25, 'decay': 0.99, 'least': 0.1}
    first = coded.autoencoder(config, cohort, coded.Coder({'kind': 'vq', 'codes': config.codes}, penalty))
    later = lambda trained: coded.latent_denoiser(config, cohort, trained['autoencoder'])
    later({'autoencoder': first.blank._replace(params=model.shapes(first.blank))})
    return first, later


def detectors(config: Config, models: Models, cohort: Cohort) -> Detectors:
    """Healing under the mask; the autoencoder's residual, healing everywhere it healed, the mask alone, and an untrained denoiser."""
    first, trained = models['autoencoder'], models['latent']
    path, scale = model.make_path(trained.path), trained.card['latent']['scale']
    times, band = healthy.times(config, path, config.heal), np.array(config.band, np.float32)
    params = (trained.params, first.params)

    def coder(outer):
        encode = lambda image: scale * latent.encode(first._replace(params=outer), image)['image']
        return encode, lambda z: latent.decode(first._replace(params=outer), z, scale=scale)

    def ask(shared, key, image):
        (inner, outer), _ = shared
        denoise = model.denoiser(trained._replace(params=inner))
        return healing.unlikely(key, coder(outer)[0](image), denoise, path=path, band=jnp.asarray(band), draws=config.draws)

    def restore(shared, key, image):
        (inner, outer), (threshold,) = shared
        denoise, (encode, decode) = model.denoiser(trained._replace(params=inner)), coder(outer)
        return healing.restore(
            key, image, denoise, encode, decode, path=path, solver=ddpm(path), times=times, band=jnp.asarray(band), threshold=threshold,
            draws=config.draws, repeats=config.repeats,
        )  # fmt: skip

    asking, healed = detecting.found_by(ask, name='asking the denoiser'), detecting.found_by(restore, name='healing')
    key, calm = jax.random.key(config.seed), scans(cases(cohort.calm))

    def limits(params: Any) -> dict[float, np.ndarray]:
        told = np.asarray(asking(params, key, calm))
        return {each: np.quantile(told, each, axis=0).astype(np.float32) for each in config.quantiles}

    known, unknown = limits(params), (healthy.untrained(config, trained), first.params)
    quantile = healthy.chosen(config, cohort, lambda key, images, each: healed(params, key, images, known[each]), config.quantiles)
    own = lambda key, images: healed(params, key, images, known[quantile])
    rebuilt = latent.reconstructor(first, size=32)

    def again(key, images, score, restored=None):
        found = own(key, images)
        restored = found.restored if restored is None else restored
        return found._replace(map=score(found, restored), restored=restored)

    residual = lambda found, restored: np.abs(found.image - restored).mean(-1)
    return Detectors(
        own=own,
        beside={
            'autoencoder alone': lambda key, images: again(key, images, residual, rebuilt(first.params, images)[0]),
            'no mask': lambda key, images: again(key, images, residual),
            'mask alone': lambda key, images: again(key, images, lambda found, restored: found.mask.astype(np.float32)),
        },
        controls={'untrained': lambda key, images: healed(unknown, key, images, limits(unknown)[quantile])},
        chosen={'quantile': quantile},
    )


def derive(table: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """How far it is above the autoencoder alone, and above the healed image without the mask."""
    own = table[OWN]['ap']
    return {'ap_over_residual': own - table['autoencoder alone']['ap'], 'ap_over_unmasked': own - table['no mask']['ap']}


PARTS = Parts(plan, detectors, derive, calls=lambda config: len(config.band) * config.draws + config.walk * config.repeats)


def run(config: Config) -> dict[str, Any]:
    """Train, judge and write the workdir; returns what result.json holds."""
    return healthy.run('anomaly/latent', config, PARTS, BARS)


if __name__ == '__main__':
    experiment.main(Config, PRESETS, run)
