"""The folder a run leaves behind: config.json, metrics.jsonl, checkpoints/, outputs/, figures/, result.json, report.html.

It is made only once the flags and the data have been checked, so that a refused run leaves nothing.
"""

import dataclasses
import importlib.metadata
import json
import os
import platform
import resource
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax

from jaxdiff import processes
from jaxdiff.data import source
from jaxdiff.types import UserError

ASIDE = (
    'workdir',
    'resume',
    'dry_run',
    'check',
    'receipts',
    'compilation_cache',
    'models',
    'retrain',
)  # flags that change nothing that is learnt


class Workdir(NamedTuple):
    """The folder and its parts. Pictures and outputs of other processes than the first go to a `scratch` that is thrown away."""

    root: Path
    scratch: Path | None = None

    @property
    def checkpoints(self) -> Path:
        return self.root / 'checkpoints'

    @property
    def outputs(self) -> Path:
        return (self.scratch or self.root) / 'outputs'

    @property
    def figures(self) -> Path:
        return (self.scratch or self.root) / 'figures'


def open_workdir(config: Any, manifest: Mapping[str, Any], *, name: str) -> Workdir:
    """Make the folder `config.workdir` (by default the first free of runs/<name>, runs/<name>-2, ...), or with `config.resume` return to it.

    Process 0 checks and writes for all. Raises `UserError` where the folder holds another run, was made with other flags, or saw other data.
    """
    root, seen = processes.first(lambda: (str(_enter(config, manifest, name)), digest(manifest)))
    if seen != digest(manifest):
        raise UserError(f'{root}: process {jax.process_index()} finds other data than process 0; give every process the same files')
    folder = Workdir(Path(root), processes.scratch() if jax.process_index() else None)
    for part in (folder.outputs, folder.figures):
        part.mkdir(exist_ok=True)
    return folder


def _enter(config: Any, manifest: Mapping[str, Any], name: str) -> Path:
    root = Path(config.workdir) if config.workdir else _default(name, config.resume)
    settings = {name: value for name, value in _plain(dataclasses.asdict(config)).items() if name not in ASIDE}
    seen = digest(manifest)
    if (root / 'config.json').exists():
        if not config.resume:
            raise UserError(f'{root}: already holds a run; add --resume to go on with it, or name another --workdir')
        before = read_config(root / 'config.json')
        changed = [
            f'{name} {before["config"].get(name)!r} there, {value!r} here'
            for name, value in settings.items()
            if before['config'].get(name) != value
        ]
        if changed:
            raise UserError(
                f'{root}: made with other settings ({"; ".join(changed)}); repeat those it was made with or name another --workdir'
            )
        if before['data'] != seen:
            raise UserError(f'{root}: made from other data; put the same files back or name another --workdir')
    elif config.resume and config.workdir:
        raise UserError(f'{root}: nothing to resume; leave --resume out, or name the workdir of a run')
    elif root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise UserError(f'{root}: exists and is not a workdir; name another --workdir')
    root.mkdir(parents=True, exist_ok=True)
    if not (root / 'config.json').exists():
        write_json(root / 'config.json', {'config': settings, 'data': seen, 'manifest': manifest, **environment()})
    return root


def _default(name: str, resume: bool) -> Path:
    """The first free of runs/<name>, runs/<name>-2, ..., or to resume the last that is taken."""
    first = Path('runs') / name
    places = [first, *(first.with_name(f'{first.name}-{n}') for n in range(2, 1000))]
    free = next(n for n, place in enumerate(places) if not place.exists())
    return places[max(free - 1, 0) if resume else free]


def settings_of(root: Path) -> dict[str, Any]:
    """The settings that the run in `root` was made with; empty where there is none."""
    file = Path(root) / 'config.json'
    return read_config(file)['config'] if file.exists() else {}


def read_config(file: Path) -> dict[str, Any]:
    """A config.json that `open_workdir` wrote, or `UserError`."""
    found = read_json(file)
    if not isinstance(found, dict) or not isinstance(found.get('config'), dict) or 'data' not in found:
        raise UserError(f'{file}: not the settings of a run; name another --workdir')
    return found


def environment() -> dict[str, Any]:
    """Versions, commit and device, for a reader who wants to repeat the run."""
    names = ('jaxdiff', 'jax', 'jaxlib', 'flax', 'optax', 'orbax-checkpoint', 'numpy', 'scipy', 'nibabel', 'nilearn')
    versions = {'python': platform.python_version()}
    for name in names:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    device = jax.devices()[0]
    return {
        'versions': versions,
        'commit': _commit(),
        'device': f'{jax.device_count()} x {device.device_kind} ({device.platform}), {os.cpu_count()} cores',
    }


def peak_memory() -> int:
    """Bytes at the highest moment so far: of the accelerator where it says, of the process otherwise."""
    statistics = jax.local_devices()[0].memory_stats() or {}
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == 'darwin' else 1024)
    return int(statistics.get('peak_bytes_in_use', resident))


def digest(value: Any) -> str:
    """SHA-256 of a JSON value, whatever the order of its keys."""
    return source.digest(_plain(value))


def write_json(file: Path, value: Any) -> None:
    """Write atomically, numbers plain, NaN as null."""
    partial = file.with_name(file.name + '.partial')
    partial.write_text(json.dumps(_plain(value), indent=1, allow_nan=False) + '\n')
    os.replace(partial, file)


def read_json(file: Path) -> Any:
    """Read, or raise `UserError` naming the file."""
    try:
        return json.loads(file.read_text())
    except FileNotFoundError:
        raise UserError(f'{file}: no such file; is this the workdir of a run?') from None
    except (ValueError, UnicodeDecodeError):
        raise UserError(f'{file}: not valid JSON; the workdir is damaged, start a new one') from None


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if hasattr(value, 'item') and getattr(value, 'ndim', None) == 0:
        return _plain(value.item())
    if hasattr(value, 'tolist'):
        return _plain(value.tolist())
    if isinstance(value, float):
        return value if value == value and abs(value) != float('inf') else None
    return str(value) if isinstance(value, Path) else value


def _commit() -> str | None:
    here = Path(__file__).parents[1]
    if not (here / '.git').exists():
        return None
    try:
        commit = subprocess.run(['git', 'rev-parse', 'HEAD'], cwd=here, capture_output=True, text=True, timeout=10)
        changed = subprocess.run(
            ['git', 'status', '--porcelain', '--untracked-files=no'], cwd=here, capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return commit.stdout.strip() + ('-changed' if changed.stdout.strip() else '') if commit.returncode == 0 else None
