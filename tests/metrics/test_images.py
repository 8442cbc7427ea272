import numpy as np
import pytest

from jaxdiff.metrics.images import mae, nmse, psnr, ssim


@pytest.fixture(scope='module')
def pair():
    rng = np.random.default_rng(0)
    truth = rng.random((2, 16, 14)) * np.array([1.0, 0.5]).reshape(2, 1, 1)
    return truth, truth + 0.1 * rng.standard_normal(truth.shape)


def test_closed_forms(pair):
    truth, image = pair
    shifted = truth + 0.1
    assert mae(truth, shifted) == pytest.approx(0.1)
    assert psnr(truth, shifted, peak=1.0) == pytest.approx(20)
    assert psnr(truth, shifted) == pytest.approx(20 * np.log10(truth.max() / 0.1))
    assert psnr(truth, shifted, peak='slice') == pytest.approx(np.mean(20 * np.log10(truth.max((1, 2)) / 0.1)))
    error = np.mean(np.square(truth - image))  # of the volume, not the mean over slices of the logarithm
    assert psnr(truth, image) == pytest.approx(10 * np.log10(truth.max() ** 2 / error), rel=1e-12)
    assert nmse(truth, 1.5 * truth) == pytest.approx(0.25)
    assert ssim(truth, truth) == pytest.approx(1)
    assert psnr(truth, truth) == np.inf


@pytest.mark.parametrize('peak', ['volume', 'slice', 1.0])
def test_ssim_is_the_loop_over_windows(pair, peak):
    truth, image = pair
    values = []
    for x, y in zip(truth, image, strict=True):
        value = {'volume': truth.max(), 'slice': x.max(), 1.0: 1.0}[peak]
        c1, c2 = (0.01 * value) ** 2, (0.03 * value) ** 2
        for i in range(16 - 6):
            for j in range(14 - 6):
                a, b = x[i : i + 7, j : j + 7].ravel(), y[i : i + 7, j : j + 7].ravel()
                (va, cab), (_, vb) = np.cov(a, b)
                values.append((2 * a.mean() * b.mean() + c1) * (2 * cab + c2) / ((a.mean() ** 2 + b.mean() ** 2 + c1) * (va + vb + c2)))
    assert ssim(truth, image, peak=peak) == pytest.approx(np.mean(values), rel=1e-9)


def test_refuses_other_shapes(pair):
    with pytest.raises(ValueError, match='one shape'):
        psnr(pair[0], pair[1][:1])
