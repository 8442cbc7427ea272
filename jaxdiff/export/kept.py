"""Programs whose trace outlives the process: in the folder of the compilation cache lies beside each compiled program what it was compiled from.

With a cache of compiled programs most of what is left of a start is Python: importing and tracing a network, and lowering it. A function that is
`kept` is traced once for each recipe and shapes of its arguments, and read afterwards, without its code being run.
"""

import importlib.metadata
import json
import os
from collections.abc import Callable, Mapping
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import jax

from jaxdiff.export.artifact import export_module
from jaxdiff.types import UserError


def kept(fn: Callable, recipe: Mapping[str, Any]) -> Callable:
    """`fn`, to be called inside `jit`, read from the folder of the compilation cache where it was traced before.

    `recipe` is JSON and must tell everything that `fn` closes over; this package's sources, versions, platform, precision and shapes are added to it.
    Without a cache or flatbuffers, and for operations that jax.export does not take, it is `fn` itself. It has no derivative.
    """

    def call(*args: Any) -> Any:
        folder = jax.config.jax_compilation_cache_dir
        if not folder:
            return fn(*args)
        shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), args)
        try:
            export = export_module()
            context = {
                'shapes': str(shapes),
                'platform': export.default_export_platform(),
                'precision': jax.config.jax_default_matmul_precision,
            }
            told = json.dumps([recipe, context, jax.config.jax_enable_x64, sources()], sort_keys=True)
            file = Path(folder) / f'trace-{sha256(told.encode()).hexdigest()}'
            if not file.exists():
                _write(file, export.export(jax.jit(fn))(*shapes).serialize())
        except (UserError, ValueError, NotImplementedError):  # no flatbuffers; an operation that cannot be kept
            return fn(*args)
        return export.deserialize(bytearray(file.read_bytes())).call(*args)

    return call


@cache
def sources(script: str = '') -> str:
    """Digest of this package's sources, of a script's, and of the versions that it traces with."""
    digest = sha256()
    for file in [*sorted(Path(__file__).parents[1].rglob('*.py')), *([Path(script)] if script else ())]:
        digest.update(file.read_bytes())
    for name in ('jax', 'jaxlib', 'flax'):
        digest.update(importlib.metadata.version(name).encode())
    return digest.hexdigest()


def _write(file: Path, content: bytes) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(f'{file.name}.{os.getpid()}')
    partial.write_bytes(content)
    os.replace(partial, file)
