import ast
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import NamedSharding, PartitionSpec

import jaxdiff
from jaxdiff import grids, losses, parallel, paths, predict
from jaxdiff.solvers.ancestral import ddpm
from jaxdiff.solvers.loop import sample
from jaxdiff.training import loop
from jaxdiff.training.optimizer import adam
from jaxdiff.training.state import init_state
from jaxdiff.training.step import example_keys, make_step
from jaxdiff.types import UserError

MESHES = {'one device': (1, 1), 'data': (8, 1), 'data x fsdp': (2, 4)}
STEPS = 4


class Network(nn.Module):
    """What a U-Net is made of, attention included: its reshape is what Explicit mesh axes refuse."""

    @nn.compact
    def __call__(self, x, t):
        hidden = nn.Conv(16, (3, 3))(x) + nn.Dense(16)(t[:, None] / 1000)[:, None, None]
        hidden = nn.silu(nn.GroupNorm(4)(hidden))
        batch, height, width, channels = hidden.shape
        tokens = hidden.reshape(batch, height * width, channels)
        scores = nn.softmax(jnp.einsum('bqc,bkc->bqk', nn.Dense(16)(tokens), nn.Dense(16)(tokens)) / 4)
        hidden = hidden + jnp.einsum('bqk,bkc->bqc', scores, tokens).reshape(hidden.shape)
        return nn.Conv(1, (3, 3))(hidden)


PATH = paths.vp()
APPLY = Network().apply
LOSS = losses.denoising(APPLY, PATH, 'v')
OPTIMIZER = adam(1e-3, 100)
STEP = make_step(LOSS, OPTIMIZER)
TIMES = grids.uniform(PATH, 3)


@jax.jit
def init(key):
    return init_state(Network().init(key, jnp.zeros((1, 8, 8, 1)), jnp.zeros(1)), OPTIMIZER, key)


def batches(start):
    while True:
        yield {'image': np.random.default_rng(start).normal(size=(16, 8, 8, 1)).astype(np.float32)}
        start += 1


def draw(params, key, x):
    """One sample, with noise at every step."""
    return sample(key, x, predict.as_denoiser(partial(APPLY, params), PATH, 'v'), ddpm(PATH), TIMES).x


def noise(count):
    keys = jax.random.split(jax.random.key(8), 11)[:count]
    return keys, jax.vmap(lambda key: jax.random.normal(key, (8, 8, 1)))(keys)


@pytest.fixture(scope='module')
def trained():
    """For every mesh: the losses of STEPS Adam steps, the final state."""
    first = init(jax.random.key(1))

    def train(shape):
        mesh, seen = parallel.make_mesh(*shape), {}
        state = jax.device_put(jax.tree.map(jnp.copy, first), parallel.state_shardings(mesh, first, smallest=64))
        place = partial(parallel.place_batch, mesh)
        state = loop.run(
            state, STEP, batches, steps=STEPS, place=place, log=lambda n, metrics: seen.update({n: metrics['loss']}), log_every=1
        )
        return list(seen.values()), state

    return {name: train(shape) for name, shape in MESHES.items()}


@pytest.fixture(scope='module')
def samples(trained):
    """All at once on one device."""
    return parallel.shard(draw, parallel.make_mesh(1, 1))(trained['one device'][1].ema, *noise(11))


@pytest.fixture(scope='module')
def runners():
    """Eleven examples take two calls of eight devices, of which the second is not full."""
    return {'pmap': parallel.pmap(draw, size=8)} | {
        name: parallel.shard(draw, parallel.make_mesh(*MESHES[name]), size=8) for name in MESHES
    }


def test_every_mesh_gives_the_same_losses(trained):
    expected, _ = trained['one device']
    assert len(expected) == STEPS and len(set(expected)) == STEPS
    for seen, _ in trained.values():
        np.testing.assert_allclose(seen, expected, rtol=0, atol=1e-6)


def test_pmap_gives_the_same_losses(trained):
    """Adam on gradients of single examples mapped by pmap and averaged on the host."""
    gradient = parallel.pmap(lambda params, key, example: jax.value_and_grad(LOSS, has_aux=True)(params, key, example))
    state, seen = init(jax.random.key(1)), []

    @jax.jit
    def descend(state, grads):
        updates, opt_state = OPTIMIZER.update(grads, state.opt_state, state.params)
        return state._replace(params=optax.apply_updates(state.params, updates), opt_state=opt_state)

    for step, batch in zip(range(STEPS), batches(0), strict=False):
        (values, _), grads = gradient(state.params, example_keys(state.key, step, 16), batch)
        seen.append(values.mean())
        state = descend(state, jax.tree.map(lambda leaf: leaf.mean(0), grads))
    np.testing.assert_allclose(seen, trained['one device'][0], rtol=0, atol=1e-6)


def test_parameters_are_spread_over_fsdp_and_stay_there(trained):
    kernel = trained['data x fsdp'][1].params['params']['Dense_1']['kernel']
    assert kernel.addressable_shards[0].data.shape == (4, 16) and trained['data'][1].ema['params']['Dense_1']['kernel'].is_fully_replicated


@pytest.mark.parametrize('name', ['data', 'data x fsdp', 'pmap'])
def test_every_runner_gives_the_same_samples(trained, samples, runners, name):
    """From parameters where training left them."""
    drawn = runners[name](trained['data' if name == 'pmap' else name][1].ema, *noise(11))
    assert isinstance(drawn, np.ndarray) and drawn.shape == (11, 8, 8, 1)
    np.testing.assert_allclose(drawn, samples, rtol=0, atol=1e-5)


def test_samples_do_not_depend_on_the_batch(trained, samples, runners):
    np.testing.assert_allclose(runners['data'](trained['data'][1].ema, *noise(2)), samples[:2], rtol=0, atol=1e-5)


def test_runners_map_any_tree():
    keys, x = noise(5)
    fn = lambda scale, key, example: {'twice': scale * example['x'], 'bits': jax.random.bits(key)}
    for run in (parallel.shard(fn, parallel.make_mesh()), parallel.pmap(fn)):
        found = run(2.0, keys, {'x': np.asarray(x)})
        np.testing.assert_array_equal(found['twice'], 2 * np.asarray(x))
        np.testing.assert_array_equal(found['bits'], jax.vmap(jax.random.bits)(keys))


def test_parts_compile_once():
    traces = []
    run = parallel.shard(lambda scale, x: (traces.append(1), scale * x)[1], parallel.make_mesh(), size=8)
    for count in (3, 8, 20, 1):
        assert run(2.0, np.ones((count, 2))).shape == (count, 2)
    assert len(traces) == 1


def test_one_rule_for_states():
    mesh = parallel.make_mesh(2, 4)
    leaves = {
        'kernel': jnp.zeros((3, 3, 64, 128)),
        'odd': jnp.zeros((129, 131)),
        'first': jnp.zeros((256, 127)),
        'small': jnp.zeros(128),
        'key': jax.random.key(0),
        'step': jnp.int32(0),
    }
    specs = {name: place.spec for name, place in parallel.state_shardings(mesh, leaves).items()}
    whole = PartitionSpec()
    split = {'kernel': PartitionSpec(None, None, None, 'fsdp'), 'first': PartitionSpec('fsdp')}
    assert specs == {'odd': whole, 'small': whole, 'key': whole, 'step': whole, **split}
    assert all(place.is_fully_replicated for place in jax.tree.leaves(parallel.state_shardings(parallel.make_mesh(8, 1), leaves)))


def test_meshes():
    assert dict(parallel.make_mesh().shape) == {'data': 8, 'fsdp': 1}
    assert dict(parallel.make_mesh(fsdp=4).shape) == {'data': 2, 'fsdp': 4}
    assert dict(parallel.make_mesh(batch=12).shape) == {'data': 6, 'fsdp': 1}
    assert dict(parallel.make_mesh(fsdp=2, batch=6).shape) == {'data': 3, 'fsdp': 2}
    for bad in ((3, 4), (0, 1), (-1, 16)):
        with pytest.raises(UserError, match='8 devices'):
            parallel.make_mesh(*bad)


def test_batches_are_split_over_all_devices():
    placed = parallel.place_batch(parallel.make_mesh(2, 4), {'image': np.arange(16.0, dtype=np.float32)})
    assert {shard.data.shape for shard in placed['image'].addressable_shards} == {(2,)}
    np.testing.assert_array_equal(placed['image'], np.arange(16))
    with pytest.raises(UserError, match='12 does not split over 8 devices'):
        parallel.place_batch(parallel.make_mesh(), {'image': np.zeros(12)})


def python(code, **environment):
    clean = {name: value for name, value in os.environ.items() if name not in ('XLA_FLAGS', 'JAX_NUM_CPU_DEVICES')}
    done = subprocess.run(
        [sys.executable, '-c', code], env={**clean, **environment}, capture_output=True, text=True, timeout=100, check=True
    )
    return done.stdout.split()


def test_every_core_is_a_device_unless_the_user_chose():
    count = 'parallel.use_cores(); n = len(jax.devices()); parallel.use_cores(7); print(n, len(jax.devices()))'
    code = f'import jax; from jaxdiff import parallel; {count}'
    assert python(code) == [str(parallel.cores())] * 2
    assert python(code, XLA_FLAGS='--xla_force_host_platform_device_count=3') == ['3', '3']


@pytest.mark.parametrize(
    ('shape', 'expected'),
    [
        ('data', {'all-reduce': 1}),  # all gradients, loss and metrics at once
        ('data x fsdp', {'all-gather': 2, 'all-reduce': 2}),  # each of the split parameters once; gradients, then their norm
    ],
)
def test_collectives_of_a_step(shape, expected):
    """Each parameter and each gradient moves once, and no activation does."""
    mesh, state = parallel.make_mesh(*MESHES[shape]), jax.eval_shape(init, jax.random.key(0))
    places = parallel.state_shardings(mesh, state, smallest=256)
    batch = {'image': jax.ShapeDtypeStruct((16, 8, 8, 1), jnp.float32, sharding=NamedSharding(mesh, PartitionSpec(parallel.AXES)))}
    like = jax.tree.map(lambda leaf, place: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place), state, places)
    step = make_step(parallel.whole(LOSS, mesh), OPTIMIZER)
    found = parallel.collectives(jax.jit(step, donate_argnums=0, out_shardings=(places, None)).lower(like, batch).compile())
    assert {name: traffic.calls for name, traffic in found.items()} == expected
    bytes_of = lambda leaves: sum(leaf.size * leaf.dtype.itemsize for leaf in leaves)
    gradients = bytes_of(jax.tree.leaves(state.params))
    assert gradients <= found['all-reduce'].bytes <= gradients + 64  # and a few scalars
    split = [
        leaf for leaf, place in zip(*map(jax.tree.leaves, (state.params, places.params)), strict=True) if not place.is_fully_replicated
    ]
    assert len(split) == expected.get('all-gather', 0)
    assert found.get('all-gather', parallel.Traffic(0, 0)).bytes == bytes_of(split)


def test_collectives_are_read_from_any_back_end():
    class Program:
        as_text = lambda self: (
            """
  %a = (f32[8,2]{1,0}, f32[]) all-reduce(%x, %y), replica_groups={}
  %s = (bf16[2]{0}, bf16[16]{0}) all-gather-start(%p), dimensions={0}
  %d = bf16[16]{0} all-gather-done(%s)
  %q = pred[4]{0} all-to-all(%r)
"""
        )

    assert parallel.collectives(Program()) == {'all-reduce': (1, 68), 'all-gather': (1, 32), 'all-to-all': (1, 4)}


def test_sampling_says_nothing(trained):
    mesh = parallel.make_mesh()
    split = NamedSharding(mesh, PartitionSpec(parallel.AXES))
    keys, x = jax.device_put(jax.tree.map(lambda leaf: leaf[:8], noise(8)), split)
    sampler = jax.jit(jax.vmap(draw, in_axes=(None, 0, 0)), out_shardings=split)
    assert parallel.collectives(sampler.lower(trained['data'][1].ema, keys, x).compile()) == {}


def test_no_collective_is_written_by_hand():
    collectives = {'psum', 'pmean', 'pmax', 'pmin', 'ppermute', 'all_gather', 'all_to_all', 'psum_scatter', 'axis_index', 'shard_map'}
    for file in Path(jaxdiff.__file__).parent.rglob('*.py'):
        nodes = ast.walk(ast.parse(file.read_text()))
        names = {node.attr if isinstance(node, ast.Attribute) else node.id for node in nodes if isinstance(node, ast.Attribute | ast.Name)}
        shared = {'pmax'} if file.name == 'embedded.py' else set()  # one step for a batch, over the axis of a vmap
        assert names & collectives == shared, file
