"""What every network that a model card can name must do, whatever it is for: examples never meet, and bfloat16 is near float32."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff import model
from jaxdiff.nets.autoencoder import Posterior

jit = partial(jax.jit, compiler_options={'xla_backend_optimization_level': 0})
UNET = {'channels': 1, 'widths': [8, 16], 'blocks': 1, 'attention': [False, True]}
CODER = {'channels': 1, 'latent': 2, 'widths': [8, 8], 'blocks': 1}
CONTROL = {**UNET, 'hint_widths': [4]}


def normal(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)


X, T, HINT = normal(0, 3, 8, 8, 1), jnp.array([1.0, 300.0, 999.0]), normal(1, 3, 8, 8, 1)
WORDS = jnp.array([[0, 3, 1, 2], [0, 4, 5, 1], [0, 1, 2, 2]])
DENOISER = {'x': X, 't': T}


def uncoded(net, x):
    """There and back past the codebook: in bfloat16 another code may be nearest."""
    found = net.encode(x)
    return net.decode(found.mean if isinstance(found, Posterior) else found)


NETS = {  # specification, arguments
    'unet': ({**UNET, 'design': 'adm', 'labels': 3, 'vector': 1}, DENOISER | {'label': jnp.array([0, 2, 3]), 'vector': normal(2, 3, 1)}),
    'dit': ({'channels': 1, 'patch': 2, 'width': 16, 'depth': 2, 'heads': 2, 'labels': 3}, DENOISER | {'label': jnp.array([0, 2, 3])}),
    'captioned': ({'unet': UNET, 'text': {'words': 6, 'length': 4, 'width': 8, 'depth': 1, 'heads': 2}}, DENOISER | {'words': WORDS}),
    'controlled': ({'trunk': UNET, 'hint': 1, 'hint_widths': [4]}, DENOISER | {'hint': HINT}),
    'control': (CONTROL, DENOISER | {'hint': HINT}),
    'classifier': ({**UNET, 'channels': 3}, DENOISER),
    'autoencoder': (CODER, {'x': X}),
    'vqvae': ({'channels': 1, 'latent': 2, 'codes': 4, 'widths': [8]}, {'x': X}),
    'text': ({'words': 6, 'length': 4, 'width': 8, 'depth': 1, 'heads': 2}, {'numbers': WORDS}),
}  # fmt: skip
WITHIN = {'captioned': ('unet', 'text'), 'controlled': ('trunk',)}  # networks of networks, which have no dtype of their own


@pytest.fixture(scope='module', params=model.NETWORKS)
def made(request):
    """Its name, parameters none of which are zero, arguments, and (specification, params, arguments) -> arrays."""
    spec, told = NETS[request.param]
    spec = {'name': request.param, **spec}
    network = model.make_network(spec)
    params = jit(network.init)(jax.random.key(0), **told)
    rng = np.random.default_rng(3)
    params = jax.tree.map(lambda leaf: leaf + 0.1 * rng.standard_normal(leaf.shape).astype(np.float32), params)

    def call(spec, params, told):
        method = uncoded if spec['name'] in model.TIMELESS else None
        return jax.tree.leaves(jit(partial(model.make_network(spec).apply, method=method))(params, **told))

    return spec, params, told, call


def test_examples_never_meet(made):
    spec, params, told, call = made
    alone = call(spec, params, jax.tree.map(lambda leaf: leaf[1:2], told))
    for one, many in zip(alone, call(spec, params, told), strict=True):
        np.testing.assert_allclose(one[0], many[1], atol=1e-5 * float(jnp.abs(many).max()))


def test_bfloat16_is_near_float32(made):
    spec, params, told, call = made
    parts = WITHIN.get(spec['name'])
    low = {**spec, **{part: {**spec[part], 'dtype': 'bfloat16'} for part in parts}} if parts else {**spec, 'dtype': 'bfloat16'}
    for half, full in zip(call(low, params, told), call(spec, params, told), strict=True):
        off = float(jnp.abs(half.astype(jnp.float32) - full).max())
        assert 0 < off < 3e-2 * float(jnp.abs(full).max())
