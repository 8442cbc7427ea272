"""A trained sampler as a folder that needs no network code: compiled intermediate programs, parameters beside them, and what they are.

    manifest.json         versions, shapes, conditioning, preprocessing, model card, digests of all other files
    sampler.<platform>    the whole walk as StableHLO, one file per platform: any number of images, any number of steps
    parameters.npz        what the programs take as arguments

Reading and drawing import neither Flax nor `nets`. Nothing in the folder executes anything when read but the programs, which are arithmetic.

A program is a function of the parameters by name, a key, times (n + 1,), and for each image its number and what it is told. jax.export promises that
later versions read it for six months and earlier ones for three weeks: model.json and model.npz are what lasts, an artifact is made from them.
"""

import hashlib
import importlib.metadata
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from jaxdiff import parallel
from jaxdiff.types import Key, UserError

FORMAT = 1
MANIFEST, PARAMETERS = 'manifest.json', 'parameters.npz'


class Sampler(NamedTuple):
    """What a folder becomes.

    Attributes:
        draw: (key, count, *, times=None, weight=1.0, **told) -> images (count, *shape) in [-1, 1], numpy. Image i depends on fold_in(key, i) alone.
            `times` is another grid of any length than the manifest's; `weight`, of classifier-free guidance, is for artifacts that were exported
            with it; `told` is conditioning with a leading axis of `count`, missing where it is not given. Another length of the grid compiles
            again, another count does not. Raises ValueError for arguments that the program does not take.
        manifest: what manifest.json holds.
    """

    draw: Callable[..., np.ndarray]
    manifest: dict[str, Any]


def export_module() -> Any:
    """jax.export, or `UserError` where the library that it writes with is missing."""
    try:
        import flatbuffers  # noqa: F401
        from jax import export
    except ImportError:
        raise UserError('artifacts need the package flatbuffers; install it with: pip install "jaxdiff[export]"') from None
    return export


def file_of(platform: str) -> str:
    """Name of the program of a platform."""
    return f'sampler.{platform}'


def write(folder: str | os.PathLike, programs: Mapping[str, bytes], parameters: Mapping[str, np.ndarray], about: Mapping[str, Any]) -> None:
    """Make the folder from programs by platform, parameters by name and the rest of the manifest.

    Raises `UserError` where something else is there already. The manifest comes last: a folder without one is no artifact.
    """
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or (any(folder.iterdir()) and not (folder / MANIFEST).exists())):
        raise UserError(f'{folder}: exists and is not an artifact; name another folder')
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MANIFEST).unlink(missing_ok=True)
    for platform, program in programs.items():
        (folder / file_of(platform)).write_bytes(program)
    np.savez(folder / PARAMETERS, **parameters)
    versions = {name: importlib.metadata.version(name) for name in ('jaxdiff', 'jax', 'jaxlib')}
    digests = {name: _digest((folder / name).read_bytes()) for name in (*map(file_of, programs), PARAMETERS)}
    manifest = {'format': FORMAT, 'versions': versions, 'platforms': list(programs), **about, 'files': digests}
    partial = folder / f'{MANIFEST}.partial'
    partial.write_text(json.dumps(manifest, indent=1, allow_nan=False) + '\n')
    os.replace(partial, folder / MANIFEST)


def load(folder: str | os.PathLike, *, size: int = 60) -> Sampler:
    """The sampler that `save` wrote, for the platform of this process; `size` images are under way at once, on all its devices.

    Raises `UserError`, in one line, for a folder that is not an artifact, was written for another platform or by a version that this one cannot
    read, and for files that are missing, damaged, or not those it was written with.
    """
    folder, export = Path(folder), export_module()
    manifest = read_manifest(folder)
    platform = export.default_export_platform()
    if platform not in manifest['platforms']:
        raise UserError(f'{folder}: written for {", ".join(manifest["platforms"])}, not for {platform}; export it again for {platform}')
    written, oldest, newest = (
        manifest['calling_convention'],
        export.minimum_supported_calling_convention_version,
        export.maximum_supported_calling_convention_version,
    )
    if not oldest <= written <= newest:
        by, here = manifest['versions']['jax'], jax.__version__
        raise UserError(
            f'{folder}: written in calling convention {written} by jax {by}, jax {here} reads {oldest} to {newest}; export it again with jax {here}'
        )
    try:
        program = export.deserialize(bytearray(_bytes(folder, file_of(platform), manifest)))
    except UserError:
        raise
    except Exception as error:  # whatever a parser meets in bytes of another version
        by = manifest['versions']['jax']
        raise UserError(
            f'{folder}: written by jax {by}, cannot be read by jax {jax.__version__} ({type(error).__name__}); export it again'
        ) from None
    expected = jax.tree.unflatten(program.in_tree, program.in_avals)[0][0]
    parameters = _parameters(folder, manifest, expected['params'])
    return Sampler(_drawer(program.call, parameters, manifest, 'weight' in expected, size), manifest)


def read_manifest(folder: str | os.PathLike) -> dict[str, Any]:
    """What the folder says of itself, or `UserError`."""
    file = Path(folder) / MANIFEST
    try:
        manifest = json.loads(file.read_text())
        form = manifest['format']
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f'{file}: no such file; name the folder of an exported sampler') from None
    except (ValueError, TypeError, KeyError):
        raise UserError(f'{file}: not the manifest of an exported sampler; export it again') from None
    if form != FORMAT:
        raise UserError(f'{file}: written in format {form}, this version of jaxdiff reads {FORMAT}; export it again')
    needed = {'versions', 'platforms', 'calling_convention', 'shape', 'times', 'conditioning', 'files'}
    if missing := sorted(needed - set(manifest)):
        raise UserError(f'{file}: damaged, it says nothing of {", ".join(missing)}; export it again')
    return manifest


def _drawer(call: Callable, parameters: dict[str, np.ndarray], manifest: dict, guided: bool, size: int) -> Callable[..., np.ndarray]:
    mesh = parallel.make_mesh().local_mesh
    split = NamedSharding(mesh, PartitionSpec(parallel.AXES))
    walk = jax.jit(lambda shared, examples: call(shared, *examples), out_shardings=split)
    mapped = parallel.in_parts(lambda shared, examples: walk(shared, jax.device_put(examples, split)), mesh, size)
    conditions = manifest['conditioning']

    def draw(key: Key, count: int, *, times: Any = None, weight: float = 1.0, **told: Any) -> np.ndarray:
        if unknown := sorted(set(told) - set(conditions)):
            raise ValueError(f'the sampler is told {", ".join(conditions) or "nothing"}, not {", ".join(unknown)}')
        if weight != 1 and not guided:
            raise ValueError(f'weight {weight}: the sampler was exported without guidance')
        times = np.asarray(manifest['times'] if times is None else times, np.float32)
        shared = {'params': parameters, 'key': key, 'times': times, **({'weight': np.float32(weight)} if guided else {})}
        told = {name: _told(name, told.get(name), count, about) for name, about in conditions.items()}
        return np.clip(mapped(shared, np.arange(count, dtype=np.int32), told), -1, 1)

    return draw


def _told(name: str, value: Any, count: int, about: Mapping[str, Any]) -> np.ndarray:
    """One condition of every image: missing is NaN, or an integer that the manifest tells."""
    shape = (count, *about['shape'])
    if value is None:
        return np.full(shape, np.nan if about['missing'] is None else about['missing'], about['dtype'])
    value = np.asarray(value, about['dtype'])
    if value.shape != shape:
        raise ValueError(f'{name} {value.shape} is not {shape}')
    return value


def _parameters(folder: Path, manifest: Mapping[str, Any], expected: Mapping[str, Any]) -> dict[str, np.ndarray]:
    _bytes(folder, PARAMETERS, manifest)
    try:
        with np.load(folder / PARAMETERS, allow_pickle=False) as archive:
            found = {name: archive[name] for name in archive.files}
    except Exception as error:
        raise UserError(f'{folder / PARAMETERS}: cannot be read ({type(error).__name__}); export it again') from None
    wrong = sorted(set(found) ^ set(expected)) or [name for name, leaf in expected.items() if leaf.shape != found[name].shape]
    if wrong:
        raise UserError(f'{folder / PARAMETERS}: not the parameters of this program, the first that differs is {wrong[0]}; export it again')
    return {name: found[name].astype(leaf.dtype) for name, leaf in expected.items()}


def _bytes(folder: Path, name: str, manifest: Mapping[str, Any]) -> bytes:
    """A file that is what it was when the manifest was written."""
    try:
        content = (folder / name).read_bytes()
    except FileNotFoundError:
        raise UserError(f'{folder / name}: no such file; copy the whole folder, or export it again') from None
    if _digest(content) != manifest['files'].get(name):
        raise UserError(f'{folder / name}: damaged or of another artifact; copy the whole folder, or export it again')
    return content


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
