"""Class and number by spatial addition: an embedding of both, with that of the time, added to the features of every block, at every pixel alike.

    python experiments/conditioning/spatial.py                     phantoms of four classes, ventricles of any size, judged by a classifier
    python experiments/conditioning/spatial.py --preset=smoke

Ho, Jain, Abbeel, "Denoising diffusion probabilistic models", NeurIPS 2020; Nichol and Dhariwal, ICML 2021.
"""

from typing import Any

from jaxdiff import experiment
from jaxdiff.studies import scalar
from jaxdiff.studies.scalar import Config
from jaxdiff.studies.told import PRESETS


def run(config: Config) -> dict[str, Any]:
    """Train, judge and write the workdir; returns what result.json holds."""
    return scalar.run('conditioning/spatial', config, norm='add')


if __name__ == '__main__':
    experiment.main(Config, PRESETS, run)
