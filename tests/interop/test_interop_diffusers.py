import math

import jax
import numpy as np
import pytest

from jaxdiff import model
from jaxdiff.interop import diffusers
from jaxdiff.types import UserError

SMALL = {'in_channels': 2, 'out_channels': 1, 'block_out_channels': [4, 8], 'layers_per_block': 1, 'norm_num_groups': 2}
PLAIN = {
    **SMALL,
    'down_block_types': ['DownBlock2D', 'AttnDownBlock2D'],
    'up_block_types': ['AttnUpBlock2D', 'UpBlock2D'],
    'attention_head_dim': 4,
    'num_class_embeds': 3,
}
RESAMPLES = {
    **PLAIN,
    'down_block_types': ['ResnetDownsampleBlock2D', 'DownBlock2D'],
    'up_block_types': ['ResnetUpsampleBlock2D', 'UpBlock2D'],
    'attention_head_dim': None,
}
TOLD = {
    **SMALL,
    'down_block_types': ['CrossAttnDownBlock2D', 'DownBlock2D'],
    'up_block_types': ['UpBlock2D', 'CrossAttnUpBlock2D'],
    'cross_attention_dim': 6,
    'attention_head_dim': 2,
}
FIRST = {
    **SMALL,
    'latent_channels': 3,
    'down_block_types': ['DownEncoderBlock2D', 'DownEncoderBlock2D'],
    'up_block_types': ['UpDecoderBlock2D', 'UpDecoderBlock2D'],
}
FAMILIES = {
    'plain': (diffusers.unet, PLAIN),
    'resamples': (diffusers.unet, RESAMPLES),
    'told': (diffusers.conditional, TOLD),
    'first': (diffusers.autoencoder, FIRST),
}
STABLE = {  # config.json of Stable Diffusion 1, as published
    'unet': {
        '_class_name': 'UNet2DConditionModel',
        '_diffusers_version': '0.6.0',
        'act_fn': 'silu',
        'attention_head_dim': 8,
        'block_out_channels': [320, 640, 1280, 1280],
        'center_input_sample': False,
        'cross_attention_dim': 768,
        'down_block_types': ['CrossAttnDownBlock2D', 'CrossAttnDownBlock2D', 'CrossAttnDownBlock2D', 'DownBlock2D'],
        'downsample_padding': 1,
        'flip_sin_to_cos': True,
        'freq_shift': 0,
        'in_channels': 4,
        'layers_per_block': 2,
        'mid_block_scale_factor': 1,
        'norm_eps': 1e-05,
        'norm_num_groups': 32,
        'out_channels': 4,
        'sample_size': 64,
        'up_block_types': ['UpBlock2D', 'CrossAttnUpBlock2D', 'CrossAttnUpBlock2D', 'CrossAttnUpBlock2D'],
    },
    'vae': {
        '_class_name': 'AutoencoderKL',
        '_diffusers_version': '0.6.0',
        'act_fn': 'silu',
        'block_out_channels': [128, 256, 512, 512],
        'down_block_types': ['DownEncoderBlock2D'] * 4,
        'in_channels': 3,
        'latent_channels': 4,
        'layers_per_block': 2,
        'norm_num_groups': 32,
        'out_channels': 3,
        'sample_size': 512,
        'up_block_types': ['UpDecoderBlock2D'] * 4,
    },
}


def drawn(name):
    family, config = FAMILIES[name]
    rng = np.random.default_rng(0)
    return {each: rng.standard_normal(shape) for each, shape in family.shapes(**config).items()}


def refusal(call):
    with pytest.raises(UserError) as error:
        call()
    assert '\n' not in str(error.value)
    return str(error.value)


# as `state_dict()` in diffusers 0.42 has them
EXPECTED = {
    'plain': {
        'conv_in.weight': (4, 2, 3, 3),
        'time_embedding.linear_2.bias': (16,),
        'class_embedding.weight': (3, 16),
        'down_blocks.0.downsamplers.0.conv.weight': (4, 4, 3, 3),
        'down_blocks.1.resnets.0.conv_shortcut.weight': (8, 4, 1, 1),
        'down_blocks.1.attentions.0.to_q.weight': (8, 8),
        'mid_block.attentions.0.group_norm.weight': (8,),
        'mid_block.resnets.1.time_emb_proj.weight': (8, 16),
        'up_blocks.0.resnets.1.conv1.weight': (8, 12, 3, 3),
        'up_blocks.0.attentions.1.to_out.0.bias': (8,),
        'up_blocks.0.upsamplers.0.conv.bias': (8,),
        'conv_norm_out.weight': (4,),
        'conv_out.weight': (1, 4, 3, 3),
    },
    'resamples': {
        'down_blocks.0.downsamplers.0.conv1.weight': (4, 4, 3, 3),
        'down_blocks.0.downsamplers.0.norm2.bias': (4,),
        'up_blocks.0.upsamplers.0.time_emb_proj.bias': (8,),
        'up_blocks.0.upsamplers.0.conv_shortcut.weight': None,
    },
    'told': {
        'down_blocks.0.attentions.0.proj_in.weight': (4, 4, 1, 1),
        'down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_k.bias': None,
        'down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.weight': (4, 6),
        'mid_block.attentions.0.transformer_blocks.0.ff.net.0.proj.weight': (64, 8),
        'up_blocks.1.attentions.1.transformer_blocks.0.ff.net.2.weight': (4, 16),
        'up_blocks.1.attentions.1.transformer_blocks.0.norm3.weight': (4,),
    },
    'first': {
        'encoder.down_blocks.0.downsamplers.0.conv.weight': (4, 4, 3, 3),
        'encoder.down_blocks.1.resnets.0.conv_shortcut.bias': (8,),
        'encoder.mid_block.attentions.0.to_out.0.weight': (8, 8),
        'encoder.conv_out.weight': (6, 8, 3, 3),
        'quant_conv.weight': (6, 6, 1, 1),
        'post_quant_conv.bias': (3,),
        'decoder.conv_in.weight': (8, 3, 3, 3),
        'decoder.up_blocks.0.upsamplers.0.conv.weight': (8, 8, 3, 3),
        'decoder.up_blocks.1.resnets.1.norm1.weight': (4,),
    },
}


@pytest.mark.parametrize('name', FAMILIES)
def test_names_are_those_of_a_state_dict(name):
    family, config = FAMILIES[name]
    shapes = family.shapes(**config)
    assert {each: shapes.get(each) for each in EXPECTED[name]} == EXPECTED[name]


@pytest.mark.parametrize('name', FAMILIES)
def test_every_weight_arrives_once(name):
    family, config = FAMILIES[name]
    state = drawn(name)
    spec, params = family.read(state, **config)
    tree = model.shapes(model.Model(spec, {}, '', None, {}, {'shape': (4, 4, 2)}))
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), params) == jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), tree)
    sums = lambda leaves: sorted(total for total in (float(np.sum(np.float32(leaf), dtype=np.float64)) for leaf in leaves) if total)
    np.testing.assert_allclose(sums(jax.tree.leaves(params)), sums(state.values()), atol=1e-5)


def test_axes_turn_around():
    state = drawn('plain')
    params = diffusers.unet.read(state, **PLAIN)[1]['params']
    np.testing.assert_allclose(params['stem']['kernel'][0, 2, 1, 3], state['conv_in.weight'][3, 1, 0, 2], rtol=1e-6)
    np.testing.assert_allclose(params['time_in']['kernel'][1, 5], state['time_embedding.linear_1.weight'][5, 1], rtol=1e-6)
    np.testing.assert_allclose(params['label']['embedding'][:3], state['class_embedding.weight'], rtol=1e-6)
    assert not np.any(params['label']['embedding'][3])


@pytest.mark.parametrize('name', ['plain', 'first'])
def test_attention_of_old_files_is_read_too(name):
    """With its old names, and in autoencoders as convolutions."""
    family, config = FAMILIES[name]
    state = drawn(name)
    old = {}
    for key, value in state.items():
        for now, before in (('to_q', 'query'), ('to_k', 'key'), ('to_v', 'value'), ('to_out.0', 'proj_attn')):
            key = key.replace(f'.{now}.', f'.{before}.')
        old[key] = value[..., None, None] if key.endswith(('query.weight', 'proj_attn.weight')) else value
    assert set(old) != set(state)
    jax.tree.map(np.testing.assert_array_equal, family.read(old, **config)[1], family.read(state, **config)[1])


def test_stable_diffusion_is_known():
    """The numbers of parameters are those published for versions 1 and 2."""
    count = lambda shapes: sum(math.prod(shape) for shape in shapes.values())
    spec = diffusers.conditional.specification(**STABLE['unet'])
    assert (spec['design'], spec['heads'], spec['transformer'], spec['tokens']) == ('ddpm', (8,) * 4, 1, 768)
    assert count(diffusers.conditional.shapes(**STABLE['unet'])) == 859_520_964
    assert count(diffusers.autoencoder.shapes(**STABLE['vae'])) == 83_653_863
    second = {**STABLE['unet'], 'attention_head_dim': [5, 10, 20, 20], 'cross_attention_dim': 1024, 'use_linear_projection': True}
    assert count(diffusers.conditional.shapes(**second)) == 865_910_724


def test_one_line_lists_what_is_wrong():
    state = drawn('plain')
    wrong = {**state, 'conv_norm_out.bias': np.zeros(3), 'extra.bias': np.zeros(1)}
    del wrong['time_embedding.linear_1.weight']
    message = refusal(lambda: diffusers.unet.read(wrong, **PLAIN))
    told = 'missing: time_embedding.linear_1.weight; unexpected: extra.bias; of another shape: conv_norm_out.bias (3,) for (4,)'
    assert 'a UNet2DModel of diffusers' in message and told in message


@pytest.mark.parametrize('name', ['plain', 'told', 'first'])
@pytest.mark.parametrize('other', ['resamples', 'told', 'first'])
def test_weights_of_another_architecture_are_refused(name, other):
    family, config = FAMILIES[name]
    if name != other:
        assert 'missing: ' in refusal(lambda: family.read(drawn(other), **config))


@pytest.mark.parametrize(
    ('name', 'options'),
    [
        ('plain', {'cross_attention_dim': 6}),
        ('plain', {'center_input_sample': True}),
        ('plain', {'time_embedding_type': 'fourier'}),
        ('plain', {'mid_block_type': None}),
        ('plain', {'add_attention': False}),
        ('plain', {'class_embed_type': 'timestep'}),
        ('plain', {'freq_shift': 1}),
        ('plain', {'time_embedding_dim': 8}),
        ('plain', {'downsample_padding': 2}),
        ('plain', {'resnet_time_scale_shift': 'spatial'}),
        ('plain', {'attn_norm_num_groups': 4}),
        ('plain', {'attention_head_dim': 3}),
        ('plain', {'norm_num_groups': 3}),
        ('plain', {'norm_num_groups': None}),
        ('plain', {'down_block_types': ['DownBlock2D', 'SkipDownBlock2D']}),
        ('plain', {'up_block_types': ['UpBlock2D', 'AttnUpBlock2D']}),
        ('plain', {'down_block_types': ['DownBlock2D']}),
        ('plain', {'down_block_types': ['ResnetDownsampleBlock2D', 'AttnDownBlock2D']}),
        ('resamples', {'layers_per_block': [1, 1, 1]}),
        ('told', {'addition_embed_type': 'text_time'}),
        ('told', {'transformer_layers_per_block': [1, 2]}),
        ('told', {'cross_attention_dim': [6, 8]}),
        ('told', {'attention_head_dim': 3}),
        ('told', {'only_cross_attention': True}),
        ('told', {'encoder_hid_dim': 5}),
        ('told', {'time_cond_proj_dim': 4}),
        ('told', {'num_attention_heads': 3}),
        ('told', {'down_block_types': ['DownBlock2D'] * 2, 'up_block_types': ['UpBlock2D'] * 2}),
        ('told', {'down_block_types': ['AttnDownBlock2D', 'DownBlock2D']}),
        ('first', {'use_quant_conv': False}),
        ('first', {'mid_block_add_attention': False}),
        ('first', {'act_fn': 'relu'}),
        ('first', {'down_block_types': ['DownBlock2D'] * 2}),
        ('first', {'down_block_types': ['AttnDownEncoderBlock2D', 'DownEncoderBlock2D']}),
    ],
    ids=str,
)
def test_what_ours_is_not_is_refused(name, options):
    family, config = FAMILIES[name]
    assert next(iter(options)) in refusal(lambda: family.specification(**{**config, **options}))


def test_what_changes_nothing_is_accepted():
    more = {'_class_name': 'UNet2DModel', 'sample_size': 8, 'act_fn': 'swish', 'num_train_timesteps': 10}
    assert diffusers.unet.specification(**PLAIN, **more) == diffusers.unet.specification(**PLAIN)
    assert diffusers.conditional.specification(**{**TOLD, 'attention_head_dim': 1, 'num_attention_heads': 2})['heads'] == (2, 2)
    assert diffusers.autoencoder.specification(**FIRST, scaling_factor=0.1) == diffusers.autoencoder.specification(**FIRST)
