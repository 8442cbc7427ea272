"""Networks of diffusers: a module for each, with `specification`, `shapes` and `read` by what the `config.json` beside the weights holds."""

from jaxdiff.interop.diffusers import autoencoder, conditional, unet

__all__ = ['autoencoder', 'conditional', 'unet']
