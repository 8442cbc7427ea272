import jax
import numpy as np
import pytest

from jaxdiff import model
from jaxdiff.interop import monai
from jaxdiff.types import UserError

GIVEN = {
    'spatial_dims': 2,
    'in_channels': 2,
    'out_channels': 1,
    'channels': (4, 8),
    'num_res_blocks': 1,
    'attention_levels': (False, True),
    'num_head_channels': 4,
    'norm_num_groups': 2,
}
TOLD = {
    **GIVEN,
    'with_conditioning': True,
    'cross_attention_dim': 3,
    'transformer_num_layers': 2,
    'num_class_embeds': 5,
    'resblock_updown': True,
}
CONTROL = {name: value for name, value in TOLD.items() if name != 'out_channels'} | {
    'conditioning_embedding_in_channels': 3,
    'conditioning_embedding_num_channels': (4, 6),
}
CODES = {'spatial_dims': 2, 'in_channels': 1, 'out_channels': 1, 'channels': (4, 6), 'num_res_layers': 1, 'num_res_channels': (3, 5)}
FIRST = {
    'spatial_dims': 2,
    'channels': (4, 8),
    'num_res_blocks': (1, 2),
    'attention_levels': (False, True),
    'latent_channels': 3,
    'norm_num_groups': 2,
}
FAMILIES = {
    'unet': (monai.unet, GIVEN),
    'told': (monai.unet, TOLD),
    'control': (monai.control, CONTROL),
    'autoencoder': (monai.autoencoder, FIRST),
    'vqvae': (monai.vqvae, CODES),
}


def drawn(family, **arguments):
    rng = np.random.default_rng(0)
    return {name: rng.standard_normal(shape) for name, shape in family.shapes(**arguments).items()}


@pytest.fixture(scope='module')
def state():
    return drawn(monai.unet, **GIVEN)


# as `state_dict()` in MONAI 1.6 has them
EXPECTED = {
    'unet': {
        'conv_in.conv.weight': (4, 2, 3, 3),
        'time_embed.2.bias': (16,),
        'down_blocks.0.downsampler.op.conv.weight': (4, 4, 3, 3),
        'down_blocks.1.resnets.0.skip_connection.conv.weight': (8, 4, 1, 1),
        'down_blocks.1.attentions.0.attn.to_q.weight': (8, 8),
        'middle_block.attention.norm.weight': (8,),
        'middle_block.resnet_2.time_emb_proj.weight': (8, 16),
        'up_blocks.0.resnets.1.conv1.conv.weight': (8, 12, 3, 3),
        'up_blocks.0.upsampler.postconv.conv.bias': (8,),
        'up_blocks.1.resnets.0.norm1.weight': (12,),
        'out.2.conv.weight': (1, 4, 3, 3),
    },
    'told': {
        'class_embedding.weight': (5, 16),
        'down_blocks.0.downsampler.conv1.conv.weight': (4, 4, 3, 3),
        'down_blocks.1.attentions.0.proj_in.conv.weight': (8, 8, 1, 1),
        'down_blocks.1.attentions.0.transformer_blocks.1.attn2.to_k.weight': (8, 3),
        'middle_block.attention.transformer_blocks.0.ff.linear1.weight': (64, 8),
        'up_blocks.0.attentions.1.proj_out.conv.bias': (8,),
        'up_blocks.0.upsampler.time_emb_proj.bias': (8,),
    },
    'control': {
        'controlnet_cond_embedding.blocks.1.conv.weight': (6, 4, 3, 3),
        'controlnet_cond_embedding.conv_out.conv.weight': (4, 6, 3, 3),
        'controlnet_down_blocks.0.weight': (4, 4, 1, 1),
        'controlnet_down_blocks.3.conv.weight': (8, 8, 1, 1),
        'controlnet_mid_block.conv.bias': (8,),
    },
    'autoencoder': {
        'encoder.blocks.2.conv.conv.weight': (4, 4, 3, 3),
        'encoder.blocks.3.nin_shortcut.conv.weight': (8, 4, 1, 1),
        'encoder.blocks.6.attn.to_q.weight': (8, 8),
        'encoder.blocks.11.conv.weight': (3, 8, 3, 3),
        'quant_conv_log_sigma.conv.weight': (3, 3, 1, 1),
        'decoder.blocks.8.postconv.conv.weight': (8, 8, 3, 3),
        'decoder.blocks.11.conv.weight': (1, 4, 3, 3),
    },
    'vqvae': {
        'encoder.blocks.2.conv.weight': (6, 4, 4, 4),
        'encoder.blocks.3.conv1.conv.weight': (5, 6, 3, 3),
        'encoder.blocks.4.conv.weight': (64, 6, 3, 3),
        'decoder.blocks.2.conv.weight': (6, 4, 4, 4),
        'decoder.blocks.4.conv.weight': (4, 1, 4, 4),
        'quantizer.quantizer.ema_cluster_size': (32,),
    },
}


@pytest.mark.parametrize('name', FAMILIES)
def test_names_are_those_of_a_state_dict(name):
    family, arguments = FAMILIES[name]
    shapes = family.shapes(**arguments)
    assert {each: shapes.get(each) for each in EXPECTED[name]} == EXPECTED[name]
    assert not any('downsampler' in each for each in shapes if each.startswith('down_blocks.1'))


def test_every_weight_arrives_once(state):
    spec, params = monai.unet.read(state, **GIVEN)
    blank = model.Model(spec, {}, '', None, {}, {'shape': (4, 4, 2)})
    same = jax.tree.map(lambda leaf, expected: leaf.shape == expected.shape and leaf.dtype == expected.dtype, params, model.shapes(blank))
    assert all(jax.tree.leaves(same))
    sums = lambda leaves: sorted(float(np.sum(np.float32(leaf), dtype=np.float64)) for leaf in leaves)
    np.testing.assert_allclose(sums(jax.tree.leaves(params)), sums(state.values()), atol=1e-5)


def test_axes_turn_around(state):
    params = monai.unet.read(state, **GIVEN)[1]['params']
    np.testing.assert_allclose(params['stem']['kernel'][0, 2, 1, 3], state['conv_in.conv.weight'][3, 1, 0, 2], rtol=1e-6)
    np.testing.assert_allclose(params['time_in']['kernel'][1, 5], state['time_embed.0.weight'][5, 1], rtol=1e-6)
    skip = state['down_blocks.1.resnets.0.skip_connection.conv.weight'][:, :, 0, 0]
    np.testing.assert_allclose(params['encode_1_0']['block']['skip']['kernel'], skip.T, rtol=1e-6)


def test_what_is_missing_there_is_zero_here():
    state = drawn(monai.unet, **TOLD)
    params = monai.unet.read(state, **TOLD)[1]['params']
    np.testing.assert_allclose(params['label']['embedding'][:5], state['class_embedding.weight'], rtol=1e-6)
    assert not np.any(params['label']['embedding'][5]) and not np.any(params['null_token'])


@pytest.mark.parametrize('dims', [2, 3])
def test_a_transposed_convolution_is_one_to_patches(dims):
    """Against its definition: pixel i gives w[k] x[i] to pixel 2 i - 1 + k along each axis."""
    given = {**CODES, 'spatial_dims': dims, 'channels': (2, 3), 'num_res_channels': (2, 3), 'embedding_dim': 2, 'out_channels': 2}
    state = drawn(monai.vqvae, **given)
    spec, params = monai.vqvae.read(state, **given)
    network, size = model.make_network(spec), (3, 2, 2)[:dims]
    weight, bias = (state[f'decoder.blocks.{2 + 2}.conv.{name}'] for name in ('weight', 'bias'))
    rng = np.random.default_rng(1)
    x = rng.standard_normal((*size, 2))
    whole = np.zeros((*(2 * each + 2 for each in size), 2))
    for place in np.ndindex(*size):
        patch = tuple(slice(2 * each, 2 * each + 4) for each in place)
        whole[patch] += np.moveaxis(np.tensordot(x[place], weight, (0, 0)), 0, -1)
    expected = whole[(slice(1, -1),) * dims] + bias

    def last(net, x):
        from jaxdiff.nets import folding

        return folding.unfold(net.double[0](x), (2,) * dims)

    answer = network.apply(params, np.float32(x), method=last)
    np.testing.assert_allclose(answer, expected, rtol=1e-4, atol=1e-4)


def test_a_control_joins_its_trunk_alone():
    trunk = monai.unet.read(drawn(monai.unet, **TOLD), **TOLD)
    spec, params = monai.control.join(trunk, monai.control.read(drawn(monai.control, **CONTROL), **CONTROL))
    blank = model.Model(spec, {}, '', None, {}, {'shape': (4, 4, 2)})
    assert jax.tree.map(np.shape, params) == jax.tree.map(lambda leaf: leaf.shape, model.shapes(blank))
    other = {**CONTROL, 'num_res_blocks': 2}
    with pytest.raises(UserError, match='blocks differs'):
        monai.control.join(trunk, monai.control.read(drawn(monai.control, **other), **other))


def test_one_line_lists_what_is_wrong(state):
    wrong = {**state, 'out.0.bias': np.zeros(3), 'extra.bias': np.zeros(1)}
    del wrong['time_embed.0.weight']
    with pytest.raises(UserError) as error:
        monai.unet.read(wrong, **GIVEN)
    message = str(error.value)
    assert '\n' not in message
    assert 'missing: time_embed.0.weight; unexpected: extra.bias; of another shape: out.0.bias (3,) for (4,)' in message


@pytest.mark.parametrize(
    ('name', 'options'),
    [
        ('unet', {'with_conditioning': True, 'cross_attention_dim': 4, 'norm_eps': 1e-5}),
        ('unet', {'with_conditioning': True}),
        ('unet', {'include_fc': False}),
        ('unet', {'use_combined_linear': True}),
        ('unet', {'num_channels': (4, 8)}),
        ('unet', {'num_head_channels': (4,)}),
        ('unet', {'num_head_channels': 3}),
        ('unet', {'channels': (4, 8, 8)}),
        ('unet', {'num_res_blocks': (1, 1, 1)}),
        ('unet', {'norm_num_groups': 3}),
        ('control', {'out_channels': 1}),
        ('control', {'include_fc': False}),
        ('autoencoder', {'use_convtranspose': True}),
        ('autoencoder', {'norm_num_groups': 3}),
        ('autoencoder', {'attention_levels': (True,)}),
        ('vqvae', {'act': 'PRELU'}),
        ('vqvae', {'output_act': 'TANH'}),
        ('vqvae', {'downsample_parameters': (2, 3, 1, 1)}),
        ('vqvae', {'upsample_parameters': ((2, 4, 1, 1, 0), (2, 4, 1, 1, 1))}),
    ],
    ids=str,
)
def test_what_ours_is_not_is_refused(name, options):
    family, arguments = FAMILIES[name]
    with pytest.raises(UserError) as error:
        family.shapes(**{**arguments, **options})
    assert '\n' not in str(error.value)


def test_what_changes_nothing_is_accepted():
    assert monai.unet.specification(**GIVEN, use_flash_attention=True, upcast_attention=True) == monai.unet.specification(**GIVEN)
    assert monai.vqvae.specification(**CODES, decay=0.9, act='RELU') == monai.vqvae.specification(**CODES)
