"""Latent diffusion: an autoencoder whose latents are Gaussians, then a denoiser of what is drawn from them.

    python experiments/latent/kl.py                                     phantoms, beside a denoiser of pixels
    python experiments/latent/kl.py --data=brain --dims=3 --size=48     volumes
    python experiments/latent/kl.py --preset=smoke

Rombach et al., "High-resolution image synthesis with latent diffusion models", CVPR 2022.
"""

from dataclasses import dataclass
from typing import Any

from jaxdiff import experiment
from jaxdiff.experiment import option
from jaxdiff.studies import coded, two_stages
from jaxdiff.studies.coded import Coder


@dataclass(frozen=True, kw_only=True)
class Config(coded.Config):
    divergence: float = option(1e-4, 'weight of the mean divergence of the latents from unit Gaussians', low=0)


PRESETS = coded.PRESETS


def run(config: Config) -> dict[str, Any]:
    """Train, judge and write the workdir; returns what result.json holds."""
    return two_stages.run('latent/kl', config, Coder({'kind': 'kl'}, {'kind': 'kl', 'weight': config.divergence}))


if __name__ == '__main__':
    experiment.main(Config, PRESETS, run)
