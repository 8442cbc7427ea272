"""Small scans of heads with a lesion, and folders of them."""

import nibabel as nib
import numpy as np

AFFINE = np.array([[-1.9, 0.3, 0.1, 20.0], [0.3, 1.9, -0.2, -30.0], [0.1, 0.2, 3.0, 5.0], [0, 0, 0, 1]])
SHAPE = (20, 24, 6)


def head(seed, lesion=False):
    """A bright ellipsoid in darkness, brighter at a lesion, and the lesion."""
    rng = np.random.default_rng(seed)
    x, y, z = np.indices(SHAPE)
    inside = ((x - 10) / 8) ** 2 + ((y - 12) / 9) ** 2 + ((z - 3) / 4) ** 2 < 1
    mask = ((x - 12) ** 2 + (y - 14) ** 2 < 8) & (np.abs(z - 3) < 2) if lesion else np.zeros(SHAPE, bool)
    return np.where(inside, 300 + 20 * rng.standard_normal(SHAPE) + 300 * mask, 0).astype(np.float32), mask


def save(path, array, affine=AFFINE):
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.Nifti1Image(array, affine).to_filename(path)
    return str(path)


def brats(folder, count=4, contrasts=('t1', 't1ce', 't2', 'flair')):
    for n in range(count):
        image, mask = head(n, lesion=True)
        stem = f'BraTS2021_{n:05d}'
        for k, contrast in enumerate(contrasts):
            save(folder / stem / f'{stem}_{contrast}.nii.gz', image * (k + 1))
        save(folder / stem / f'{stem}_seg.nii.gz', 4 * mask.astype(np.uint8))
    return folder
