"""Where time goes: shares of a program whose parts are known."""

import json

import jax
import jax.numpy as jnp
import pytest

from jaxdiff.benchmark import profile
from jaxdiff.benchmark.profile import MOVES, OTHER, PRODUCTS, Group
from jaxdiff.benchmark.twins import Case
from jaxdiff.types import UserError

LAYERS = 'jit(loss)/transpose(jvp(vmap(UNet)))/UNet._example/'


@pytest.mark.parametrize(
    ('opcode', 'name', 'group'),
    [
        ('dot', LAYERS + 'decode_1_0/block/conv_in/dot_general', Group('convolutions', PRODUCTS, True)),
        ('fusion', LAYERS + 'decode_1_0/block/conv_in/slice', Group('convolutions', MOVES, True)),
        ('fusion', 'jit(loss)/jvp(vmap(UNet))/stem/conv_general_dilated', Group('convolutions', PRODUCTS, False)),
        ('fusion', LAYERS + 'middle_1/attention/norm/mul', Group('attention', MOVES, True)),
        ('fusion', LAYERS + 'middle_1/block/norm_in/mul', Group('group norm, activation', MOVES, True)),
        ('copy', '', Group(OTHER, MOVES, False)),
    ],
)
def test_operations_are_told_apart(opcode, name, group):
    text = f'ENTRY %main {{\n  ROOT %it.2 = f32[2,3]{{1,0}} {opcode}(%a, %b), kind=kLoop, metadata={{op_name="{name}"}}\n}}'
    assert profile._groups(text) == {'it.2': group}


def test_what_holds_others_is_not_counted_with_them():
    assert profile._groups('  %while.3 = (s32[], f32[2]{0}) while(%tuple), condition=%c, body=%b') == {}


def test_most_of_a_product_is_the_product():
    x = jnp.ones((512, 512))
    program = jax.jit(lambda x: jnp.tanh(x @ x + 1)).lower(x).compile()
    seconds = profile.spent(program, lambda: program(x))
    assert set(seconds) <= {Group(OTHER, kind, False) for kind in (PRODUCTS, MOVES)}
    assert seconds and all(each > 0 for each in seconds.values())


def test_rows_add_up():
    told = profile.rows(
        'train', {Group('attention', MOVES, False): 1.0, Group('attention', MOVES, True): 2.0, Group(OTHER, MOVES, True): 1.0}
    )
    assert told == [['train', 'attention', MOVES, 25.0, 50.0, 75.0], ['train', OTHER, MOVES, 0.0, 25.0, 25.0]]


def test_a_case_is_profiled_in_a_process_of_its_own():
    told = profile.table(Case(2, 4, (4,), 2, blocks=0))
    assert json.loads(json.dumps(told)) == told and '2-D' in told['caption']
    works = {row[0] for row in told['rows']}
    assert works == {'forward', 'train'}
    for work in works:
        assert sum(row[-1] for row in told['rows'] if row[0] == work) == pytest.approx(100)


def test_a_network_that_cannot_be_is_said_in_one_line():
    with pytest.raises(UserError, match=r'profile of .*multiple of 2'):
        profile.table(Case(2, 3, (4, 8), 2, blocks=0))
