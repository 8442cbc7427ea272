"""The loops of the peers, where these are installed: how often they call the network, and that they walk."""

import pytest

from jaxdiff.benchmark import loops, peers

if peers.missing():
    pytest.skip('needs torch, diffusers and monai', allow_module_level=True)

import torch

START = torch.linspace(-1, 1, 32).reshape(2, 1, 4, 4)


@pytest.mark.parametrize('peer, solver', [*(('diffusers', name) for name in loops.DIFFUSERS), *(('monai', name) for name in loops.MONAI)])
def test_they_call_the_network_as_often_as_published(peer, solver):
    make = lambda net: loops.loop(peer, net, solver, 12, START)
    assert loops.network_calls(make) == {'heun': 23, 'pndm': 21}.get(solver, 12)
    assert torch.isfinite(make(lambda x, *_, **__: x / 2)()).all()


def test_a_solver_that_a_peer_lacks_is_none():
    assert loops.loop('monai', lambda x, t: x, 'heun', 4, START) is None
