import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff import model
from jaxdiff.interop import families, transformers
from jaxdiff.types import UserError

GIVEN = {
    'vocab_size': 11,
    'hidden_size': 4,
    'intermediate_size': 6,
    'num_hidden_layers': 2,
    'num_attention_heads': 2,
    'max_position_embeddings': 5,
}
jit = partial(jax.jit, compiler_options={'xla_backend_optimization_level': 0})


@pytest.fixture(scope='module')
def state():
    rng = np.random.default_rng(0)
    return {name: rng.standard_normal(shape).astype(np.float32) / 2 for name, shape in transformers.shapes(**GIVEN).items()}


def by_definition(state, numbers, gelu):
    """One sentence, in float64: every word looks back, head by head."""
    get = lambda name: np.float64(state[f'text_model.{name}'])
    affine = lambda name, h: h @ get(f'{name}.weight').T + get(f'{name}.bias')[None]

    def norm(name, h):
        h = h - h.mean(-1, keepdims=True)
        return h / np.sqrt((h**2).mean(-1, keepdims=True) + 1e-5) * get(f'{name}.weight')[None] + get(f'{name}.bias')[None]

    h = get('embeddings.token_embedding.weight')[numbers] + get('embeddings.position_embedding.weight')[: len(numbers)]
    for k in range(2):
        layer = f'encoder.layers.{k}'
        seen = norm(f'{layer}.layer_norm1', h)
        q, k, v = (affine(f'{layer}.self_attn.{part}_proj', seen) for part in 'qkv')
        heads = []
        for own in (slice(0, 2), slice(2, 4)):
            logits = np.where(np.tri(len(h), dtype=bool), q[:, own] @ k[:, own].T / math.sqrt(2), -np.inf)
            weights = np.exp(logits - logits.max(-1, keepdims=True))
            heads.append(weights / weights.sum(-1, keepdims=True) @ v[:, own])
        h = h + affine(f'{layer}.self_attn.out_proj', np.concatenate(heads, axis=1))
        h = h + affine(f'{layer}.mlp.fc2', gelu(affine(f'{layer}.mlp.fc1', norm(f'{layer}.layer_norm2', h))))
    return norm('final_layer_norm', h)


@pytest.mark.parametrize('activation', ['quick_gelu', 'gelu'])
def test_ours_is_the_definition(state, activation):
    exact = np.vectorize(lambda x: x * (1 + math.erf(x / math.sqrt(2))) / 2)
    gelu = {'quick_gelu': lambda x: x / (1 + np.exp(-1.702 * x)), 'gelu': exact}[activation]
    spec, params = transformers.read(state, **GIVEN, hidden_act=activation)
    numbers = np.array([3, 0, 10, 3])
    answer = jit(model.make_network(spec).apply)(params, jnp.asarray(numbers[None]))
    np.testing.assert_allclose(answer[0], by_definition(state, numbers, gelu), rtol=1e-4, atol=1e-4)


def test_names_come_with_and_without_their_prefix(state):
    bare = {name.removeprefix('text_model.'): value for name, value in state.items()}
    buffer = {'embeddings.position_ids': np.arange(5)[None]}
    expected = transformers.read(state, **GIVEN)[1]
    for given in (bare, {**bare, **buffer}, {**state, 'text_model.embeddings.position_ids': np.arange(5)[None]}):
        jax.tree.map(np.testing.assert_array_equal, transformers.read(given, **GIVEN)[1], expected)


def test_the_text_model_of_stable_diffusion_is_known():
    """Its number of parameters is the published one; what its config.json says of other things is passed over."""
    config = {
        'architectures': ['CLIPTextModel'],
        'attention_dropout': 0.0,
        'bos_token_id': 0,
        'hidden_act': 'quick_gelu',
        'hidden_size': 768,
        'intermediate_size': 3072,
        'model_type': 'clip_text_model',
        'num_attention_heads': 12,
        'num_hidden_layers': 12,
        'torch_dtype': 'float32',
        'vocab_size': 49408,
    }
    assert sum(math.prod(shape) for shape in transformers.shapes(**config).values()) == 123_060_480


@pytest.mark.parametrize(
    ('options', 'word'),
    [({'hidden_act': 'relu'}, 'hidden_act'), ({'model_type': 'clip'}, 'model_type'), ({'num_attention_heads': 3}, 'num_attention_heads')],
    ids=str,
)
def test_what_ours_is_not_is_refused(options, word):
    with pytest.raises(UserError, match=word) as error:
        transformers.specification(**{**GIVEN, **options})
    assert '\n' not in str(error.value)


def test_weights_of_another_architecture_are_refused(state):
    wrong = {**state, 'text_projection.weight': np.zeros((4, 4))}
    del wrong['text_model.encoder.layers.1.mlp.fc1.bias']
    with pytest.raises(UserError) as error:
        transformers.read(wrong, **GIVEN)
    assert 'missing: text_model.encoder.layers.1.mlp.fc1.bias; unexpected: text_projection.weight' in str(error.value)
    assert '\n' not in str(error.value)


def test_its_configuration_names_the_class():
    assert families.choose('transformers', {'architectures': ['CLIPTextModel']}, []) == 'CLIPTextModel'
    with pytest.raises(UserError, match='CLIPModel: not a network of transformers'):
        families.choose('transformers', {'architectures': ['CLIPModel']}, [])
