"""What flags tell a network, as its card says that it can be told.

A card's 'conditioning' names the keywords of the network and their shapes: 'vector' of covariates, 'label' of one of its 'classes', 'words' of its
'tokenizer', and an 'image' or a 'hint' (`PICTURES`) that comes from a file. What is not said is missing: NaN, the label after the last, silence.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxdiff import model
from jaxdiff.model import Model
from jaxdiff.nets import text
from jaxdiff.types import Array, UserError

PICTURES = ('image', 'hint')
_INSIDE = {'captioned': 'unet', 'controlled': 'trunk'}  # where networks that hold another keep its fields
_MOST = 40  # words of a tokenizer that a message lists


def flags(
    trained: Model, *, name: str, covariates: Sequence[str] = (), label: str = '', say: str = '', weight: float = 1.0
) -> dict[str, Any]:
    """Keyword -> array of what the flags tell, and of what they do not, for one example; pictures are not among them.

    Raises `UserError` for a flag that the model `name` takes nothing of, and for what it does not know.
    """
    can = trained.card.get('conditioning') or {}
    if weight != 1 and not can:
        raise UserError(f'--weight: the model {name} is told nothing that guidance could exaggerate; leave the flag out')
    if weight != 1 and set(can) == {'image'}:
        raise UserError(
            f'--weight: the model {name} never went without its image in training, nothing can be exaggerated; leave the flag out'
        )
    for flag, given, key, what in (
        ('covariates', covariates, 'vector', 'covariates'),
        ('label', label, 'label', 'classes'),
        ('say', say, 'words', 'words'),
    ):
        if given and key not in can:
            raise UserError(f'--{flag}: the model {name} was trained without any {what}; leave the flag out')
    told = {}
    if 'vector' in can:
        told['vector'] = _vector(trained.card, tuple(can['vector']), covariates)
    if 'label' in can:
        told['label'] = _label(trained, label)
    if 'words' in can:
        told['words'] = _words(trained.card, say, name)
    return told


def picture(trained: Model, *, name: str, given: str = '', data: str = '') -> str | None:
    """The keyword of the picture that the model is told, one of `PICTURES`; None for a model that is told none.

    Raises `UserError` where a file is given to a model that takes none, or none to a model that needs one.
    """
    key = next((each for each in PICTURES if each in (trained.card.get('conditioning') or {})), None)
    if key and not given:
        raise UserError(f'--given: the model {name} is told an image; name its NIfTI file')
    if key and data:
        raise UserError(f'--data: the model {name} is told an image, which --given names; leave --data out')
    if given and not key:
        raise UserError(f'--given: the model {name} is told no image; leave the flag out, or give the file by --data')
    return key


def nothing(trained: Model, told: Mapping[str, Array]) -> dict[str, Array]:
    """The same, all missing: what guidance subtracts.

    A hint stays where something else is told, whose guidance it then is; alone, its control is turned off.
    """
    null = model.make_network(trained.network).null(**told)
    if 'hint' in told and set(told) <= {'hint', 'strength'}:
        null['strength'] = jnp.zeros_like(jnp.asarray(told['strength']))
    return null


def inner(network: Mapping[str, Any]) -> Mapping[str, Any]:
    """The fields of the network that sees the noised image, where another holds it."""
    return network.get(_INSIDE.get(network['name'], ''), network)


def _vector(card: Mapping[str, Any], shape: tuple[int, ...], given: Sequence[str]) -> np.ndarray:
    if not given:
        return np.full(shape, np.nan, np.float32)
    try:
        values = np.array([float(value) for value in given], np.float32)
    except ValueError:
        raise UserError(f'--covariates={",".join(given)}: give numbers from 0 to 1, or nan') from None
    if values.shape != shape:
        names = ', '.join(card.get('covariates') or {})
        raise UserError(f'--covariates: {len(values)} given, the model was told {shape[0]}{": " if names else ""}{names}')
    return values


def _label(trained: Model, given: str) -> np.int32:
    names, count = trained.card.get('classes') or (), inner(trained.network)['labels']
    if not given:
        return np.int32(count)
    places = {each.casefold(): n for n, each in enumerate(names)}
    found = places.get(given.strip().casefold(), int(given) if given.isdecimal() else count)
    if found >= count:
        known = '; '.join(f'{n} {each}' for n, each in enumerate(names)) or f'0 to {count - 1}'
        raise UserError(f'--label={given}: no such class; give one of: {known}')
    return np.int32(found)


def _words(card: Mapping[str, Any], said: str, name: str) -> np.ndarray:
    if 'tokenizer' not in card:
        raise UserError(f'the model {name} reads, but its card holds no tokenizer; train it again')
    read = text.from_json(card['tokenizer'])
    if strange := read.unknown(said):
        known = [word for word in read.words if word not in text.MARKS]
        more = f' and {len(known) - _MOST} more' if len(known) > _MOST else ''
        raise UserError(f'--say: the model never read {", ".join(strange)}; it knows {" ".join(known[:_MOST])}{more}')
    return read(said)
