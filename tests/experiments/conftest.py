"""Scripts compile most of what the tests compile: their programs are kept where JAXDIFF_COMPILED names a folder."""

import os

import jax
import pytest
from jax.experimental.compilation_cache import compilation_cache


@pytest.fixture(scope='module', autouse=True)
def programs(request):
    """Kept for the tests of one file, but of those that measure compilation: other files must not notice."""
    folder = os.environ.get('JAXDIFF_COMPILED')
    if folder is None or 'benchmark' in request.module.__name__:
        yield
        return
    before = jax.config.jax_compilation_cache_dir, jax.config.jax_persistent_cache_min_compile_time_secs
    _keep(folder, 0.0)
    yield
    _keep(*before)


def _keep(folder: str | None, least: float) -> None:
    jax.config.update('jax_compilation_cache_dir', folder)
    jax.config.update('jax_persistent_cache_min_compile_time_secs', least)
    compilation_cache.reset_cache()  # it looks at the folder once
