"""A denoiser of coarse noise, asked once (Kascenas et al., "Denoising autoencoders", MIDL 2022; "The role of noise", MedIA 2023).

It learnt to remove `noise.coarse` at one time t, and is given the image itself as if it were noised:

    r = E[x0 | x_t = alpha_t y],        map = |y - r|                                                    (1)

What is a lesion looks to it like noise of the size it learnt. The diffusion variant is `partial.restore` with `noise.coarse`.
"""

from jaxdiff.paths import GaussianPath
from jaxdiff.tasks.anomaly.finding import Finding, finding
from jaxdiff.types import Array, Denoiser, Time


def restore(image: Array, denoise: Denoiser, *, path: GaussianPath, time: Time) -> Finding:
    """One image (*spatial, channels) by (1), `time` being that whose noise the denoiser learnt. Nothing is drawn."""
    return finding(image, denoise(path.alpha(time) * image, time)[None])
