"""What a patient is taught by, at toy size; a whole run is in `test_conditioning`."""

import functools
import itertools
from importlib import import_module

import jax
import numpy as np
import pytest

from jaxdiff import plans
from jaxdiff.experiment import configure
from jaxdiff.studies import spoken, subject
from jaxdiff.types import UserError
from jaxdiff.workdir import digest

dreambooth, text = (import_module(f'conditioning.{name}') for name in ('dreambooth', 'text'))


@functools.cache
def resolved(script, **flags):
    config = configure(script.Config, script.PRESETS, preset='smoke', **flags)
    return {each.stage.name: each for each in plans.resolved(script.plan(config, spoken.sketch(config)))}


def test_it_goes_on_from_the_very_model_that_text_trains():
    before, after = resolved(text), resolved(dreambooth)
    assert {name: digest(each.recipe) for name, each in before.items()} == {name: digest(after[name].recipe) for name in before}


@pytest.mark.parametrize('flags, changed', [({'prior': 5, 'preservation': 0.5}, {'subject'}), ({'scans': 3}, {'subject', 'without'})])
def test_flags_name_what_they_change(flags, changed):
    plain, other = resolved(dreambooth), resolved(dreambooth, **flags)
    assert {name for name in plain if plain[name].recipe != other[name].recipe} == changed


def test_both_students_see_as_many_scans_on_average():
    """Over the two steps in which each image of the class comes once."""
    todo = resolved(dreambooth)
    kept, forgotten = (list(itertools.islice(todo[name].stage.data(0), 2)) for name in ('subject', 'without'))
    own = lambda batches: np.concatenate([each['own'] for each in batches])
    assert kept[0]['image'].shape == (4, 32, 32, 1) and own(kept).sum() == len(own(kept)) / 2 == own(forgotten).sum() == len(own(forgotten))
    assert todo['subject'].stage.steps == todo['without'].stage.steps == 4


def test_only_of_the_class_is_silence_kept():
    words = spoken.reader()(subject.NAME)
    said = lambda own: jax.vmap(lambda key: dreambooth.tell(key, {'words': words, 'own': own})['words'])(
        jax.random.split(jax.random.key(0), 20_000)
    )
    spoken_of = lambda found: np.mean(np.all(np.asarray(found) == words[None], axis=1))
    assert spoken_of(said(np.bool_(True))) == 1
    np.testing.assert_allclose(spoken_of(said(np.bool_(False))), 0.9, atol=0.01)


def test_images_of_the_class_are_at_least_as_many_as_scans(tmp_path):
    config = configure(dreambooth.Config, dreambooth.PRESETS, preset='smoke', scans=5, workdir=str(tmp_path / 'run'))
    with pytest.raises(UserError, match='--prior=4'):
        dreambooth.run(config)
    assert not (tmp_path / 'run').exists()
