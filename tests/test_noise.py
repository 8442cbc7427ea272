import jax
import numpy as np
import pytest

from jaxdiff.noise import bank, coarse, gaussian, named, rademacher, simplex


def test_gaussian_noise_is_standard():
    noise = np.asarray(gaussian(jax.random.key(0), (100, 200)))
    assert noise.shape == (100, 200) and noise.dtype == np.float32
    assert abs(noise.mean()) < 4 / np.sqrt(noise.size)
    assert abs(noise.var() - 1) < 4 * np.sqrt(2 / noise.size)


def test_rademacher_noise_is_signs():
    signs = np.asarray(rademacher(jax.random.key(0), (100, 200)))
    assert set(np.unique(signs)) == {-1.0, 1.0} and abs(signs.mean()) < 4 / np.sqrt(signs.size)


def drawn(noise, shape, count=600):
    return np.asarray(jax.jit(jax.vmap(lambda key: noise(key, shape)))(jax.random.split(jax.random.key(0), count)))


STRUCTURED = {'coarse': coarse(4), 'simplex': simplex(8.0, octaves=3), 'volume': simplex(8.0, octaves=2)}
SHAPES = {'coarse': (16, 20, 2), 'simplex': (16, 20, 2), 'volume': (6, 8, 6, 1)}


@pytest.mark.parametrize('name', STRUCTURED)
def test_structured_noise_is_standard_in_every_element_over_draws(name):
    fields = drawn(STRUCTURED[name], SHAPES[name])
    assert fields.shape[1:] == SHAPES[name]
    z = fields.mean(0) * np.sqrt(len(fields))
    assert abs(z.mean()) < 1 and abs(z).max() < 6
    assert fields.var() == pytest.approx(1, abs=0.06) and fields.var(0) == pytest.approx(1, abs=0.5)


@pytest.mark.parametrize('name', STRUCTURED)
def test_neighbours_are_alike_and_channels_are_not(name):
    fields = drawn(STRUCTURED[name], SHAPES[name])
    near, far = (fields[:, 1:] * fields[:, :-1]).mean(), (fields[:, fields.shape[1] // 2] * fields[:, 0]).mean()
    assert near > 0.6 and abs(far) < 0.2
    if SHAPES[name][-1] > 1:
        assert abs((fields[..., 0] * fields[..., 1]).mean()) < 0.03


def test_simplex_noise_is_continuous():
    fine = drawn(simplex(512.0, octaves=1), (48, 48, 1), 4)
    assert abs(np.diff(fine, axis=1)).max() < 0.05 and fine.std() > 0.1


def test_as_many_octaves_as_asked_for_have_power():
    def power(octaves):
        spectrum = np.square(np.abs(np.fft.fft(drawn(simplex(32.0, octaves=octaves), (64, 64, 1), 20)[:, :, 0, 0]))).mean(0)
        return spectrum[12:20].sum() / spectrum.sum()

    assert 5 * power(1) < power(5) > 0.015


def test_a_bank_gives_crops_of_its_fields():
    fields = np.arange(2 * 6 * 5 * 1, dtype=np.float32).reshape(2, 6, 5, 1)
    crops = drawn(bank(fields), (4, 5, 1), 200)
    assert len(np.unique(crops.reshape(200, -1), axis=0)) == 2 * 3 * 4  # fields, places, ways to mirror
    for crop in crops[:20]:
        ways = [f[a : a + 4][::x, ::y] for f in fields for a in range(3) for x in (1, -1) for y in (1, -1)]
        assert any(np.array_equal(crop, way) for way in ways)
    with pytest.raises(ValueError, match='cannot give'):
        bank(fields)(jax.random.key(0), (7, 5, 1))


def test_simplex_noise_of_a_line_is_refused():
    with pytest.raises(ValueError, match='2 or 3 spatial axes'):
        simplex()(jax.random.key(0), (8, 1))


def test_a_named_noise_is_that_noise():
    key = jax.random.key(3)
    assert named(None, (8, 8, 1)) is gaussian
    np.testing.assert_array_equal(named({'name': 'coarse', 'pixels': 4}, (8, 8, 1))(key, (8, 8, 1)), coarse(4)(key, (8, 8, 1)))
    banked = named({'name': 'coarse', 'pixels': 4, 'bank': 20}, (8, 8, 2))
    fields = drawn(banked, (8, 8, 2))
    assert fields.shape[1:] == (8, 8, 2) and fields.std() == pytest.approx(1, abs=0.25)
    assert len({field.tobytes() for field in fields[:50]}) > 40
    with pytest.raises(KeyError):
        named({'name': 'pink'}, (8, 8, 1))
