"""Arrays by name, as PyTorch keeps them, into the parameters of a network of ours.

PyTorch keeps a convolution as (out, in, *size) and a matrix as (out, in), we as (*size, in, out) and (in, out). An `Entry` says for one array of ours
which of theirs it is made of; a family of networks is a function from the name of a parameter of ours, such as 'encode_0_1/block/conv_in/kernel', to
its entry. Nothing is filled in unless every array is there, and no other.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdiff.types import Params, UserError


class Entry(NamedTuple):
    """Where one array of ours comes from.

    Attributes:
        theirs: name -> shape; sizes of 1 at the end do not count, so that a convolution of size 1 may be a matrix.
        make: their arrays, in that order -> ours.
    """

    theirs: Mapping[str, tuple[int, ...]]
    make: Callable[..., np.ndarray]


def same(name: str, shape: tuple[int, ...]) -> Entry:
    """The same numbers: a bias, a gain, a table of embeddings."""
    return Entry({name: tuple(shape)}, lambda value: value.reshape(shape))


def kernel(name: str, shape: tuple[int, ...], ones: int = 0) -> Entry:
    """A convolution (*size, in, out), or a matrix (in, out), which in PyTorch has `ones` sizes of 1."""
    *size, inputs, outputs = shape
    make = lambda value: np.moveaxis(value.reshape(outputs, inputs, *size), (1, 0), (-2, -1))
    return Entry({name: (outputs, inputs, *(size or (1,) * ones))}, make)


def nothing(shape: tuple[int, ...]) -> Entry:
    """Zeros, for what they have not."""
    return Entry({}, lambda: np.zeros(shape, np.float32))


def entries(tree: Any, find: Callable[[str, tuple[int, ...]], Entry]) -> list[Entry]:
    """The entry of every leaf of `tree` (arrays or shapes), from its name and shape, in the order of the leaves."""
    return [
        find(jax.tree_util.keystr(path, simple=True, separator='/'), leaf.shape) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    ]


def shapes(found: list[Entry]) -> dict[str, tuple[int, ...]]:
    """All of theirs: name -> shape."""
    return {name: shape for entry in found for name, shape in entry.theirs.items()}


def fill(state: Mapping[str, np.ndarray], tree: Any, found: list[Entry], what: str) -> Params:
    """`tree` with arrays made of those of `state`.

    Raises `UserError`, in one line that lists them, for arrays that are missing, unexpected or of another shape; `what` they should belong to.
    """
    _check(state, shapes(found), what)
    leaves = jax.tree.leaves(tree)
    made = [entry.make(*(np.asarray(state[name], np.float32) for name in entry.theirs)) for entry in found]
    return jax.tree.unflatten(jax.tree.structure(tree), [jnp.asarray(array, leaf.dtype) for array, leaf in zip(made, leaves, strict=True)])


def _check(state: Mapping[str, np.ndarray], expected: Mapping[str, tuple[int, ...]], what: str) -> None:
    given = {name: tuple(value.shape) for name, value in state.items()}
    other = [
        f'{name} {given[name]} for {shape}' for name, shape in expected.items() if name in given and _core(given[name]) != _core(shape)
    ]
    wrong = {'missing': sorted(set(expected) - set(given)), 'unexpected': sorted(set(given) - set(expected)), 'of another shape': other}
    if told := '; '.join(f'{kind}: {_listed(names)}' for kind, names in wrong.items() if names):
        raise UserError(f'these weights are not those of {what} with these arguments; give the ones it was made with. {told}')


def _core(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Without sizes of 1 at the end, of which a matrix keeps two."""
    shape = tuple(shape)
    while len(shape) > 2 and shape[-1] == 1:
        shape = shape[:-1]
    return shape


def _listed(names: list[str]) -> str:
    return ', '.join(names[:20]) + (f' and {len(names) - 20} more' if len(names) > 20 else '')
