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
# # MR images from a quarter of their k-space
#
# A scanner measures frequencies, one line after another; leave three of four lines out and the scan is four times faster. Many images explain what
# was measured. A denoiser of complete images knows which of them are likely, whatever the mask: it was never told of one. Here a small one learns
# from complex 32 x 32 phantoms in five minutes on two cores. The scripts in `experiments/reconstruction` do it at real size, from files of fastMRI
# too.
#
# Numbers marked as sliders can be dragged in Colab; anywhere else edit them and run the cell again.

# %%
import importlib.util
import subprocess
import sys

if not importlib.util.find_spec('jaxdiff'):  # on Colab: bring the repository along and open the notebook in its folder
    subprocess.run([sys.executable, '-m', 'pip', 'install', '-q', '..[brain]'], check=True)

# %%
import io
import os
import tempfile
from pathlib import Path

import jax
import matplotlib.pyplot as plt
import numpy as np

from jaxdiff import grids, model, plans, report
from jaxdiff.metrics import calibration
from jaxdiff.studies import judging, kspace, solving
from jaxdiff.studies.solving import magnitude
from jaxdiff.tasks.reconstruction import posterior
from jaxdiff.workdir import Workdir

FAST = bool(os.environ.get('JAXDIFF_FAST'))  # a smaller run of the same cells, for tests
steps = 2500  # @param {type: "slider", min: 500, max: 10000, step: 500}
mask = 'random4'  # @param ["random4", "gaussian4", "equispaced4", "random8"]
small = dict(
    size=32, widths=(16, 32), attention=(False, True), subjects=16 if FAST else 1000, tuning=4 if FAST else 16, patients=4 if FAST else 16
)
config = kspace.Config(**small, steps=4 if FAST else steps, evaluations=1, masks=(mask,))
data = kspace.open_data(config)
folder, key = Workdir(Path(tempfile.mkdtemp())), jax.random.key(0)
bench = solving.Bench(config, data)
at, tuned = bench.test(mask, 0), bench.tuning(mask)
walk = 2 if FAST else 40


def show(figure):
    """A figure of the report as a picture of the notebook."""
    plt.figure(figsize=(figure.get_figwidth(), figure.get_figheight()), dpi=100)
    picture = report.picture(figure, '', alt='', dpi=100)
    plt.imshow(plt.imread(io.BytesIO(picture.png)))
    plt.axis('off')
    plt.show()


def rows(**images):
    """The first four slices of each, magnitudes from 0 to 1."""
    show(
        report.grid(
            [list(each[:4]) for each in images.values()], labels=[name.replace('_', ' ') for name in images], window=(0.0, 1.0), size=1.3
        )
    )


# %% [markdown]
# ## What is measured
#
# Lines of k-space, brighter where there is more; the image has a phase, so half of k-space does not tell the other half. Filling the rest with
# zeros gives an image that explains every measurement and is wrong.

# %%
zero = solving.zero_filled()(key, at)[:, 0]
k = np.log1p(20 * magnitude(at.y)) / 4
rows(complete=magnitude(at.truth), measured_k_space=k, zero_filled=magnitude(zero))
print(f'{1 / at.mask.mean():.1f} times fewer samples;', 'zero-filled:', judging.fidelity(magnitude(at.truth), magnitude(zero)))

# %% [markdown]
# ## Few edges
#
# The classical answer: of the images near the measurement the one with the least total variation. Its weight is chosen on other slices.

# %%
smooth = solving.smoothest()
weight = solving.best(solving.TV_WEIGHTS, smooth, tuned, key)
tv = smooth(key, at, weight)[:, 0]
print('total variation, weight', weight, judging.fidelity(magnitude(at.truth), magnitude(tv)))

# %% [markdown]
# ## A denoiser of complete images

# %%
trained = plans.train([kspace.prior(config, data)], folder, seed=0)['prior'].model
path, shape = model.make_path(trained.path), tuple(trained.card['shape'])

# %% [markdown]
# ## Samples that explain the measurement
#
# At every step the denoiser's guess is moved towards the measurement by a few conjugate gradients (DDS). Samples agree where the measurement tells,
# and differ where it does not; their mean is nearer to the truth than each.

# %%
count = 4  # @param {type: "slider", min: 2, max: 12, step: 1}
eta = 0.85  # @param {type: "slider", min: 0.0, max: 1.0, step: 0.05}


def draw(key, y, operator, denoise, eta):
    times = grids.default(path, walk)
    return posterior.dds(key, y, operator, denoise, path=path, times=times, shape=shape, eta=eta, count=count)


solve = solving.sampler(trained, draw, name='DDS')
samples = solve(trained.params, key, at, np.float32(eta))
mean, deviation = magnitude(samples.mean(1)), magnitude(samples).std(1, ddof=1)
rows(
    zero_filled=magnitude(zero), total_variation=magnitude(tv), one_sample=magnitude(samples[:, 0]), mean=mean, complete=magnitude(at.truth)
)
print({name: round(value, 3) for name, value in judging.score(at, samples).items()})

# %% [markdown]
# ## How far to trust it
#
# The spread of the samples beside the error of their mean, both five times as bright.

# %%
rows(deviation_x_5=5 * deviation, error_x_5=5 * np.abs(mean - magnitude(at.truth)))

# %% [markdown]
# Four samples of an approximate sampler are too sure of themselves. The step of calibration finds, on other slices, the factor with which intervals
# of 80 % hold 80 % of the pixels.

# %%
spreads = [judging.spread(each, solve(trained.params, key, each, np.float32(eta))) for each in (tuned, at)]
factor, levels = calibration.fitted(*spreads[0]), np.linspace(0.1, 0.95, 12)
lines = {'as it should be': ([0, 1], [0, 1])}
for name, size in (('as drawn', 1.0), (f'times {factor:.2f}', factor)):
    lines[name] = levels, calibration.held(spreads[1].mean, size * spreads[1].deviation, spreads[1].truth, levels)
show(report.curves(lines, x='share that an interval should hold', y='share that it holds'))

# %% [markdown]
# ## Another mask, the same denoiser
#
# Twice as fast, and nothing is trained again.

# %%
faster = bench.test('random8', 0)
fast = solve(trained.params, key, faster, np.float32(eta))
rows(zero_filled=magnitude(solving.zero_filled()(key, faster)[:, 0]), mean=magnitude(fast.mean(1)), complete=magnitude(faster.truth))
print({name: round(value, 3) for name, value in judging.score(faster, fast).items()})

# %% [markdown]
# ## Your own k-space
#
# ```sh
# python experiments/reconstruction/posterior.py --data=fastmri:/path/to/files --workdir=runs/mine
# ```
#
# `runs/mine/outputs/` then holds the mean and the deviation as NIfTI. `docs/reconstruction.md` says which of the four systems to take when.
