"""Networks of MONAI: a module for each, with `specification`, `shapes` and `read` by the arguments that MONAI's class takes."""

from jaxdiff.interop.monai import autoencoder, control, unet, vqvae

__all__ = ['autoencoder', 'control', 'unet', 'vqvae']
