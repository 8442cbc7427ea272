"""A file far from what a model was trained on is refused by name; one near it is not."""

import re

import numpy as np
import pytest

from jaxdiff.data import volumes
from jaxdiff.data.scope import Seen, check, slicing
from jaxdiff.data.volumes import Volume
from jaxdiff.types import UserError

SEEN = Seen(spacing=((1, 1, 2), (1.5, 1.5, 3)), extent=((150, 180, 120), (180, 220, 150)), intensity=((0, 1000),))


def volume(size=(160, 200, 60), spacing=(1, 1, 2.2), channels=1, low=0.0, high=900.0):
    frame = volumes.frame((*size, channels) if channels > 1 else size, np.diag([*spacing, 1.0]), name='data/subject_7.nii.gz')
    return Volume(np.random.default_rng(0).uniform(low, high, (*np.minimum(size, 8), channels)), frame.canonical_affine, frame)


def verdict(given, *, dims=3, axis=2, channels=1, units=True):
    check(SEEN, given, dims=dims, axis=axis, channels=channels, units=units)


NEAR = {
    'like': {},
    'coarser': {'size': (80, 100, 40), 'spacing': (2, 2, 4)},
    'brighter': {'high': 1900},
    'darker': {'high': 100},
    'smaller': {'size': (80, 100, 40)},
}


@pytest.mark.parametrize('case', NEAR)
def test_what_is_near_is_taken(case):
    verdict(volume(**NEAR[case]))


FAR = {
    'channels': ({'channels': 4}, {}, '4 channel', '1', 'channels in the same order'),
    'finer': ({'size': (400, 500, 60), 'spacing': (0.4, 0.4, 2.2)}, {}, 'voxels of 0.4 mm left-right', '1 to 1.5 mm', 'resample'),
    'coarser': ({'size': (160, 200, 20), 'spacing': (1, 1, 7)}, {}, 'voxels of 7 mm inferior-superior', '2 to 3 mm', 'resample'),
    'a part': ({'size': (60, 200, 60)}, {}, 'field of view of 60 mm left-right', '150 to 180 mm', 'crop or pad'),
    'the whole body': ({'size': (160, 200, 300), 'spacing': (1, 1, 3)}, {}, 'field of view of 900 mm', '120 to 150 mm', 'crop or pad'),
    'other units': ({'high': 4000}, {}, 'values from', '0 to 1000', 'rescale'),
    'offset units': ({'low': -3000, 'high': 0}, {}, 'values from', '0 to 1000', 'rescale'),
    'normalised': ({'high': 1}, {}, 'values from', '0 to 1000', 'rescale'),
    'slice for volumes': ({'size': (160, 200, 1)}, {}, 'one slice', 'volumes', 'whole volume'),
    'another plane': ({'size': (1, 200, 60)}, {'dims': 2}, 'sagittal slice', 'axial slices', 'that plane'),
}


@pytest.mark.parametrize('case', FAR)
def test_what_is_far_is_refused_with_what_was_seen_and_the_remedy(case):
    given, model, *words = FAR[case]
    with pytest.raises(UserError) as caught:
        verdict(volume(**given), **model)
    message = str(caught.value)
    assert re.fullmatch(rf'data/subject_7\.nii\.gz: .*{words[0]}.*, the model was trained on .*{words[1]}.*: .*{words[2]}.*', message)


def test_values_without_units_may_lie_anywhere():
    verdict(volume(high=4e5), units=False)


def test_a_model_of_slices_does_not_mind_their_distance_or_number():
    verdict(volume((160, 200, 5), (1, 1, 9)), dims=2)
    verdict(volume((160, 200, 1), (1, 1, 9)), dims=2)


def test_the_plane_of_an_index():
    whole, axial, sagittal = (volume(size).frame for size in ((160, 200, 60), (160, 200, 1), (1, 200, 60)))
    assert slicing([whole, axial], 2) == 2 and slicing([sagittal, sagittal], 2) == 0 and slicing([whole], 3) == 2
    for mixture, dims in (([whole, sagittal], 2), ([axial, sagittal], 2), ([whole, axial], 3)):
        with pytest.raises(UserError, match='subject_7'):
            slicing(mixture, dims)
