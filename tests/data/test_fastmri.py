"""Small files of the layout of fastMRI: what is read, what is cropped, what is refused."""

import numpy as np
import pytest
from fastmri_files import HEADER, written

from jaxdiff.data import coils, fastmri
from jaxdiff.types import UserError

h5py = pytest.importorskip('h5py')
XML = HEADER.format(recon=8, maximum=9, center=5)  # columns 1 to 10 of 12 are measured
RNG = np.random.default_rng(0)
KSPACE = (RNG.standard_normal((3, 16, 12)) + 1j * RNG.standard_normal((3, 16, 12))).astype(np.complex64)
KSPACE[..., [0, 11]] = 0


def save(path, kspace=KSPACE, xml=XML, **datasets):
    return written(path, kspace, xml, **datasets)


def test_a_single_coil_file(tmp_path):
    target = RNG.random((3, 8, 8)).astype(np.float32)
    header = fastmri.inspect(save(tmp_path / 'a.h5', reconstruction_esc=target))
    assert header[1:6] == (3, 1, (16, 12), (8, 8), (1, 11)) and header.mask is None
    assert (header.target, header.largest, header.acquisition) == ('reconstruction_esc', 2.5, 'CORPD_FBK')
    one = fastmri.read(header, 2)
    np.testing.assert_array_equal(one.kspace[..., 0], KSPACE[2])
    np.testing.assert_array_equal(one.target, target[2])
    np.testing.assert_array_equal(one.columns, [0] + [1] * 10 + [0])


def test_several_coils_come_last_and_a_mask_is_respected(tmp_path):
    several = np.stack([KSPACE, 2 * KSPACE], 1)
    mask = np.arange(12) % 2 == 0
    header = fastmri.inspect(save(tmp_path / 'a.h5', several, reconstruction_rss=np.ones((3, 8, 8), np.float32), mask=mask))
    one = fastmri.read(header, 0)
    assert header.coils == 2 and header.target == 'reconstruction_rss' and one.kspace.shape == (16, 12, 2)
    np.testing.assert_array_equal(one.kspace[..., 1], 2 * KSPACE[0])
    np.testing.assert_array_equal(np.flatnonzero(one.columns), [2, 4, 6, 8, 10])  # 0 is padding


def test_narrow_kspace_is_cropped_to_its_width(tmp_path):
    header = fastmri.inspect(save(tmp_path / 'a.h5', xml=HEADER.format(recon=14, maximum=9, center=5)))
    assert header.size == (12, 12)


def test_the_example_is_the_cropped_image(tmp_path):
    save(tmp_path / 'b.h5')
    save(tmp_path / 'a.h5', 3 * KSPACE[:1])
    data = fastmri.source(tmp_path)
    assert data.size == 4 and [file['name'] for file in data.manifest['files']] == ['a.h5', 'b.h5']
    found = data.example(1)
    image = coils.inverse_transform(KSPACE[0][..., None])[4:12, 2:10, 0]
    scale = np.abs(image).max()
    np.testing.assert_allclose(found['image'][..., 0] + 1j * found['image'][..., 1], image / scale, atol=1e-5)
    np.testing.assert_allclose(coils.inverse_transform(found['kspace'])[..., 0], image / scale, atol=1e-5)
    assert found['scale'] == pytest.approx(scale) and found['image'].dtype == np.float32
    assert found['columns'].shape == (8,) and not found['columns'][0] and found['columns'][1:].all()
    np.testing.assert_allclose(data.example(0)['image'], found['image'], atol=1e-5)  # the scale alone differs
    with pytest.raises(IndexError):
        data.example(4)


def test_coils_of_an_example_are_joined(tmp_path):
    x = np.zeros((16, 12), np.complex64)
    x[5:11, 3:9] = 1
    fields = coils.birdcage(x.shape, 4)
    kspace = np.moveaxis(coils.measured(None, x, sensitivities=fields), -1, 0)[None]
    save(tmp_path / 'a.h5', kspace, HEADER.format(recon=8, maximum=11, center=6))
    found = fastmri.source(tmp_path).example(0)
    assert found['kspace'].shape == (8, 8, 4) and found['image'].shape == (8, 8, 2)
    assert np.linalg.norm(found['image'], axis=-1).max() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(
    ('given', 'words'),
    [
        ({'kspace': None}, 'no dataset kspace'),
        ({'xml': None}, 'no dataset ismrmrd_header'),
        ({'kspace': KSPACE[0]}, 'shape'),
        ({'kspace': KSPACE.real}, 'complex numbers'),
        ({'mask': np.ones(11, bool)}, '12 columns'),
        ({'xml': 'no <xml'}, 'no XML'),
        ({'xml': '<!DOCTYPE a [<!ENTITY b "c">]>' + XML[21:]}, 'document type'),
        ({'xml': XML.replace('<center>5</center>', '')}, 'encoding_step_1/center'),
        ({'xml': HEADER.format(recon=8, maximum=30, center=5)}, 'do not fit'),
        ({'reconstruction_esc': np.ones((2, 8, 8), np.float32)}, 'reconstruction_esc'),
    ],
)
def test_what_does_not_fit_is_told_in_one_line(tmp_path, given, words):
    with pytest.raises(UserError, match=words) as told:
        fastmri.inspect(save(tmp_path / 'a.h5', **given))
    assert '\n' not in str(told.value) and 'a.h5' in str(told.value)


def test_links_are_not_followed(tmp_path):
    save(tmp_path / 'secret.h5')
    with h5py.File(tmp_path / 'a.h5', 'w') as file:
        file['kspace'] = h5py.ExternalLink('secret.h5', 'kspace')
        file['ismrmrd_header'] = XML
    with pytest.raises(UserError, match='links are not followed'):
        fastmri.inspect(tmp_path / 'a.h5')


def test_what_is_no_file_of_fastmri_is_told(tmp_path):
    (tmp_path / 'a.h5').write_bytes(b'not HDF5')
    with pytest.raises(UserError, match='no HDF5 file'):
        fastmri.inspect(tmp_path / 'a.h5')
    with pytest.raises(UserError, match='holds no file'):
        fastmri.source(tmp_path / 'empty')


def test_infinite_kspace_is_refused(tmp_path):
    bad = KSPACE.copy()
    bad[1, 0, 5] = np.inf
    header = fastmri.inspect(save(tmp_path / 'a.h5', bad))
    fastmri.read(header, 0)
    with pytest.raises(UserError, match='slice 1'):
        fastmri.read(header, 1)


def test_patients_stay_in_one_part_of_a_split(tmp_path):
    for number in range(8):
        save(tmp_path / f'{number}.h5', patient=f'p{number // 2}')
    parts = fastmri.sources(tmp_path, (0.5, 0.25, 0.25))
    people = [{int(each['name'][0]) // 2 for each in part.manifest['files']} for part in parts]
    assert (
        [part.size for part in parts] == [12, 6, 6]
        and not people[0] & people[1]
        and not people[0] & people[2]
        and not people[1] & people[2]
    )


def test_nothing_is_learnt_from_files_that_were_measured_in_part(tmp_path):
    for number in range(4):
        mask = {'mask': np.arange(12) % 2 == 0} if number == 3 else {'mask': np.ones(12, bool)} if number == 2 else {}
        save(tmp_path / f'{number}.h5', **mask)
    with pytest.raises(UserError, match=r'3\.h5: has a mask.*leave such files out'):
        fastmri.sources(tmp_path, (0.5, 0.25, 0.25))
    (tmp_path / '3.h5').unlink()
    assert sum(part.size for part in fastmri.sources(tmp_path, (0.4, 0.3, 0.3))) == 9
    assert fastmri.coils_of(tmp_path) == 1
