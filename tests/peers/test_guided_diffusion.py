"""guided-diffusion's U-Net, written again from its description, answers as ours with the same weights: as recorded when `record_others.py` was run
last, and where PyTorch is installed, live. And its published networks are as large as they should be."""

import json
import math

import numpy as np
import pytest
from record_others import CASES, FILE, near, ours, peer, theirs, weights

from jaxdiff.benchmark import peers
from jaxdiff.interop import guided_diffusion

NAMES = [name for name, case in CASES.items() if case.family is guided_diffusion]
RECORDED = json.loads(FILE.read_text())['answers']
live = pytest.mark.skipif(bool(peers.missing('torch')), reason='asks the network written in PyTorch; install jaxdiff[peers], torch missing')
ADM = {
    'learn_sigma': True,
    'use_scale_shift_norm': True,
    'resblock_updown': True,
    'num_head_channels': 64,
    'attention_resolutions': '32,16,8',
}
PUBLISHED = {  # what the README says of its models, and their parameters in millions as the paper has them
    'ImageNet 64': (
        {**ADM, 'image_size': 64, 'num_channels': 192, 'num_res_blocks': 3, 'class_cond': True, 'use_new_attention_order': True},
        296,
    ),
    'ImageNet 256': ({**ADM, 'image_size': 256, 'num_channels': 256, 'num_res_blocks': 2, 'class_cond': True}, 554),
}


def by_hand(channels, times, blocks, attending, classes):
    """Parameters of ADM: adaptive norms, blocks that resample, twice three channels out."""
    wide, widths = 4 * channels, [each * channels for each in times]
    layer = lambda inputs, outputs, size=1: size * inputs * outputs + outputs
    attention = lambda width: 2 * width + layer(width, 3 * width) + layer(width, width)

    def block(inputs, outputs):
        skip = 0 if inputs == outputs else layer(inputs, outputs)
        return 2 * inputs + layer(inputs, outputs, 9) + layer(wide, 2 * outputs) + 2 * outputs + layer(outputs, outputs, 9) + skip

    total = layer(channels, wide) + layer(wide, wide) + classes * wide + layer(3, widths[0], 9)
    kept, width = [widths[0]], widths[0]
    for level, own in enumerate(widths):
        for _ in range(blocks):
            total += block(width, own) + (attention(own) if level in attending else 0)
            width = own
            kept.append(own)
        if level < len(widths) - 1:
            total += block(own, own)
            kept.append(own)
    total += 2 * block(width, width) + attention(width)
    for level, own in reversed(list(enumerate(widths))):
        for _ in range(blocks + 1):
            total += block(width + kept.pop(), own) + (attention(own) if level in attending else 0)
            width = own
        total += block(own, own) if level else 0
    return total + 2 * width + layer(width, 6, 9)


@pytest.mark.parametrize('name', NAMES)
def test_ours_answers_as_guided_diffusion_was_seen_to(name):
    near(ours(name, weights(name)), np.array(RECORDED[name]))


@live
@pytest.mark.parametrize('name', NAMES)
def test_guided_diffusion_still_answers_as_recorded(name):
    near(theirs(name), np.array(RECORDED[name]))


@live
@pytest.mark.parametrize('name', NAMES)
def test_names_and_shapes_are_those_of_guided_diffusion(name):
    state = {key: tuple(value.shape) for key, value in peer(name).state_dict().items()}
    assert state == guided_diffusion.shapes(**CASES[name].arguments)


@pytest.mark.parametrize(('name', 'levels'), [('ImageNet 64', (1, 2, 3)), ('ImageNet 256', (3, 4, 5))])
def test_published_networks_have_as_many_parameters(name, levels):
    flags, millions = PUBLISHED[name]
    found = sum(math.prod(shape) for shape in guided_diffusion.shapes(**flags).values())
    assert found == by_hand(flags['num_channels'], guided_diffusion.WIDTHS[flags['image_size']], flags['num_res_blocks'], levels, 1000)
    assert round(found / 1e6) == millions
