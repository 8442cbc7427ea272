import numpy as np
import pytest

from jaxdiff.data import contrasts

GREY, WHITE, FLUID = np.eye(3, dtype=np.float32)


def scans(name, count=50):
    return [contrasts.scan(np.random.default_rng(seed), name) for seed in range(count)]


@pytest.mark.parametrize(
    ('name', 'order'),
    [('T1', 'fluid grey white'), ('T2', 'white grey fluid'), ('FLAIR', 'fluid white grey'), ('PD', 'white grey')],
)
def test_tissues_are_ordered_as_in_the_clinic(name, order):
    zeros = np.zeros(1, np.float32)
    for scan in scans(name):
        values = {
            k: contrasts.signal(scan, p[:, None], zeros, zeros)[0]
            for k, p in zip(('grey', 'white', 'fluid'), (GREY, WHITE, FLUID), strict=True)
        }
        ranked = [values[tissue] for tissue in order.split()]
        assert ranked == sorted(ranked)


def test_scans_differ_and_stay_near_their_contrast():
    means = np.stack([scan.means for scan in scans('T1', 400)])
    expected = contrasts.CONTRASTS['T1'][:3]
    np.testing.assert_allclose(means.mean(0), expected, atol=0.01)
    np.testing.assert_allclose(means.std(0), [0.035, np.hypot(0.035, 0.03), 0.03], rtol=0.15)


def test_mixed_voxels_mix_their_signals():
    scan, zeros = scans('T1', 1)[0], np.zeros(1, np.float32)
    mixed = contrasts.signal(scan, (0.25 * GREY + 0.75 * FLUID)[:, None], zeros, zeros)
    np.testing.assert_allclose(mixed, 0.25 * scan.means[0] + 0.75 * scan.means[2], rtol=1e-6)


def test_noise_is_rician():
    n, level = 40_000, np.float32(0.5)
    scan = scans('T1', 1)[0]._replace(noise=0.02, gamma=1.0, bias=np.zeros(9))
    points = np.zeros((3, n), np.float32)
    empty = contrasts.acquire(np.random.default_rng(0), scan, np.zeros(n, np.float32), points)
    assert abs(empty.mean() / (0.02 * np.sqrt(np.pi / 2)) - 1) < 0.02  # Rayleigh
    full = contrasts.acquire(np.random.default_rng(0), scan, np.full(n, level), points)
    assert abs(full.std() / 0.02 - 1) < 0.02
    assert abs(full.mean() - (level / 1.2 + 0.02**2 / 2 / (level / 1.2))) < 5e-4


def test_the_coil_profile_varies_slowly_and_not_at_its_centre():
    scan = scans('T1', 1)[0]._replace(noise=0.0, gamma=1.0)
    points = np.float32([[0, -18, 0], [1, -18, 0], [60, 40, 30]]).T
    centre, beside, away = 1.2 * contrasts.acquire(np.random.default_rng(0), scan, np.full(3, 0.5, np.float32), points)
    assert abs(centre - 0.5) < 0.01 > abs(beside - centre)
    assert away != centre
