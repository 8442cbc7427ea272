"""An exported sampler draws what the model draws, without the network's code, and refuses what it is not."""

import json
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff import export, grids, model, paths, sampling
from jaxdiff.export import artifact
from jaxdiff.guidance import classifier_free
from jaxdiff.solvers.ancestral import ddpm
from jaxdiff.solvers.loop import sample
from jaxdiff.types import UserError

flatbuffers = pytest.importorskip('flatbuffers')
KEY = jax.random.key(1)
PATH = paths.cosine()
TIMES = grids.uniform(PATH, 3)
NETWORK = {'name': 'unet', 'channels': 1, 'widths': [4], 'blocks': 0, 'attention': [], 'groups': 2, 'vector': 2}
BLANK = model.Model(NETWORK, {'name': 'cosine'}, 'v', None, {'dims': 2}, {'shape': [4, 4, 1], 'conditioning': {'vector': [2]}})
TOLD = np.linspace(-2, 2, 10, dtype=np.float32).reshape(5, 2)


def parameters(seed):
    """Of a network that is not zero, as a new one is."""
    fresh = model.init(BLANK, jax.random.key(seed))
    return jax.tree.map(lambda leaf: leaf + 0.3 * np.random.default_rng(seed).standard_normal(leaf.shape, np.float32), fresh)


@pytest.fixture(scope='module')
def trained():
    return BLANK._replace(params=parameters(0))


@pytest.fixture(scope='module')
def folder(trained, tmp_path_factory):
    """A guided sampler that draws noise along the way."""
    folder = tmp_path_factory.mktemp('export') / 'artifact'
    export.save(folder, trained, solver=ddpm(PATH), times=TIMES, guided=True, about={'solver': 'ddpm'})
    return folder


@pytest.fixture(scope='module')
def sampler(folder):
    return export.load(folder, size=8)


@pytest.fixture(scope='module')
def alone(trained):
    """Every image by itself, from the network's code."""

    def one(number, vector, times, weight):
        start, walk = jax.random.split(jax.random.fold_in(KEY, number))
        x = PATH.sigma(times[0]) * jax.random.normal(start, (4, 4, 1))
        denoise = classifier_free(lambda each: model.denoiser(trained, vector=each), vector, jnp.full(2, jnp.nan), weight)
        return jnp.clip(sample(walk, x, denoise, ddpm(PATH), times).x, -1, 1)

    run = jax.jit(one)
    return lambda vectors, times=TIMES, weight=1.0: [run(i, vector, times, weight) for i, vector in enumerate(vectors)]


def test_draws_what_the_model_draws_for_the_same_key(sampler, trained, alone):
    drawn = sampler.draw(KEY, 5, vector=TOLD)
    np.testing.assert_allclose(drawn, alone(TOLD), rtol=0, atol=1e-5)
    expected = sampling.drawer(trained, solver=ddpm(PATH), times=TIMES, size=8)(trained.params, KEY, 5, vector=TOLD)
    np.testing.assert_allclose(drawn, expected, rtol=0, atol=1e-5)
    inside = np.abs(drawn) < 1
    assert inside.mean() > 0.2 and drawn[inside].std() > 0.1  # not all clipped


def test_takes_any_number_of_images_and_of_steps_and_any_weight(sampler, alone):
    np.testing.assert_allclose(sampler.draw(KEY, 2, vector=TOLD[:2]), alone(TOLD[:2]), rtol=0, atol=1e-5)
    more = grids.default(PATH, 5)
    np.testing.assert_allclose(sampler.draw(KEY, 2, times=more, vector=TOLD[:2]), alone(TOLD[:2], more), rtol=0, atol=1e-5)
    strong = sampler.draw(KEY, 2, weight=3.0, vector=TOLD[:2])
    np.testing.assert_allclose(strong, alone(TOLD[:2], weight=3.0), rtol=0, atol=1e-5)
    assert np.abs(strong - alone(TOLD[:2])).max() > 1e-3


def test_a_condition_that_is_not_given_is_missing(sampler, alone):
    np.testing.assert_allclose(sampler.draw(KEY, 2), alone(np.full((2, 2), np.nan, np.float32)), rtol=0, atol=1e-5)


@pytest.mark.parametrize('wrong', [dict(age=TOLD), dict(vector=TOLD[:3])])
def test_refuses_conditions_it_was_not_exported_with(sampler, wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        sampler.draw(KEY, 5, **wrong)


def test_loads_and_draws_without_the_code_of_the_network(folder, sampler, tmp_path):
    code = (
        'import sys, jax, numpy as np\n'
        'from jaxdiff import export\n'
        f'drawn = export.load({str(folder)!r}).draw(jax.random.key(1), 2)\n'
        f'np.save({str(tmp_path / "drawn.npy")!r}, drawn)\n'
        "print(sorted(name for name in sys.modules if name.startswith(('flax', 'jaxdiff.nets', 'jaxdiff.model', 'optax', 'orbax'))))\n"
    )
    seen = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True).stdout
    assert seen.strip() == '[]'
    np.testing.assert_allclose(np.load(tmp_path / 'drawn.npy'), sampler.draw(KEY, 2), rtol=0, atol=1e-5)


def test_the_manifest_says_what_it_is(sampler, trained, folder):
    manifest = sampler.manifest
    assert manifest['model']['card'] == trained.card and manifest['preprocess'] == trained.preprocess and manifest['solver'] == 'ddpm'
    assert manifest['platforms'] == ['cpu', 'cuda', 'tpu'] and manifest['versions']['jax'] == jax.__version__
    assert sorted(manifest['files']) == sorted(path.name for path in folder.iterdir() if path.name != 'manifest.json')
    assert np.array_equal(np.float32(manifest['times']), TIMES)


def test_every_platform_gets_its_own_convolutions(tmp_path):
    """On a CPU a volume is convolved slice by slice; elsewhere, though traced on a CPU, at once."""
    network = {**NETWORK, 'dims': 3, 'vector': 0}
    blank = BLANK._replace(network=network, card={'shape': [4, 4, 4, 1]})
    export.save(
        tmp_path / 'artifact', blank._replace(params=model.init(blank, KEY)), times=TIMES, solver=ddpm(PATH), platforms=('cpu', 'cuda')
    )
    ranks = {}
    for platform in ('cpu', 'cuda'):
        program = jax.export.deserialize(bytearray((tmp_path / 'artifact' / artifact.file_of(platform)).read_bytes())).mlir_module()
        calls = [line for line in program.splitlines() if 'stablehlo.convolution' in line]
        ranks[platform] = {line.count('x', line.rindex('tensor<')) for line in calls}
    assert ranks == {'cpu': {4}, 'cuda': {5}}


def edit(folder, **changes):
    file = folder / 'manifest.json'
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def digest_again(folder, name):
    files = json.loads((folder / 'manifest.json').read_text())['files']
    edit(folder, files={**files, name: artifact._digest((folder / name).read_bytes())})


def damage(folder, how):
    parameters, program = folder / 'parameters.npz', folder / 'sampler.cpu'
    if how == 'format':
        edit(folder, format=2)
    if how == 'platform':
        edit(folder, platforms=['cuda'])
    if how == 'version':
        edit(folder, calling_convention=999)
    if how == 'no manifest':
        (folder / 'manifest.json').unlink()
    if how == 'manifest':
        (folder / 'manifest.json').write_text('{')
    if how == 'bare manifest':
        (folder / 'manifest.json').write_text('{"format": 1}')
    if how == 'no program':
        program.unlink()
    if how == 'program':
        program.write_bytes(program.read_bytes()[:-100])
    if how == 'unreadable program':
        program.write_bytes(b'of another version')
        digest_again(folder, 'sampler.cpu')
    if how == 'parameters':
        np.savez(parameters, **{name: leaf + 1 for name, leaf in np.load(parameters).items()})
    if how == 'shapes':
        np.savez(parameters, **{name: leaf[..., None] for name, leaf in np.load(parameters).items()})
        digest_again(folder, 'parameters.npz')
    if how == 'names':
        np.savez(parameters, other=np.zeros(3))
        digest_again(folder, 'parameters.npz')
    if how == 'pickle':
        np.savez(parameters, evil=np.array([{}], dtype=object))
        digest_again(folder, 'parameters.npz')


REFUSED = {
    'format': 'written in format 2',
    'platform': 'written for cuda, not for cpu',
    'version': 'written in calling convention 999',
    'no manifest': 'no such file; name the folder',
    'manifest': 'not the manifest',
    'bare manifest': 'damaged, it says nothing of calling_convention',
    'no program': 'sampler.cpu: no such file',
    'program': 'sampler.cpu: damaged',
    'unreadable program': 'cannot be read by jax',
    'parameters': 'parameters.npz: damaged or of another artifact',
    'shapes': 'not the parameters of this program, the first that differs is params/',
    'names': 'not the parameters of this program, the first that differs is other',
    'pickle': 'parameters.npz: cannot be read',
}


@pytest.mark.parametrize('how', REFUSED)
def test_refusals(folder, tmp_path, how):
    copy = tmp_path / 'artifact'
    copy.mkdir()
    for file in folder.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    damage(copy, how)
    with pytest.raises(UserError) as caught:
        export.load(copy)
    assert REFUSED[how] in str(caught.value) and '\n' not in str(caught.value)


def test_a_folder_of_something_else_is_left_alone(trained, tmp_path):
    (tmp_path / 'mine.txt').write_text('mine')
    with pytest.raises(UserError, match='is not an artifact'):
        artifact.write(tmp_path, {}, {}, {})
    assert [path.name for path in tmp_path.iterdir()] == ['mine.txt']


def test_without_flatbuffers_says_what_to_install(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, 'flatbuffers', None)
    with pytest.raises(UserError, match=r'jaxdiff\[export\]'):
        export.load(folder)
