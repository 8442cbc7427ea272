"""The closed forms, the measure and the exact methods of the proof of posteriors; the receipt of a run."""

import jax
import jax.numpy as jnp
import numpy as np
import prove_posteriors as proof
import pytest

from jaxdiff import exact
from jaxdiff.experiment import configure
from jaxdiff.workdir import read_json

PRIOR = proof.field_prior(1.0)


def test_the_prior_is_the_field_described_and_its_denoiser_exact():
    covariance, place = proof.covariance_of(PRIOR), np.stack(np.indices((16, 16)), -1).reshape(-1, 2)
    distance = np.square(place[:, None] - place[None]).sum(-1)
    np.testing.assert_allclose(covariance, (1 - proof.WHITE) * np.exp(-distance / 2) + proof.WHITE * np.eye(256), atol=1e-5)
    x, t = jax.random.normal(jax.random.key(0), (16, 16, 1)), jnp.float32(0.3)
    law = exact.mixture([1.0], np.zeros((1, 256)), covariance[None])
    np.testing.assert_allclose(proof.unconditional(PRIOR)(x, t), exact.denoiser(proof.PATH, law)(x, t), atol=1e-4)


def test_all_fields_together_have_the_covariance_of_the_prior():
    fields = np.asarray(proof.draw_fields(PRIOR, jax.random.key(0), 256), np.float64).reshape(256, 256)
    np.testing.assert_allclose(fields.T @ fields / 256, proof.covariance_of(PRIOR), atol=1e-4)
    assert abs(fields.std() - 1) < 0.01 and abs(np.mean(fields**4) / 3 - 1) < 0.1  # each as if Gaussian


@pytest.mark.parametrize('mask', range(3), ids=proof.MASKS)
def test_the_closed_form_is_that_of_a_measurement_without_noise(mask):
    covariance, shown = proof.covariance_of(PRIOR), proof.masks()[mask]
    law, known = jax.tree.map(np.asarray, proof.conditional(covariance, shown)), shown.ravel() > 0
    field = np.linalg.cholesky(covariance) @ np.random.default_rng(0).normal(size=256)
    prior = exact.mixture([1.0], np.zeros((1, 256)), covariance[None])
    mean, spread = exact.moments(exact.measured(prior, np.eye(256)[known], field[known], 1e-3))
    np.testing.assert_allclose(law.gain @ field, mean, atol=5e-3)
    np.testing.assert_allclose((law.axes * law.variances) @ law.axes.T, spread, atol=5e-3)
    np.testing.assert_allclose((law.gain @ field)[known], field[known], rtol=1e-12)


def test_the_measure_finds_a_bias_and_a_spread_and_nothing_else():
    """Draws of the closed form itself, of it moved by a tenth, and of it spread by a tenth more."""
    laws, rng = proof.laws_of(1.0)[1], np.random.default_rng(0)
    fields = rng.normal(size=(16, 16, 16, 1))
    truth = np.einsum('mde,fe->fmd', laws.gain, fields.reshape(16, -1)).reshape(16, 1, 3, 1, 16, 16)
    roots = np.asarray(laws.axes) * np.sqrt(np.asarray(laws.variances))[:, None]

    def noise_of(signs):
        white = rng.normal(size=(16, 60, 3, signs, 256))
        return np.stack([white[:, :, m] @ roots[m].T for m in range(3)], 2).reshape(16, 60, 3, signs, 16, 16)

    noise = noise_of(1)  # the same towards y and -y, as in methods that are linear
    signs = np.array([1.0, -1.0]).reshape(2, 1, 1)
    of = lambda shift, spread: proof.compare(laws, fields, (truth + shift) * signs + spread * noise)
    plain, moved, wide = of(0.0, 1.0), of(0.1, 1.0), of(0.0, np.sqrt(1.1))
    assert np.all(plain.error < 1e-5) and np.all(plain.border < 1e-5)
    np.testing.assert_allclose(moved.error, 0.1, rtol=1e-4)
    np.testing.assert_allclose(plain.ratio, 1, atol=0.04)
    np.testing.assert_allclose(wide.ratio / plain.ratio, 1.1, rtol=1e-5)
    others = proof.compare(laws, fields, (truth + 0.1) * signs + noise_of(2))  # apart: the variance of their mean is subtracted
    np.testing.assert_allclose(others.error, 0.1, atol=0.015)
    np.testing.assert_allclose(others.ratio, 1, atol=0.06)


def test_exact_scores_and_resamplings_find_the_posterior_and_replacement_does_not():
    config = configure(proof.Config, {}, fields=32, draws=2, steps=150, jump=10, resamplings=10)
    ways = proof.methods(config)
    found = {name: proof.measure(config, proof.drawer(ways[name]), 0, 1.0) for name in ('exact score', 'RePaint', 'one resampling')}
    assert found['exact score'].error.max() < 0.02 and np.abs(found['exact score'].ratio - 1).max() < 0.1
    assert found['RePaint'].error.max() < 0.105 and np.abs(found['RePaint'].ratio - 1).max() < 0.1  # 150 steps in place of 250
    assert found['one resampling'].error.max() > 0.25 and np.abs(found['one resampling'].ratio - 1).max() > 0.2
    assert np.all(found['one resampling'].border > 2.8 * found['RePaint'].border)


def test_a_run_leaves_its_receipt(tmp_path, monkeypatch):
    noise = np.random.default_rng(0).normal
    monkeypatch.setattr(proof, 'drawer', lambda way: lambda prior, laws, keys, fields, weight: noise(size=(*keys.shape, 3, 2, 16, 16)))
    config = configure(proof.Config, proof.PRESETS, preset='smoke', workdir=str(tmp_path / 'run'), receipts=str(tmp_path / 'results'))
    result = proof.run(config)
    receipt = read_json(tmp_path / 'results' / 'foundations' / 'posteriors.json')
    assert receipt['metrics'] == result['metrics']
    assert {row[0] for row in receipt['tables'][0]['rows']} == set(receipt['nfe'])
    assert all(np.isfinite(value) for value in receipt['metrics'].values())
    names = {'means.png', 'deviations.png', 'weights_error.png', 'weights_ratio.png', 'resamplings.png'}
    assert {file.name for file in (tmp_path / 'run' / 'figures').iterdir()} == names
