"""Writes what MONAI's networks answer to `recorded_networks.json`. Needs the extra `peers`.

python tests/peers/record_networks.py
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxdiff.benchmark import peers
from jaxdiff.interop import families, monai

FILE = Path(__file__).parent / 'recorded_networks.json'
SMALL = {'spatial_dims': 2, 'in_channels': 2, 'out_channels': 1, 'channels': (8, 16), 'num_res_blocks': 1, 'norm_num_groups': 4}
UNET = {**SMALL, 'attention_levels': (False, True), 'num_head_channels': 4}
TOLD = {**UNET, 'with_conditioning': True, 'cross_attention_dim': 6, 'transformer_num_layers': 2, 'num_class_embeds': 5}
HINT = {'conditioning_embedding_in_channels': 3, 'conditioning_embedding_num_channels': (4, 6)}
FIRST = {**SMALL, 'num_res_blocks': (1, 2), 'attention_levels': (False, True), 'latent_channels': 3}
CODES = {
    'spatial_dims': 2,
    'in_channels': 2,
    'out_channels': 1,
    'channels': (4, 8),
    'num_res_layers': 2,
    'num_res_channels': (3, 5),
    'downsample_parameters': (2, 4, 1, 1),
    'upsample_parameters': (2, 4, 1, 1, 0),
    'num_embeddings': 16,
    'embedding_dim': 4,
}


class Case(NamedTuple):
    """Class and arguments of a network of MONAI, the size of the image, and the arguments of a ControlNet beside it."""

    network: str
    arguments: dict[str, Any]
    size: tuple[int, ...]
    control: dict[str, Any] | None = None


def volume(arguments):
    return {**arguments, 'spatial_dims': 3}


def copied(arguments):
    return {name: value for name, value in arguments.items() if name != 'out_channels'} | HINT


CASES = {
    'blocks by level': Case('DiffusionModelUNet', {**UNET, 'num_res_blocks': (1, 2), 'num_head_channels': (0, 8)}, (8, 4)),
    'attends in the middle alone': Case(
        'DiffusionModelUNet', {**SMALL, 'channels': (4, 8, 8), 'attention_levels': (False,) * 3, 'norm_eps': 0.1}, (4, 8)
    ),
    'volume': Case('DiffusionModelUNet', volume({**UNET, 'attention_levels': (True, True)}), (2, 4, 6)),
    'blocks that resize': Case('DiffusionModelUNet', {**UNET, 'resblock_updown': True}, (8, 4)),
    'tokens and classes': Case('DiffusionModelUNet', TOLD, (4, 4)),
    'tokens and classes, volume': Case('DiffusionModelUNet', volume({**TOLD, 'resblock_updown': True}), (2, 4, 2)),
    'controlled': Case('DiffusionModelUNet', TOLD, (4, 4), copied(TOLD)),
    'controlled, volume': Case('DiffusionModelUNet', volume(UNET), (2, 4, 2), copied(volume(UNET))),
    'autoencoder': Case('AutoencoderKL', FIRST, (8, 4)),
    'autoencoder, volume': Case('AutoencoderKL', volume({**FIRST, 'with_decoder_nonlocal_attn': False}), (4, 2, 4)),
    'codes': Case('VQVAE', CODES, (8, 8)),
    'codes, volume': Case('VQVAE', volume(CODES), (4, 8, 4)),
}


def weights(network: str, arguments: dict[str, Any]) -> dict[str, np.ndarray]:
    """Random, by the names and shapes that MONAI should have."""
    return peers.random_weights(module(network).shapes(**arguments))


def module(network: str) -> Any:
    """What reads networks of that class."""
    return getattr(monai, families.FAMILIES['monai', network].module.partition('.')[2])


def inputs(name: str) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """x (2, *spatial, 2), t (2,), and what else the network is told, by our names."""
    case, rng = CASES[name], np.random.default_rng(1)
    x, told = rng.standard_normal((2, *case.size, 2), np.float32), {}
    if case.network == 'VQVAE':
        x *= 8  # so that several codes are nearest
    if case.arguments.get('with_conditioning'):
        told |= {'tokens': rng.standard_normal((2, 3, 6), np.float32), 'label': np.array([1, 4], np.int32)}
    if case.control:
        told['hint'] = rng.random((2, *(2 * size for size in case.size), 3), np.float32)
    return x, np.array([3.0, 700.0], np.float32), told


def made(network: str, arguments: dict[str, Any], state: dict[str, np.ndarray] | None = None) -> Any:
    """MONAI's network with these weights, or its own."""
    import torch
    from monai.networks import nets

    net = getattr(nets, network)(**arguments)
    if state is not None:
        net.load_state_dict({name: torch.from_numpy(value) for name, value in state.items()})
    return net.eval()


def theirs(name: str) -> list[np.ndarray]:
    """What MONAI answers, channels last: of autoencoders the code, for 'kl' mean and standard deviation, and then the image."""
    import torch

    case, (x, t, told) = CASES[name], inputs(name)
    net = made(case.network, case.arguments, weights(case.network, case.arguments))
    first = lambda value: torch.from_numpy(np.ascontiguousarray(np.moveaxis(value, -1, 1)))
    x, t = first(x), torch.from_numpy(t)
    with torch.inference_mode():
        if case.network == 'AutoencoderKL':
            mean, deviation = net.encode(x)
            answers = mean, deviation, net.decode(mean)
        elif case.network == 'VQVAE':
            code = net.encode(x)
            answers = code, net.decode(net.quantize(code)[0])
        else:
            named = (('context', 'tokens'), ('class_labels', 'label'))
            more = {name: torch.from_numpy(told[ours]) for name, ours in named if ours in told}
            if case.control:
                control = made('ControlNet', case.control, weights('ControlNet', case.control))
                down, middle = control(x, t, controlnet_cond=first(told['hint']), **more)
                more |= {'down_block_additional_residuals': down, 'mid_block_additional_residual': middle}
            answers = (net(x, t, **more),)
    return [peers.to_numpy(answer) for answer in answers]


if __name__ == '__main__':
    short = lambda answer: [float(f'{value:.7g}') for value in answer.ravel().tolist()]
    record = {'versions': peers.versions(), 'answers': {name: list(map(short, theirs(name))) for name in CASES}}
    FILE.write_text(json.dumps(record, separators=(',', ':')).replace(']],"', ']],\n"') + '\n')
