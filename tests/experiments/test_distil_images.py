"""Distillation of images, end to end at toy size."""

import distil_images
import numpy as np
import pytest

from jaxdiff.experiment import configure
from jaxdiff.types import UserError

TINY = dict(preset='smoke')


def configured(tmp_path, **flags):
    return configure(distil_images.Config, distil_images.PRESETS, **TINY, **flags, workdir=str(tmp_path / 'run'))


def test_a_run_leaves_every_student_beside_its_teacher(tmp_path):
    result = distil_images.run(configured(tmp_path))
    assert set(result['parameters']) == {'teacher', 'student-2', 'consistency'}
    assert np.isfinite(result['metrics']['distance_to_teacher'])
    beside = {'teacher, 4', 'teacher, 2', 'teacher, 2 of the default solver', 'consistency, 1', 'consistency, 2', 'pca_gaussian', 'real'}
    assert set(result['baselines']) == beside
    for name in ('result.json', 'report.html', 'student-2.npz', 'figures/samples.png'):
        assert (tmp_path / 'run' / name).exists()


def test_a_dry_run_costs_every_student(tmp_path, capsys):
    told = distil_images.run(configured(tmp_path, grid=8, dry_run=True))
    assert list(told['parameters']) == ['teacher', 'student-4', 'student-2', 'consistency']
    assert not (tmp_path / 'run').exists()


@pytest.mark.parametrize('flags, said', [(dict(grid=6), '--grid=6'), (dict(last=3), '--last=3'), (dict(last=4), '--last=4: must be less')])
def test_steps_halve(flags, said, tmp_path):
    with pytest.raises(UserError, match=said):
        distil_images.run(configured(tmp_path, **flags))
    assert not (tmp_path / 'run').exists()
