"""distil.py end to end at toy size: everyone is trained, judged and shown."""

import json

import distil
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff import paths
from jaxdiff.experiment import configure
from jaxdiff.types import UserError


def test_everyone_is_trained_and_judged(tmp_path):
    config = configure(distil.Config, distil.PRESETS, preset='smoke', workdir=str(tmp_path / 'run'), receipts=str(tmp_path / 'results'))
    result = distil.run(config)
    folder = tmp_path / 'run'
    assert {path.name for path in (folder / 'checkpoints' / '0').iterdir()} == {
        'teacher', 'student-2', 'student-1', 'knowledge', 'shuffled', 'distilled', 'alone', 'misled'
    }  # fmt: skip
    assert {path.name for path in (folder / 'figures').iterdir()} == {'distance.png', 'points-0.png', 'points-1.png'}
    assert json.loads((tmp_path / 'results/foundations/distillation.json').read_text())['metrics'] == result['metrics']
    assert set(result['controls']) == set(distil.CONTROLS) and 'DDIM of the teacher' in result['baselines']
    assert result['baselines']['DDIM of the teacher']['least_gain_over_ddim'] == 1
    assert np.isfinite(result['metrics']['distance_ratio_1']) and result['seeds'] == [0]


def test_a_grid_that_cannot_be_halved_is_refused(tmp_path):
    with pytest.raises(UserError, match='--grid=12'):
        distil.run(configure(distil.Config, distil.PRESETS, preset='smoke', grid=12, workdir=str(tmp_path / 'run')))
    assert not (tmp_path / 'run').exists()


def test_the_mixture_knows_itself():
    """Its denoiser is that of its density (Tweedie), and its draws have its moments."""
    path, (shares, means, stds) = distil.PATH, distil.MIXTURE

    def log_density(x, t):
        variances = (path.alpha(t) * jnp.array(stds)) ** 2 + path.sigma(t) ** 2
        away = jnp.square(x[None] - path.alpha(t) * jnp.array(means)).sum(1)
        return jax.nn.logsumexp(-away / (2 * variances) - jnp.log(variances), b=jnp.array(shares))

    def tweedie(x, t):
        return (x + path.sigma(t) ** 2 * jax.grad(log_density)(x, t)) / path.alpha(t)

    x0 = distil.MIXTURE.draw(np.random.default_rng(0), 4000)
    x = paths.perturb(path, x0[:6], np.random.default_rng(1).standard_normal((6, 2)), 0.4)
    ours, theirs = jax.jit(lambda x: [jax.vmap(f, (0, None))(x, 0.4) for f in (distil.MIXTURE.denoise, tweedie)])(jnp.float32(x))
    np.testing.assert_allclose(ours, theirs, atol=1e-4)
    assert np.abs(x0.mean(0) - np.dot(shares, means)).max() < 4 * x0.std() / np.sqrt(4000)
