"""The folder of a run: made once, returned to only by the same run."""

from dataclasses import dataclass, replace

import numpy as np
import pytest

from jaxdiff import workdir
from jaxdiff.types import UserError


@dataclass(frozen=True)
class Config:
    workdir: str
    resume: bool = False
    steps: int = 4


DATA = {'kind': 'made'}


def test_a_run_may_return_and_another_may_not(tmp_path):
    config = Config(str(tmp_path / 'run'))
    workdir.open_workdir(config, DATA, name='x')
    with pytest.raises(UserError, match='already holds a run'):
        workdir.open_workdir(config, DATA, name='x')
    back = replace(config, resume=True)
    assert workdir.open_workdir(back, DATA, name='x').root == tmp_path / 'run'
    with pytest.raises(UserError, match='steps 4 there, 5 here'):
        workdir.open_workdir(replace(back, steps=5), DATA, name='x')
    with pytest.raises(UserError, match='made from other data'):
        workdir.open_workdir(back, {'kind': 'other'}, name='x')


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / 'thesis.tex').write_text('')
    with pytest.raises(UserError, match='is not a workdir'):
        workdir.open_workdir(Config(str(tmp_path)), DATA, name='x')
    assert [path.name for path in tmp_path.iterdir()] == ['thesis.tex']


def test_the_default_folder_is_the_first_free_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first, second = (workdir.open_workdir(Config(''), DATA, name='x').root for _ in range(2))
    assert (str(first), str(second)) == ('runs/x', 'runs/x-2')
    assert workdir.open_workdir(Config('', resume=True), DATA, name='x').root == second


def test_json_is_plain_and_whole(tmp_path):
    file = tmp_path / 'a.json'
    workdir.write_json(file, {'array': np.arange(3), 'scalar': np.float32(0.5), 'nan': float('nan'), 'nested': {1: (2, 3)}})
    assert workdir.read_json(file) == {'array': [0, 1, 2], 'scalar': 0.5, 'nan': None, 'nested': {'1': [2, 3]}}
    file.write_text('{')
    with pytest.raises(UserError, match=r'a\.json: not valid JSON'):
        workdir.read_json(file)


def test_digest_ignores_the_order_of_keys():
    assert workdir.digest({'a': 1, 'b': (2,)}) == workdir.digest({'b': [2], 'a': 1}) != workdir.digest({'a': 1, 'b': [3]})
