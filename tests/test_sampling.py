"""Many images: what is drawn depends on the key and the example alone, not on how many there are, on parts or on devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff import grids, model, parallel, paths, sampling
from jaxdiff.sampling import drawer, keys, mapper
from jaxdiff.solvers.adams import adams
from jaxdiff.solvers.loop import one_step, sample
from jaxdiff.solvers.runge_kutta import euler

NETWORK = {'name': 'unet', 'channels': 1, 'widths': [4], 'blocks': 1, 'attention': [], 'groups': 2, 'vector': 2}
BLANK = model.Model(NETWORK, {'name': 'cosine'}, 'v', None, {}, {'shape': [4, 4, 1]})
PATH = paths.cosine()
TIMES = grids.uniform(PATH, 3)
KEY = jax.random.key(1)
TOLD = {'vector': np.linspace(-2, 2, 22, dtype=np.float32).reshape(11, 2)}


def parameters(seed):
    """Of a network that is not zero, as a new one is."""
    fresh = model.init(BLANK, jax.random.key(seed))
    return jax.tree.map(lambda leaf: leaf + 0.3 * np.random.default_rng(seed).standard_normal(leaf.shape, np.float32), fresh)


@pytest.fixture(scope='module')
def trained():
    return BLANK._replace(params=parameters(0))


@pytest.fixture(scope='module')
def traces():
    return []


@pytest.fixture(scope='module')
def draw(trained, traces):
    """Eight at once, so that eleven take two parts."""
    inner = euler(PATH)

    def step(key, denoise, x, t, s):
        traces.append(x.shape)
        return inner.step(key, denoise, (), x, t, s)[:2]

    return drawer(trained, solver=one_step(step), times=TIMES, size=8)


@pytest.fixture(scope='module')
def eleven(draw, trained):
    return draw(trained.params, KEY, 11, **TOLD)


def test_an_image_is_the_walk_of_its_own_key(eleven, trained):
    """Every image by itself on one device."""

    @jax.jit
    def alone(key, vector):
        start, walk = jax.random.split(key)
        x = PATH.sigma(TIMES[0]) * jax.random.normal(start, (4, 4, 1))
        return sample(walk, x, model.denoiser(trained, vector=vector), euler(PATH), TIMES).x

    expected = [np.clip(alone(jax.random.fold_in(KEY, i), TOLD['vector'][i]), -1, 1) for i in range(11)]
    np.testing.assert_allclose(eleven, expected, rtol=0, atol=1e-5)
    inside = np.abs(eleven) < 1
    assert eleven.shape == (11, 4, 4, 1) and inside.mean() > 0.2 and eleven[inside].std() > 0.1  # not all clipped


def test_neither_the_count_nor_other_parameters_compile_anything_or_change_the_others(draw, eleven, trained, traces):
    before = len(traces)
    np.testing.assert_allclose(draw(trained.params, KEY, 3, vector=TOLD['vector'][:3]), eleven[:3], rtol=0, atol=1e-5)
    assert np.abs(draw(parameters(5), KEY, 11, **TOLD) - eleven).mean() > 0.05
    assert before > 0 and len(traces) == before


def test_the_condition_of_one_image_changes_only_that_image(draw, eleven, trained):
    other = TOLD['vector'].copy()
    other[4] += 3
    drawn = draw(trained.params, KEY, 11, vector=other)
    np.testing.assert_array_equal(np.delete(drawn, 4, 0), np.delete(eleven, 4, 0))
    assert np.abs(drawn[4] - eleven[4]).mean() > 0.01


def test_neither_the_devices_nor_the_part_size_change_an_image(eleven, trained, monkeypatch):
    mesh = parallel.make_mesh(1, 1)
    monkeypatch.setattr(sampling.parallel, 'make_mesh', lambda: mesh)
    drawn = drawer(trained, solver=euler(PATH), times=TIMES, size=5)(trained.params, KEY, 11, **TOLD)
    np.testing.assert_allclose(drawn, eleven, rtol=0, atol=1e-5)


class Linear:
    """A network of one number."""

    def apply(self, params, x, t):
        return params * x


def test_by_default_adams_walks_from_the_end_of_the_path_without_a_condition(monkeypatch):
    monkeypatch.setitem(model.NETWORKS, 'linear', Linear)
    linear = BLANK._replace(network={'name': 'linear'}, params=jnp.float32(-0.4))
    drawn = drawer(linear, size=2)(linear.params, KEY, 2)
    start, walk = jax.random.split(jax.random.fold_in(KEY, 1))
    x = PATH.sigma(1.0) * jax.random.normal(start, (4, 4, 1))
    expected = sample(walk, x, model.denoiser(linear), adams(PATH), grids.default(PATH, 20)).x
    np.testing.assert_allclose(drawn[1], np.clip(expected, -1, 1), rtol=0, atol=1e-5)


def test_keys_are_folded_one_by_one():
    np.testing.assert_array_equal(jax.random.key_data(keys(KEY, 3)[2]), jax.random.key_data(jax.random.fold_in(KEY, 2)))


@pytest.mark.parametrize('size', [3, 60])
def test_a_map_is_the_loop_over_examples_whatever_the_part(size):
    seen = []

    def fn(shared, key, example):
        seen.append(0)
        noise = jax.random.normal(key, (2,))
        return {'sum': shared['w'] * example['a'] + example['b'].sum(), 'noise': noise}

    run = mapper(fn, size=size)
    a, b = np.arange(11.0, dtype=np.float32), np.arange(33.0, dtype=np.float32).reshape(11, 3)
    for count, w in ((11, 2.0), (4, 3.0)):
        found = run({'w': jnp.float32(w)}, keys(KEY, count), {'a': a[:count], 'b': b[:count]})
        np.testing.assert_allclose(found['sum'], w * a[:count] + b[:count].sum(1), rtol=1e-6)
        expected = [jax.random.normal(jax.random.fold_in(KEY, i), (2,)) for i in range(count)]
        np.testing.assert_allclose(found['noise'], expected, rtol=1e-6)
        assert isinstance(found['sum'], np.ndarray)
    assert len(seen) == 1


def test_guidance_by_weight(trained, eleven, traces):
    """0 is deaf, 1 plain, 2 as far again; another weight compiles nothing."""
    inner = euler(PATH)

    def step(key, denoise, x, t, s):
        traces.append(x.shape)
        return inner.step(key, denoise, (), x, t, s)[:2]

    guide = drawer(trained, solver=one_step(step), times=grids.uniform(PATH, 1), guided=True)
    plain = drawer(trained, solver=euler(PATH), times=grids.uniform(PATH, 1))
    deaf, told, twice = (guide(trained.params, KEY, 2, weight=weight, vector=TOLD['vector'][:2]) for weight in (0.0, 1.0, 2.0))
    count = len(traces)
    guide(trained.params, KEY, 2, weight=3.0, vector=TOLD['vector'][:2])
    assert len(traces) == count
    np.testing.assert_allclose(told, plain(trained.params, KEY, 2, vector=TOLD['vector'][:2]), atol=1e-5)
    np.testing.assert_allclose(deaf, plain(trained.params, KEY, 2, vector=np.full((2, 2), np.nan, np.float32)), atol=1e-5)
    inside = (np.abs(2 * told - deaf) < 1) & (np.abs(told) < 1) & (np.abs(deaf) < 1)  # of one step, where nothing is clipped
    np.testing.assert_allclose(twice[inside], (2 * told - deaf)[inside], atol=1e-4)
    assert inside.any() and not np.allclose(told, deaf, atol=1e-3)


def test_guidance_along_some_conditions_keeps_the_others():
    """At weight 0 the class is not told any more, and the vector still is."""
    blank = BLANK._replace(network={**NETWORK, 'labels': 2})
    params = jax.tree.map(lambda leaf: leaf + 0.3, model.init(blank, jax.random.key(0)))
    vector, walk = TOLD['vector'][:2], {'solver': euler(PATH), 'times': grids.uniform(PATH, 1)}
    deaf = drawer(blank, **walk, guided=('label',))(params, KEY, 2, weight=0.0, label=np.array([0, 1], np.int32), vector=vector)
    expected = drawer(blank, **walk)(params, KEY, 2, label=np.array([2, 2], np.int32), vector=vector)
    np.testing.assert_allclose(deaf, expected, atol=1e-5)


def test_answers_are_those_of_the_network_at_time_zero(trained, eleven):
    network = model.make_network(trained.network)
    found = sampling.answers(trained, size=8)(trained.params, eleven)
    expected = jax.jit(network.apply)(trained.params, eleven, jnp.zeros(11))
    np.testing.assert_allclose(found, expected, atol=1e-5)
