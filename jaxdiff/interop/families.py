"""Which networks of which library can be read, and how a file says that it is of one."""

import importlib
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from jaxdiff.interop import files
from jaxdiff.types import Params, UserError


class Family(NamedTuple):
    """One class of networks.

    Attributes:
        module: of this package; its `read(state, **arguments)` gives (specification for `model.make_network`, parameters).
        part: what a workdir calls a model of it: 'model', 'control', 'autoencoder' or 'text'.
        sign: the name of a weight that this class has and no other of its library.
    """

    module: str
    part: str
    sign: str


FAMILIES = {
    ('monai', 'DiffusionModelUNet'): Family('monai.unet', 'model', 'out.2.conv.weight'),
    ('monai', 'ControlNet'): Family('monai.control', 'control', 'controlnet_mid_block.conv.weight'),
    ('monai', 'AutoencoderKL'): Family('monai.autoencoder', 'autoencoder', 'quant_conv_mu.conv.weight'),
    ('monai', 'VQVAE'): Family('monai.vqvae', 'autoencoder', 'quantizer.quantizer.embedding.weight'),
    ('diffusers', 'UNet2DModel'): Family('diffusers.unet', 'model', 'mid_block.attentions.0.to_q.weight'),
    ('diffusers', 'UNet2DConditionModel'): Family('diffusers.conditional', 'model', 'mid_block.attentions.0.proj_in.weight'),
    ('diffusers', 'AutoencoderKL'): Family('diffusers.autoencoder', 'autoencoder', 'quant_conv.weight'),
    ('transformers', 'CLIPTextModel'): Family('transformers', 'text', 'text_model.final_layer_norm.weight'),
    ('guided_diffusion', 'UNetModel'): Family('guided_diffusion', 'model', 'out.2.weight'),
}
LIBRARIES = ('monai', 'diffusers', 'transformers', 'guided_diffusion')


def classes(library: str) -> tuple[str, ...]:
    """Names of the classes of a library that can be read."""
    return tuple(name for each, name in FAMILIES if each == library)


def choose(library: str, arguments: Mapping[str, Any], names: Iterable[str]) -> str:
    """The class that arguments name, or else that the names of the weights tell. Raises `UserError` where that is none that can be read."""
    known = classes(library)
    if (named := files.class_of(arguments)) and named not in known:
        raise UserError(f'{named}: not a network of {library} that can be read; known: {", ".join(known)}')
    if named:
        return named
    names = set(names)
    told = [name for name in known if FAMILIES[library, name].sign in names]
    if len(told) != 1:
        raise UserError(f'these weights are of no network of {library} that can be read; known: {", ".join(known) or "none"}')
    return told[0]


def read(library: str, name: str, state: Mapping[str, np.ndarray], arguments: Mapping[str, Any]) -> tuple[dict[str, Any], Params]:
    """The specification and parameters of a network of that class. Raises `UserError` as its module does."""
    module = importlib.import_module(f'jaxdiff.interop.{FAMILIES[library, name].module}')
    plain = {key: value for key, value in arguments.items() if not key.startswith('_')}
    try:
        return module.read(state, **plain)
    except (TypeError, AttributeError, IndexError) as error:  # a value of another kind than the argument has
        raise UserError(f'{name}: its arguments cannot be understood ({str(error).splitlines()[0]}); give those it was made with') from None


def scale(library: str, name: str, arguments: Mapping[str, Any]) -> float | None:
    """What a pipeline of that library multiplies the latents of an autoencoder by, where its arguments say it. Raises `UserError` for no number."""
    module = importlib.import_module(f'jaxdiff.interop.{FAMILIES[library, name].module}')
    return module.scale(**arguments) if hasattr(module, 'scale') else None
