"""sample.py draws from whatever scripts leave: what is told reaches the network, and lies where it came from."""

import jax
import nibabel as nib
import numpy as np
import pytest
import sample

from jaxdiff import grids, latent, model
from jaxdiff.data import datasets, preprocess
from jaxdiff.experiment import configure
from jaxdiff.model import Model
from jaxdiff.nets import text
from jaxdiff.types import UserError

INNER = {'channels': 1, 'widths': [4, 8], 'blocks': 1, 'attention': [False, True], 'groups': 2, 'heads': 1}
UNET = {'name': 'unet', **INNER}
READ = text.tokenizer(['a lesion'], length=5)
KINDS = {
    'classes': ({**UNET, 'labels': 2, 'norm': 'adaptive'}, {'conditioning': {'label': []}, 'classes': ['T1', 'T2, lesion']}),
    'reader': (
        {'name': 'captioned', 'unet': INNER, 'text': {'words': len(READ.words), 'length': 5, 'width': 4, 'depth': 1, 'heads': 1}},
        {'conditioning': {'words': [5]}, 'tokenizer': text.to_json(READ)},
    ),
    'image': ({**UNET, 'image': 3}, {'conditioning': {'image': [8, 8, 3]}}),
    'hint': ({'name': 'controlled', 'trunk': INNER, 'hint': 1, 'hint_widths': [4]}, {'conditioning': {'hint': [8, 8, 1]}}),
}
SAID = {'classes': dict(label='T2, lesion'), 'reader': dict(say='a lesion')}
SHAPE = (8, 8, 1)


def fresh(network, card, shape=SHAPE, pre=None, kind='v'):
    """A model with every parameter drawn at random: at first, outputs and zero convolutions would say nothing."""
    made = pre or preprocess.to_json(datasets.made(2, (8, 8, 1), (1.0, 1.0, 1.0)))
    blank = Model(network, {'name': 'cosine'}, kind, None, made, {'shape': list(shape), **card})
    leaves, tree = jax.tree.flatten(model.shapes(blank))
    rng = np.random.default_rng(0)
    return blank._replace(params=tree.unflatten([0.3 * rng.standard_normal(leaf.shape).astype(np.float32) for leaf in leaves]))


@pytest.fixture(scope='module')
def workdirs(tmp_path_factory):
    root = tmp_path_factory.mktemp('models')
    for name, (network, card) in KINDS.items():
        (root / name).mkdir()
        model.save(fresh(network, card), root / name / 'model')
    first = {'name': 'autoencoder', 'channels': 1, 'latent': 2, 'widths': [4, 4], 'blocks': 1, 'groups': 2, 'kind': 'kl', 'middle': False}
    second = fresh({**UNET, 'channels': 2}, {'latent': {'scale': 0.7, 'shape': list(SHAPE)}}, (4, 4, 2))
    (root / 'latents').mkdir()
    model.save(fresh(first, {}, kind='kl'), root / 'latents' / 'autoencoder')
    model.save(second, root / 'latents' / 'latent')
    rng = np.random.default_rng(0)
    affine = np.diag([-1.0, 1.0, 1.0, 1.0])
    for name, shape in {'rgb': (8, 8, 1, 3), 'other': (8, 8, 1, 3), 'grey': (8, 8, 1)}.items():
        nib.Nifti1Image(rng.random(shape).astype(np.float32), affine).to_filename(root / f'{name}.nii.gz')
    mask = np.zeros((8, 8, 1), np.float32)
    mask[2:4, 3:6] = 1
    nib.Nifti1Image(mask, affine).to_filename(root / 'mask.nii.gz')
    return root


def configured(workdirs, name, out, **given):
    return configure(sample.Config, sample.PRESETS, preset='smoke', **{'model': str(workdirs / name), 'workdir': str(out), **given})


def drawn(folder):
    return [nib.load(file) for file in sorted((folder / 'outputs').iterdir())]


@pytest.mark.parametrize('name', ['classes', 'reader', 'hint'])
def test_what_is_told_changes_what_is_drawn_and_guidance_goes_on(workdirs, tmp_path, name):
    given = SAID.get(name) or {'given': str(workdirs / 'mask.nii.gz')}
    images = {}
    for weight in (0.0, 1.0, 2.0):
        sample.run(configured(workdirs, name, tmp_path / str(weight), weight=weight, steps=1, **given))
        images[weight] = drawn(tmp_path / str(weight))
    values = {weight: np.stack([image.get_fdata() for image in files]) for weight, files in images.items()}
    assert values[1.0].shape == (2, 8, 8, 1) and not np.allclose(values[0.0], values[1.0], atol=1e-4)
    guided = np.clip(2 * values[1.0] - values[0.0], 0, 1)  # one step is linear in the weight, but for what was clipped
    inside = (values[0.0] > 0) & (values[0.0] < 1) & (values[1.0] > 0) & (values[1.0] < 1)
    np.testing.assert_allclose(values[2.0][inside], guided[inside], atol=1e-4)
    assert inside.any()


def test_an_image_is_told_and_what_is_drawn_has_its_frame(workdirs, tmp_path):
    for file in ('rgb', 'other'):
        sample.run(configured(workdirs, 'image', tmp_path / file, given=str(workdirs / f'{file}.nii.gz')))
    one, two = (drawn(tmp_path / file)[0] for file in ('rgb', 'other'))
    assert not np.allclose(one.get_fdata(), two.get_fdata(), atol=1e-3)
    np.testing.assert_array_equal(one.affine, nib.load(workdirs / 'rgb.nii.gz').affine)


def test_a_hint_is_told_as_it_is(workdirs):
    opened = sample.opened(configured(workdirs, 'hint', 'out', given=str(workdirs / 'mask.nii.gz')))
    seen = sample.drawing.read(opened, str(workdirs / 'mask.nii.gz')).pictures
    np.testing.assert_array_equal(seen[0, ..., 0], nib.load(workdirs / 'mask.nii.gz').get_fdata()[::-1, :, 0])


def test_latents_are_drawn_as_the_drawer_of_latents_draws_them(workdirs, tmp_path):
    sample.run(configured(workdirs, 'latents', tmp_path / 'out'))
    second, first = (model.load(workdirs / 'latents' / part) for part in ('latent', 'autoencoder'))
    draw = latent.drawer(second, first, times=grids.default(model.make_path(second.path), 2))
    images = draw((second.params, first.params), jax.random.key(0), 2)
    found = np.stack([image.get_fdata() for image in drawn(tmp_path / 'out')])
    np.testing.assert_allclose(2 * found - 1, images, atol=1e-4)


def test_latents_decode_in_tiles_and_need_their_autoencoder(workdirs, tmp_path):
    sample.run(configured(workdirs, 'latents', tmp_path / 'out', shape=('16', '16'), tile=4, overlap=2, count=1))
    assert drawn(tmp_path / 'out')[0].shape == (16, 16, 1)


@pytest.mark.parametrize(
    ('name', 'given', 'words'),
    [
        ('classes', dict(say='a'), '--say: the model'),
        ('reader', dict(label='1'), '--label: the model'),
        ('image', {}, '--given: the model'),
        ('image', dict(given='grey'), 'has 1 channel(s), the model was trained on 3'),
        ('hint', dict(given='rgb'), 'has 3 channel(s), the model was trained on 1'),
        ('image', dict(given='rgb', tile=4, overlap=2), '--tile: an image that is given'),
        ('classes', dict(given='grey'), '--given: the model'),
        ('latents', dict(part='trunk'), 'holds no trunk, but autoencoder, latent'),
        ('latents', dict(part='autoencoder'), 'is no denoiser'),
        ('latents', dict(tile=4, overlap=4), '--overlap=4'),
        ('classes', dict(autoencoder='classes'), 'holds no autoencoder, but model'),
    ],
)
def test_refusals_leave_nothing(workdirs, tmp_path, name, given, words):
    given = {flag: value for flag, value in given.items()}
    given |= {'given': str(workdirs / f'{given["given"]}.nii.gz')} if 'given' in given else {}
    given |= {'autoencoder': str(workdirs / given['autoencoder'])} if 'autoencoder' in given else {}
    with pytest.raises(UserError) as caught:
        sample.run(configured(workdirs, name, tmp_path / 'out', **given))
    assert words in str(caught.value) and '\n' not in str(caught.value) and not (tmp_path / 'out').exists()
