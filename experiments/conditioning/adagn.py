"""Class and number by adaptive group normalisation: an embedding of both, with that of the time, which scales and shifts what every block normalises.

    python experiments/conditioning/adagn.py                     phantoms of four classes, ventricles of any size, judged by a classifier
    python experiments/conditioning/adagn.py --preset=smoke

Dhariwal and Nichol, "Diffusion models beat GANs on image synthesis", NeurIPS 2021.
"""

from typing import Any

from jaxdiff import experiment
from jaxdiff.studies import scalar
from jaxdiff.studies.scalar import Config
from jaxdiff.studies.told import PRESETS


def run(config: Config) -> dict[str, Any]:
    """Train, judge and write the workdir; returns what result.json holds."""
    return scalar.run('conditioning/adagn', config, norm='adaptive')


if __name__ == '__main__':
    experiment.main(Config, PRESETS, run)
