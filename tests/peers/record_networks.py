"""Writes what MONAI's networks answer to `recorded_networks.json`. Needs the extra `peers`.

python tests/peers/record_networks.py
"""

import json
from pathlib import Path

import numpy as np

from jaxdiff.benchmark import peers
from jaxdiff.interop import monai

FILE = Path(__file__).parent / 'recorded_networks.json'
SMALL = {'spatial_dims': 2, 'in_channels': 2, 'out_channels': 1, 'channels': (8, 16), 'num_res_blocks': 1, 'norm_num_groups': 4}
CASES = {  # arguments of DiffusionModelUNet, and the size of the image
    'blocks by level': ({**SMALL, 'num_res_blocks': (1, 2), 'attention_levels': (False, True), 'num_head_channels': (0, 8)}, (8, 4)),
    'attends in the middle alone': ({**SMALL, 'channels': (4, 8, 8), 'attention_levels': (False,) * 3, 'norm_eps': 0.1}, (4, 8)),
    'volume': ({**SMALL, 'spatial_dims': 3, 'attention_levels': (True, True), 'num_head_channels': 4}, (2, 4, 6)),
}


def weights(name: str) -> dict[str, np.ndarray]:
    """Random, by the names and shapes that MONAI should have."""
    return peers.random_weights(monai.shapes(**CASES[name][0]))


def inputs(name: str) -> tuple[np.ndarray, np.ndarray]:
    """x (2, *spatial, 2) and t (2,)."""
    return np.random.default_rng(1).standard_normal((2, *CASES[name][1], 2), np.float32), np.array([3.0, 700.0], np.float32)


def theirs(name: str) -> np.ndarray:
    """What MONAI answers, channels last."""
    return peers.to_numpy(peers.forward(peers.unet(weights(name), **CASES[name][0]), *inputs(name))())


if __name__ == '__main__':
    short = lambda answer: [float(f'{value:.7g}') for value in answer.ravel().tolist()]
    record = {'versions': peers.versions(), 'answers': {name: short(theirs(name)) for name in CASES}}
    FILE.write_text(json.dumps(record, separators=(',', ':')).replace('],"', '],\n"') + '\n')
