"""Reconstructions judged at toy size: what is measured, what is scored, and who stands beside whom."""

import jax
import numpy as np
import pytest

from jaxdiff.data.datasets import Dataset
from jaxdiff.data.source import Source
from jaxdiff.experiment import configure
from jaxdiff.studies import judging, kspace, solving
from jaxdiff.studies.judging import OWN, Parts, Rows
from jaxdiff.studies.solving import Bench
from jaxdiff.types import UserError

FLAGS = dict(preset='smoke', size=32, subjects=4, tuning=4, patients=3, evaluations=2, masks=('random4', 'gaussian4'))
KEY = jax.random.key(0)


def configured(**more):
    return configure(kspace.Config, kspace.presets(), **{**FLAGS, **more})


@pytest.fixture(scope='module')
def bench():
    config = configured(noise=0.0)
    return Bench(config, kspace.open_data(config))


def test_what_is_measured_follows_from_the_place(bench):
    first, again = bench.test('random4', 0), kspace.measure(bench.data.test, bench.order['test'][[2, 0]], 'random4')
    np.testing.assert_array_equal(first.y[[2, 0]], again.y)
    np.testing.assert_array_equal(first.mask[[2, 0]], again.mask)
    assert first.sensitivities is None and (first.y[~np.broadcast_to(first.mask, first.y.shape)] == 0).all()
    assert not np.array_equal(first.mask[0], first.mask[1]) and not np.array_equal(first.truth, bench.test('random4', 1).truth)
    assert judging.residual(first, first.truth) < 1e-6  # without noise the truth explains it


@pytest.mark.parametrize('coils', [1, 3])
def test_the_truth_explains_what_coils_measure(coils):
    config = configured(noise=0.0, coils=coils)
    at = Bench(config, kspace.open_data(config)).test('gaussian4', 0)
    assert at.y.shape == (3, 32, 32, 2 * coils) and (at.sensitivities is None) == (coils == 1)
    assert judging.residual(at, at.truth) < 1e-6
    filled = solving.zero_filled()(KEY, at)
    assert filled.shape == (3, 1, 32, 32, 2) and 0 < judging.score(at, filled)['psnr'] < 40


def test_noise_has_the_strength_asked_for():
    config = configured(noise=0.02)
    at = Bench(config, kspace.open_data(config)).test('random4', 0)
    away = judging.residual(at, at.truth) * np.linalg.norm(at.y.reshape(3, -1), axis=1)
    expected = 0.02 * np.sqrt(at.mask.sum((1, 2, 3)))
    assert np.max(away) == pytest.approx(np.max(expected), rel=0.5)


def test_rows_stand_beside_each_other_and_bars_are_about_them(bench):
    config = bench.config
    rng = np.random.default_rng(0)
    near = lambda size: (
        lambda mask: lambda key, at: at.truth[:, None] + size * rng.standard_normal((len(at.y), 4, 32, 32, 2)).astype(np.float32)
    )
    fill, smooth = solving.zero_filled(), solving.smoothest()
    beside = {'zero-filled': lambda mask: fill, 'TV': lambda mask: lambda key, at: smooth(key, at, 0.01)}
    parts = Parts(None, None, None, derive=lambda table, mask: {'twice': 2 * table[OWN]['psnr']})
    seen = judging.judge(config, bench, Rows(near(0.05), beside, {'far': near(0.5)}), config.seed, parts)
    for mask in config.masks:
        own = lambda name, mask=mask: seen.metrics[f'{mask}_{name}']
        assert own('psnr') > 20 and own('twice') == 2 * own('psnr') and own('gain_of_mean') > 3
        assert own('psnr_over_TV') == pytest.approx(own('psnr') - seen.baselines['TV'][f'{mask}_psnr'])
        assert 0.7 < own('coverage_80') < 0.9 and own('calibration_factor') > 0
        assert set(seen.controls['far']) >= {f'{mask}_psnr_over_TV', f'{mask}_ssim_over_TV'}
        assert f'{mask}_residual' not in seen.controls['far'] and seen.controls['far'][f'{mask}_psnr_over_TV'] < 4
    told = {bar.name for bar in judging.usual_bars(config)}
    assert told <= set(seen.metrics)


def test_unknown_masks_and_data_are_refused():
    for flags, words in (({'masks': ('spiral4',)}, '--masks=spiral4'), ({'data': 'fastmri:'}, "choose 'phantom'")):
        with pytest.raises(UserError, match=words):
            kspace.open_data(configured(**flags))


def test_parts_of_a_split_share_neither_phase_nor_noise_nor_masks(bench):
    tuned, seen = bench.tuning('random4'), bench.test('random4', 0)
    for one, other in zip(tuned.mask, seen.mask, strict=False):
        assert not np.array_equal(one, other)
    turn = lambda source: np.angle(np.dot(source.example(0)['image'][14:18, 14:18], [1, 1j]))
    assert np.ptp(turn(bench.data.train) - turn(bench.data.test)) > 1e-3 < np.ptp(turn(bench.data.validation) - turn(bench.data.test))


@pytest.mark.parametrize('coils', [1, 3])
def test_the_scale_is_that_of_what_was_measured(coils):
    config = configured(coils=coils)
    data = kspace.open_data(config)
    bench = Bench(config, data)
    at = bench.test('random4', 0)
    images = np.fft.ifft2(np.fft.ifftshift(at.y[..., ::2] + 1j * at.y[..., 1::2], (1, 2)), axes=(1, 2), norm='ortho')
    np.testing.assert_allclose(np.sqrt((np.abs(images) ** 2).sum(-1)).max((1, 2)), 1, rtol=1e-5)
    whole = np.stack([data.test.example(n)['image'] for n in bench.order['test'][:3]])
    np.testing.assert_allclose(at.truth * at.scale[:, None, None, None], whole, atol=1e-6)


def test_of_several_coils_no_more_is_asked_than_they_can_tell():
    names = lambda coils: {bar.name for bar in judging.usual_bars(configured(coils=coils))}
    assert {name for name in names(1) if 'TV' in name or 'residual' in name} == names(1) - names(3)
    assert names(3) - names(1) == {f'{mask}_psnr_over_zero-filled' for mask in FLAGS['masks']}
    assert 'random4_coverage_80' in names(3)


def test_a_sweep_tells_the_error_of_each_value_on_validation_slices(bench):
    config, far = bench.config, lambda size, mask: lambda key, at: np.stack([at.truth + size, at.truth - size], 1)
    table = judging.swept(config, bench, judging.Sweep('size', (0.01, 0.1), far))
    assert table['header'][0] == 'size' and len(table['header']) == 1 + 2 * len(config.masks)
    (_, small, mean, *_), (name, large, *_) = table['rows']
    assert name == '0.1' and small > large + 10 and mean > small + 10  # the two errors cancel in the mean


def test_slices_of_every_scan_are_chosen_and_judged_by():
    """Those of a scan lie one after another."""
    scans = Source(40, lambda n: {'scan': n // 10}, {})
    bench = Bench(configured(tuning=12, patients=12), Dataset(scans, scans, scans, None))
    turns = [bench.order['test'][12 * turn : 12 * turn + 12] for turn in range(3)]
    assert all(len({n // 10 for n in places}) == 4 for places in (bench.order['validation'][:12], *turns))
    assert len(set(np.concatenate(turns))) == 36


def test_cold_diffusion_takes_whole_columns_away_of_what_was_measured(bench):
    mask = kspace.by_columns(bench.config, bench.test('random4', 0).mask)[0]
    assert mask.shape == (1, 32, 1) and mask.any() and not mask.all()


@pytest.mark.parametrize('coils', [1, 3])
def test_the_unet_is_taught_what_it_is_asked(coils):
    """But for noise: of a complete measurement, the image."""
    config = configured(coils=coils, noise=0.0)
    data = kspace.open_data(config)
    example, seen = data.test.example(0)['image'], {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kspace, 'banked', lambda config, data: np.ones((1, 1, 32, 1), bool))
        patch.setattr(kspace.plans, 'restorer', lambda name, blank, source, spoil, **options: seen.update(spoil=spoil))
        kspace.unet(config, data)
    np.testing.assert_allclose(seen['spoil'](KEY, example)[0], example, atol=1e-5)


def test_what_is_calibrated_is_what_is_delivered(bench):
    at = bench.test('random4', 0)
    turned = np.stack([at.truth, np.stack([-at.truth[..., 1], at.truth[..., 0]], -1)], 1)  # the truth, and the truth turned by i
    seen = judging.spread(at, turned)
    np.testing.assert_allclose(seen.mean, seen.truth / np.sqrt(2), rtol=1e-5)
