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


@pytest.fixture(scope='module')
def state():
    return {name: np.random.default_rng(0).standard_normal(shape) for name, shape in monai.shapes(**GIVEN).items()}


def test_names_are_those_of_a_state_dict(state):
    """As DiffusionModelUNet of MONAI 1.6 with these arguments prints some of them."""
    shapes = {name: value.shape for name, value in state.items()}
    expected = {
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
    }
    assert {name: shapes.get(name) for name in expected} == expected
    assert not any('downsampler' in name for name in shapes if name.startswith('down_blocks.1'))


def test_every_weight_arrives_once(state):
    spec, params = monai.unet(state, **GIVEN)
    blank = model.Model(spec, {}, '', None, {}, {'shape': (4, 4, 2)})
    same = jax.tree.map(lambda leaf, expected: leaf.shape == expected.shape and leaf.dtype == expected.dtype, params, model.shapes(blank))
    assert all(jax.tree.leaves(same))
    sums = lambda leaves: sorted(float(np.sum(np.float32(leaf), dtype=np.float64)) for leaf in leaves)
    np.testing.assert_allclose(sums(jax.tree.leaves(params)), sums(state.values()), atol=1e-5)


def test_axes_turn_around(state):
    params = monai.unet(state, **GIVEN)[1]['params']
    np.testing.assert_allclose(params['stem']['kernel'][0, 2, 1, 3], state['conv_in.conv.weight'][3, 1, 0, 2], rtol=1e-6)
    np.testing.assert_allclose(params['time_in']['kernel'][1, 5], state['time_embed.0.weight'][5, 1], rtol=1e-6)
    skip = state['down_blocks.1.resnets.0.skip_connection.conv.weight'][:, :, 0, 0]
    np.testing.assert_allclose(params['encode_1_0']['block']['skip']['kernel'], skip.T, rtol=1e-6)


def test_one_line_lists_what_is_wrong(state):
    wrong = {**state, 'out.0.bias': np.zeros(3), 'extra.bias': np.zeros(1)}
    del wrong['time_embed.0.weight']
    with pytest.raises(UserError) as error:
        monai.unet(wrong, **GIVEN)
    message = str(error.value)
    assert '\n' not in message
    assert 'missing: time_embed.0.weight; unexpected: extra.bias; of another shape: out.0.bias (3,) for (4,)' in message


@pytest.mark.parametrize(
    'options',
    [
        {'num_class_embeds': 3},
        {'with_conditioning': True, 'cross_attention_dim': 4},
        {'resblock_updown': True},
        {'include_fc': False},
        {'use_combined_linear': True},
        {'num_channels': (4, 8)},
        {'num_head_channels': (4,)},
        {'channels': (4, 8, 8)},
        {'num_res_blocks': (1, 1, 1)},
    ],
    ids=lambda options: next(iter(options)),
)
def test_what_is_not_a_plain_network_is_refused(options):
    with pytest.raises(UserError):
        monai.specification(**{**GIVEN, **options})


def test_what_changes_nothing_is_accepted():
    assert monai.specification(**GIVEN, use_flash_attention=True, upcast_attention=True) == monai.specification(**GIVEN)
