"""Pictures of anatomy, and curves.

Slices are stored (X, Y), canonical RAS: x towards the patient's right, y towards the front. They are drawn front up with the
patient's left at the left (the neurological convention), in a fixed window of intensities, and every picture says so at its foot;
pixels are interpolated for the eye.
Makers return a matplotlib `Figure` that no global state knows of; `picture` renders it for a file and for the page.
"""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

AXIAL = "Front up, patient's left at the left."
ORTHOGONAL = "Axial: front up; coronal: top up; patient's left at the left. Sagittal: front at the right."
_BLACK, _LIGHT, _DIM, _OUTLINE = '#000000', '#f2f2f2', '#9aa0a6', '#45d0ff'
_INK, _RULE = '#1c2126', '#d5d9dd'
_LINES = ('#1f5fa8', '#c8553d', '#2a8c6e', '#7a4fa3', '#b8860b', '#5c6670')
_STYLES = (('-', 'o'), ('--', 's'), (':', '^'), ('-.', 'D'))  # when colours run out

Slice = np.ndarray  # (X, Y) or (X, Y, 1)
Pair = tuple[float, float]


class Picture(NamedTuple):
    """A rendered figure; `caption` is read beside it, `alt` instead of it."""

    png: bytes
    caption: str
    alt: str


def grid(
    rows: Sequence[Sequence[Slice | None]],
    *,
    titles: Sequence[str] = (),
    labels: Sequence[str] = (),
    window: Pair = (-1.0, 1.0),
    spacing: Pair = (1.0, 1.0),
    note: str = AXIAL,
    size: float = 1.5,
) -> 'Figure':
    """Rows of slices, None for a gap, with `titles` over the columns and `labels` before the rows.

    All share one `window` (black, white); `spacing` is the size of a voxel along x and y, `size` the widest slice in inches.
    """
    figure, axes = _sheet(rows, titles, labels, spacing, size, f'{note} {_window(window)}')
    for row, line in zip(axes, rows, strict=True):
        for axis, image in zip(row, line, strict=False):
            if image is not None:
                _draw(axis, _grey(image, window), spacing)
    return figure


def tiles(images: Sequence[Slice], columns: int = 8) -> list[list[Slice | None]]:
    """A flat sequence of slices as the rows of `grid`, the last one filled up with gaps."""
    rows = [list(images[i : i + columns]) for i in range(0, len(images), columns)]
    return [row + [None] * (len(rows[0]) - len(row)) for row in rows]


def middle(image):
    """The slice of an image (X, Y, C), or the middle one of a volume (X, Y, Z, C), in its first channel, for a cell of `grid`."""
    return image[..., 0] if image.ndim == 3 else image[:, :, image.shape[2] // 2, 0]


def orthogonal(volume: np.ndarray, centre: tuple[int, int, int] | None = None) -> list[Slice]:
    """The axial, coronal and sagittal slices of a volume (X, Y, Z[, 1]) through `centre` (default: the middle), as a row of `grid`
    with `note=ORTHOGONAL`; voxels should be isotropic."""
    volume = volume.reshape(volume.shape[:3])
    x, y, z = centre or (n // 2 for n in volume.shape)
    return [volume[:, :, z], volume[:, y], volume[x]]


def anomalies(
    images: np.ndarray,
    scores: np.ndarray,
    *,
    restored: np.ndarray | None = None,
    lesions: np.ndarray | None = None,
    labels: Sequence[str] = (),
    score: str = 'anomaly score',
    top: float | None = None,
    window: Pair = (-1.0, 1.0),
    spacing: Pair = (1.0, 1.0),
    note: str = AXIAL,
    size: float = 2.2,
) -> 'Figure':
    """Per case the scan, what was restored (if given), and the score as a heat map over the anatomy, the true lesion outlined.

    images, restored (n, X, Y[, 1]); scores, boolean lesions (n, X, Y). Colour and opacity rise from 0 at score 0 to full at `top`
    (default: the 99.9th percentile of all scores).
    """
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    top = float(np.percentile(scores, 99.9)) if top is None else top
    scale = Normalize(0, top if top > 0 else 1.0, clip=True)
    between = [] if restored is None else [restored]
    rows = [[column[i] for column in (images, *between, images)] for i in range(len(images))]
    note = f'{note} {_window(window)}' + (' Blue outline: true lesion.' if lesions is not None else '')
    figure, axes = _sheet(rows, ['scan', *['restored'] * len(between), score], labels, spacing, size, note, right=0.7)
    for i, row in enumerate(axes):
        for axis, image in zip(row[:-1], rows[i], strict=False):
            _draw(axis, _grey(image, window), spacing)
        level = np.asarray(scale(np.asarray(scores[i], float)))[..., None]
        _draw(row[-1], (1 - level) * _grey(images[i], window) + level * colormaps['inferno'](level[..., 0])[..., :3], spacing)
        if lesions is not None and lesions[i].any():
            row[-1].contour(lesions[i].T, [0.5], colors=_OUTLINE, linewidths=1.0)
    high, low = axes[0][-1].get_position(), axes[-1][-1].get_position()
    inch = 1 / figure.get_figwidth()
    bar = figure.add_axes((high.x1 + 0.12 * inch, low.y0, 0.09 * inch, high.y1 - low.y0))
    figure.colorbar(ScalarMappable(scale, 'inferno'), cax=bar).outline.set_visible(False)
    bar.tick_params(colors=_LIGHT, labelsize=7, length=2)
    return figure


def curves(
    series: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    *,
    x: str = 'step',
    y: str = 'loss',
    smooth: float = 0.0,
    log: str = '',
    size: Pair = (6.4, 3.4),
) -> 'Figure':
    """Lines name -> (xs, ys), xs ascending; points that are not finite, or not positive on a logarithmic axis, are left out.

    `smooth` > 0 draws a centred mean of about that width in x over the pale raw line. `log` is '', 'x', 'y' or 'xy'.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout='constrained', facecolor='white')
    axis = figure.subplots()
    for i, (name, points) in enumerate(series.items()):
        xs, ys = np.asarray(points, float)
        keep = np.isfinite(xs) & np.isfinite(ys) & ((xs > 0) | ('x' not in log)) & ((ys > 0) | ('y' not in log))
        xs, ys, colour = xs[keep], ys[keep], _LINES[i % len(_LINES)]
        if smooth:
            axis.plot(xs, ys, color=colour, alpha=0.25, linewidth=0.8)
            ys = _smooth(xs, ys, smooth)
        style, marker = _STYLES[i // len(_LINES) % len(_STYLES)]
        axis.plot(xs, ys, style, color=colour, linewidth=1.6, label=name, marker=marker if len(xs) < 12 else None, markersize=4)
    axis.set_xscale('log' if 'x' in log else 'linear')
    axis.set_yscale('log' if 'y' in log else 'linear')
    axis.set_xlabel(x, color=_INK)
    axis.set_ylabel(f'{y} (smoothed, width {smooth:g})' if smooth else y, color=_INK)
    axis.spines[['top', 'right']].set_visible(False)
    axis.spines[['left', 'bottom']].set_color(_RULE)
    axis.grid(color=_RULE, linewidth=0.6)
    axis.set_axisbelow(True)
    axis.tick_params(which='both', color=_RULE, labelcolor=_INK, labelsize=8)
    if len(series) > 6:
        axis.legend(frameon=False, fontsize=8, loc='upper left', bbox_to_anchor=(1.01, 1.0), borderaxespad=0)
    elif len(series) > 1:
        axis.legend(frameon=False, fontsize=8)
    return figure


def picture(figure: 'Figure', caption: str, *, alt: str, path: str | Path | None = None, dpi: int = 160) -> Picture:
    """Render a figure, and write it to `path` (.png) if given."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format='png', dpi=dpi, facecolor=figure.get_facecolor())
    if path is not None:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_bytes(buffer.getvalue())
    return Picture(buffer.getvalue(), caption, alt)


def _sheet(rows, titles, labels, spacing, size, note, right=0.06):
    """A black figure with one bare axis per cell, laid out in inches so that nothing but the images takes room."""
    from matplotlib.figure import Figure

    extent = lambda images, axis: max((np.shape(image)[axis] * spacing[axis] for image in images if image is not None), default=0)
    columns = [[row[j] for row in rows if j < len(row)] for j in range(max(map(len, rows)))]
    scale = size / max(extent(column, 0) for column in columns)  # one scale for all: inches per millimetre
    wide, tall = [scale * extent(column, 0) for column in columns], [scale * extent(row, 1) for row in rows]
    gap, above, below = 0.05, 0.3 if len(titles) else 0.06, 0.24
    left = 0.14 + 0.075 * max(map(len, labels)) if len(labels) else 0.06
    width, height = left + sum(wide) + gap * (len(wide) - 1) + right, above + sum(tall) + gap * (len(tall) - 1) + below
    figure = Figure(figsize=(width, height), facecolor=_BLACK)
    axes, y = [], height - above
    for i, rise in enumerate(tall):
        y -= rise
        xs = left + np.cumsum([0, *wide[:-1]]) + gap * np.arange(len(wide))
        axes.append([figure.add_axes((x / width, y / height, w / width, rise / height)) for x, w in zip(xs, wide, strict=True)])
        if i < len(labels):
            figure.text(0.08 / width, (y + rise / 2) / height, labels[i], color=_LIGHT, fontsize=8, va='center')
        y -= gap
    for axis in (axis for row in axes for axis in row):
        axis.set_axis_off()
    for x, w, title in zip(xs, wide, titles, strict=False):
        figure.text((x + w / 2) / width, 1 - 0.2 / height, title, color=_LIGHT, fontsize=9, ha='center', va='baseline')
    figure.text(left / width, 0.08 / height, note, color=_DIM, fontsize=6.5, va='bottom')
    return figure, axes


def _window(window):
    return f'Window {window[0]:g} to {window[1]:g}.'.replace('-', '−')


def _grey(image, window):
    """The image (X, Y[, 1]) in its window as colours (X, Y, 3)."""
    low, high = window
    image = np.clip((np.asarray(image, float).reshape(image.shape[:2]) - low) / (high - low), 0, 1)
    return np.repeat(image[..., None], 3, axis=-1)


def _draw(axis, colours, spacing):
    """Columns run to the patient's right; rows, from the bottom, to the front."""
    axis.imshow(colours.swapaxes(0, 1), origin='lower', interpolation='bicubic', aspect=spacing[1] / spacing[0])


def _smooth(xs, ys, width):
    """Mean under the kernel exp(-2 |x - x'| / width), by one sweep up and one down."""
    decay = np.exp(-2 * np.abs(np.diff(xs)) / width)

    def sweep(values, decay):
        values = values.copy()
        for i, factor in enumerate(decay):
            values[i + 1] += factor * values[i]
        return values

    both = lambda values: sweep(values, decay) + sweep(values[::-1], decay[::-1])[::-1] - values
    return both(ys) / both(np.ones_like(ys))
