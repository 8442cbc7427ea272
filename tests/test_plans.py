"""Plans are trained once: what the same recipe has made is taken, not made again."""

import jax
import numpy as np
import pytest

from jaxdiff import plans
from jaxdiff.data.source import Source
from jaxdiff.model import Model
from jaxdiff.workdir import Workdir

SHAPE = (8, 8, 1)
SOURCE = Source(8, lambda n: {'image': np.full(SHAPE, 0.1 * n - 0.4, np.float32)}, {'kind': 'grey'})
BLANK = Model({'name': 'unet', 'channels': 1, 'widths': [8], 'attention': [False]}, {'name': 'cosine'}, 'v', None, {}, {'shape': SHAPE})


def todo(name, rate=1e-3):
    return plans.denoiser(name, BLANK, SOURCE, batch=8, steps=1, rate=rate)


@pytest.mark.parametrize('cached', [False, True])
def test_a_recipe_is_trained_once(cached, tmp_path, capsys):
    folder = Workdir(tmp_path / 'run', None)
    folder.root.mkdir()
    found = plans.train([todo('one'), todo('two'), todo('other', 2e-3)], folder, seed=0, cache=tmp_path / 'models' if cached else None)
    told = capsys.readouterr().out
    assert 'two: trained before' in told and 'one: trained before' not in told and 'other: trained before' not in told
    assert found['one'].state_digest == found['two'].state_digest != found['other'].state_digest
    jax.tree.map(np.testing.assert_array_equal, found['one'].model.params, found['two'].model.params)
    assert all((folder.root / f'{name}.npz').exists() for name in found)
    assert cached == (tmp_path / 'models').exists()
