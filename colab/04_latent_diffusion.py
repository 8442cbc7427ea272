# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Latent diffusion
#
# An autoencoder makes a small array of latents out of an image, and an image out of latents. A denoiser that learns the latents walks in the
# small array and decodes once. Both are trained here, on phantom slices, in a few minutes on two cores.
#
# Numbers marked as sliders can be dragged in Colab; anywhere else edit them and run the cell again.

# %%
import importlib.util
import subprocess
import sys

if not importlib.util.find_spec('jaxdiff'):  # on Colab: bring the repository along and open the notebook in its folder
    subprocess.run([sys.executable, '-m', 'pip', 'install', '-q', '..[brain]'], check=True)

# %%
import os
import tempfile
from pathlib import Path

import jax
import matplotlib.pyplot as plt
import numpy as np

from jaxdiff import grids, latent, model, plans
from jaxdiff.data import loader
from jaxdiff.data.datasets import open_dataset
from jaxdiff.model import Model
from jaxdiff.nets import codebook
from jaxdiff.workdir import Workdir

FAST = bool(os.environ.get('JAXDIFF_FAST'))  # a smaller run of the same cells, for tests
size = 32
data = open_dataset('phantom', size=size, subjects=16 if FAST else 600, held_out=8 if FAST else 40)
real = np.stack([data.test.example(n)['image'] for n in range(8)])


def show(rows, labels=(), window=(-1, 1)):
    """Rows of images (X, Y, 1), as one looks at a patient."""
    _, axes = plt.subplots(len(rows), len(rows[0]), figsize=(1.3 * len(rows[0]), 1.4 * len(rows)), squeeze=False, layout='constrained')
    for line, row in zip(axes, rows, strict=True):
        for axis, image in zip(line, row, strict=True):
            axis.imshow(np.asarray(image)[..., 0].T, origin='lower', cmap='gray', vmin=window[0], vmax=window[1])
            axis.set(xticks=[], yticks=[])
    for line, label in zip(axes, labels, strict=False):
        line[0].set_ylabel(label)
    plt.show()


# %% [markdown]
# ## First stage: an autoencoder
#
# The encoder answers with a Gaussian for every latent, and the decoder must make do with one draw of it. The loss is the mean absolute error
# plus a perceptual distance, and a little of the divergence of those Gaussians from unit ones, which keeps latents near each other.

# %%
steps = 400  # @param {type: "slider", min: 100, max: 5000, step: 100}
steps = 4 if FAST else steps


def autoencoder(name, penalty, **fields):
    network = {'name': 'autoencoder', 'latent': 3, 'widths': (12, 24, 32), 'extra': 0, 'kind': penalty['kind'], **fields}
    blank = Model(network, {}, penalty['kind'], None, {}, {'shape': [size, size, 1]})
    schedule = dict(batch=16, steps=steps, rate=2e-3, augment=loader.flip)
    plan = plans.autoencoder(name, blank, data.train, penalty=penalty, perception={'weight': 0.1, 'widths': (8, 16)}, **schedule)
    return plans.train([plan], folder, seed=0)[name].model


folder = Workdir(Path(tempfile.mkdtemp()))
first = autoencoder('kl', {'kind': 'kl', 'weight': 1e-4})
again, z = latent.reconstructor(first)(first.params, real)
side = int(np.ceil(np.sqrt(z[0].size)))
linear = jax.image.resize(jax.image.resize(real, (8, side, side, 1), 'linear'), real.shape, 'linear')
show([real, again, linear], labels=['real', 'rebuilt', f'linear, {side} x {side}'])
print(f'{real[0].size} pixels, {z[0].size} latents')

# %% [markdown]
# ## What latents look like
#
# Three small images for each one. Some of the anatomy can be recognised, because convolutions keep things in their place.

# %%
reach = np.abs(z).max()
show([z[..., n : n + 1] for n in range(3)], labels=[f'latent {n}' for n in range(3)], window=(-reach, reach))

# %% [markdown]
# ## A codebook instead
#
# Of every vector of latents only the nearest of a few codes is kept: an image becomes a small array of whole numbers. Codes follow the mean of
# what is nearest to them, and those that nothing is near to begin again. Perplexity says how many are in use.

# %%
codes = 64  # @param {type: "slider", min: 4, max: 512, step: 4}
quantized = autoencoder('vq', {'kind': 'vq', 'weight': 0.25}, codes=codes)
kept, before = latent.reconstructor(quantized)(quantized.params, real)
indices = codebook.nearest(quantized.params['codebook']['vectors'], before)
show([real, kept, indices[..., None] / codes * 2 - 1], labels=['real', 'rebuilt', 'codes'])
print(f'{float(codebook.perplexity(indices, codes)):.0f} of {codes} codes in use in these eight images')

# %% [markdown]
# ## Second stage: a denoiser of latents
#
# The training images and their mirror images are encoded once. Their latents are divided by the standard deviation of the first batch, and the
# scale is kept with the model, because the noise of diffusion is made for data of unit size.

# %%
latents = latent.source(first, data.train)
network = {'name': 'unet', 'channels': 3, 'widths': (32, 48), 'attention': (False, True), 'blocks': 1, 'groups': 8, 'coordinates': True}
blank = latent.blank(first, latents, network, batch=16)
scale = blank.card['latent']['scale']
plan = plans.denoiser('latent', blank, latents, batch=16, steps=2 * steps, rate=1e-3, ema=0.99, augment=latent.drawn(scale))
denoiser = plans.train([plan], folder, seed=0)['latent'].model
times = grids.default(model.make_path(denoiser.path), 2 if FAST else 20)
draw = latent.drawer(denoiser, first, times=times)
drawn = draw((denoiser.params, first.params), jax.random.key(0), 8)
show([real, drawn], labels=['real', 'drawn'])
print(f'scale {scale:.2f}')

# %% [markdown]
# ## The scale belongs to the autoencoder
#
# The same latents, decoded as if another scale had been measured: a number that was typed in, or taken from another model, gives this.

# %%
rows = [
    latent.drawer(denoiser._replace(card={**denoiser.card, 'latent': {'scale': each * scale}}), first, times=times) for each in (0.5, 1, 2)
]
show([each((denoiser.params, first.params), jax.random.key(0), 8) for each in rows], labels=['half', 'measured', 'twice'])

# %% [markdown]
# ## Between two images
#
# Halfway between two images lies a double exposure; halfway between their latents something rather more like one image.

# %%
parts = np.linspace(0, 1, 8)
decode = jax.jit(jax.vmap(lambda z: latent.decode(first, z)))
between = decode(np.stack([(1 - part) * z[0] + part * z[1] for part in parts]))
straight = [(1 - part) * real[0] + part * real[1] for part in parts]
show([between, straight], labels=['latents', 'pixels'])
