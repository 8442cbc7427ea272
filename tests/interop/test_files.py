"""Files of weights are read whole or refused in one line, and nothing in them is executed."""

import json
import pickle
import struct
import zipfile

import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff.interop import families, files, monai
from jaxdiff.types import UserError

WEIGHTS = {'a.weight': np.arange(6, dtype=np.float32).reshape(2, 3), 'a.bias': np.array([0.5, -2.0], np.float32)}
TRIPPED = []


def trip():
    TRIPPED.append(1)


class Bomb:
    """What runs code when it is unpickled."""

    def __reduce__(self):
        return trip, ()


def write(file, state):
    """A file of the kind that its name says."""
    if file.suffix == '.npz':
        np.savez(file, **state)
    elif file.suffix == '.safetensors':
        pytest.importorskip('safetensors.numpy').save_file(state, file)
    else:
        torch = pytest.importorskip('torch')
        torch.save({name: torch.from_numpy(value) for name, value in state.items()}, file)
    return file


@pytest.mark.parametrize('suffix', files.SUFFIXES)
@pytest.mark.parametrize('prefix', ['', 'module.'])
def test_arrays_come_back_by_name(tmp_path, suffix, prefix):
    file = write(tmp_path / f'weights{suffix}', {prefix + name: value for name, value in WEIGHTS.items()})
    for where in (file, tmp_path):
        found = files.read(where)
        assert found.keys() == WEIGHTS.keys()
        for name, value in found.items():
            assert value.dtype == np.float32
            np.testing.assert_array_equal(value, WEIGHTS[name])


def test_half_precision_is_widened(tmp_path):
    """A file of bfloat16 made by hand from the format's description: eight bytes of length, JSON, bytes."""
    pytest.importorskip('safetensors')
    values = np.array([1.5, -0.25, 3.0], jnp.bfloat16)
    header = json.dumps({'x': {'dtype': 'BF16', 'shape': [3], 'data_offsets': [0, 6]}}).encode()
    (tmp_path / 'x.safetensors').write_bytes(struct.pack('<Q', len(header)) + header + values.tobytes())
    np.testing.assert_array_equal(files.read(tmp_path)['x'], np.float32([1.5, -0.25, 3.0]))
    torch = pytest.importorskip('torch')
    torch.save({'x': torch.tensor([1.5, -0.25, 3.0], dtype=torch.bfloat16)}, tmp_path / 'x.pt')
    np.testing.assert_array_equal(files.read(tmp_path / 'x.pt')['x'], np.float32([1.5, -0.25, 3.0]))


@pytest.mark.parametrize('wrap', ['state_dict', 'model'])
def test_weights_are_taken_out_of_a_checkpoint(tmp_path, wrap):
    torch = pytest.importorskip('torch')
    state = {f'module.{name}': torch.from_numpy(value) for name, value in WEIGHTS.items()}
    torch.save({'epoch': 3, wrap: state}, tmp_path / 'x.ckpt')
    np.testing.assert_array_equal(files.read(tmp_path / 'x.ckpt')['a.weight'], WEIGHTS['a.weight'])


def cut(folder, suffix):
    file = write(folder / f'x{suffix}', WEIGHTS)
    file.write_bytes(file.read_bytes()[:-20])
    return file


def letter(folder, suffix):
    (folder / f'x{suffix}').write_text('this is a letter, and no weights')
    return folder / f'x{suffix}'


@pytest.mark.parametrize('suffix', ['.safetensors', '.npz', '.pt'])
@pytest.mark.parametrize('spoil', [cut, letter])
def test_what_is_no_file_of_weights_is_refused(tmp_path, suffix, spoil):
    pytest.importorskip({'.safetensors': 'safetensors', '.npz': 'numpy', '.pt': 'torch'}[suffix])
    with pytest.raises(UserError) as error:
        files.read(spoil(tmp_path, suffix))
    assert f'x{suffix}' in str(error.value) and '\n' not in str(error.value)


@pytest.mark.parametrize('name', ['plain.pt', 'zipped.pt', 'objects.npz'])
def test_nothing_is_executed(tmp_path, name):
    file = tmp_path / name
    if name == 'plain.pt':
        pytest.importorskip('torch')
        file.write_bytes(pickle.dumps({'x': Bomb()}, protocol=2))
    elif name == 'zipped.pt':
        torch = pytest.importorskip('torch')
        torch.save({'x': Bomb()}, file)
        assert 'data.pkl' in ' '.join(zipfile.ZipFile(file).namelist())
    else:
        np.savez(file, x=np.array([Bomb()], object))
    pickle.loads(pickle.dumps(Bomb()))
    assert TRIPPED.pop()
    with pytest.raises(UserError) as error:
        files.read(file)
    assert '\n' not in str(error.value) and not TRIPPED


def test_other_things_than_weights_are_refused(tmp_path):
    torch = pytest.importorskip('torch')
    torch.save({'x': torch.zeros(2), 'epoch': 3}, tmp_path / 'x.pt')
    with pytest.raises(UserError, match='other things than weights'):
        files.read(tmp_path / 'x.pt')


@pytest.mark.parametrize(
    ('names', 'asked', 'words'),
    [
        ((), 'absent.pt', 'no such file'),
        (('notes.txt',), 'notes.txt', 'not a file of weights by its name'),
        ((), '', 'holds 0 files of weights'),
        (('a.npz', 'b.npz'), '', 'holds 2 files of weights'),
    ],
)
def test_one_file_is_named(tmp_path, names, asked, words):
    for name in names:
        (tmp_path / name).touch()
    with pytest.raises(UserError, match=words):
        files.find(tmp_path / asked)


def test_empty_files_are_refused(tmp_path):
    np.savez(tmp_path / 'x.npz')
    with pytest.raises(UserError, match='holds no weights'):
        files.read(tmp_path)


def test_config_lies_in_the_folder(tmp_path):
    assert files.config(tmp_path) == {}
    (tmp_path / 'config.json').write_text('{"_class_name": "UNet2DModel", "sample_size": 8}')
    assert files.config(tmp_path)['sample_size'] == files.config(tmp_path / 'x.safetensors')['sample_size'] == 8
    assert files.class_of(files.config(tmp_path)) == 'UNet2DModel'


BUNDLE = {
    'dims': '@spatial',
    'spatial': 3,
    'network_def': {'_target_': 'monai.networks.nets.AutoencoderKL', 'spatial_dims': '@dims', 'channels': [8, '@spatial']},
    'loss_def': {'_target_': 'L1Loss'},
}


@pytest.mark.parametrize(
    ('bundle', 'expected'),
    [
        (BUNDLE, {'spatial_dims': 3, 'channels': [8, 3]}),
        ({'diffusion_def': {'_target_': 'DiffusionModelUNet', 'channels': 2}, 'other': {'_target_': 'X'}}, {'channels': 2}),
        ({'channels': 2}, {'channels': 2}),
        ({'_target_': 'VQVAE', 'channels': 2}, {'channels': 2}),
    ],
)
def test_arguments_of_a_bundle(tmp_path, bundle, expected):
    (tmp_path / 'x.json').write_text(json.dumps(bundle))
    found = files.arguments(tmp_path / 'x.json', families.classes('monai'))
    assert {name: value for name, value in found.items() if not name.startswith('_')} == expected


@pytest.mark.parametrize(
    ('text', 'words'),
    [
        ('[1, 2]', 'not JSON with names and values'),
        ('{', 'not JSON with names and values'),
        (json.dumps({'_target_': 'VQVAE', 'channels': '$[1, 2]'}), 'would have to be worked out'),
        (json.dumps({'_target_': 'VQVAE', 'channels': '@absent'}), 'would have to be worked out'),
        (json.dumps({'_target_': 'VQVAE', 'channels': '@channels'}), 'refers to itself'),
        (json.dumps({'a': {'_target_': 'VQVAE'}, 'b': {'_target_': 'ControlNet'}}), 'defines a, b'),
    ],
)
def test_arguments_that_are_none(tmp_path, text, words):
    (tmp_path / 'x.json').write_text(text)
    with pytest.raises(UserError, match=words):
        files.arguments(tmp_path / 'x.json', families.classes('monai'))


def test_the_class_is_told_by_name_or_by_its_weights():
    small = {'spatial_dims': 2, 'in_channels': 1, 'out_channels': 1}
    for name in families.classes('monai'):
        module = getattr(monai, families.FAMILIES['monai', name].module.partition('.')[2])
        given = {key: value for key, value in small.items() if name != 'ControlNet' or key != 'out_channels'}
        assert families.choose('monai', {'_target_': f'monai.networks.nets.{name}'}, ()) == name
        assert families.choose('monai', {}, module.shapes(**given)) == name
    with pytest.raises(UserError, match='UNETR: not a network of monai that can be read'):
        families.choose('monai', {'_target_': 'UNETR'}, ())
    with pytest.raises(UserError, match='these weights are of no network of monai'):
        families.choose('monai', {}, ('out.2.weight',))


def test_arguments_of_another_kind_are_refused_in_one_line():
    for arguments in ({'spatial_dims': 2, 'in_channels': 1, 'out_channels': 1, 'channels': 5}, {'spatial_dims': 2}, {'channels': [8]}):
        with pytest.raises(UserError) as error:
            families.read('monai', 'DiffusionModelUNet', {}, arguments)
        assert '\n' not in str(error.value)
