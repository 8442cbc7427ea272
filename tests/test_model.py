"""A trained model on disk: what comes back is what was saved, and what is not a model is refused."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff import model
from jaxdiff.types import UserError

NETWORK = {'name': 'unet', 'channels': 1, 'widths': [4, 8], 'blocks': 1, 'attention': [], 'groups': 2}
BLANK = model.Model(NETWORK, {'name': 'cosine'}, 'v', None, {}, {'shape': [8, 8, 1]})


@pytest.fixture(scope='module')
def trained():
    return BLANK._replace(params=model.init(BLANK, jax.random.key(0)))


def test_round_trip(trained, tmp_path):
    model.save(trained, tmp_path / 'model')
    found = model.load(tmp_path / 'model')
    assert found._replace(params=None) == BLANK
    jax.tree.map(np.testing.assert_array_equal, found.params, trained.params)
    x = jnp.ones((8, 8, 1))
    np.testing.assert_array_equal(model.denoiser(found)(x, jnp.float32(0.5)), model.denoiser(trained)(x, jnp.float32(0.5)))


@pytest.mark.parametrize('name', model.PATHS)
def test_every_named_path_can_be_made_and_told(name):
    path = model.make_path({'name': name})
    assert path.sigma(0.0) == 0 and path.log_snr(path.end) < path.log_snr(path.end / 2) < jnp.inf
    with pytest.raises(UserError, match=name):
        model.make_path({'name': name, 'wrong': 1})


def test_half_precision_halves_the_file(trained, tmp_path):
    model.save(trained, tmp_path / 'full')
    model.save(trained, tmp_path / 'half', dtype='float16')
    found = model.load(tmp_path / 'half')
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-6), found.params, trained.params)
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(found.params))
    assert (tmp_path / 'half.npz').stat().st_size < 0.85 * (tmp_path / 'full.npz').stat().st_size


def damage(folder, how):
    card = json.loads((folder / 'model.json').read_text())
    if how == 'other architecture':
        card['network']['widths'] = [4, 4]
    if how == 'unknown network':
        card['network']['name'] = 'os.system'
    (folder / 'model.json').write_text('{' if how == 'card' else json.dumps(card))
    if how == 'truncated':
        (folder / 'model.npz').write_bytes((folder / 'model.npz').read_bytes()[:200])
    if how == 'pickle':
        np.savez(folder / 'model.npz', evil=np.array([{}], dtype=object))
    if how == 'missing':
        (folder / 'model.npz').unlink()


@pytest.mark.parametrize(
    ('how', 'words'),
    [
        ('other architecture', 'another architecture'),
        ('unknown network', "unknown name 'os.system'"),
        ('card', 'not a model card'),
        ('truncated', 'cannot be read'),
        ('pickle', 'cannot be read'),
        ('missing', 'no such file'),
    ],
)
def test_refusals(trained, tmp_path, how, words):
    model.save(trained, tmp_path / 'model')
    damage(tmp_path, how)
    with pytest.raises(UserError, match=words) as caught:
        model.load(tmp_path / 'model')
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize('name', model.PATHS)
def test_every_path_is_made_from_its_name(name):
    path = model.make_path({'name': name})
    assert float(path.sigma(jnp.float32(path.end))) > 0.9
