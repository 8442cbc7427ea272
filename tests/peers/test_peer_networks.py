"""MONAI's networks answer as ours with the same weights: as recorded when `record_networks.py` was run last, and where it is installed, live."""

import json
from functools import partial

import jax
import numpy as np
import pytest
from record_networks import CASES, FILE, inputs, theirs, weights

from jaxdiff import model
from jaxdiff.benchmark import peers
from jaxdiff.interop import monai

RECORDED = json.loads(FILE.read_text())['answers']
MISSING = peers.missing('torch', 'monai')
live = pytest.mark.skipif(bool(MISSING), reason=f'asks MONAI itself; install jaxdiff[peers], {", ".join(MISSING)} missing')
jit = partial(jax.jit, compiler_options={'xla_backend_optimization_level': 0})


def near(a, b):
    assert np.abs(a - b).max() <= 1e-4 * np.abs(b).max()


@pytest.mark.parametrize('name', CASES)
def test_ours_answers_as_monai_was_seen_to(name):
    spec, params = monai.unet(weights(name), **CASES[name][0])
    x, t = inputs(name)
    answer = jit(model.make_network(spec).apply)(params, x, t)
    near(answer, np.reshape(RECORDED[name], answer.shape))


@live
@pytest.mark.parametrize('name', CASES)
def test_monai_still_answers_as_recorded(name):
    answer = theirs(name)
    near(answer, np.reshape(RECORDED[name], answer.shape))


@live
@pytest.mark.parametrize('name', CASES)
def test_names_and_shapes_are_those_of_monai(name):
    state = peers.weights(peers.unet(**CASES[name][0]))
    assert {key: value.shape for key, value in state.items()} == monai.shapes(**CASES[name][0])


@live
def test_unset_arguments_are_monais():
    given = {'spatial_dims': 2, 'in_channels': 1, 'out_channels': 1}
    state = peers.weights(peers.unet(**given))
    assert {key: value.shape for key, value in state.items()} == monai.shapes(**given)


@live
@pytest.mark.parametrize('layout', peers.LAYOUTS)
def test_every_layout_answers_and_learns_alike(layout):
    arguments, _ = CASES['volume']
    net, (x, t) = peers.unet(**arguments), inputs('volume')
    near(peers.to_numpy(peers.forward(net, x, t, layout=layout)()), np.reshape(RECORDED['volume'], (*x.shape[:-1], 1)))
    step = peers.train_step(net, x, t, np.zeros((*x.shape[:-1], 1), np.float32), layout=layout)
    losses = [float(step()), float(step())]
    np.testing.assert_allclose(losses[0], np.mean(np.square(RECORDED['volume'])), rtol=1e-3)
    assert losses[1] < losses[0]
    near(peers.to_numpy(peers.forward(net, x, t)()), np.reshape(RECORDED['volume'], (*x.shape[:-1], 1)))  # the copy learned
