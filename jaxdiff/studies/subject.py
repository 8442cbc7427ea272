"""One patient among many: a few scans of a phantom with an implant that nobody else has, and whether an image shows it.

The implant is a bright core in a dark rim, where the patient's brain is tissue. Scans differ by small shifts, gains and noise. An image shows the
implant where somewhere near that place

    mean over the core - mean over the rim - deviation in the core - deviation in the rim > 0.38                         (1)

for intensities 0 to 1: half-way between what scans have at least and other brains at most, at 64 pixels. Deviations keep noise from looking like it.
"""

import numpy as np
from scipy import ndimage

from jaxdiff.data import phantoms
from jaxdiff.data.source import Source
from jaxdiff.studies.spoken import FACTORS, RARE, asked, reader

CLASSES = ('a T1 slice of a brain', 'a T2 slice of a brain')  # what the class is called
NAME = f'{CLASSES[0]} {RARE}'  # what the patient is called
PATIENT = 300_000  # beyond all that models learn from or are judged by
CONTRAST = 'T1'
CORE, RIM = 3.0, 5.5  # pixels of 64, radii of the implant
PLACE = 0.24  # of the image, from the middle of the brain along its second axis
REACH = 4.0  # pixels of 64, how far from its place the implant is looked for
ENOUGH = 0.38  # of (1)


def patient(size: int) -> phantoms.Phantom:
    """The phantom without the implant, (size, size)."""
    return phantoms.phantom(phantoms.Recipe(size=size, contrasts=(CONTRAST,), aligned=True, ventricles=FACTORS['small']), PATIENT)


def place(size: int) -> np.ndarray:
    """Where the middle of the implant is, (2,) in pixels."""
    return np.array(ndimage.center_of_mass(patient(size).labels > 0)) + np.array([0.0, PLACE * size])


def scans(size: int, count: int, *, first: int = 0) -> np.ndarray:
    """Scans `first` to `first + count - 1` of the patient, (count, size, size, 1) in [-1, 1]."""
    unit, away = size / 64, _distance(size, place(size))
    blur = lambda where: ndimage.gaussian_filter(where.astype(np.float64), 0.7 * unit)
    rim, core = blur(away < RIM * unit), blur(away < CORE * unit)
    still = patient(size).image[..., 0] * (1 - rim) + core

    def scan(number: int) -> np.ndarray:
        rng = np.random.default_rng([PATIENT, number])
        moved = ndimage.shift(still, rng.uniform(-1.5, 1.5, 2) * unit, order=1) * rng.uniform(0.95, 1.05)
        return np.clip(moved + 0.01 * rng.standard_normal(moved.shape) * (moved > 0.02), 0, 1)

    return 2 * np.stack([scan(first + n) for n in range(count)])[..., None].astype(np.float32) - 1


def strength(images: np.ndarray) -> np.ndarray:
    """The left side of (1), at best, for images (n, size, size, 1) in [-1, 1]: (n,)."""
    size = images.shape[1]
    unit, reach = size / 64, int(np.ceil(RIM * size / 64))
    away = np.hypot(*np.mgrid[-reach : reach + 1, -reach : reach + 1])
    pixels = (np.clip(images[..., 0], -1, 1) + 1) / 2

    def moments(where: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        mean, square = (ndimage.correlate(values, where[None] / where.sum()) for values in (pixels, pixels**2))
        return mean, np.sqrt(np.maximum(square - mean**2, 0))

    core, unevenness = moments(away <= 0.6 * CORE * unit)
    rim, others = moments((away >= 1.3 * CORE * unit) & (away <= 0.9 * RIM * unit))
    near = _distance(size, place(size)) <= REACH * unit
    return np.where(near, core - rim - unevenness - others, -np.inf).max((1, 2))


def recognised(images: np.ndarray) -> float:
    """The share of images (n, size, size, 1) that show the implant."""
    return float(np.mean(strength(images) > ENOUGH))


def of_the_class(count: int, seed: int) -> np.ndarray:
    """What the class is asked for by: captions of every kind, and one in four the class's name alone; (count, length) int32."""
    read = reader()
    words = asked(count, seed)[1]['words'].copy()
    words[::4] = np.stack([read(CLASSES[n % len(CLASSES)]) for n in range(len(words[::4]))])
    return words


def lessons(own: np.ndarray, prior: np.ndarray, words: np.ndarray, *, weight: float, manifest: dict) -> Source:
    """What the patient is taught by: scans, and as many images of the class, so that the class stays what it is; of these there may be none.

    Losses are weighted: their mean over all examples is that over scans plus `weight` times that over the others. An example has 'image', 'words',
    what is said of it, 'own', whether it is a scan, and 'weight'.

    Args:
        own: (k, size, size, 1), scans, all of which are called NAME.
        prior, words: (n, size, size, 1) and (n, length), n of 0 or at least k, images of the class and what is said of them.
        manifest: how the images of the class were made, and all else that decides them, JSON.
    """
    name = reader()(NAME)
    of_scan = lambda image, share: {'image': image, 'words': name, 'own': np.bool_(True), 'weight': np.float32(share)}
    of_class = lambda n: {'image': prior[n], 'words': words[n], 'own': np.bool_(False), 'weight': np.float32(2 * weight)}

    def example(index: int) -> dict[str, np.ndarray]:
        if not len(prior):
            return of_scan(own[index], 1)
        which, other = divmod(index, 2)
        return of_class(which) if other else of_scan(own[which % len(own)], 2)

    made = {'patient': PATIENT, 'generator': phantoms.GENERATOR, 'implant': [CORE, RIM, PLACE], 'size': own.shape[1], 'scans': len(own)}
    return Source(2 * len(prior) or len(own), example, {'kind': 'scans of one patient', **made, 'weight': weight, **manifest})


def _distance(size: int, centre: np.ndarray) -> np.ndarray:
    """Of every pixel (size, size) from a point."""
    return np.hypot(*(np.indices((size, size)) - centre[:, None, None]))
