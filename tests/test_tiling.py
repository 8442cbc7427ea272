"""Volumes in tiles: equal to the whole wherever a tile sees enough, without seams where it does not quite, and not otherwise."""

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest

from jaxdiff import grids, parallel, paths
from jaxdiff.benchmark.volumes import samples, seam_error
from jaxdiff.nets import layers
from jaxdiff.nets.unet import UNet
from jaxdiff.solvers.ancestral import ddpm
from jaxdiff.solvers.loop import sample
from jaxdiff.tiling import cut, fuse, fuse_at, positions, split, tiled, tiled_at

PATH = paths.cosine()
KEY = jax.random.key(0)
normal = lambda *shape, seed=0: np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
KERNELS = 0.3 * normal(3, 3, 1, 4), 0.3 * normal(3, 3, 4, 1)


def network(x):
    """Two convolutions: sees 2 voxels, zeros beyond the border."""
    return layers.conv(jnp.tanh(layers.conv(x, KERNELS[0])), KERNELS[1])


# ---- maps


@pytest.mark.parametrize(
    ('shape', 'tile', 'overlap', 'margin'),
    [((23,), 8, 3, None), ((23, 9), (8, 5), (6, 0), (1, 0)), ((7, 20), 8, 4, 2), ((11, 13, 9), 5, 2, 1)],
)
def test_weights_sum_to_one_whatever_the_sizes(shape, tile, overlap, margin):
    x = normal(*shape, 2)
    double = tiled(lambda part: 2 * part, tile=tile, overlap=overlap, margin=margin)(x)
    np.testing.assert_allclose(double, 2 * x, rtol=3e-7)


@pytest.mark.parametrize('sizes', [(8, 8, None), (8, 3, 2), (8, -1, 0), (8, 3, -1)])
def test_sizes_that_leave_voxels_without_a_weight_are_refused(sizes):
    with pytest.raises(ValueError, match='overlap'):
        tiled(network, tile=sizes[0], overlap=sizes[1], margin=sizes[2])(normal(20, 20, 1))


def test_a_map_is_exact_where_the_margin_covers_what_it_sees():
    x = normal(29, 34, 1)
    error = {margin: np.abs(tiled(network, tile=12, overlap=5, margin=margin)(x) - network(x)).max() for margin in (0, 1, 2)}
    assert error[2] < 1e-6 and error[1] > 1e-3 and error[0] > error[1]


@pytest.mark.parametrize('batch', [1, 3])
def test_neither_the_batch_nor_the_devices_change_anything_and_one_tile_is_compiled(batch):
    x, seen = normal(29, 34, 1), []

    def fn(part):
        seen.append(part.shape)
        return network(part)

    run = jax.jit(tiled(fn, tile=12, overlap=5, batch=batch, mesh=parallel.make_mesh()))
    expected = tiled(network, tile=12, overlap=5)(x)
    np.testing.assert_allclose(run(x), expected, atol=1e-6)
    assert len(seen) <= 3 and set(seen) == {(12, 12, 1)}  # of 16 tiles: for the shape of the result, to save gradients, to run


def test_results_may_be_larger_or_smaller_than_the_volume():
    x = normal(30, 20, 2)
    decode = lambda z: layers.nearest(z, (3, 2))
    np.testing.assert_allclose(tiled(decode, tile=8, overlap=3)(x), decode(x), rtol=3e-7)
    encode = lambda z: z.reshape(z.shape[0] // 2, 2, z.shape[1] // 2, 2, 2).mean((1, 3))
    np.testing.assert_allclose(tiled(encode, tile=8, overlap=2)(x), encode(x), atol=1e-6)
    with pytest.raises(ValueError, match='grid'):
        tiled(encode, tile=8, overlap=3)(x)


def test_a_decoder_is_exact_with_its_margin():
    """Resampling and convolutions, tiles on the grid of the latent."""
    z = normal(18, 22, 1)
    decode = lambda z: network(layers.nearest(layers.conv(z, KERNELS[0][:, :, :, :1]), (2, 2)))
    np.testing.assert_allclose(tiled(decode, tile=10, overlap=4, margin=2)(z), decode(z), atol=1e-6)


def test_gradients_are_those_of_the_whole_in_the_memory_of_a_tile():
    x = jnp.asarray(normal(96, 96, 1))
    gradient = lambda fn: jax.jit(jax.grad(lambda x: jnp.sum(fn(x) ** 2))).lower(x).compile()
    deep = lambda x: network(network(network(x)))
    whole, parts = gradient(deep), gradient(tiled(deep, tile=32, overlap=12, margin=6))
    np.testing.assert_allclose(parts(x), whole(x), atol=1e-5)
    assert parts.memory_analysis().temp_size_in_bytes < whole.memory_analysis().temp_size_in_bytes / 2


# ---- denoisers


def test_a_fused_sampler_is_the_whole_one_where_tiles_see_enough():
    """Also under vmap, and with the noise drawn along the way."""
    times = grids.default(PATH, 6)
    x = jnp.asarray(normal(2, 25, 30, 1))
    denoise = lambda x, t: jnp.tanh(network(x) - t)
    walk = lambda denoise: jax.jit(jax.vmap(lambda x: sample(KEY, x, denoise, ddpm(PATH), times).x))(x)
    whole, blind = walk(denoise), walk(fuse(denoise, tile=12, overlap=2, margin=0))
    np.testing.assert_allclose(walk(fuse(denoise, tile=12, overlap=5, margin=2)), whole, atol=3e-6)
    assert np.abs(blind - whole).max() > 1e-2


def test_fusion_of_a_pointwise_exact_denoiser_is_exact_without_any_margin():
    denoise = oracles.denoiser(PATH, oracles.TEST_BED)
    x, t = normal(31, 1), jnp.array(0.6)
    np.testing.assert_allclose(jax.jit(fuse(denoise, tile=10, overlap=7, margin=0))(x, t), jax.jit(denoise)(x, t), atol=1e-6)


def test_conditions_and_positions_are_cut_like_the_volume():
    x, scan = normal(14, 17, 1), normal(14, 17, 2, seed=1)
    told = lambda scan, where: lambda x, t: x * scan[..., :1] + scan[..., 1:] * where[..., :1] - t * where[..., 1:]
    local = lambda corner: told(cut(scan, corner, (6, 8)), positions(corner, (6, 8), scan.shape[:2]))
    fused, t = fuse_at(local, tile=(6, 8), overlap=2), jnp.array(0.3)
    np.testing.assert_allclose(fused(x, t), told(scan, layers.coordinates(scan.shape[:2]))(x, t), atol=1e-6)
    strayed = tiled_at(lambda part, corner: local(corner * 0)(part, t), tile=(6, 8), overlap=2)
    assert np.abs(strayed(x) - fused(x, t)).max() > 0.1


def test_the_seam_error_of_a_correlated_field_is_below_a_percent_of_its_gradient():
    """Exact denoisers, of the field and of tiles that know nothing beyond their border."""
    drawn = samples(shape=(64, 54), length=3.0, tile=32, overlap=10, steps=6, key=KEY)
    error = {name: seam_error(y, drawn['whole']) for name, y in drawn.items()}
    assert error['whole'] == 0 and 0 < error['fused'] < 0.01
    assert error['averaged after'] > 0.01 and error['without overlap'] > 1


# ---- devices


def test_a_volume_split_over_devices_is_that_of_one_device():
    net = UNet(channels=1, widths=(4, 8), blocks=1, attention=(), groups=2)
    x, t = jnp.asarray(normal(64, 16, 1)), jnp.ones(1)
    params = jax.tree.map(lambda leaf: 0.3 * normal(*leaf.shape), jax.eval_shape(net.init, KEY, x[None], t))
    fn = lambda params, x: net.apply(params, x[None], t)[0]
    alone = jax.jit(fn).lower(params, x).compile()
    program = split(fn, parallel.make_mesh(4)).lower(params, x).compile()
    made = program(*jax.device_put((params, x), program.input_shardings[0]))
    np.testing.assert_allclose(made, alone(params, x), atol=1e-5)
    assert {shard.data.shape for shard in made.addressable_shards} == {(16, 16, 1)}
    assert program.memory_analysis().temp_size_in_bytes < alone.memory_analysis().temp_size_in_bytes / 2
    text = program.as_text()
    assert 'collective-permute' in text and 'all-gather' not in text  # borders travel, volumes do not


def test_an_axis_that_does_not_split_is_refused():
    with pytest.raises(ValueError):
        split(lambda shared, x: x, parallel.make_mesh())(0.0, normal(12, 4, 1))
