import json
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import training_worker as toy

from jaxdiff import parallel
from jaxdiff.training.checkpoint import checkpoints, read, restore, steps
from jaxdiff.training.state import init_state, state_digest
from jaxdiff.types import UserError


def state_at(step, width=32):
    state = init_state(toy.parameters(jax.random.key(step), width), optax.adam(1e-3), jax.random.key(step))
    return state._replace(step=jnp.int32(step))


def save(folder, *numbers, keep=3, meta=None):
    with checkpoints(folder, keep=keep, meta=meta) as saver:
        for number in numbers:
            saver.save(state_at(number))


def shapes(state):
    return jax.eval_shape(lambda: state)


def test_round_trip(tmp_path):
    assert restore(tmp_path / 'none', state_at(0)) is None and not (tmp_path / 'none').exists()
    save(tmp_path, 3, 5)
    for like in (state_at(0), shapes(state_at(0))):
        assert state_digest(restore(tmp_path, like)) == state_digest(state_at(5))


def test_keeps_the_newest(tmp_path):
    save(tmp_path, 1, 2, 3, 4, keep=2)
    assert steps(tmp_path) == [3, 4]


def test_meta_is_readable_json(tmp_path):
    save(tmp_path, 1, meta={'data': 'abc'})
    about = json.loads((tmp_path / '1' / 'about' / 'metadata').read_text())
    assert about['meta'] == {'data': 'abc'} and about['digest'] == state_digest(state_at(1))


def test_saving_copies_before_the_state_is_donated(tmp_path):
    """The files are written while the next steps overwrite the buffers."""
    like = init_state({'a': jnp.zeros((512, 512))}, optax.sgd(0.1), jax.random.key(0))
    bump = jax.jit(lambda state, number: state._replace(step=number, params={'a': state.params['a'] + 1}), donate_argnums=0)
    state, digests = jax.tree.map(jnp.copy, like), {}
    with checkpoints(tmp_path, keep=5) as saver:
        for number in range(1, 6):
            for _ in range(3):
                state = bump(state, number)
            digests[number] = state_digest(state)
            saver.save(state)
    assert {number: state_digest(read(tmp_path / str(number), like)) for number in steps(tmp_path)} == digests


@pytest.mark.parametrize('shape', [(1, 8), (1, 1), (2, 1), (1, 2), (2, 2), (1, 4)])
def test_eight_devices_to_any_other_number(tmp_path_factory, shape):
    state, folder = state_at(7), tmp_path_factory.getbasetemp() / 'eight'
    if not folder.exists():
        with checkpoints(folder) as saver:
            saver.save(jax.device_put(state, parallel.state_shardings(parallel.make_mesh(4, 2), state, smallest=1)))
    placed = parallel.state_shardings(parallel.make_mesh(*shape), shapes(state), smallest=1)
    like = jax.tree.map(lambda leaf, place: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place), shapes(state), placed)
    found = restore(folder, like)
    assert state_digest(found) == state_digest(state)
    assert found.params['into']['kernel'].addressable_shards[0].data.shape == (8, 32 // shape[1])


def files(checkpoint, name='*'):
    return sorted((path for path in checkpoint.rglob(name) if path.is_file()), key=lambda path: -path.stat().st_size)


def flip_bits(checkpoint):
    for path in files(checkpoint / 'state'):
        raw = np.frombuffer(path.read_bytes(), np.uint8).copy()
        if path.parent.name == 'd' and raw.size > 1000:
            raw[raw.size // 4 :: raw.size // 4] ^= 1
            path.write_bytes(raw.tobytes())


def other_contents(checkpoint):
    """Readable, but not what was saved: what orbax makes of many a flipped bit."""
    shutil.rmtree(checkpoint / 'state')
    shutil.copytree(checkpoint.parent / '4' / 'state', checkpoint / 'state')


def another_shape(checkpoint):
    about = checkpoint / 'about' / 'metadata'
    about.write_text(about.read_text().replace('[32, 8]', '[32, 9]'))


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


DAMAGE = {
    'largest file truncated': lambda checkpoint: truncate(files(checkpoint / 'state')[0]),
    'largest file emptied': lambda checkpoint: files(checkpoint / 'state')[0].write_bytes(b''),
    'every file halved': lambda checkpoint: [truncate(path) for path in files(checkpoint)],
    'bits flipped': flip_bits,
    'data removed': lambda checkpoint: [path.unlink() for path in files(checkpoint / 'state') if path.parent.name == 'd'],
    'manifests removed': lambda checkpoint: [path.unlink() for path in files(checkpoint, 'manifest.ocdbt')],
    'tree removed': lambda checkpoint: (checkpoint / 'state' / '_METADATA').unlink(),
    'tree truncated': lambda checkpoint: truncate(checkpoint / 'state' / '_METADATA'),
    'description truncated': lambda checkpoint: truncate(checkpoint / 'about' / 'metadata'),
    'description removed': lambda checkpoint: shutil.rmtree(checkpoint / 'about'),
    'description of something else': lambda checkpoint: (checkpoint / 'about' / 'metadata').write_text('[1, 2]'),
    'other contents': other_contents,
    'another shape described': another_shape,
    'state removed': lambda checkpoint: shutil.rmtree(checkpoint / 'state'),
    'empty': lambda checkpoint: [shutil.rmtree(checkpoint), checkpoint.mkdir()],
    'a file in its place': lambda checkpoint: [shutil.rmtree(checkpoint), checkpoint.write_text('?')],
}


@pytest.fixture(scope='module')
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp('saved')
    save(folder, 4, 8)
    return folder


@pytest.mark.filterwarnings('ignore::pytest.PytestUnraisableExceptionWarning')  # orbax leaves an event loop behind
@pytest.mark.parametrize('damage', DAMAGE)
def test_falls_back_and_says_so(saved, tmp_path, capfd, damage):
    folder = Path(shutil.copytree(saved, tmp_path / 'copy'))
    DAMAGE[damage](folder / '8')
    assert state_digest(restore(folder, state_at(0))) == state_digest(state_at(4))
    said = [line for line in capfd.readouterr().err.splitlines() if 'checkpoint' in line]
    assert len(said) == 1 and said[0].startswith(f'checkpoint 8 in {folder} is unreadable, going back to 4 (')
    save(folder, 6, 8)  # the run goes on from 4, past the damaged one
    assert steps(folder) == [4, 6, 8] and state_digest(restore(folder, state_at(0))) == state_digest(state_at(8))


def test_no_readable_checkpoint_is_an_error(saved, tmp_path):
    folder = Path(shutil.copytree(saved, tmp_path / 'copy'))
    for step in steps(folder):
        DAMAGE['largest file truncated'](folder / str(step))
    with pytest.raises(UserError, match=rf'{folder}: no checkpoint can be read \(8: .*\); delete'):
        restore(folder, state_at(0))


@pytest.mark.parametrize(
    ('like', 'difference'),
    [
        (lambda: state_at(0, width=48), r"\['into'\]\['bias'\].* float32 \[32\] .*float32 \[48\]"),
        (lambda: state_at(0)._replace(params={}), 'absent here'),
        (lambda: state_at(0)._replace(ema=jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), state_at(0).ema)), 'bfloat16'),
    ],
)
def test_another_architecture_is_refused(saved, like, difference):
    with pytest.raises(UserError, match=f'{saved}: checkpoint of another architecture .*{difference}.*another workdir') as caught:
        restore(saved, like())
    assert '\n' not in str(caught.value)


def test_a_killed_save_is_cleared(saved, tmp_path):
    folder = Path(shutil.copytree(saved, tmp_path / 'copy'))
    left = folder / '10.orbax-checkpoint-tmp'
    shutil.copytree(folder / '8', left)
    assert int(restore(folder, state_at(0)).step) == 8 and left.exists()  # reading is harmless to a run that is saving
    save(folder, 12)
    assert steps(folder) == [4, 8, 12] and not left.exists()


def test_restored_arrays_survive_donation(saved):
    state = restore(saved, state_at(0))
    moved = jax.jit(lambda state: state._replace(step=state.step + 1), donate_argnums=0)(state)
    np.testing.assert_array_equal(moved.params['out']['kernel'], state_at(8).params['out']['kernel'])
