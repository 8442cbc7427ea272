import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff import experiment, model, parallel, plans, study
from jaxdiff.export import bill, cost
from jaxdiff.training import stages

SIDE = 64
SQUARE = jax.ShapeDtypeStruct((SIDE, SIDE), jnp.float32)
PRODUCT = 2 * SIDE**3


@pytest.fixture(autouse=True)
def known_rates(monkeypatch):
    monkeypatch.setattr(cost, 'rates', lambda dtype='float32': cost.Rates(1e9, 1e8))


def scanned(x):
    """21 products in two loops, one within the other, and 7 after the inner one."""
    inner = lambda x: jax.lax.scan(lambda c, _: (c @ c, None), x, None, length=3)[0]
    return jax.lax.scan(lambda c, _: (jax.jit(inner)(c) @ c, None), x, None, length=7)[0]


def test_bodies_of_loops_count_as_often_as_they_run():
    assert cost.predict(scanned, SQUARE).flops == pytest.approx(28 * PRODUCT, rel=1e-2)
    assert cost.predict(lambda x: x @ x, SQUARE).flops == PRODUCT


def test_memory_is_that_of_known_arrays():
    size = 4 * SIDE**2
    plain = cost.predict(lambda x: x @ x, SQUARE)
    assert (plain.arguments, plain.outputs, plain.aliased) == (size, size, 0)
    donated = cost.predict(jax.jit(lambda x, unused: x + 1, donate_argnums=0), SQUARE, SQUARE)
    assert donated.aliased == size and donated.memory < 2 * size


def test_what_is_split_is_counted_on_one_device():
    split = jax.NamedSharding(parallel.make_mesh(), jax.P(parallel.AXES))
    x = jax.ShapeDtypeStruct((8, SIDE, SIDE), jnp.float32, sharding=split)
    told = cost.predict(jax.jit(lambda x: x @ x, out_shardings=split), x)
    assert (told.devices, told.arguments, told.flops) == (8, 4 * SIDE**2, pytest.approx(8 * PRODUCT))
    assert told.resident == 8 * told.memory
    assert told.seconds == pytest.approx(PRODUCT / 1e9 + told.moved / 8 / 1e8)


def test_convolutions_on_a_cpu_copy_their_operands():
    x, kernel = bill.float32(2, 16, 16, 8), bill.float32(3, 3, 8, 4)
    layout = ('NHWC', 'HWIO', 'NHWC')
    told = cost.predict(lambda x, k: jax.lax.conv_general_dilated(x, k, (1, 1), 'SAME', dimension_numbers=layout), x, kernel)
    assert told.scratch == 4 * (x.size + kernel.size)


def test_a_short_program_is_run_and_a_long_one_is_not():
    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), 4))
    draw = jax.jit(lambda x, keys: x + jax.vmap(lambda key: jax.random.normal(key, x.shape))(keys).sum(0), donate_argnums=0)
    short, long = cost.predict(draw, SQUARE, keys, patience=10.0), cost.predict(draw, SQUARE, keys)
    assert short.timed and not long.timed
    assert min(short.seconds, long.seconds) > 0 and short.temporaries == long.temporaries


def test_a_program_larger_than_any_memory_is_told_without_making_it(capsys):
    huge = bill.float32(2**22, 2**20)
    told = bill.bill([bill.Job('huge', lambda x: x + 1, (huge,), 3)])
    assert told['programs']['huge']['memory_bytes'] == 2 * 4 * huge.size and not told['fits']
    assert 'DOES NOT FIT' in capsys.readouterr().out


def test_forecast_tells_training_and_the_rest(monkeypatch, capsys):
    monkeypatch.setattr(bill, 'PATIENCE', 0.0)
    spec = {'name': 'unet', 'channels': 1, 'widths': (4,), 'blocks': 1, 'attention': (False,)}
    blank = model.Model(spec, {'name': 'cosine'}, 'v', None, {}, {'shape': [8, 8, 1]})
    init = lambda key: {'x': jnp.zeros(SIDE), 'step': jnp.int32(0)}
    step = lambda state, batch: ({'x': state['x'] + batch['image'].sum(0), 'step': state['step'] + 1}, {'loss': batch['image'].mean()})
    stage = stages.Stage('tiny', init, step, lambda n: ({'image': np.ones((8, SIDE), np.float32)} for _ in range(1)), 5)
    plan = plans.Plan(stage, {}, blank, parallel.make_mesh(), lambda state: blank)
    told = plans.forecast([plan], [bill.over('product', lambda shared, x: shared @ x, SQUARE, (SQUARE,), count=20, size=8)])
    numbers = model.count(model.shapes(blank))
    training, product = told['programs']['training step of tiny'], told['programs']['product']
    assert told['parameters'] == {'tiny': numbers} and (training['calls'], product['calls']) == (5, 3)
    assert training['devices'] == product['devices'] == 8 and product['flops'] == pytest.approx(8 * PRODUCT)
    assert told['seconds'] == pytest.approx(5 * training['seconds'] + 3 * product['seconds'])
    assert f'{numbers:,} parameters' in capsys.readouterr().out


def test_dry_run_reads_no_data(tmp_path):
    class Stop(Exception):
        pass

    def plan(config, data):
        assert data == 'shapes'
        raise Stop

    config = experiment.Config(dry_run=True, workdir=str(tmp_path / 'run'))
    never = lambda *_: pytest.fail('opened')
    with pytest.raises(Stop):
        study.run('x', config, open_data=never, sketch=lambda config: 'shapes', plan=plan, evaluate=never, show=never)
    assert not (tmp_path / 'run').exists()
