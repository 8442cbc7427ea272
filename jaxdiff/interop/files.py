"""Files of weights from elsewhere, read as arrays by name: safetensors, PyTorch's own with its weights-only reader, and npz.

Nothing in them is executed: what would need that is refused. A folder that holds one such file may stand for it, and its `config.json` then says
what network the weights are of.
"""

import contextlib
import json
import os
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxdiff.types import UserError

TORCH = ('.pt', '.pth', '.bin', '.ckpt')
SUFFIXES = ('.safetensors', '.npz', *TORCH)
WRAPPED = ('state_dict', 'model')  # what checkpoints of training call the weights among other things
DTYPES = {  # of safetensors
    'F64': np.float64,
    'F32': np.float32,
    'F16': np.float16,
    'BF16': jnp.bfloat16,
    'I64': np.int64,
    'I32': np.int32,
    'I16': np.int16,
    'I8': np.int8,
    'U8': np.uint8,
    'BOOL': np.bool_,
}


def read(file: str | os.PathLike) -> dict[str, np.ndarray]:
    """All arrays of a file, or of the one file of weights in a folder, by name, as float32.

    The weights of a checkpoint of training are taken out of it, and a leading 'module.', which training on several devices adds, goes.
    Raises `UserError`, in one line, for a file that is missing, is not what its name says, is cut short, or needs code to be executed.
    """
    file = find(file)
    kind = '.pt' if file.suffix in TORCH else file.suffix
    found = {'.safetensors': _safetensors, '.npz': _npz, '.pt': _torch}[kind](file)
    if not found:
        raise UserError(f'{file}: holds no weights; give the file of the trained network')
    prefix = 'module.' if all(name.startswith('module.') for name in found) else ''
    return {name.removeprefix(prefix): np.asarray(value, np.float32) for name, value in found.items()}


def find(file: str | os.PathLike) -> Path:
    """The file itself, or the one file of weights in a folder. Raises `UserError` where there is none, or more than one."""
    file = Path(file)
    if not file.is_dir():
        if not file.exists():
            raise UserError(f'{file}: no such file; give a file of weights, or a folder with one')
        if file.suffix not in SUFFIXES:
            raise UserError(f'{file}: not a file of weights by its name; give one of {", ".join(SUFFIXES)}')
        return file
    found = sorted(each for each in file.iterdir() if each.suffix in SUFFIXES)
    if len(found) != 1:
        raise UserError(f'{file}: holds {len(found)} files of weights ({", ".join(SUFFIXES)}); name the one to be read')
    return found[0]


def config(folder: str | os.PathLike) -> dict[str, Any]:
    """What `config.json` in a folder, or beside a file, says; empty where there is none. Raises `UserError` for one that cannot be read."""
    folder = Path(folder)
    file = (folder if folder.is_dir() else folder.parent) / 'config.json'
    return _json(file) if file.exists() else {}


def arguments(file: str | os.PathLike, known: tuple[str, ...] = ()) -> dict[str, Any]:
    """The arguments that a network was made with, from a JSON file: these alone, or the definition of a network in a bundle of MONAI.

    In a bundle '@name' stands for what another part of it holds. `known` are the classes whose definitions count. Raises `UserError` for a file
    that is no such thing, for one that defines several networks, and for expressions that would have to be executed.
    """
    whole = _json(Path(file))
    if class_of(whole):
        return _resolved(whole, whole, file)
    definitions = {name: value for name, value in whole.items() if isinstance(value, dict) and class_of(value) in known}
    if 'network_def' in definitions:
        definitions = {'network_def': definitions['network_def']}
    if len(definitions) > 1:
        raise UserError(f'{file}: defines {", ".join(definitions)}; give a file with the one that the weights are of')
    for value in definitions.values():
        return _resolved(value, whole, file)
    return whole


def class_of(arguments: Mapping[str, Any]) -> str:
    """The class of the network that arguments are of, where they say so: 'DiffusionModelUNet'."""
    several = arguments.get('architectures')  # of transformers, a list of one
    name = arguments.get('_class_name') or arguments.get('_target_') or (several[0] if isinstance(several, list) and several else '')
    return name.rpartition('.')[2] if isinstance(name, str) else ''


def _json(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text())
    except FileNotFoundError:
        raise UserError(f'{file}: no such file; give the arguments that the network was made with as JSON') from None
    except (OSError, ValueError):
        found = None
    if not isinstance(found, dict):
        raise UserError(f'{file}: not JSON with names and values; give the arguments that the network was made with')
    return found


def _resolved(value: Any, whole: Mapping[str, Any], file: str | os.PathLike, depth: int = 0) -> Any:
    """A value with what its '@name' stand for."""
    again = lambda each: _resolved(each, whole, file, depth + 1)
    if depth > 20:
        raise UserError(f'{file}: what it holds refers to itself; write the values out')
    if isinstance(value, dict):
        return {name: again(each) for name, each in value.items()}
    if isinstance(value, list):
        return [again(each) for each in value]
    if not isinstance(value, str) or value[:1] not in ('@', '$'):
        return value
    if value[0] == '$' or value[1:] not in whole:
        raise UserError(f'{file}: {value} would have to be worked out; write its value there')
    return again(whole[value[1:]])


def _safetensors(file: Path) -> dict[str, np.ndarray]:
    try:
        from safetensors import deserialize
    except ImportError:
        raise UserError(f'{file}: needs the library safetensors; pip install "jaxdiff[interop]"') from None
    with _refusing(file, 'safetensors'):
        return {
            name: np.frombuffer(each['data'], DTYPES[each['dtype']]).reshape(each['shape']) for name, each in deserialize(file.read_bytes())
        }


def _npz(file: Path) -> dict[str, np.ndarray]:
    with _refusing(file, 'npz'), np.load(file, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def _torch(file: Path) -> dict[str, np.ndarray]:
    try:
        import torch
    except ImportError:
        raise UserError(f'{file}: needs PyTorch to be read; pip install torch, or save it as safetensors') from None
    with _refusing(file, 'weights of PyTorch'):
        found = torch.load(file, map_location='cpu', weights_only=True)
    while isinstance(found, Mapping) and (inside := [name for name in WRAPPED if isinstance(found.get(name), Mapping)]):
        found = found[inside[0]]
    if not isinstance(found, Mapping) or not all(isinstance(each, torch.Tensor) for each in found.values()):
        raise UserError(f'{file}: holds other things than weights by name; save what state_dict() of the network gives')
    return {str(name): each.detach().float().numpy() for name, each in found.items()}


@contextlib.contextmanager
def _refusing(file: Path, what: str):
    try:
        yield
    except pickle.UnpicklingError:
        raise UserError(f'{file}: is cut short, or would execute code to be read; save the weights alone, as safetensors') from None
    except Exception as error:  # as many kinds as there are libraries
        raise UserError(f'{file}: cannot be read as {what} ({type(error).__name__}); copy it again, it may be cut short') from None
