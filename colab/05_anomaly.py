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
# # Finding lesions without labels
#
# A model of healthy images cannot give back what is not healthy. Here two small ones learn from healthy phantoms, brains made of ellipses,
# and are then shown phantoms with a lesion that is no brighter than the healthy rim, so that no threshold finds it. Ten minutes on two cores, much
# less on an accelerator. The scripts in `experiments/anomaly` train longer, judge seven systems beside their baselines, and read your own scans.
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
from jaxdiff.data.source import stack
from jaxdiff.metrics import anomalies, detection
from jaxdiff.solvers.ancestral import ddpm
from jaxdiff.studies import cohorts, detecting, healthy
from jaxdiff.tasks.anomaly import partial, resample
from jaxdiff.workdir import Workdir

FAST = bool(os.environ.get('JAXDIFF_FAST'))  # a smaller run of the same cells, for tests
steps = 2000  # @param {type: "slider", min: 500, max: 10000, step: 500}
small = dict(
    size=32 if FAST else 64,
    widths=(24, 32, 48),
    attention=(False, False, True),
    subjects=16 if FAST else 1000,
    tuning=4 if FAST else 32,
    patients=4 if FAST else 48,
)
config = healthy.Config(**small, steps=4 if FAST else steps, evaluations=1)
cohort = cohorts.open_cohort(config)
folder = Workdir(Path(tempfile.mkdtemp()))
patients, tuning = cohorts.cases(cohort.tests[0]), cohorts.cases(cohort.validation)
few = cohorts.few(cohort.tests[0], 4)
key = jax.random.key(0)


def show(figure):
    """A figure of the report as a picture of the notebook."""
    plt.figure(figsize=(figure.get_figwidth(), figure.get_figheight()), dpi=100)
    picture = report.picture(figure, '', alt='', dpi=100)
    plt.imshow(plt.imread(io.BytesIO(picture.png)))
    plt.axis('off')
    plt.show()


def precise(maps, where=patients):
    """Average precision over the pixels of the brains, after the treatment that every map gets."""
    return round(
        detection.average_precision(*(each[where.brains] for each in (detection.postprocess(maps, where.brains), where.lesions))), 3
    )


# %% [markdown]
# ## What there is to find
#
# Above, four patients; below, where their lesions are. Chance, as average precision, is the share of the brain that is lesion.

# %%
show(report.grid([list(cohorts.scans(few)[..., 0]), list(2.0 * few.lesions - 1)], labels=('scan', 'lesion'), size=1.4))
print('chance', round(float(patients.lesions[patients.brains].mean()), 3))

# %% [markdown]
# ## Without a network
#
# Brightness, the distance from the mean healthy image in standard deviations, what the first principal components of healthy images cannot say, and
# the best that a Gaussian model of healthy images can do in one step of denoising. A detector that the last one beats has not worked.

# %%
simple = anomalies.baselines((stack(cohort.healthy) + 1) / 2)
print({name: precise(score(patients.images)) for name, score in simple.items()})

# %% [markdown]
# ## A denoiser of healthy images
#
# Noise the scan part of the way and walk back. What the noise erased returns as the denoiser knows it. One walk also invents texture; the mean of
# several, taken before the difference, does not.

# %%
trained = plans.train([healthy.denoiser('healthy', config, cohort)], folder, seed=0)['healthy'].model
path = model.make_path(trained.path)

# %%
depth = 0.4  # @param {type: "slider", min: 0.05, max: 0.9, step: 0.05}
repeats = 4  # @param {type: "slider", min: 1, max: 12, step: 1}
walk = healthy.chain(config, trained, repeats=repeats)
found = walk(trained.params, key, cohorts.scans(few), healthy.times(config, path, depth))
show(
    report.anomalies(
        cohorts.scans(few)[..., 0], detection.postprocess(found.map, few.brains), restored=found.restored[..., 0], lesions=few.lesions, size=1.3,
        score='|scan - restored|',
    )
)  # fmt: skip

# %% [markdown]
# ## Depth, and how many walks
#
# Too shallow, and the lesion is copied; too deep, and the anatomy is invented anew. Averaging matters as much as the depth.

# %%
once = healthy.chain(config, trained, repeats=1)
depths = (0.35,) if FAST else (0.15, 0.3, 0.45, 0.6)
curves = {}
for k in (1, 4):
    scores = []
    for each in depths:
        draws = [
            once(trained.params, jax.random.key(n), cohorts.scans(patients), healthy.times(config, path, each)).restored for n in range(k)
        ]
        scores.append(precise(np.abs(cohorts.scans(patients) - np.mean(draws, 0)).mean(-1)))
    curves[f'mean of {k}'] = [float(path.sigma(each) / path.alpha(each)) for each in depths], scores
show(report.curves(curves, x='noise / signal at the depth', y='average precision', log='x'))

# %% [markdown]
# ## One call in place of a walk
#
# The denoiser says in one call what the clean image is on average. That is nearly as good, and a twelfth of the work: a row that belongs in every
# table.

# %%
ask = healthy.once(config, trained)
print('one call', precise(ask(trained.params, key, cohorts.scans(patients), np.float32(depth)).map))
print('walk    ', precise(walk(trained.params, key, cohorts.scans(patients), healthy.times(config, path, depth)).map))

# %% [markdown]
# ## Mask, stitch, re-sample
#
# What is suspicious is made anew from a small depth, the rest of the scan stays as it is. The map is zero wherever nothing was suspected.

# %%
threshold = 0.5  # @param {type: "slider", min: 0.1, max: 0.9, step: 0.1}


def again(key, image, denoise, limit):
    one, two = jax.random.split(key)
    times = healthy.times(config, path, depth)
    first = partial.restore(one, image, denoise, path=path, solver=ddpm(path), times=times, repeats=repeats)
    shallow = grids.uniform(path, 6, start=depth / 4)
    return resample.restore(two, first, denoise, path=path, solver=ddpm(path), times=shallow, threshold=limit, resamplings=3)


mended = detecting.finder(trained, again, name='re-sampling')
seen = mended(trained.params, key, cohorts.scans(few), np.float32(threshold))
rows = [cohorts.scans(few)[..., 0], found.restored[..., 0], 2.0 * seen.mask - 1, seen.restored[..., 0]]
show(report.grid([list(row) for row in rows], labels=('scan', 'restored', 'mask', 're-sampled'), size=1.3))
print('re-sampled', precise(mended(trained.params, key, cohorts.scans(patients), np.float32(threshold)).map))

# %% [markdown]
# ## Your own scans
#
# ```sh
# python experiments/anomaly/coarse.py --data=brats2021:/path/to/scans --contrasts=flair --workdir=runs/mine
# ```
#
# `runs/mine/outputs/<number>-<patient>/` then holds `restored.nii.gz`, `anomaly.nii.gz` and `mask.nii.gz` in the frame of each scan, and
# `runs/mine/report.html` the figures beside their baselines. `docs/anomaly.md` says which of the seven systems to take when.
