"""What the environment tells of other processes, without joining any."""

import jax
import pytest

from jaxdiff import processes
from jaxdiff.types import UserError

ADDRESS = {'JAX_COORDINATOR_ADDRESS': 'host:1234'}
SLURM = {
    'SLURM_JOB_ID': '7', 'SLURM_STEP_NODELIST': 'node[3-4]', 'SLURM_NTASKS': '2', 'SLURM_STEP_NUM_TASKS': '2', 'SLURM_PROCID': '1',
    'SLURM_LOCALID': '0',
}  # fmt: skip
OMPI = {
    'OMPI_COMM_WORLD_SIZE': '2', 'OMPI_COMM_WORLD_RANK': '1', 'OMPI_COMM_WORLD_LOCAL_RANK': '0',
    'OMPI_MCA_orte_hnp_uri': '1531576320.0;tcp://10.96.0.1:34911',
}  # fmt: skip


@pytest.fixture
def joined(monkeypatch):
    """The arguments with which `initialize` would join, None where it would not: `joined(environment)`."""
    for name in ('JAX_NUM_PROCESSES', 'TPU_WORKER_HOSTNAMES', *processes.RANKS, *ADDRESS, *SLURM, *OMPI):
        monkeypatch.delenv(name, raising=False)
    seen = []
    monkeypatch.setattr(jax.distributed, 'initialize', lambda **arguments: seen.append(arguments))
    monkeypatch.setattr(processes.threading.Thread, 'start', lambda self: None)
    monkeypatch.setattr(processes.atexit, 'register', lambda *call: None)

    def initialize(environment):
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        processes.initialize()
        return seen[-1] if seen else None

    return initialize


@pytest.mark.parametrize('rank', processes.RANKS)
def test_by_hand(joined, rank):
    launched = rank.startswith(('SLURM', 'OMPI'))  # then jax gives each process one GPU of its host
    given = {'coordinator_address': 'host:1234', 'num_processes': 4, 'process_id': 3}
    found = joined({**ADDRESS, 'JAX_NUM_PROCESSES': '4', rank: '3'})
    assert found == given | ({} if launched else {'cluster_detection_method': 'deactivate'})


@pytest.mark.parametrize(
    'environment',
    [
        {},
        {**ADDRESS, 'JAX_NUM_PROCESSES': '1'},
        {**SLURM, 'SLURM_STEP_NUM_TASKS': '1'},
        {'SLURM_JOB_ID': '7', 'SLURM_NTASKS': '2', 'SLURM_PROCID': '0'},  # a batch script without srun
        {'OMPI_COMM_WORLD_SIZE': '1'},
        {'KUBERNETES_SERVICE_HOST': '10.0.0.1', 'JOB_COMPLETION_INDEX': '3'},  # one of many jobs of their own
        {'TPU_WORKER_HOSTNAMES': 'alone'},
    ],
)
def test_one_process_joins_nobody(joined, environment):
    assert joined(environment) is None and jax.process_count() == 1


@pytest.mark.parametrize(
    ('environment', 'method', 'address'),
    [(SLURM, 'SlurmCluster', 'node3:'), (OMPI, 'OmpiCluster', '10.96.0.1:'), ({'TPU_WORKER_HOSTNAMES': 'one,two'}, None, None)],
)
def test_launchers_are_left_to_jax(joined, environment, method, address):
    """Which reads the address, the number and the rank from the same variables."""
    assert joined(environment) == {}
    if method:
        from jax._src.clusters import ClusterEnv

        (found,) = [each for each in ClusterEnv._cluster_types if each.__name__ == method]
        assert found.is_env_present() and (found.get_process_count(), found.get_process_id()) == (2, 1)
        assert found.get_coordinator_address(timeout_secs=1, override_coordinator_port=None).startswith(address)


def test_a_later_open_mpi_goes_through_mpi4py(joined, monkeypatch):
    later = {name: value for name, value in OMPI.items() if 'orte' not in name}
    monkeypatch.setattr(processes, 'find_spec', lambda name: None)
    with pytest.raises(UserError, match='pip install mpi4py, or set JAX_COORDINATOR_ADDRESS'):
        joined(later)
    monkeypatch.setattr(processes, 'find_spec', lambda name: name if name == 'mpi4py' else None)
    assert joined(later) == {'cluster_detection_method': 'mpi4py'}


@pytest.mark.parametrize(
    ('environment', 'message'),
    [
        (ADDRESS, "JAX_NUM_PROCESSES='' in the environment: expected a whole number"),
        ({**ADDRESS, 'JAX_NUM_PROCESSES': 'two'}, "JAX_NUM_PROCESSES='two'"),
        ({**ADDRESS, 'JAX_NUM_PROCESSES': '2'}, "JAX_PROCESS_ID=''"),
        ({**ADDRESS, 'JAX_NUM_PROCESSES': '2', 'JAX_PROCESS_ID': '2'}, 'process 2 of 2: JAX_PROCESS_ID counts from 0'),
        ({'JAX_COORDINATOR_ADDRESS': 'host', 'JAX_NUM_PROCESSES': '2', 'JAX_PROCESS_ID': '0'}, 'expected host:port'),
        ({'JAX_NUM_PROCESSES': '2', 'JAX_PROCESS_ID': '0'}, 'JAX_NUM_PROCESSES is set and JAX_COORDINATOR_ADDRESS is not'),
    ],
)
def test_half_an_environment_is_refused(joined, environment, message):
    with pytest.raises(UserError, match=message) as caught:
        joined(environment)
    assert '\n' not in str(caught.value)


def test_a_tpu_alone_is_one_process(joined, monkeypatch):
    monkeypatch.setattr(processes, 'on_tpu', lambda: True)
    assert joined({}) == {}

    def refuse(**arguments):
        raise ValueError('coordinator_address should be defined.')

    monkeypatch.setattr(jax.distributed, 'initialize', refuse)
    processes.initialize()
    monkeypatch.setenv('SLURM_STEP_NUM_TASKS', '2')
    monkeypatch.setattr(processes, 'on_tpu', lambda: False)
    with pytest.raises(UserError, match='cannot join the other processes: coordinator_address should be defined'):
        processes.initialize()


def test_alone_the_first_is_the_only_one(capsys):
    assert processes.first(lambda: (1, 'a')) == (1, 'a') and not processes.several()
    processes.agree(None)
    with pytest.raises(KeyError):
        processes.agree(KeyError('x'))
    with pytest.raises(SystemExit) as left:
        processes.end('wrong', 2)
    assert left.value.code == 2 and capsys.readouterr().err == 'wrong\n'
