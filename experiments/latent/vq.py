"""Latent diffusion with a codebook: an autoencoder that decodes the nearest of a few vectors, then a denoiser of what stands before them.

    python experiments/latent/vq.py                                     phantoms, beside a denoiser of pixels
    python experiments/latent/vq.py --data=brain --dims=3 --size=48     volumes
    python experiments/latent/vq.py --preset=smoke

van den Oord, Vinyals, Kavukcuoglu, "Neural discrete representation learning", NeurIPS 2017; Esser, Rombach, Ommer, "Taming transformers for
high-resolution image synthesis", CVPR 2021; Rombach et al., CVPR 2022.
"""

from dataclasses import dataclass
from typing import Any

from jaxdiff import experiment
from jaxdiff.experiment import option
from jaxdiff.studies import coded, two_stages
from jaxdiff.studies.coded import Coder


@dataclass(frozen=True, kw_only=True)
class Config(coded.Config):
    latent: int = option(4, 'length of the codes', low=1)
    codes: int = option(256, 'vectors of the codebook', low=2)
    commitment: float = option(0.25, 'weight of the distance of latents from their codes', low=0)
    decay: float = option(0.99, 'of the averages that codes follow', low=0, high=1)
    least: float = option(0.1, 'how often, on average, a batch must be near to a code that is not to begin again', low=0)


PRESETS = {name: {**fields, **({'codes': 16} if name == 'smoke' else {})} for name, fields in coded.PRESETS.items()}


def run(config: Config) -> dict[str, Any]:
    """Train, judge and write the workdir; returns what result.json holds."""
    penalty = {'kind': 'vq', 'weight': config.commitment, 'decay': config.decay, 'least': config.least}
    coder = Coder({'kind': 'vq', 'codes': config.codes}, penalty)
    return two_stages.run('latent/vq', config, coder, (*two_stages.BARS, two_stages.SHARE))


if __name__ == '__main__':
    experiment.main(Config, PRESETS, run)
