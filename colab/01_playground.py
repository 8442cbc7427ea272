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
# # Playground: how a diffusion model thinks
#
# Turn the knobs of a diffusion model of brain slices and see what each one does: how data become noise and noise becomes data, what
# skipping steps costs, what a noise schedule is, how strongly to guide, and what lies between two brains.
#
# The model comes with the package. Its brains are drawn from a virtual population warped from one averaged head: nobody's data, no
# download. Numbers marked as sliders can be dragged in Colab; anywhere else edit them and run the cell again.

# %%
import importlib.util
import subprocess
import sys

if not importlib.util.find_spec('jaxdiff'):  # on Colab: bring the repository along and open the notebook in its folder
    subprocess.run([sys.executable, '-m', 'pip', 'install', '-q', '..[brain]'], check=True)

# %%
# %matplotlib inline
import os

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

from jaxdiff import exact, grids, guidance, inversion, model, paths, report
from jaxdiff.solvers.ancestral import ddim, ddpm
from jaxdiff.solvers.dpm_solver import dpmpp
from jaxdiff.solvers.loop import sample
from jaxdiff.solvers.runge_kutta import heun

FAST = bool(os.environ.get('JAXDIFF_FAST'))  # a smaller run of the same cells, for tests


def show(rows, **words):
    """Slices on black, as a radiologist's screen has them."""
    return report.grid([[np.asarray(image)[..., 0] for image in row] for row in rows], **words)


brain = model.shipped('brain')
path = model.make_path(brain.path)
denoise = model.denoiser(brain)
key = jax.random.key(0)

# %% [markdown]
# ## Data become noise
#
# At time $t$ the image is $x_t = \alpha(t)\,x_0 + \sigma(t)\,\varepsilon$. The path says how fast the signal goes and the noise comes;
# nothing is learnt here.

# %%
draw = jax.jit(lambda key: sample(key, jax.random.normal(key, (64, 64, 1)), denoise, heun(path), grids.uniform(path, 2 if FAST else 16)).x)
image = draw(jax.random.key(3))
times = jnp.linspace(0, 1, 9)
noise = jax.random.normal(jax.random.key(1), image.shape)
noised = jax.vmap(lambda t: paths.perturb(path, image, noise, t))(times)
show([noised], titles=[f't = {t:.2f}' for t in times])

# %% [markdown]
# ## Noise becomes data
#
# The network answers one question: given $x_t$, what is the image expected to be? Above what the walk holds at each step, below that
# answer. At first the answer is a blurred average of all brains; details appear as the noise leaves.

# %%
steps = 8  # @param {type: "slider", min: 2, max: 32, step: 1}
seed = 3  # @param {type: "slider", min: 0, max: 20, step: 1}
steps = 2 if FAST else steps
start = jax.random.normal(jax.random.key(seed), (64, 64, 1))
walk = jax.jit(lambda x: sample(key, x, denoise, heun(path), grids.uniform(path, steps), trace=lambda i, x, x0: (x, x0)).trace)(start)
shown = np.unique(np.linspace(0, steps - 1, min(steps, 8)).astype(int))
show([[part[i] for i in shown] for part in walk], labels=['x', 'expected image'], titles=[f'step {i + 1}' for i in shown])

# %% [markdown]
# ## Skipping steps
#
# Fewer steps are faster and worse, and how much worse depends on the solver. All start from one noise and should end at one image, the
# one at the right, which took many steps; ancestral sampling (DDPM) draws fresh noise along the way and ends elsewhere. The numbers are
# the distance to it (root mean square) against network calls.

# %%
budget = [2, 4] if FAST else [4, 8, 16, 32]
solvers = {'ddim': ddim(path), 'heun': heun(path), 'dpm++ 2m': dpmpp(path, order=2), 'ddpm': ddpm(path)}
grid = lambda name, calls: grids.uniform(path, max(calls // 2, 1) if name == 'heun' else calls)
many = jax.jit(lambda x: sample(key, x, denoise, heun(path), grids.uniform(path, 4 if FAST else 64)).x)(start)
found = {
    name: [jax.jit(lambda x, name=name, n=n: sample(key, x, denoise, solvers[name], grid(name, n)).x)(start) for n in budget]
    for name in solvers
}
show([[*images, many] for images in found.values()], labels=list(found), titles=[*(f'{n} calls' for n in budget), 'the limit'])

# %%
distance = {
    name: (budget, [float(jnp.sqrt(jnp.mean((image - many) ** 2))) for image in images]) for name, images in found.items() if name != 'ddpm'
}
report.curves(distance, x='network calls', y='distance to the limit', log='xy')

# %% [markdown]
# ## Noise schedules
#
# Every schedule tells the same story at another pace. What matters is the logarithm of the signal-to-noise ratio: where it falls fast,
# few training examples and few steps are spent.

# %%
schedules = {
    'linear, 1000 steps': paths.discrete(paths.linear_betas(1000)),
    'scaled linear': paths.discrete(paths.scaled_linear_betas(1000)),
    'cosine': paths.cosine(),
    'variance exploding': paths.ve(),
    'rectified flow': paths.flow(),
}
share = jnp.linspace(0.01, 0.99, 99)
report.curves(
    {name: (share, each.log_snr(share * each.end)) for name, each in schedules.items()},
    x='time, share of the path',
    y='log signal-to-noise ratio',
)

# %%
halves = jnp.linspace(0, 1, 7)
rows = [
    [paths.perturb(each, image, noise, t) / jnp.hypot(each.alpha(t), each.sigma(t)) for t in halves * each.end]
    for each in schedules.values()
]
show(rows, labels=list(schedules), titles=[f'{t:.2f}' for t in halves])

# %% [markdown]
# ## How strongly to guide
#
# Classifier-free guidance exaggerates what distinguishes a class: $D = D_\text{all} + w\,(D_\text{class} - D_\text{all})$. Here the
# data are three Gaussians whose perfect denoiser is known, so nothing is blamed on a network: $w = 0$ ignores the class, $w = 1$ is the
# class itself, and larger weights push the samples away from the other classes and make them less varied than the class really is.

# %%
weight = 3.0  # @param {type: "slider", min: 0.0, max: 10.0, step: 0.5}
plane = exact.mixture([0.4, 0.3, 0.3], [[-0.6, -0.4], [0.6, -0.4], [0.0, 0.6]], [0.05, 0.05, 0.05])
vp = paths.vp()
whole, member = exact.denoiser(vp, plane), exact.denoiser(vp, exact.component(plane, 2))
both = lambda label: lambda x, t: jnp.where(label > 0, member(x, t), whole(x, t))


@jax.jit
def guided(keys, w):
    denoise = guidance.classifier_free(both, 1.0, 0.0, w)
    one = lambda key: sample(key, jax.random.normal(key, (2,)), denoise, ddim(vp), grids.log_snr(vp, 40)).x
    return jax.vmap(one)(keys)


keys = jax.random.split(key, 200 if FAST else 1500)
figure, axes = plt.subplots(1, 4, figsize=(11, 3), sharex=True, sharey=True, layout='constrained')
for axis, w in zip(axes, [0.0, 1.0, weight, 2 * weight], strict=True):
    points = guided(keys, w)
    axis.scatter(*points.T, s=2, alpha=0.5)
    axis.set(title=f'w = {w:g}, spread {points.std(0).mean():.2f}', xlim=(-1.6, 1.6), ylim=(-1.4, 1.8), aspect='equal')
plt.show()

# %% [markdown]
# ## Between two brains
#
# The probability flow is a map that can be walked both ways: encode two images to their noises, go from one noise to the other along
# the sphere (slerp), and decode what lies between. The straight line between two images, below, is a double exposure.

# %%
first, second = draw(jax.random.key(3)), draw(jax.random.key(8))
down = grids.uniform(path, 4 if FAST else 40)
encode = jax.jit(lambda x: inversion.encode(x, denoise, path, down, iterations=2))
decode = jax.jit(jax.vmap(lambda x: inversion.decode(x, denoise, path, down)))
ends = [encode(image) for image in (first, second)]
parts = jnp.linspace(0, 1, 7)
between = decode(jnp.stack([inversion.slerp(*ends, part) for part in parts]))
straight = [inversion.lerp(first, second, part) for part in parts]
show([between, straight], labels=['through noise', 'straight'], titles=[f'{part:.2f}' for part in parts])

# %% [markdown]
# Next: `02_scores_and_sdes`, where the score of a distribution is drawn as a field of arrows, and the same noise walks along a
# stochastic and an ordinary differential equation.
