import sys

import numpy as np
import pytest

from jaxdiff.data import templates
from jaxdiff.types import UserError


def test_tissues_fill_the_head_and_volumes_survive_the_resolution():
    fine, coarse = templates.templates(2), templates.templates(4)
    for level in (fine, coarse):
        head = level.maps[:3].sum(0)
        assert level.maps[:4].min() >= 0 and head.max() < 1 + 1e-5
    volumes = [level.maps[:4].sum((1, 2, 3)) * level.step**3 / 1000 for level in (fine, coarse)]
    np.testing.assert_allclose(volumes[0], volumes[1], rtol=0.01)
    assert 900 < volumes[0][0] < 1100 and 600 < volumes[0][1] < 750  # ml of grey and white in the template
    assert 10 < volumes[0][3] < 30  # ventricles


def test_ventricles_lie_around_the_middle_and_residuals_are_small():
    level = templates.templates(2)
    weight = level.maps[3]
    centre = [np.average(np.arange(n), weights=weight.sum(tuple({0, 1, 2} - {k}))) for k, n in enumerate(weight.shape)]
    world = level.origin + level.step * np.array(centre)
    assert abs(world[0]) < 1 and -25 < world[1] < 5 and 5 < world[2] < 20
    assert abs(level.maps[4].mean()) < 0.01 and level.maps[4].std() < 0.05


def test_halving_keeps_straight_lines_on_the_even_voxels():
    ramp = np.indices((8, 9, 6), np.float32)
    inner = (slice(None), *[slice(1, -1)] * 3)
    np.testing.assert_allclose(templates._halve(ramp)[inner], ramp[:, ::2, ::2, ::2][inner], atol=1e-6)


def test_a_missing_nilearn_names_the_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, 'nilearn', None)
    with pytest.raises(UserError, match=r'pip install "jaxdiff\[brain\]"'):
        templates._original.__wrapped__()


def test_the_templates_are_those_the_generator_was_made_with():
    assert templates.fingerprint().startswith('765e602c9fe8d8df')
