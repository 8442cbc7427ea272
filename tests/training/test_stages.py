import os
import signal

import jax
import pytest
import training_worker as toy

from jaxdiff import parallel
from jaxdiff.training import stages
from jaxdiff.training.checkpoint import steps
from jaxdiff.training.log import read
from jaxdiff.training.loop import Interrupted
from jaxdiff.training.state import state_digest

KEY = jax.random.key(0)


def digests(trained):
    return {name: state_digest(state) for name, state in trained.items()}


def pupil(trained):
    """A stage that starts from what an earlier one learnt."""
    stage = toy.stage(6, name='pupil')
    return stage._replace(init=lambda key: stage.init(key)._replace(params=trained['first'].ema))


def test_in_order_each_in_its_folder(tmp_path):
    first = toy.stage(4, name='first')
    trained = stages.train((first, pupil), tmp_path, KEY, save_every=3, log_every=2)
    assert list(trained) == ['first', 'pupil']
    assert steps(tmp_path / 'checkpoints' / 'first') == [3, 4] and steps(tmp_path / 'checkpoints' / 'pupil') == [3, 6]
    logged = [(line['stage'], line['step']) for line in read(tmp_path / 'metrics.jsonl')]
    assert logged == [('first', 2), ('first', 4), ('pupil', 2), ('pupil', 4), ('pupil', 6)]
    assert digests(stages.train((first, pupil), tmp_path, KEY)) == digests(trained)  # nothing is left to do


@pytest.mark.parametrize(('name', 'at'), [('first', 3), ('pupil', 5)])
def test_goes_on_in_the_middle_of_any_stage(tmp_path, name, at):
    def interrupted(stage):
        def data(start):
            for number, batch in enumerate(stage.data(start), start + 1):
                if stage.name == name and number == at:
                    os.kill(os.getpid(), signal.SIGTERM)
                yield batch

        return stage._replace(data=data)

    first = toy.stage(4, name='first')
    whole = stages.train((first, pupil), tmp_path / 'whole', KEY, log_every=1)
    with pytest.raises(Interrupted, match=f'{name}: stopped by SIGTERM after step {at}'):
        stages.train((interrupted(first), lambda trained: interrupted(pupil(trained))), tmp_path / 'parts', KEY, log_every=1)
    assert digests(stages.train((first, pupil), tmp_path / 'parts', KEY, log_every=1)) == digests(whole)
    losses = [
        [(line['stage'], line['step'], line['loss']) for line in read(tmp_path / run / 'metrics.jsonl')] for run in ('whole', 'parts')
    ]
    assert losses[0] == losses[1]


def test_stages_of_different_names_start_differently(tmp_path):
    trained = stages.train((toy.stage(0, name='a'), toy.stage(0, name='b')), tmp_path, KEY)
    assert len(set(digests(trained).values())) == 2 and not (tmp_path / 'checkpoints').exists()


def test_starts_where_it_will_live(tmp_path):
    mesh = parallel.make_mesh(4, 2)
    trained = stages.train((toy.stage(2),), tmp_path, KEY, **toy.over(mesh))
    assert trained['toy'].ema['into']['kernel'].sharding.spec == jax.sharding.PartitionSpec(None, 'fsdp')
