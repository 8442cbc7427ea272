"""What leads the denoiser, at toy size."""

from importlib import import_module

import jax
import numpy as np
import pytest

from jaxdiff import model, plans
from jaxdiff.experiment import configure
from jaxdiff.studies import told
from jaxdiff.types import UserError
from jaxdiff.workdir import digest

guided, free = (import_module(f'conditioning.{name}') for name in ('classifier_guided', 'classifier_free'))


def resolved(script):
    config = configure(script.Config, script.PRESETS, preset='smoke')
    return config, {each.stage.name: each for each in plans.resolved(script.plan(config, told.sketch(config)))}


def test_the_model_and_its_judge_are_those_of_the_other_scripts():
    (_, ours), (_, theirs) = resolved(guided), resolved(free)
    assert {name: digest(ours[name].recipe) for name in theirs} == {name: digest(each.recipe) for name, each in theirs.items()}
    assert ours['guide'].recipe['clean'] is False and ours['judge'].recipe['clean'] is True


def test_the_scale_decides_how_much_a_class_and_its_guide_count():
    config, todo = resolved(guided)
    trained, guide = (todo[name].blank._replace(params=model.init(todo[name].blank, jax.random.key(0))) for name in ('model', 'guide'))
    other = jax.tree.map(lambda leaf: leaf + 0.1, guide.params)
    draw, key = guided.drawer(config, trained, guide), jax.random.key(1)
    ones, twos = np.full(8, 1, np.int32), np.full(8, 2, np.int32)
    made = lambda scale, params=guide.params, labels=ones: draw(trained.params, params, scale, key, labels)
    plain = made(0.0)
    assert plain.shape == (8, 32, 32, 1) and np.abs(plain).max() <= 1
    np.testing.assert_array_equal(plain, made(0.0, labels=twos))
    np.testing.assert_array_equal(plain, made(0.0, other))
    led = made(50.0)
    for wrong in (plain, made(50.0, labels=twos), made(50.0, other)):
        assert np.abs(led - wrong).max() > 1e-3
    np.testing.assert_array_equal(led[:3], made(50.0, labels=ones[:3]))


def test_what_a_dry_run_counts_can_be_run():
    config, todo = resolved(guided)
    (job,) = guided.jobs(config, tuple(todo[name] for name in ('model', 'guide', 'judge')))
    drawn, called = jax.eval_shape(job.fn, *job.args), jax.eval_shape(job.unit[0], *job.unit[1])
    assert drawn.shape == called.shape and drawn.shape[1:] == (32, 32, 1) and job.units == config.sample_steps
    assert job.times * drawn.shape[0] >= config.samples * (5 * config.evaluations + 4)  # four scales and a blind one, and four for the page


@pytest.mark.parametrize('scales', [(1.0,), (2.0, 1.0), (1.0, 1.0)])
def test_scales_rise(scales, tmp_path):
    config = configure(guided.Config, guided.PRESETS, preset='smoke', scales=scales, workdir=str(tmp_path / 'run'))
    with pytest.raises(UserError, match='at least two, rising'):
        guided.run(config)
    assert not (tmp_path / 'run').exists()
