"""MONAI's networks answer as ours with the same weights: as recorded when `record_networks.py` was run last, and where it is installed, live."""

import json
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from record_networks import CASES, FILE, inputs, made, module, theirs, weights

from jaxdiff import model
from jaxdiff.benchmark import peers
from jaxdiff.interop import monai

RECORDED = json.loads(FILE.read_text())['answers']
MISSING = peers.missing('torch', 'monai')
live = pytest.mark.skipif(bool(MISSING), reason=f'asks MONAI itself; install jaxdiff[peers], {", ".join(MISSING)} missing')
jit = partial(jax.jit, compiler_options={'xla_backend_optimization_level': 0})
SORTS = {case.network: case.arguments for case in CASES.values()} | {'ControlNet': CASES['controlled'].control}


def near(a, b):
    assert np.abs(a - b).max() <= 1e-4 * np.abs(b).max()


def ours(name):
    """As `theirs`."""
    case, (x, t, told) = CASES[name], inputs(name)
    spec, params = module(case.network).read(weights(case.network, case.arguments), **case.arguments)
    if case.control:
        control = monai.control.read(weights('ControlNet', case.control), **case.control)
        spec, params = monai.control.join((spec, params), control)
    net = model.make_network(spec)

    def autoencoder(params, x):
        posterior = net.apply(params, x, method='encode')
        return posterior.mean, jnp.exp(posterior.log_variance / 2), net.apply(params, posterior.mean, method='decode')

    def codes(params, x):
        z = net.apply(params, x, method='encode')
        return z, net.apply(params, net.apply(params, z, method='quantize'), method='decode')

    if spec['name'] in ('autoencoder', 'vqvae'):
        return jit({'autoencoder': autoencoder, 'vqvae': codes}[spec['name']])(params, x)
    return (jit(net.apply)(params, x, t, **told),)


@pytest.mark.parametrize('name', CASES)
def test_ours_answers_as_monai_was_seen_to(name):
    for answer, recorded in zip(ours(name), RECORDED[name], strict=True):
        near(answer, np.reshape(recorded, answer.shape))


@live
@pytest.mark.parametrize('name', CASES)
def test_monai_still_answers_as_recorded(name):
    for answer, recorded in zip(theirs(name), RECORDED[name], strict=True):
        near(answer, np.reshape(recorded, answer.shape))


@live
@pytest.mark.parametrize('name', [*CASES, 'ControlNet'])
def test_names_and_shapes_are_those_of_monai(name):
    network, arguments = (CASES[name].network, CASES[name].arguments) if name in CASES else (name, SORTS[name])
    state = peers.weights(made(network, arguments))
    assert {key: value.shape for key, value in state.items()} == module(network).shapes(**arguments)


@live
@pytest.mark.parametrize('network', SORTS)
def test_unset_arguments_are_monais(network):
    given = {'spatial_dims': 2, 'in_channels': 1} | ({} if network == 'ControlNet' else {'out_channels': 1})
    state = peers.weights(made(network, given))
    assert {key: value.shape for key, value in state.items()} == module(network).shapes(**given)


@live
@pytest.mark.parametrize('layout', peers.LAYOUTS)
def test_every_layout_answers_and_learns_alike(layout):
    net, (x, t, _) = peers.unet(**CASES['volume'].arguments), inputs('volume')
    recorded = np.reshape(RECORDED['volume'][0], (*x.shape[:-1], 1))
    near(peers.to_numpy(peers.forward(net, x, t, layout=layout)()), recorded)
    step = peers.train_step(net, x, t, np.zeros((*x.shape[:-1], 1), np.float32), layout=layout)
    losses = [float(step()), float(step())]
    np.testing.assert_allclose(losses[0], np.mean(np.square(recorded)), rtol=1e-3)
    assert losses[1] < losses[0]
    near(peers.to_numpy(peers.forward(net, x, t)()), recorded)  # the copy learned
