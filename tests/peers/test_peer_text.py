"""transformers' CLIPTextModel answers as ours with the same weights: as recorded when `record_others.py` was run last, and where it
is installed, live."""

import json

import numpy as np
import pytest
from record_others import CASES, FILE, near, ours, peer, theirs, weights

from jaxdiff.benchmark import peers
from jaxdiff.interop import transformers

NAMES = [name for name, case in CASES.items() if case.family is transformers]
RECORDED = json.loads(FILE.read_text())['answers']
MISSING = peers.missing('torch', 'transformers')
live = pytest.mark.skipif(bool(MISSING), reason=f'asks transformers itself; install {", ".join(MISSING)}')


@pytest.mark.parametrize('name', NAMES)
def test_ours_answers_as_transformers_was_seen_to(name):
    near(ours(name, weights(name)), np.array(RECORDED[name]))


@live
@pytest.mark.parametrize('name', NAMES)
def test_transformers_still_answers_as_recorded(name):
    near(theirs(name), np.array(RECORDED[name]))


@live
@pytest.mark.parametrize('name', NAMES)
def test_what_transformers_saves_is_all_that_is_needed(name, tmp_path):
    """A folder as `save_pretrained` writes it: its weights by their names there, and its config.json with every argument."""
    from jaxdiff.interop import files

    state = weights(name)
    peer(name, state).save_pretrained(tmp_path)
    config = json.loads((tmp_path / 'config.json').read_text())
    read = files.read(tmp_path / 'model.safetensors')
    assert {key.removeprefix('text_model.') for key in read} == {key.removeprefix('text_model.') for key in state}
    spec, params = transformers.read(read, **config)
    assert spec == transformers.specification(**CASES[name].arguments)
    first = transformers.read(state, **CASES[name].arguments)[1]
    np.testing.assert_array_equal(params['params']['words']['embedding'], first['params']['words']['embedding'])


@live
def test_unset_arguments_are_those_of_transformers():
    from transformers import CLIPTextConfig

    assert {name: getattr(CLIPTextConfig(), name) for name in transformers.DEFAULTS} == transformers.DEFAULTS
