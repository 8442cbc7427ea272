"""The same work done by the peers: MONAI's U-Net in PyTorch with any weights, forward or trained, in each of PyTorch's memory layouts.

Nothing here is imported unless it is called: the peers are optional (`pip install jaxdiff[peers]`). Arrays come and go as numpy, channels last.
"""

import contextlib
import copy
import importlib.util
import zlib
from collections.abc import Callable, Mapping
from importlib import metadata
from typing import Any

import numpy as np

PEERS = ('torch', 'diffusers', 'monai')
LAYOUTS = ('contiguous', 'channels last')


def missing(*names: str) -> list[str]:
    """Those of the peers (or of `names`) that are not installed."""
    return [name for name in names or PEERS if importlib.util.find_spec(name) is None]


def versions() -> dict[str, str]:
    """Versions of the peers installed."""
    return {name: metadata.version(name) for name in PEERS if not missing(name)}


def use_threads(count: int) -> None:
    """Let PyTorch use `count` threads."""
    import torch

    torch.set_num_threads(count)


def random_weights(shapes: Mapping[str, tuple[int, ...]], seed: int = 0) -> dict[str, np.ndarray]:
    """Weights by name, none of them zero, as those of a new network are in every last convolution, and of a size that hands signals on.

    Each is drawn from its own name, so that it is the same whatever others there are.
    """
    drawn = {}
    for name, shape in shapes.items():
        draw = np.random.default_rng([seed, zlib.crc32(name.encode())]).standard_normal(shape).astype(np.float32)
        gain = len(shape) == 1 and name.endswith('weight')  # of a norm
        drawn[name] = 1 + draw / 10 if gain else draw / 10 if len(shape) == 1 else draw / np.float32(np.prod(shape[1:])) ** 0.5
    return drawn


def unet(state: Mapping[str, np.ndarray] | None = None, **arguments: Any) -> Any:
    """MONAI's DiffusionModelUNet with these weights by name, by default `random_weights`, on the device that PyTorch has."""
    import torch
    from monai.networks.nets import DiffusionModelUNet

    net = DiffusionModelUNet(**arguments)
    state = random_weights({name: tuple(value.shape) for name, value in net.state_dict().items()}) if state is None else state
    net.load_state_dict({name: torch.from_numpy(value) for name, value in state.items()})
    return net.to(device())


def weights(net: Any) -> dict[str, np.ndarray]:
    """Copies of the weights of a network, by name."""
    return {name: value.detach().cpu().numpy().copy() for name, value in net.state_dict().items()}


def forward(
    net: Any, x: np.ndarray, t: np.ndarray, *, layout: str = 'contiguous', dtype: str = 'float32', compiled: bool = False
) -> Callable:
    """() -> net(x, t) as a tensor, channels first; x (batch, *spatial, channels), t (batch,). The network is copied."""
    import torch

    net, x, t = _copied(net, layout, compiled).eval(), _tensor(x, layout), _tensor(t)

    def call():
        with torch.inference_mode(), _casting(dtype):
            return _finished(net(x, t))

    return call


def train_step(
    net: Any,
    x: np.ndarray,
    t: np.ndarray,
    target: np.ndarray,
    *,
    rate: float = 1e-4,
    layout: str = 'contiguous',
    dtype: str = 'float32',
    compiled: bool = False,
) -> Callable:
    """() -> the loss before one step of Adam on the mean squared error to `target`. The network is copied, and the copy learns."""
    import torch

    net = _copied(net, layout, compiled).train()
    x, t, target = _tensor(x, layout), _tensor(t), _tensor(target, layout)
    optimizer = torch.optim.Adam(net.parameters(), lr=rate)

    def call():
        optimizer.zero_grad(set_to_none=True)
        with _casting(dtype):
            loss = torch.nn.functional.mse_loss(net(x, t).float(), target)
        loss.backward()
        optimizer.step()
        return _finished(loss.detach())

    return call


def contenders(make: Callable[..., Callable], *, compiled: bool = True) -> tuple[dict[str, Callable], list[str]]:
    """`make(layout=..., compiled=...)` in every way that works here, each called once, and a note where torch.compile does not."""
    calls = {f'torch eager, {layout}': make(layout=layout) for layout in LAYOUTS}
    for call in calls.values():
        call()
    if not compiled:
        return calls, []
    name = f'torch compiled, {LAYOUTS[-1]}'
    try:
        call = make(layout=LAYOUTS[-1], compiled=True)
        call()
    except Exception as error:  # as many kinds as there are compilers
        return calls, [f'{name}: {type(error).__name__}: {str(error).strip().splitlines()[0]}']
    return {**calls, name: call}, []


def device() -> str:
    """'cuda' where PyTorch has one, or 'cpu'."""
    import torch

    return 'cuda' if torch.cuda.is_available() else 'cpu'


def to_numpy(value: Any) -> np.ndarray:
    """A tensor (batch, channels, *spatial) as an array (batch, *spatial, channels)."""
    return np.moveaxis(value.float().cpu().numpy(), 1, -1)


def _tensor(value: np.ndarray, layout: str = 'contiguous') -> Any:
    import torch

    value = np.asarray(value, np.float32)
    value = np.ascontiguousarray(np.moveaxis(value, -1, 1)) if value.ndim > 1 else value.copy()
    tensor = torch.from_numpy(value).to(device())
    return tensor.contiguous(memory_format=_format(layout, value.ndim)) if value.ndim > 1 else tensor


def _copied(net: Any, layout: str, compiled: bool) -> Any:
    import torch

    net = copy.deepcopy(net)
    dims = max(value.ndim for value in net.parameters()) - 2
    net = net.to(memory_format=_format(layout, dims + 2))
    return torch.compile(net) if compiled else net


def _format(layout: str, rank: int) -> Any:
    import torch

    last = {4: torch.channels_last, 5: torch.channels_last_3d}
    return last[rank] if layout == 'channels last' else torch.contiguous_format


def _casting(dtype: str) -> Any:
    import torch

    return contextlib.nullcontext() if dtype == 'float32' else torch.autocast(device(), getattr(torch, dtype))


def _finished(value: Any) -> Any:
    import torch

    if value.is_cuda:
        torch.cuda.synchronize()
    return value
