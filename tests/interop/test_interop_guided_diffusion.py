import jax
import numpy as np
import pytest

from jaxdiff import model
from jaxdiff.interop import guided_diffusion
from jaxdiff.types import UserError

GIVEN = {
    'in_channels': 2,
    'num_channels': 32,
    'num_res_blocks': 1,
    'channel_mult': '1,2',
    'image_size': 8,
    'attention_resolutions': '4',
    'num_heads': 4,
    'class_cond': True,
    'num_classes': 3,
}
EXPECTED = {
    'input_blocks.0.0.weight': (32, 2, 3, 3),
    'time_embed.2.bias': (128,),
    'label_emb.weight': (3, 128),
    'input_blocks.1.0.in_layers.2.weight': (32, 32, 3, 3),
    'input_blocks.1.1.qkv.weight': None,
    'input_blocks.2.0.op.weight': (32, 32, 3, 3),
    'input_blocks.3.0.skip_connection.weight': (64, 32, 1, 1),
    'input_blocks.3.1.qkv.weight': (192, 64, 1),
    'middle_block.1.proj_out.weight': (64, 64, 1),
    'middle_block.2.emb_layers.1.weight': (128, 128),
    'output_blocks.0.0.in_layers.0.weight': (128,),
    'output_blocks.1.0.in_layers.0.weight': (96,),
    'output_blocks.1.2.conv.weight': (64, 64, 3, 3),
    'output_blocks.3.0.out_layers.3.bias': (32,),
    'out.2.weight': (2, 32, 3, 3),
}


@pytest.fixture(scope='module')
def state():
    rng = np.random.default_rng(0)
    return {name: rng.standard_normal(shape) for name, shape in guided_diffusion.shapes(**GIVEN).items()}


def test_names_are_those_of_a_state_dict():
    shapes = guided_diffusion.shapes(**GIVEN)
    assert {name: shapes.get(name) for name in EXPECTED} == EXPECTED
    resamples = guided_diffusion.shapes(**GIVEN, resblock_updown=True)
    assert 'input_blocks.2.0.op.weight' not in resamples
    assert resamples['input_blocks.2.0.in_layers.2.weight'] == (32, 32, 3, 3)
    assert resamples['output_blocks.1.2.out_layers.3.weight'] == (64, 64, 3, 3)


def test_shapes_are_those_of_our_network(state):
    spec, params = guided_diffusion.read(state, **GIVEN)
    tree = model.shapes(model.Model(spec, {}, '', None, {}, {'shape': (4, 4, 2)}))
    assert jax.tree.map(np.shape, params) == jax.tree.map(lambda leaf: leaf.shape, tree)
    np.testing.assert_allclose(params['params']['label']['embedding'][:3], state['label_emb.weight'], rtol=1e-6)
    assert not np.any(params['params']['label']['embedding'][3])


@pytest.mark.parametrize('together', [False, True])
def test_both_orders_of_attention(state, together):
    """Channel 5 of head 2 is channel 2 * 16 + 5 of ours; there it is in the part of the head, or in the head of the part."""
    params = guided_diffusion.read(state, **GIVEN, use_new_attention_order=together)[1]['params']['encode_1_0']['attention']
    for n, part in enumerate(('query', 'key', 'value')):
        place = n * 64 + 2 * 16 + 5 if together else 2 * 48 + n * 16 + 5
        np.testing.assert_allclose(params[part]['kernel'][:, 37], state['input_blocks.3.1.qkv.weight'][place, :, 0], rtol=1e-6)
        np.testing.assert_allclose(params[part]['bias'][37], state['input_blocks.3.1.qkv.bias'][place], rtol=1e-6)


def test_flags_say_where_it_attends_and_with_how_many_heads():
    spec = guided_diffusion.specification(
        image_size=256, num_channels=64, attention_resolutions='32,16,8', num_head_channels=32, learn_sigma=True
    )
    assert spec['widths'] == (64, 64, 128, 128, 256, 256)
    assert spec['attention'] == (False, False, False, True, True, True)
    assert spec['heads'][3:] == (4, 8, 8)
    assert spec['channels'] == 3 and spec['learned_variance'] and spec['norm'] == 'adaptive'
    assert guided_diffusion.specification(dims=3)['resample'] == (False, True, True)


@pytest.mark.parametrize(
    ('options', 'word'),
    [
        ({'image_size': 512, 'channel_mult': ''}, 'channel_mult'),
        ({'image_size': 96, 'channel_mult': ''}, 'channel_mult'),
        ({'channel_mult': '1,x'}, 'channel_mult'),
        ({'num_channels': 40}, 'groups'),
        ({'num_heads': 3}, 'num_heads'),
        ({'num_head_channels': 24}, 'num_head_channels'),
        ({'num_heads_upsample': 2}, 'num_heads_upsample'),
        ({'large_size': 256}, 'large_size'),
        ({'dims': 4}, 'dims'),
    ],
    ids=str,
)
def test_what_ours_is_not_is_refused(options, word):
    with pytest.raises(UserError, match=word) as error:
        guided_diffusion.specification(**{**GIVEN, **options})
    assert '\n' not in str(error.value)


def test_what_changes_nothing_is_accepted():
    more = {'use_fp16': True, 'diffusion_steps': 4000, 'noise_schedule': 'cosine'}
    assert guided_diffusion.specification(**GIVEN, **more) == guided_diffusion.specification(**GIVEN)


def test_weights_of_another_architecture_are_refused(state):
    with pytest.raises(UserError) as error:
        guided_diffusion.read(state, **GIVEN, resblock_updown=True)
    message = str(error.value)
    assert 'missing: input_blocks.2.0.emb_layers.1.bias' in message and 'unexpected: input_blocks.2.0.op.bias' in message
    assert '\n' not in message
