"""Volumes larger than memory: what fusing tiles costs in seams, and what it saves in memory.

Seams are measured where the truth is known: Gaussian fields whose covariance is a product over the axes,

    cov(v, w) = std^2 prod_a k(|v_a - w_a| / length),      k(d) = (1 + sqrt(3) d) exp(-sqrt(3) d)                              (1)

so that the exact denoiser of a volume, and that of a tile which knows nothing beyond its border, are each three small matrix products. Both walk
from the same noise; tiles see less, and what that does to the sample is its error. Memory is predicted by compiling, with shapes alone, a sampler
that no accelerator could run whole, and measured in fresh processes of this machine for one that it can.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import partial, reduce
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from jaxdiff import experiment, grids, parallel, paths, predict, report
from jaxdiff.benchmark.measured import Measured
from jaxdiff.nets.unet import UNet
from jaxdiff.paths import GaussianPath
from jaxdiff.solvers.ancestral import ddim
from jaxdiff.solvers.loop import sample
from jaxdiff.solvers.runge_kutta import heun
from jaxdiff.tiling import fuse, split, tiled
from jaxdiff.types import Array, Denoiser

BARS = (experiment.Bar('seam_error', '<=', 0.01), experiment.Bar('predicted_gib', '<=', 16.0))
GIB = 2**30


def measure(
    *,
    shape: Sequence[int] = (72, 72, 72),
    length: float = 3.0,
    tile: int = 32,
    overlap: int = 10,
    steps: int = 20,
    evaluations: int = 3,
    large: int = 512,
    large_tile: int = 64,
    large_overlap: int = 16,
    widths: Sequence[int] = (32, 64, 128, 256),
    real: int = 96,
    real_tile: int = 32,
    real_overlap: int = 8,
    real_widths: Sequence[int] = (8, 16),
    seed: int = 0,
) -> Measured:
    """The suite `volumes`.

    Args:
        shape, length: of the field (1), voxels; tile, overlap, steps: of its sampler, second-order Heun.
        evaluations: noises it starts from.
        large, large_tile, large_overlap, widths: side and tiles of the volume whose memory is predicted, and levels of its U-Net.
        real, ...: those of the volume that is made, with and without tiles.
    """
    walks = partial(samples, shape=shape, length=length, tile=tile, overlap=overlap, steps=steps)
    drawn = [walks(key=jax.random.key(seed + n)) for n in range(evaluations)]
    told = {side: predicted(large, side, large_overlap, widths) / GIB for side in (large_tile, 0)}
    peaks = {side: measured_peak(real, side, real_overlap, real_widths) / GIB for side in (real_tile, 0)}
    memory = lambda tiles, side: {'predicted_gib': told[tiles], 'measured_gib': peaks[side]}

    def evaluation(each: dict[str, np.ndarray]) -> experiment.Evaluation:
        errors = {name: {'seam_error': seam_error(y, each['whole'])} for name, y in each.items() if name != 'whole'}
        fused = {**errors.pop('fused'), **memory(large_tile, real_tile), 'memory_saved': told[0] / told[large_tile]}
        return experiment.Evaluation(fused, {}, {**errors, 'untiled': memory(0, 0)})

    row = lambda side, how, way, values: [f'{side}^3', how, way, f'{values[0]:.3g}', f'{values[1]:.3g}']
    rows = [
        row(large, 'predicted', f'tiles of {large_tile}, overlap {large_overlap}', (told[large_tile], told[0])),
        row(real, 'measured', f'tiles of {real_tile}, overlap {real_overlap}', (peaks[real_tile], peaks[0])),
    ]
    mesh = parallel.make_mesh()
    if mesh.size > 1:
        slabs = [predicted(real, 0, 0, real_widths, each) / GIB for each in (mesh, None)]
        rows.append(row(real, 'predicted, each device', f'split over {mesh.size} devices', slabs))
    caption = f'Memory of a whole sampler, float32, U-Nets of widths {tuple(widths)} and {tuple(real_widths)}.'
    picture = report.picture(
        figure(drawn[0]), 'One noise, four samplers.', alt='a field sampled whole, fused, without overlap, averaged after'
    )
    return Measured(
        evaluations=[evaluation(each) for each in drawn],
        tables=[{'caption': caption, 'header': ['volume', 'how', 'instead of whole', 'GiB', 'GiB whole'], 'rows': rows}],
        sections=[report.Section('Seams', '', [picture])],
        notes=[f'measured on the CPU in fresh processes; predicted by compiling for {jax.default_backend()}'],
    )


# ---- seams


def samples(*, shape: Sequence[int], length: float, tile: int, overlap: int, steps: int, key: Array) -> dict[str, np.ndarray]:
    """The field sampled from one noise: 'whole', 'fused', and as it should not be, in tiles 'without overlap' and 'averaged after'."""
    path = paths.cosine()
    times = grids.default(path, steps)
    walk = lambda denoise: lambda x: sample(key, x, denoise, heun(path), times).x
    part = field(path, [min(tile, size) for size in shape], length)
    noise = path.sigma(times[0]) * jax.random.normal(key, (*shape, 1))
    ways = {
        'whole': walk(field(path, shape, length)),
        'fused': walk(fuse(part, tile=tile, overlap=overlap)),
        'without overlap': walk(fuse(part, tile=tile, overlap=0)),
        'averaged after': tiled(walk(part), tile=tile, overlap=overlap),
    }
    return {name: np.asarray(jax.jit(way)(noise)) for name, way in ways.items()}


def field(path: GaussianPath, shape: Sequence[int], length: float, std: float = 0.5) -> Denoiser:
    """The exact denoiser of the field (1) on a grid of this shape, for x (*shape, 1)."""
    axes = [np.linalg.eigh(matern(np.abs(np.subtract.outer(np.arange(n), np.arange(n))) / length)) for n in shape]
    variances = jnp.asarray(std**2 * reduce(np.multiply.outer, (values for values, _ in axes)), jnp.float32)
    turns = [jnp.asarray(vectors, jnp.float32) for _, vectors in axes]

    def denoise(x: Array, t: Array) -> Array:
        alpha, sigma = path.alpha(t), path.sigma(t)
        along = _turned(x[..., 0], [turn.T for turn in turns])
        return _turned(alpha * variances / (alpha**2 * variances + sigma**2) * along, turns)[..., None]

    return denoise


def matern(distance: np.ndarray) -> np.ndarray:
    """k of (1), with one derivative in mean square."""
    return (1 + np.sqrt(3) * distance) * np.exp(-np.sqrt(3) * distance)


def seam_error(found: np.ndarray, whole: np.ndarray) -> float:
    """The mean step, across the worst of all planes between neighbouring voxels, of what distinguishes `found` (*spatial, C) from the sample of
    the whole; in units of the mean step between neighbours in the latter."""
    axes = range(whole.ndim - 1)
    gradient = np.mean(np.concatenate([np.abs(np.diff(whole, axis=axis)).ravel() for axis in axes]))
    worst = (np.abs(np.diff(found - whole, axis=axis)).mean(tuple(set(range(whole.ndim)) - {axis})).max() for axis in axes)
    return float(max(worst) / gradient)


def figure(drawn: dict[str, np.ndarray], scale: float = 20.0) -> Any:
    """The middle slices of `samples`, and below each `scale` times its difference from that of the whole."""
    images = {name: report.middle(y) for name, y in drawn.items()}
    titles = [name if name == 'whole' else f'{name}: {100 * seam_error(drawn[name], drawn["whole"]):.1f} %' for name in images]
    below = [None if name == 'whole' else scale * (image - images['whole']) for name, image in images.items()]
    return report.grid([list(images.values()), below], titles=titles, labels=('sample', f'{scale:g} x error'), note='A field.', size=1.9)


def _turned(x: Array, turns: Sequence[Array]) -> Array:
    for axis, turn in enumerate(turns):
        x = jnp.moveaxis(jnp.tensordot(turn, x, (1, axis), precision='highest'), 0, axis)
    return x


# ---- memory


def program(side: int, tile: int, overlap: int, widths: Sequence[int]) -> tuple[Callable, tuple]:
    """A sampler of volumes (side, side, side, 1) by a U-Net, in tiles unless `tile` is 0, and the shapes of its arguments.

    Two steps of DDIM: more of them take no more memory.
    """
    path, net = paths.cosine(), UNet(channels=1, widths=tuple(widths), dims=3, attention=())
    least = jax.ShapeDtypeStruct((1, *net.factor(), 1), jnp.float32)
    params = jax.eval_shape(net.init, jax.random.key(0), least, jax.ShapeDtypeStruct((1,), jnp.float32))

    def run(params, x):
        denoise = predict.as_denoiser(partial(net.apply, params), path, 'v')
        denoise = fuse(denoise, tile=tile, overlap=overlap) if tile else denoise
        return sample(jax.random.key(0), x, denoise, ddim(path), grids.default(path, 2)).x

    return run, (params, jax.ShapeDtypeStruct((side, side, side, 1), jnp.float32))


def predicted(side: int, tile: int, overlap: int, widths: Sequence[int], mesh: Mesh | None = None) -> int:
    """Bytes that the compiled `program` asks for, arguments and result included: of the device, or of each device of a mesh that splits it."""
    run, shapes = program(side, tile, overlap, widths)
    run = split(run, mesh) if mesh else jax.jit(run)
    analysis = run.lower(*shapes).compile().memory_analysis()
    return analysis.argument_size_in_bytes + analysis.output_size_in_bytes + analysis.temp_size_in_bytes


def measured_peak(side: int, tile: int, overlap: int, widths: Sequence[int]) -> int:
    """Bytes by which a fresh process grows while it runs the compiled `program`."""
    call = f'from jaxdiff.benchmark import volumes; volumes.grow({side}, {tile}, {overlap}, {tuple(widths)})'
    environment = {**os.environ, 'JAX_PLATFORMS': 'cpu'}  # an accelerator is the parent's
    done = subprocess.run([sys.executable, '-c', call], env=environment, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def grow(side: int, tile: int, overlap: int, widths: Sequence[int]) -> None:
    """Run the `program` in this process and print by how many bytes its largest extent exceeds that before (Linux)."""
    run, shapes = program(side, tile, overlap, widths)
    params = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes[0])
    run = jax.jit(run).lower(*shapes).compile()
    with open('/proc/self/clear_refs', 'w') as reset:
        reset.write('5')
    before = _status('VmRSS')
    jax.block_until_ready(run(params, np.ones(shapes[1].shape, np.float32)))
    print(_status('VmHWM') - before)


def _status(name: str) -> int:
    with open('/proc/self/status') as lines:
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))


if __name__ == '__main__':  # the figure of docs/volumes.md
    sampled = samples(shape=(96, 96), length=3.0, tile=32, overlap=10, steps=20, key=jax.random.key(0))
    report.picture(figure(sampled), '', alt='', path=sys.argv[1])
