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
# # Telling a network what to draw
#
# A diffusion model draws something like its training images. Here small ones are told *what*: a class, a size, a sentence. All are
# trained in this notebook on 32 x 32 phantoms, brains made of ellipses whose truth is known: six minutes on two cores, much less on an
# accelerator. The scripts in `experiments/conditioning` train longer, and judge what they draw.
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
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

from jaxdiff import grids, guidance, model, plans, sampling
from jaxdiff.solvers.loop import sample
from jaxdiff.solvers.named import usual
from jaxdiff.studies import spoken, told
from jaxdiff.workdir import Workdir

FAST = bool(os.environ.get('JAXDIFF_FAST'))  # a smaller run of the same cells, for tests
steps = 3000  # @param {type: "slider", min: 500, max: 10000, step: 500}
steps = 4 if FAST else steps
small = dict(size=32, widths=(16, 32), attention=(False, True), subjects=16 if FAST else 1000, held_out=8 if FAST else 80)
schedule = dict(batch=16, steps=steps, rate=2e-3, ema=0.995)
config = told.Config(**small, **schedule)
folder = Workdir(Path(tempfile.mkdtemp()))
data = told.open_data(config)


def train(plan):
    """The trained model of a plan."""
    return plans.train([plan], folder, seed=0)[plan.stage.name].model


def times_of(trained):
    """The grid of times that samplers walk along."""
    return grids.default(model.make_path(trained.path), 2 if FAST else 15)


def show(rows, labels=(), titles=()):
    """Rows of images (X, Y, 1), as one looks at a patient."""
    _, axes = plt.subplots(
        len(rows), len(rows[0]), figsize=(1.1 * len(rows[0]), 1.2 * len(rows)), dpi=60, squeeze=False, layout='constrained'
    )
    for line, row in zip(axes, rows, strict=True):
        for axis, image in zip(line, row, strict=True):
            axis.imshow(np.asarray(image)[..., 0].T, origin='lower', cmap='gray', vmin=-1, vmax=1)
            axis.set(xticks=[], yticks=[])
    for line, label in zip(axes, labels, strict=False):
        line[0].set_ylabel(label, fontsize=8)
    for axis, title in zip(axes[0], titles, strict=False):
        axis.set_title(title, fontsize=8)
    plt.show()


# %% [markdown]
# ## What is told
#
# Each image has a class, its contrast with or without a lesion, and a number, the size of its ventricles, the two dark or bright holes in the middle.

# %%
first = [data.train.example(n) for n in range(8)]
show([[each['image'] for each in first]], titles=[told.NAMES[int(each['label'])] for each in first])

# %% [markdown]
# ## Added, or scaling
#
# The network turns the class and the number into one vector. That may be added to the channels of each block (*spatial addition*, `norm='add'`), or
# scale and shift what each block has normalised (*adaptive group norm*, AdaGN, `norm='adaptive'`), which gives it more say. One time in ten something
# is not told, so that the network also knows how to draw without it.

# %%
adaptive = train(told.denoiser('adaptive', config, data, norm='adaptive'))

# %% [markdown]
# Each class twice, with small and with large ventricles.

# %%
labels = np.repeat(np.arange(4, dtype=np.int32), 2)
sizes = np.tile(np.array([[0.1], [0.9]], np.float32), (4, 1))
titles = [f'{told.NAMES[label]}\n{size[0]:.1f}' for label, size in zip(labels, sizes, strict=True)]


def drawer(trained):
    """What draws from it, with a weight of guidance."""
    return sampling.drawer(trained, times=times_of(trained), guided=True)


draw = drawer(adaptive)
drawn = [draw(adaptive.params, jax.random.key(seed), 8, label=labels, vector=sizes) for seed in range(3)]
show(drawn, titles=titles)

# %% [markdown]
# ## Not told
#
# The label after the last means "any class", and a number that is NaN means "any size". Nothing else has to change.

# %%
anything = {'label': np.full(8, 4, np.int32), 'vector': np.full((8, 1), np.nan, np.float32)}
show([draw(adaptive.params, jax.random.key(1), 8, **anything)], labels=['not told'])

# %% [markdown]
# ## Classifier-free guidance
#
# The network can answer with and without what it is told. Guidance goes on along the difference:
#
# $$\hat x = (1 - w)\, \hat x_\text{not told} + w\, \hat x_\text{told}$$
#
# so that 0 ignores what is told, 1 is plain, and more exaggerates it. Rows begin from the same noise. Large weights make images alike and harsh.

# %%
weight = 3.0  # @param {type: "slider", min: 0, max: 8, step: 0.5}
weights = (0.0, 1.0, weight)
guided = [draw(adaptive.params, jax.random.key(0), 8, weight=each, label=labels, vector=sizes) for each in weights]
show(guided, labels=[f'w = {each:g}' for each in weights], titles=titles)

# %% [markdown]
# ## Classifier guidance
#
# The other way needs no network that was told anything: a classifier that learned from *noised* images says, at each step, in which direction the
# image becomes more of the class that is wanted. That gradient is added to the answer of the denoiser, here of one that is not told.

# %%
judging = told.judge(config, data)
guide = train(plans.classifier('guide', judging.blank, data.train, batch=16, steps=max(steps // 2, 1), rate=1e-3))
path = model.make_path(adaptive.path)
solver, times = usual(path, times=times_of(adaptive))
seen = model.make_network(guide.network).apply


@jax.jit
def led(key, label, scale):
    """One image of a class, by the gradient of the classifier."""
    likelihood = guidance.class_log_likelihood(lambda *args: seen(guide.params, *args), path, label)
    weight = lambda t: jnp.where(path.log_snr(t) < -4, 0.0, scale)  # where there is only noise, there is nothing to classify
    denoise = guidance.static_threshold(guidance.energy(model.denoiser(adaptive), path, likelihood, weight))
    start, walk = jax.random.split(key)
    return sample(walk, path.sigma(times[0]) * jax.random.normal(start, adaptive.card['shape']), denoise, solver, times).x


keys = jax.random.split(jax.random.key(2), 8)
scales = (0.0, 1.0, 4.0)
rows = [jnp.clip(jax.vmap(led, (0, 0, None))(keys, labels, scale), -1, 1) for scale in scales]
show(rows, labels=[f'scale {scale:g}' for scale in scales], titles=[told.NAMES[label] for label in labels])

# %% [markdown]
# ## A sentence
#
# A tokenizer turns words into numbers, a small transformer turns those into vectors, and the attention of the U-Net looks at them. All of it
# learns together, from captions in many words for the same.

# %%
talk = spoken.Config(**small, **schedule, text_width=32, text_depth=1)
scans = spoken.open_data(talk)
reader = train(spoken.denoiser('reader', talk, scans))
tokens = spoken.reader()
say = ['t1 image with small ventricles without a lesion', 't2 image with wide ventricles and a lesion']
words = np.repeat(np.stack([tokens(each) for each in say]), 6, axis=0)
read = drawer(reader)(reader.params, jax.random.key(3), 12, weight=2.0, words=words)
show([read[:6], read[6:]], labels=['T1, small,\nno lesion', 'T2, wide,\nlesion'])
