"""What import_weights.py saves, the other scripts can use; what it cannot read leaves nothing."""

import json

import import_weights
import jax
import nibabel as nib
import numpy as np
import pytest
import sample

from jaxdiff import experiment, model
from jaxdiff.data import preprocess, volumes
from jaxdiff.experiment import configure
from jaxdiff.interop import families, monai
from jaxdiff.types import UserError

SMALL = {'spatial_dims': 2, 'in_channels': 1, 'out_channels': 1, 'channels': [4, 4], 'num_res_blocks': 1, 'norm_num_groups': 2}
UNET = {**SMALL, 'attention_levels': [False, False], 'num_head_channels': 4, 'num_class_embeds': 3}
FIRST = {**SMALL, 'attention_levels': [False, False], 'latent_channels': 2}
CONTROL = {name: value for name, value in UNET.items() if name != 'out_channels'} | {'conditioning_embedding_num_channels': [4, 4]}


def run(**given):
    return import_weights.run(configure(import_weights.Config, import_weights.PRESETS, preset='smoke', **given))


def write(folder, family, arguments, name='weights.npz', **more):
    """A folder with weights and the arguments they were made with."""
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    np.savez(folder / name, **{each: rng.standard_normal(shape) / 10 for each, shape in family.shapes(**arguments).items()})
    (folder / 'config.json').write_text(json.dumps({**arguments, **more}))
    return str(folder)


@pytest.fixture(scope='module')
def imported(tmp_path_factory):
    """(folder of the weights, workdir)."""
    root = tmp_path_factory.mktemp('imported')
    folder = write(root / 'theirs', monai.unet, UNET)
    flags = dict(shape=('4', '4'), path='scaled_linear', betas=('0.0015', '0.0195'), kind='v')
    result = run(file=folder, out=str(root / 'out'), **flags)
    assert result['parameters']['model'] > 1000 and json.loads((root / 'out' / 'result.json').read_text())['passed']
    return folder, root / 'out'


def test_sample_draws_from_it(imported, tmp_path):
    sample.run(configure(sample.Config, sample.PRESETS, preset='smoke', model=str(imported[1]), workdir=str(tmp_path / 'out')))
    drawn = nib.load(tmp_path / 'out' / 'outputs' / 'sample-0000.nii.gz')
    assert drawn.shape[:2] == (4, 4) and np.all(np.isfinite(drawn.get_fdata())) and np.ptp(drawn.get_fdata()) > 0


def test_sample_takes_files_of_any_spacing(imported, tmp_path):
    scan = np.random.default_rng(0).random((6, 5, 2)).astype(np.float32)
    nib.Nifti1Image(scan, np.diag([3.0, 0.5, 2.0, 1.0])).to_filename(tmp_path / 'scan.nii.gz')
    prepare = preprocess.from_json(model.load_card(imported[1] / 'model').preprocess)
    examples, _ = preprocess.apply(prepare, volumes.read(str(tmp_path / 'scan.nii.gz')))
    assert examples.shape == (2, 4, 4, 1)


def test_the_card_says_how_it_was_trained(imported):
    found = model.load(imported[1] / 'model')
    assert found.path == {'name': 'scaled_linear', 'steps': 1000, 'start': 0.0015, 'end': 0.0195} and found.kind == 'v'
    assert found.card['shape'] == [4, 4, 1] and found.card['conditioning'] == {'label': []}
    params = monai.unet.read(dict(np.load(f'{imported[0]}/weights.npz')), **UNET)[1]
    jax.tree.map(np.testing.assert_array_equal, found.params, params)
    assert jax.tree.map(np.shape, params) == jax.tree.map(lambda leaf: leaf.shape, model.shapes(found))


def test_autoencoders_are_saved_under_their_name(tmp_path):
    file = write(tmp_path / 'theirs', monai.autoencoder, FIRST)
    run(file=file, out=str(tmp_path / 'out'), arguments=f'{file}/config.json')
    found = model.load(tmp_path / 'out' / 'autoencoder')
    image = np.zeros((1, *found.card['shape']), np.float32)
    answer = jax.eval_shape(lambda: model.make_network(found.network).apply(found.params, image, method='encode'))
    assert answer.mean.shape == (1, 32, 32, 2)


def test_a_control_joins_the_trunk_imported_before(imported, tmp_path):
    file = write(tmp_path / 'theirs', monai.control, CONTROL)
    run(file=file, trunk=str(imported[1]), out=str(tmp_path / 'out'))
    found = model.load(tmp_path / 'out' / 'model')
    assert found.network['name'] == 'controlled' and found.kind == 'v' and found.card['conditioning']['hint'] == [8, 8, 1]
    with pytest.raises(UserError, match='--trunk=: no U-Net there'):
        run(file=file, out=str(tmp_path / 'other'))


def test_smoke_needs_no_file(tmp_path):
    run(out=str(tmp_path / 'out'))
    assert sample.find(str(tmp_path / 'out')).card['shape'] == [64, 64, 1]


def test_the_flag_is_called_from():
    names = [experiment._flag(field) for field in import_weights.Config.__dataclass_fields__.values()]
    assert 'from' in names and 'source' not in names
    with pytest.raises(UserError, match='--from=keras: choose one of monai'):
        configure(import_weights.Config, import_weights.PRESETS, source='keras')


def wrong(folder):
    return dict(file=write(folder, monai.unet, UNET, num_res_blocks=2))


def bare(folder):
    write(folder, monai.unet, UNET)
    (folder / 'config.json').unlink()
    return dict(file=str(folder))


def unequal(folder):
    return dict(file=write(folder, monai.unet, {**UNET, 'out_channels': 2}))


def other(folder):
    return dict(file=write(folder, monai.unet, UNET, _target_='monai.networks.nets.UNETR'))


@pytest.mark.parametrize(
    ('spoil', 'flags', 'words'),
    [
        (wrong, {}, 'these weights are not those of a DiffusionModelUNet of MONAI with these arguments'),
        (bare, {}, '--arguments: '),
        (unequal, {}, 'takes 1 channels and gives 2'),
        (other, {}, 'UNETR: not a network of monai'),
        (None, dict(file='nowhere.pt'), 'nowhere.pt: no such file'),
        (None, dict(preset='cpu'), '--file: name the file'),
        (None, dict(shape=('5', '4')), '--shape=5,4: the network needs multiples of (2, 2)'),
        (None, dict(shape=('4',)), '--shape=4: give 2 sizes'),
        (None, dict(betas=('0.1',)), '--betas=0.1: give the first and the last'),
        (None, dict(path='cosine', betas=('0.1', '0.2')), '--betas: cosine has none'),
        (None, dict(trunk='runs'), '--trunk: a DiffusionModelUNet has none'),
    ],
)
def test_refusals_leave_nothing(tmp_path, monkeypatch, spoil, flags, words):
    monkeypatch.chdir(tmp_path)
    given = {**(spoil(tmp_path / 'theirs') if spoil else {}), **flags}
    with pytest.raises(UserError) as caught:
        import_weights.run(configure(import_weights.Config, import_weights.PRESETS, **{'preset': 'smoke', 'out': 'out', **given}))
    assert words in str(caught.value) and '\n' not in str(caught.value) and not (tmp_path / 'out').exists()


@pytest.mark.parametrize(
    ('arguments', 'scale'),
    [
        ({}, 0.18215),
        ({'scaling_factor': 0.13025}, 0.13025),
        ({'scaling_factor': 1.5, 'shift_factor': 0.1}, None),
        ({'shift_factor': None}, 0.18215),
    ],
)
def test_the_scale_of_latents_is_that_of_the_pipeline(arguments, scale):
    assert families.scale('diffusers', 'AutoencoderKL', arguments) == scale


def test_a_library_whose_arguments_say_no_scale_has_none():
    assert families.scale('monai', 'AutoencoderKL', {'latent_channels': 3}) is None


@pytest.mark.parametrize('factor', [0, -1.0, 'large', None, True])
def test_a_scale_that_is_no_number_above_0_is_refused(factor):
    with pytest.raises(UserError, match='scaling_factor'):
        families.scale('diffusers', 'AutoencoderKL', {'scaling_factor': factor})


def test_an_autoencoder_keeps_the_scale_and_a_denoiser_has_none(tmp_path):
    file = write(tmp_path / 'theirs', monai.autoencoder, FIRST)
    run(file=file, out=str(tmp_path / 'out'), scale=0.5)
    found = model.load(tmp_path / 'out' / 'autoencoder')
    assert found.card['latent'] == {'scale': 0.5} and found.preprocess['shape'] == [64, 64]
    with pytest.raises(UserError, match='--scale: a DiffusionModelUNet'):
        run(out=str(tmp_path / 'other'), scale=0.5)
    assert not (tmp_path / 'other').exists()
