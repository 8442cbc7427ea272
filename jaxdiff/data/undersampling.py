"""Which parts of k-space are measured: the masks of fastMRI and of score-MRI, True where k-space is sampled, zero frequency in the middle.

Of W columns, n = round(c W) in the middle are always sampled, from (W - n + 1) // 2 on, c being the share `centre`; usual are c = .08 at an
acceleration a = 4 and .04 at 8. fastMRI's (Zbontar et al., arXiv 1811.08839):

    random                 each column with probability (W / a - n) / (W - n)                                 (1)
    equispaced             every a-th column from a random one, so that a is exceeded by the centre
    equispaced_fraction    columns round(o + k a'), a' = a (n - W) / (n a - W): a on the whole                (2)
    magic                  every a-th column on either side, so placed that no two are conjugates (a > 2)   (3)

score-MRI's (Chung and Ye, Medical Image Analysis 2022), whose draws collide, so that the actual acceleration exceeds a:

    gaussian1d             int(1.2 (W // a)) columns of N(W / 2, (15 W / 128)^2), and the centre              (4)
    uniform1d              W // a - int(c W) columns at random, and the centre
    gaussian2d             N^2 // a points of N(N / 2, 1.5 N^2 / 128), no centre                              (5)

and Poisson discs of variable density: points no two of which are nearer than a distance that grows from the centre (Lustig et al., MRM 2007).
Always report `acceleration(mask)`, not a. (On 64 columns of random 4x and 8x, equispaced_fraction 4x and 8x, gaussian1d 4x and 8x, on average
.25, .12, .25, .12, .25, .14 are sampled.)

Generators are numpy's legacy ones, which draw as the authors' code does: `generator(name)` of a file gives fastMRI's mask of that file.
"""

import numpy as np

from jaxdiff.types import UserError

Generator = np.random.RandomState


def generator(name: str) -> Generator:
    """A generator seeded by the characters of a file's name, without its folder: one mask for all slices of a volume."""
    return np.random.RandomState([ord(character) for character in name])


def acceleration(mask: np.ndarray) -> float:
    """How many times fewer samples than all of k-space the mask keeps; infinite for none."""
    kept = np.count_nonzero(mask)
    return mask.size / kept if kept else float('inf')


def random(rng: Generator, width: int, nominal: float, centre: float) -> np.ndarray:
    """(W,) bool, equation (1): the acceleration is `nominal` on average. Raises UserError where the centre alone exceeds it."""
    low = _low(width, nominal, centre)
    return (rng.uniform(size=width) < (width / nominal - low) / (width - low)) | _centre(width, low)


def equispaced(rng: Generator, width: int, nominal: int, centre: float) -> np.ndarray:
    """(W,) bool: every `nominal`-th column, and the centre."""
    mask = _centre(width, _low(width, nominal, centre))
    mask[rng.randint(0, nominal) :: nominal] = True
    return mask


def equispaced_fraction(rng: Generator, width: int, nominal: float, centre: float) -> np.ndarray:
    """(W,) bool, equation (2): nearly equispaced columns that with the centre make the `nominal` acceleration."""
    low = _low(width, nominal, centre)
    stride = nominal * (low - width) / (low * nominal - width)
    mask = _centre(width, low)
    mask[np.around(np.arange(rng.randint(0, round(stride)), width - 1, stride)).astype(int)] = True
    return mask


def magic(rng: Generator, width: int, nominal: int, centre: float) -> np.ndarray:
    """(W,) bool, equation (3): the offsets on the two sides of the zero frequency are shifted against each other, and the centre."""
    mask = _centre(width, _low(width, nominal, centre))
    offset = rng.randint(0, nominal)
    positive, negative = (offset + 1, offset + 2) if offset % 2 == 0 else (offset + 2, offset - 1)
    sides = np.zeros((width + 1) // 2, bool), np.zeros(width // 2, bool)
    sides[0][positive::nominal] = True
    sides[1][negative::nominal] = True
    return mask | np.fft.fftshift(np.concatenate([sides[0], sides[1][::-1]]))


def gaussian1d(rng: Generator, width: int, nominal: float, centre: float) -> np.ndarray:
    """(W,) bool, equation (4): more columns near the zero frequency."""
    drawn = rng.normal(width // 2, width * 15 / 128, int(width // nominal * 1.2)).astype(int)
    mask = _block(width, int(width * centre))
    mask[np.clip(drawn, 0, width - 1)] = True
    return mask


def uniform1d(rng: Generator, width: int, nominal: float, centre: float) -> np.ndarray:
    """(W,) bool: columns with equal chances, drawn with replacement, and the centre. Raises UserError where the centre alone exceeds `nominal`."""
    low, wanted = int(width * centre), int(width // nominal)
    if low > wanted:
        raise _too_many(low, width, nominal)
    mask = _block(width, low)
    mask[rng.choice(width, wanted - low)] = True
    return mask


def gaussian2d(rng: Generator, shape: tuple[int, int], nominal: float) -> np.ndarray:
    """(H, W) bool, equation (5): single frequencies, as two phase encodings of a volume can sample them."""
    sizes = np.array(shape)
    drawn = rng.multivariate_normal(sizes // 2, np.diag(sizes * (sizes * 1.5 / 128)), int(sizes.prod() // nominal)).astype(int)
    mask = np.zeros(shape, bool)
    mask[tuple(np.clip(drawn, 0, sizes - 1).T)] = True
    return mask


def poisson(rng: Generator, shape: tuple[int, int], nominal: float, *, centre: float = 0.08, tolerance: float = 0.05) -> np.ndarray:
    """(H, W) bool: a disc of full sampling of radius `centre` (of the half width), and points at distances 1 + s r of each other, r in 0..1.

    The slope s is found by bisection, with one order of visiting the points for all s. Raises UserError where no slope gives the
    acceleration within the relative tolerance.
    """
    axes = [(np.arange(n) - n // 2) / (n / 2) for n in shape]
    radius = np.hypot(axes[0][:, None], axes[1])
    order, low, high = rng.permutation(radius.size), 0.0, float(max(shape))
    for _ in range(20):
        slope = (low + high) / 2
        mask = _darts(order, 1 + slope * np.minimum(radius, 1)) | (radius <= centre)
        found = acceleration(mask)
        if abs(found / nominal - 1) <= tolerance:
            return mask
        low, high = (slope, high) if found < nominal else (low, slope)
    raise UserError(
        f'poisson mask of {shape}: no density gives an acceleration of {nominal:g}: ask for less, or for a smaller centre than {centre:g}'
    )


COLUMNS = {each.__name__: each for each in (random, equispaced, equispaced_fraction, magic, gaussian1d, uniform1d)}
POINTS = {each.__name__: each for each in (gaussian2d, poisson)}


def drawn(kind: str, rng: Generator, shape: tuple[int, int], nominal: float, centre: float) -> np.ndarray:
    """A mask (H, W) of the kind of that name; `centre` is not read by those of POINTS. Raises UserError for another name."""
    if kind in COLUMNS:
        return np.broadcast_to(COLUMNS[kind](rng, shape[1], nominal, centre), shape)
    if kind in POINTS:
        return POINTS[kind](rng, shape, nominal)
    raise UserError(f'mask {kind!r}: choose from {", ".join([*COLUMNS, *POINTS])}')


def within(mask: np.ndarray, padding: tuple[int, int]) -> np.ndarray:
    """The mask (..., W) with nothing sampled outside columns left <= w < right, which hold zeros that nobody measured."""
    columns = np.arange(mask.shape[-1])
    return mask & (padding[0] <= columns) & (columns < padding[1])


def _low(width: int, nominal: float, centre: float) -> int:
    low = round(width * centre)
    if nominal < 1 or low * nominal >= width:
        raise _too_many(low, width, nominal)
    return low


def _too_many(low: int, width: int, nominal: float) -> UserError:
    return UserError(f'mask: {low} central columns of {width} leave none for an acceleration of {nominal:g}: lower the share of the centre')


def _centre(width: int, low: int) -> np.ndarray:
    """fastMRI's central columns."""
    first = (width - low + 1) // 2
    columns = np.arange(width)
    return (first <= columns) & (columns < first + low)


def _block(width: int, low: int) -> np.ndarray:
    """score-MRI's central columns."""
    columns = np.arange(width) - (width // 2 - low // 2)
    return (columns >= 0) & (columns < low)


def _darts(order: np.ndarray, distance: np.ndarray) -> np.ndarray:
    """Points taken in the order given unless within the distance (of the point already taken) of one that was."""
    height, width = distance.shape
    taken, blocked = np.zeros(distance.shape, bool), np.zeros(distance.shape, bool)
    for place in order:
        i, j = divmod(int(place), width)
        if blocked[i, j]:
            continue
        taken[i, j] = True
        reach = distance[i, j]
        n = int(np.ceil(reach)) - 1
        top, left = max(i - n, 0), max(j - n, 0)
        rows, columns = np.ogrid[top : min(i + n + 1, height), left : min(j + n + 1, width)]
        blocked[top : i + n + 1, left : j + n + 1] |= (rows - i) ** 2 + (columns - j) ** 2 < reach**2
    return taken
