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
# # Scores, stochastic and ordinary differential equations
#
# The score $\nabla_x \log p_t(x)$ is all that a diffusion model knows. On a mixture of Gaussians it has a closed form, so everything
# below can be held against the truth: the field itself, Langevin dynamics, the two ways back from noise, and the likelihood.
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

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

from jaxdiff import exact, grids, likelihood, paths, predict
from jaxdiff.solvers import langevin, reverse_sde
from jaxdiff.solvers.loop import sample
from jaxdiff.solvers.runge_kutta import heun

FAST = bool(os.environ.get('JAXDIFF_FAST'))  # a smaller run of the same cells, for tests
path = paths.vp()
plane = exact.mixture([0.5, 0.3, 0.2], [[-0.8, -0.3], [0.7, -0.5], [0.2, 0.8]], [0.04, 0.05, 0.03])
denoise = exact.denoiser(path, plane)


@jax.jit
def score(x, t):
    return predict.convert(path, denoise(x, t), x, t, source='x0', target='score')


axis = np.linspace(-2, 2, 41 if FAST else 121)
points = jnp.stack(jnp.meshgrid(axis, axis, indexing='xy'), -1)
on_grid = lambda f: jax.jit(jax.vmap(jax.vmap(f, (0, None)), (0, None)))
density = on_grid(lambda x, t: jnp.exp(exact.log_density(path, plane, x, t)))


def panel(axis_, t):
    """The density at time t, drawn under whatever follows."""
    axis_.contourf(axis, axis, density(points, jnp.float32(t)), levels=12, cmap='Greys')
    axis_.set(xlim=(-2, 2), ylim=(-2, 2), xticks=[], yticks=[], aspect='equal')


# %% [markdown]
# ## The score is a field of arrows
#
# It points uphill. Near data (left) the arrows know the modes and say nothing useful in the empty plane between them; with noise
# (right) they all point to the middle, from everywhere. A diffusion model is this family of fields.

# %%
coarse = points[:: len(axis) // 14, :: len(axis) // 14]
figure, axes = plt.subplots(1, 4, figsize=(12, 3.2), layout='constrained')
for panel_, t in zip(axes, [0.02, 0.15, 0.35, 0.7], strict=True):
    panel(panel_, t)
    arrows = on_grid(score)(coarse, jnp.float32(t))
    length = jnp.linalg.norm(arrows, axis=-1, keepdims=True)
    panel_.quiver(*jnp.moveaxis(coarse, -1, 0), *jnp.moveaxis(arrows / jnp.sqrt(length), -1, 0), color='tab:blue', width=0.004)
    panel_.set_title(f't = {t}')
plt.show()

# %% [markdown]
# ## Langevin dynamics, plain and annealed
#
# $x \leftarrow x + \epsilon\, s(x) + \sqrt{2\epsilon}\, z$ leaves the density as it is, given time. Started on one side at little noise
# it does not find the other modes in any time we have; started at much noise and cooled it does.

# %%
levels = 12  # @param {type: "slider", min: 2, max: 30, step: 1}
visits = 20  # @param {type: "slider", min: 1, max: 100, step: 1}
walkers = 100 if FAST else 1500
begin = jnp.array([-0.8, -0.3]) + 0.1 * jax.random.normal(jax.random.key(0), (walkers, 2))


def run_langevin(times, starts):
    walk = lambda key, x: sample(key, x, denoise, langevin.annealed_langevin(path), times).x
    return jax.jit(jax.vmap(walk))(jax.random.split(jax.random.key(1), walkers), starts)


cold = float(grids.log_snr(path, 40)[-4])
plain = run_langevin(jnp.append(jnp.full(levels * visits, cold), 0.0), begin)
annealed = run_langevin(langevin.repeat(grids.log_snr(path, levels), visits - 1), jax.random.normal(jax.random.key(2), (walkers, 2)))
share = jax.jit(jax.vmap(lambda x: jnp.argmax(exact.posterior(path, plane, x, jnp.float32(0)))))
figure, axes = plt.subplots(1, 2, figsize=(7, 3.4), layout='constrained')
for panel_, name, ends in zip(axes, ['one level', 'annealed'], [plain, annealed], strict=True):
    panel(panel_, 0.001)
    panel_.scatter(*ends.T, s=2, color='tab:red', alpha=0.5)
    counts = np.bincount(share(ends), minlength=3) / walkers
    panel_.set_title(f'{name}: ' + ', '.join(f'{part:.0%}' for part in counts))
plt.show()
print('true shares:', ', '.join(f'{float(weight):.0%}' for weight in plane.weights))

# %% [markdown]
# ## Two ways back: stochastic and ordinary
#
# The reverse stochastic differential equation and the probability flow have the same density at every time, and quite different paths:
# left, the walks jitter, and forget where they began; right, they are smooth, never cross, and remember.

# %%
steps = 200  # @param {type: "slider", min: 10, max: 1000, step: 10}
steps = 20 if FAST else steps
line = exact.mixture([0.3, 0.5, 0.2], [[-0.6], [0.1], [0.7]], [0.0225, 0.04, 0.01])
ahead = exact.denoiser(path, line)
times = grids.uniform(path, steps)
starts = jnp.linspace(-2, 2, 11)[:, None]


def trails(solver):
    walk = lambda key, x: sample(key, x, ahead, solver, times, trace=lambda i, x, x0: x).trace
    return jax.jit(jax.vmap(walk))(jax.random.split(jax.random.key(5), len(starts)), starts)


height = np.linspace(-2.5, 2.5, 161)
band = jax.jit(jax.vmap(jax.vmap(lambda t, x: exact.log_density(path, line, x[None], t), (None, 0)), (0, None)))(times[:-1], height)
figure, axes = plt.subplots(1, 2, figsize=(11, 3.6), sharey=True, layout='constrained')
for panel_, name, solver in zip(axes, ['stochastic', 'ordinary'], [reverse_sde.euler_maruyama(path), heun(path)], strict=True):
    panel_.pcolormesh(times[:-1], height, jnp.exp(band).T ** 0.5, cmap='Greys', shading='nearest')
    colours = plt.cm.turbo(np.linspace(0.05, 0.95, len(starts)))
    for start, trail, colour in zip(starts, trails(solver), colours, strict=True):
        panel_.plot(times, jnp.concatenate([start, trail[:, 0]]), linewidth=1, color=colour)
    panel_.set(title=name, xlabel='time', xlim=(1, 0), ylim=(-2.5, 2.5))
plt.show()

# %% [markdown]
# ## What is the density of this point?
#
# Follow the ordinary equation from the point to the noise, whose density is known, and add up how much the flow compresses on the way.
# Left the answer, in the middle the truth, right their difference.

# %%
flow = on_grid(lambda x, _: likelihood.log_density(x, denoise, path, rtol=1e-4, atol=1e-4).value)
few = points[::4, ::4] if not FAST else points[::10, ::10]
found, known = flow(few, jnp.float32(0)), on_grid(lambda x, t: exact.log_density(path, plane, x, t))(few, jnp.float32(1e-5))
figure, axes = plt.subplots(1, 3, figsize=(11, 3.2), layout='constrained')
for panel_, name, values in zip(axes, ['by the flow', 'exact', 'difference'], [found, known, found - known], strict=True):
    bounds = dict(vmin=-12, vmax=1) if name != 'difference' else {}
    image = panel_.imshow(values, origin='lower', extent=(-2, 2, -2, 2), cmap='viridis', **bounds)
    panel_.set(title=f'{name}, nats', xticks=[], yticks=[])
    figure.colorbar(image, ax=panel_)
plt.show()
print(f'largest difference {float(jnp.max(jnp.abs(found - known))):.1e} nats')

# %% [markdown]
# A network replaces the closed form in everything that follows; the solvers above are the same.
