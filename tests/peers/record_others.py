"""Writes what networks of diffusers, transformers and guided-diffusion answer to `recorded_others.json`. Needs the extra `peers`, and transformers.

python tests/peers/record_others.py
"""

import json
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxdiff import model
from jaxdiff.benchmark import peers
from jaxdiff.interop import diffusers, guided_diffusion, transformers

FILE = Path(__file__).parent / 'recorded_others.json'
jit = partial(jax.jit, compiler_options={'xla_backend_optimization_level': 0})


class Case(NamedTuple):
    """One network: its class there, its module here, its arguments, and the sizes of what it is called with."""

    name: str
    family: Any
    arguments: dict[str, Any]
    size: tuple[int, ...]
    tokens: int = 0  # how many
    labels: int = 0


SMALL = {'in_channels': 2, 'out_channels': 1, 'block_out_channels': (8, 16), 'layers_per_block': 1, 'norm_num_groups': 4}
ATTENDS = {'down_block_types': ('DownBlock2D', 'AttnDownBlock2D'), 'up_block_types': ('AttnUpBlock2D', 'UpBlock2D')}
CROSSES = {'down_block_types': ('CrossAttnDownBlock2D', 'DownBlock2D'), 'up_block_types': ('UpBlock2D', 'CrossAttnUpBlock2D')}
RESAMPLES = {
    'down_block_types': ('ResnetDownsampleBlock2D', 'AttnDownBlock2D'),
    'up_block_types': ('AttnUpBlock2D', 'ResnetUpsampleBlock2D'),
}
ADAPTIVE = {'resnet_time_scale_shift': 'scale_shift', 'attn_norm_num_groups': 4}
TEXT = {
    'vocab_size': 20,
    'hidden_size': 8,
    'intermediate_size': 12,
    'num_hidden_layers': 2,
    'num_attention_heads': 2,
    'max_position_embeddings': 7,
}
ENCODER = {**SMALL, 'latent_channels': 3, 'down_block_types': ('DownEncoderBlock2D',) * 2, 'up_block_types': ('UpDecoderBlock2D',) * 2}
LOOKS = {
    'down_block_types': ('DownEncoderBlock2D', 'AttnDownEncoderBlock2D'),
    'up_block_types': ('AttnUpDecoderBlock2D', 'UpDecoderBlock2D'),
}
FLAGS = {
    'in_channels': 2,
    'out_channels': 1,
    'num_channels': 32,
    'num_res_blocks': 1,
    'channel_mult': '1,2',
    'image_size': 8,
    'attention_resolutions': '4',
    'num_heads': 2,
}
IMAGENET = {'learn_sigma': True, 'class_cond': True, 'num_classes': 5, 'resblock_updown': True, 'num_head_channels': 16}
PLAIN = {'use_scale_shift_norm': False, 'num_res_blocks': 2, 'attention_resolutions': '8'}

CASES = {
    'ddpm': Case(
        'UNet2DModel',
        diffusers.unet,
        {
            **SMALL,
            **ATTENDS,
            'downsample_padding': 0,
            'flip_sin_to_cos': False,
            'freq_shift': 1,
            'attention_head_dim': None,
            'norm_eps': 0.01,
        },
        (8, 4),
    ),
    'classes': Case('UNet2DModel', diffusers.unet, {**SMALL, **ATTENDS, 'attention_head_dim': 4, 'num_class_embeds': 5}, (4, 8), labels=5),
    'adm': Case(
        'UNet2DModel',
        diffusers.unet,
        {**SMALL, **RESAMPLES, **ADAPTIVE, 'downsample_type': 'resnet', 'upsample_type': 'resnet', 'layers_per_block': 2},
        (4, 4),
    ),
    'latent': Case(
        'UNet2DConditionModel',
        diffusers.conditional,
        {**SMALL, **CROSSES, 'cross_attention_dim': 6, 'attention_head_dim': 2},
        (8, 4),
        tokens=3,
    ),
    'latent, levels apart': Case(
        'UNet2DConditionModel',
        diffusers.conditional,
        {
            **SMALL,
            **CROSSES,
            'cross_attention_dim': 6,
            'attention_head_dim': (2, 4),
            'layers_per_block': (1, 2),
            'transformer_layers_per_block': 2,
            'use_linear_projection': True,
            'num_class_embeds': 3,
        },
        (4, 4),
        tokens=2,
        labels=3,
    ),
    'autoencoder': Case('AutoencoderKL', diffusers.autoencoder, ENCODER, (8, 4)),
    'autoencoder, attends': Case('AutoencoderKL', diffusers.autoencoder, {**ENCODER, **LOOKS, 'layers_per_block': 2}, (4, 6)),
    'text': Case('CLIPTextModel', transformers, TEXT, (7,)),
    'text, gelu': Case('CLIPTextModel', transformers, {**TEXT, 'hidden_act': 'gelu', 'layer_norm_eps': 0.01}, (5,)),
    'guided': Case('UNetModel', guided_diffusion, {**FLAGS, **IMAGENET}, (8, 4), labels=5),
    'guided, new order': Case('UNetModel', guided_diffusion, {**FLAGS, 'use_new_attention_order': True}, (4, 8)),
    'guided, plain': Case('UNetModel', guided_diffusion, {**FLAGS, **PLAIN}, (4, 4)),
    'guided, volume': Case('UNetModel', guided_diffusion, {**FLAGS, 'dims': 3, 'resblock_updown': True}, (3, 4, 2)),
}


def weights(name: str) -> dict[str, np.ndarray]:
    """Random, by the names and shapes that the peer should have."""
    case = CASES[name]
    return peers.random_weights(case.family.shapes(**case.arguments))


def inputs(name: str) -> dict[str, np.ndarray]:
    """What a network of ours is called with, two examples: x, and t, tokens and label where it is told them."""
    case, rng = CASES[name], np.random.default_rng(1)
    if case.name == 'CLIPTextModel':
        return {'numbers': rng.integers(0, case.arguments['vocab_size'], (2, *case.size)).astype(np.int32)}
    told = {'x': rng.standard_normal((2, *case.size, case.arguments['in_channels']), np.float32)}
    if case.name != 'AutoencoderKL':
        told['t'] = np.array([3.0, 700.0], np.float32)
    if case.tokens:
        told['tokens'] = rng.standard_normal((2, case.tokens, case.arguments['cross_attention_dim']), np.float32)
    if case.labels:
        told['label'] = np.array([case.labels - 1, 1], np.int32)
    return told


def ours(name: str, state: dict[str, np.ndarray]) -> np.ndarray:
    """All that our network answers, in one row."""
    case, told = CASES[name], inputs(name)
    spec, params = case.family.read(state, **case.arguments)
    network = model.make_network(spec)
    if case.name != 'AutoencoderKL':
        return np.ravel(jit(network.apply)(params, **told))

    def both(params, x):
        posterior = network.apply(params, x, method='encode')
        return *posterior, network.apply(params, posterior.mean, method='decode')

    return np.concatenate([np.ravel(each) for each in jit(both)(params, told['x'])])


def peer(name: str, state: dict[str, np.ndarray] | None = None) -> Any:
    """The network of the peer, with these weights."""
    import torch

    case = CASES[name]
    if case.family is guided_diffusion:
        import guided_unet

        net = guided_unet.from_flags(**case.arguments)
    elif case.family is transformers:
        from transformers import CLIPTextConfig, CLIPTextModel

        net = CLIPTextModel(CLIPTextConfig(**case.arguments, bos_token_id=0, eos_token_id=1, pad_token_id=0))
    else:
        import diffusers

        net = getattr(diffusers, case.name)(**case.arguments)
    if state is not None:
        own = net.state_dict()
        bare = not any(key.startswith('text_model.') for key in own)  # as transformers has it since version 5
        state = {key.removeprefix('text_model.') if bare else key: torch.from_numpy(value) for key, value in state.items()}
        net.load_state_dict(state, strict=True)
    return net.eval()


def theirs(name: str) -> np.ndarray:
    """All that the peer answers, in one row, channels last."""
    import torch

    case, net, told = CASES[name], peer(name, weights(name)), inputs(name)
    tensors = {
        key: torch.from_numpy(np.ascontiguousarray(np.moveaxis(value, -1, 1)) if key == 'x' else value) for key, value in told.items()
    }
    with torch.no_grad():
        if case.name == 'CLIPTextModel':
            return net(input_ids=tensors['numbers'].long()).last_hidden_state.numpy().ravel()
        if case.name == 'AutoencoderKL':
            posterior = net.encode(tensors['x']).latent_dist
            found = [posterior.mean, posterior.logvar, net.decode(posterior.mean).sample]
        else:
            label = tensors['label'].long() if case.labels else None
            if case.name == 'UNetModel':
                found = [net(tensors['x'], tensors['t'], label)]
            else:
                more = {'encoder_hidden_states': tensors['tokens']} if case.tokens else {}
                found = [net(tensors['x'], tensors['t'], class_labels=label, **more).sample]
    return np.concatenate([peers.to_numpy(each).ravel() for each in found])


def near(a: np.ndarray, b: np.ndarray) -> None:
    """To 1e-4 of the largest."""
    assert np.shape(a) == np.shape(b) and np.abs(a - b).max() <= 1e-4 * np.abs(b).max()


if __name__ == '__main__':
    from importlib import metadata

    short = lambda answer: [float(f'{value:.7g}') for value in answer.tolist()]
    record = {
        'versions': {**peers.versions(), 'transformers': metadata.version('transformers')},
        'answers': {name: short(theirs(name)) for name in CASES},
    }
    FILE.write_text(json.dumps(record, separators=(',', ':')).replace('],"', '],\n"') + '\n')
