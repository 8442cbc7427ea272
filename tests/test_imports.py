"""Who may import whom: the edges that docs/architecture.md allows, and no other."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOUNDATIONS = {'types', 'paths', 'noise', 'predict', 'grids', 'weights', 'divergence'}
MATHEMATICS = FOUNDATIONS | {
    'exact',
    'operators',
    'losses',
    'score_matching',
    'bound',
    'distillation',
    'guidance',
    'constraints',
    'solvers',
    'likelihood',
    'inversion',
}
ALLOWED = {
    'types': set(),
    'paths': {'types'},
    'noise': {'types'},
    'predict': {'types', 'paths'},
    'grids': {'types', 'paths'},
    'weights': {'types', 'paths'},
    'divergence': {'types', 'noise'},
    'exact': {'types', 'paths'},
    'operators': {'types'},
    'losses': FOUNDATIONS,
    'score_matching': FOUNDATIONS | {'losses'},
    'bound': FOUNDATIONS | {'losses'},
    'distillation': FOUNDATIONS | {'losses', 'solvers'},
    'guidance': FOUNDATIONS | {'operators'},
    'constraints': FOUNDATIONS,
    'solvers': FOUNDATIONS,
    'likelihood': FOUNDATIONS | {'losses', 'solvers'},
    'inversion': FOUNDATIONS | {'solvers'},
    'tasks': MATHEMATICS,
    'nets': {'types'},
    'data': {'types'},
    'metrics': {'types'},
    'tiling': {'types'},
    'processes': {'types'},
    'training': {'types', 'processes', 'nets'},
    'latent': {'types', 'model', 'sampling', 'data', 'solvers', 'tiling'},
    'telling': {'types', 'model', 'nets'},
    'drawing': {'types', 'model', 'latent', 'grids', 'guidance', 'paths', 'predict', 'solvers', 'tiling', 'data', 'telling'},
    'parallel': {'types'},
    'interop': {'types', 'model'},
    'export': {'types', 'grids', 'guidance', 'solvers', 'model', 'parallel'},
    'report': {'types'},
    'model': {'types', 'paths', 'predict', 'nets'},
    'sampling': {'types', 'model', 'predict', 'guidance', 'solvers', 'parallel', 'training', 'export'},
    'studies': {
        'types',
        'model',
        'nets',
        'latent',
        'data',
        'metrics',
        'plans',
        'sampling',
        'experiment',
        'study',
        'workdir',
        'report',
        'export',
        'training',
        'grids',
        'solvers',
        'noise',
        'paths',
        'tasks',
        'operators',
    },
    'workdir': {'types', 'data', 'processes'},
    'plans': {'types', 'model', 'noise', 'losses', 'weights', 'data', 'training', 'parallel', 'processes', 'workdir', 'export'},
    'taught': {'types', 'model', 'losses', 'weights', 'distillation', 'data', 'plans', 'solvers'},
    'clock': set(),
    'experiment': {'types', 'parallel', 'processes', 'report', 'workdir'},
    'study': {'clock', 'model', 'plans', 'report', 'experiment', 'workdir', 'export'},
}
ONLY = {
    'flax': {'nets', 'model'},
    'optax': {'training'},
    'orbax': {'training/checkpoint'},
    'absl': {'experiment'},
    'nilearn': {'data'},
    'h5py': {'data/fastmri'},
    'matplotlib': {'report'},
    'torch': {'benchmark', 'interop/files'},
    'diffusers': {'benchmark'},
    'monai': {'benchmark'},
}
ALLOWED['benchmark'] = set(ALLOWED)  # what measures may look at all
NUMPY_ONLY = {'PIL', 'h5py', 'numpy', 'scipy', 'nibabel', 'nilearn', 'tqdm', 'jaxdiff'} | set(sys.stdlib_module_names)
MODULES = sorted(path for path in (ROOT / 'jaxdiff').rglob('*.py') if path != ROOT / 'jaxdiff/__init__.py')


def imported(path):
    """Dotted names of everything a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module
            if node.module == 'jaxdiff' or node.module.startswith('jaxdiff.'):
                yield from (f'{node.module}.{alias.name}' for alias in node.names)


def rooms(path):
    """The rooms of this project that a file imports from."""
    return {name.split('.')[1] for name in imported(path) if name.startswith('jaxdiff.')}


def name_of(path):
    return path.relative_to(ROOT / 'jaxdiff').with_suffix('').as_posix()


@pytest.mark.parametrize('path', MODULES, ids=name_of)
def test_only_allowed_edges(path):
    room = name_of(path).split('/')[0]
    assert rooms(path) - {room} <= ALLOWED[room]


@pytest.mark.parametrize('path', MODULES, ids=name_of)
def test_libraries_stay_in_their_rooms(path):
    name = name_of(path)
    libraries = {each.split('.')[0] for each in imported(path)}
    for library, where in ONLY.items():
        assert library not in libraries or any(name == each or name.startswith(f'{each}/') for each in where), library
    if name.startswith(('data/', 'metrics/')):
        assert libraries <= NUMPY_ONLY


def test_one_caller_of_convolution():
    callers = {name_of(path) for path in MODULES if 'lax.conv' in path.read_text()}
    assert callers == {'nets/filtering'}


def test_nothing_imports_experiments():
    assert not [path for path in MODULES if any(name.split('.')[0] == 'experiments' for name in imported(path))]


def test_import_is_light():
    code = (
        'import sys, time; import jax; start = time.process_time(); import jaxdiff; seconds = time.process_time() - start; '
        "heavy = {'matplotlib', 'nilearn', 'nibabel', 'orbax', 'scipy.ndimage', 'absl.app'} & set(sys.modules); "
        'print(seconds); assert not heavy, heavy'
    )
    seconds = min(float(subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True).stdout) for _ in range(3))
    assert seconds < 1
