"""A kept function is read, not run, where nothing that decides it has changed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff.export.kept import kept

pytest.importorskip('flatbuffers')


@pytest.fixture
def folder(tmp_path):
    before = jax.config.jax_compilation_cache_dir
    jax.config.update('jax_compilation_cache_dir', str(tmp_path))
    yield tmp_path
    jax.config.update('jax_compilation_cache_dir', before)


def counted(power=2):
    """(params, x) -> params['w'] x^power, and how often it was run."""
    runs = []

    def fn(params, x):
        runs.append(x.shape)
        return params['w'] * x**power

    return fn, runs


def call(fn, recipe, size=3):
    return jax.jit(kept(fn, recipe))({'w': jnp.float32(2)}, jnp.arange(size, dtype=jnp.float32))


def test_the_same_recipe_and_shapes_run_the_code_once(folder):
    for expected in (1, 0):
        fn, runs = counted()
        np.testing.assert_array_equal(call(fn, {'power': 2}), [0, 2, 8])
        assert len(runs) == expected


def test_another_recipe_or_shape_runs_it_again(folder):
    fn, runs = counted()
    call(fn, {'power': 2})
    call(fn, {'power': 2}, size=4)
    np.testing.assert_array_equal(call(counted(3)[0], {'power': 3}), [0, 2, 16])
    assert runs == [(3,), (4,)] and len([file for file in folder.iterdir() if file.name.startswith('trace-')]) == 3


def test_what_cannot_be_kept_is_run(folder):
    def told(params, x):
        jax.debug.callback(lambda: None)
        return params['w'] * x

    np.testing.assert_array_equal(call(told, {}), [0, 2, 4])
    assert not [file for file in folder.iterdir() if file.name.startswith('trace-')]


def test_without_a_cache_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fn, runs = counted()
    assert jax.config.jax_compilation_cache_dir is None
    call(fn, {})
    assert len(runs) == 1 and not list(tmp_path.iterdir())
