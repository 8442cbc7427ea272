"""transformers' CLIPTextModel as `nets.text.TextEncoder`: the last hidden state after the final layer norm.

    spec, params = transformers.read(weights by name, **config.json)
    model.make_network(spec).apply(params, numbers)             # (batch, n) int32 -> tokens (batch, n, width)

As in latent diffusion, no word is masked: what pads a sentence is a word too. Names and arguments are those of
transformers/models/clip in transformers 4 and 5.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdiff import model
from jaxdiff.interop import configuration, matching
from jaxdiff.interop.matching import Entry
from jaxdiff.types import Params, UserError

WHAT = 'CLIPTextModel'
DEFAULTS = {
    'vocab_size': 49408,
    'hidden_size': 512,
    'intermediate_size': 2048,
    'num_hidden_layers': 12,
    'num_attention_heads': 8,
    'max_position_embeddings': 77,
    'hidden_act': 'quick_gelu',
    'layer_norm_eps': 1e-5,
}
ACTIVATIONS = ('quick_gelu', 'gelu')
PREFIX = 'text_model.'
BUFFER = 'embeddings.position_ids'  # 0, 1, 2 and so on, in files of transformers before 4.31
OUTSIDE = {
    'positions': 'embeddings.position_embedding',
    'words': 'embeddings.token_embedding',
    'norm': 'final_layer_norm',
}
WITHIN = {  # parts of a block: ours to theirs
    'norm': 'layer_norm1',
    'query': 'self_attn.q_proj',
    'key': 'self_attn.k_proj',
    'value': 'self_attn.v_proj',
    'project': 'self_attn.out_proj',
    'feed_norm': 'layer_norm2',
    'feed_in': 'mlp.fc1',
    'feed_out': 'mlp.fc2',
}


def read(state: Mapping[str, np.ndarray], **config: Any) -> tuple[dict[str, Any], Params]:
    """The specification that `model.make_network` takes, and its parameters, from weights by name and the configuration of a CLIPTextModel.

    Raises `UserError` for a configuration whose network ours is not, and, in one line that lists them, for weights that are missing, unexpected
    or of another shape.
    """
    spec = specification(**config)
    prefix = PREFIX if any(name.startswith(PREFIX) for name in state) else ''
    named = {name if prefix else PREFIX + name: value for name, value in state.items() if name != prefix + BUFFER}
    return spec, matching.fill(named, *_expected(**config), f'a {WHAT} of transformers')


def shapes(**config: Any) -> dict[str, tuple[int, ...]]:
    """The weights that a CLIPTextModel with this configuration has: name -> shape."""
    return matching.shapes(_expected(**config)[1])


def specification(**config: Any) -> dict[str, Any]:
    """What `model.make_network` takes, from the configuration of a CLIPTextModel. Raises `UserError` for what our network has not.

    A configuration there holds much that is not about the network; what is not known here is passed over.
    """
    if (kind := config.get('model_type', 'clip_text_model')) != 'clip_text_model':
        raise UserError(f'model_type={kind}: only clip_text_model can be read; take the text model alone')
    given = {**DEFAULTS, **{name: value for name, value in config.items() if name in DEFAULTS}}
    if given['hidden_act'] not in ACTIVATIONS:
        raise UserError(f'hidden_act={given["hidden_act"]}: only networks with {" or ".join(ACTIVATIONS)} can be read; take another one')
    configuration.divides(given['num_attention_heads'], [given['hidden_size']], 'num_attention_heads')
    return {
        'name': 'text',
        'words': given['vocab_size'],
        'length': given['max_position_embeddings'],
        'width': given['hidden_size'],
        'depth': given['num_hidden_layers'],
        'heads': given['num_attention_heads'],
        'inner': given['intermediate_size'],
        'activation': given['hidden_act'],
        'eps': given['layer_norm_eps'],
    }


def find(path: str, shape: tuple[int, ...]) -> Entry:
    """Where a parameter of ours, such as 'params/block_0/query/kernel', comes from."""
    place, *rest = path.removeprefix('params/').split('/')
    layer = OUTSIDE[place] if place in OUTSIDE else f'encoder.layers.{place.removeprefix("block_")}.{WITHIN[rest[0]]}'
    make = matching.kernel if rest[-1:] == ['kernel'] else matching.same
    return make(f'{PREFIX}{layer}.{"bias" if rest[-1:] == ["bias"] else "weight"}', shape)


def _expected(**config: Any) -> tuple[Params, list[Entry]]:
    """The tree of our parameters, and where each comes from."""
    tree = configuration.tree(model.make_network(specification(**config)), jax.ShapeDtypeStruct((1, 1), jnp.int32))
    return tree, matching.entries(tree, find)
