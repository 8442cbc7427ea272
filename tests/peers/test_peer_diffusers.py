"""diffusers' networks answer as ours with the same weights: as recorded when `record_others.py` was run last, and where it is installed, live."""

import json

import numpy as np
import pytest
from record_others import CASES, FILE, near, ours, peer, theirs, weights

from jaxdiff.benchmark import peers
from jaxdiff.interop import diffusers

NAMES = [name for name, case in CASES.items() if case.family.__name__.startswith(diffusers.__name__)]
RECORDED = json.loads(FILE.read_text())['answers']
MISSING = peers.missing('torch', 'diffusers')
live = pytest.mark.skipif(bool(MISSING), reason=f'asks diffusers itself; install jaxdiff[peers], {", ".join(MISSING)} missing')


@pytest.mark.parametrize('name', NAMES)
def test_ours_answers_as_diffusers_was_seen_to(name):
    near(ours(name, weights(name)), np.array(RECORDED[name]))


@live
@pytest.mark.parametrize('name', NAMES)
def test_diffusers_still_answers_as_recorded(name):
    near(theirs(name), np.array(RECORDED[name]))


@live
@pytest.mark.parametrize('name', NAMES)
def test_names_and_shapes_are_those_of_diffusers(name):
    assert {key: tuple(value.shape) for key, value in peer(name).state_dict().items()} == CASES[name].family.shapes(**CASES[name].arguments)


@live
@pytest.mark.parametrize('name', NAMES)
def test_what_diffusers_saves_is_all_that_is_needed(name, tmp_path):
    """A folder as `save_pretrained` writes it: its weights, and its config.json with every argument."""
    from jaxdiff.interop import files

    peer(name).save_pretrained(tmp_path)
    config, family = json.loads((tmp_path / 'config.json').read_text()), CASES[name].family
    state = files.read(tmp_path / 'diffusion_pytorch_model.safetensors')
    spec, _ = family.read(state, **config)
    assert json.loads(json.dumps(spec)) == json.loads(json.dumps(family.specification(**CASES[name].arguments)))


@live
@pytest.mark.parametrize('kind', ['UNet2DModel', 'UNet2DConditionModel', 'AutoencoderKL'])
def test_unset_arguments_are_those_of_diffusers(kind):
    import inspect

    import diffusers as library

    family = {'UNet2DModel': diffusers.unet, 'UNet2DConditionModel': diffusers.conditional, 'AutoencoderKL': diffusers.autoencoder}[kind]
    theirs = {name: each.default for name, each in inspect.signature(getattr(library, kind).__init__).parameters.items() if name != 'self'}
    assert set(theirs) == {*family.DEFAULTS, *family.FIXED, *family.IGNORED}
    assert {name: theirs[name] for name in family.DEFAULTS} == family.DEFAULTS
    assert all(theirs[name] in values for name, values in family.FIXED.items())
