"""The U-Net of OpenAI's guided-diffusion, by the flags that its scripts take, as a network of ours.

    spec, params = guided_diffusion.read(weights by name, image_size=64, num_channels=192, ...)
    model.make_network(spec).apply(params, x, t, label=label)           # x (batch, *spatial, channels): channels last

The three matrices of attention are one there. Of its output channels, numbered h heads, parts p of query, key and value, and c channels of a head,

    [h, p, c]  in the order it began with,    [p, h, c]  with use_new_attention_order.                                  (1)

The class that stands for a missing label is zeros. Dhariwal & Nichol, "Diffusion models beat GANs on image synthesis", NeurIPS 2021.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxdiff.interop import configuration, matching
from jaxdiff.interop.matching import Entry
from jaxdiff.types import Params, UserError

WHAT = 'guided-diffusion'
# times num_channels, by image_size
WIDTHS = {64: (1, 2, 3, 4), 128: (1, 1, 2, 3, 4), 256: (1, 1, 2, 2, 4, 4), 512: (0.5, 1, 1, 2, 2, 4, 4)}
DEFAULTS = {
    'image_size': 64,
    'num_channels': 128,
    'num_res_blocks': 2,
    'channel_mult': '',
    'attention_resolutions': '16,8',
    'num_heads': 4,
    'num_heads_upsample': -1,
    'num_head_channels': -1,
    'learn_sigma': False,
    'class_cond': False,
    'use_scale_shift_norm': True,
    'resblock_updown': False,
    'use_new_attention_order': False,
    'dropout': 0.0,
    'in_channels': 3,  # from here on what its scripts do not ask
    'out_channels': None,  # of the prediction, those of the input if not given
    'num_classes': 1000,
    'dims': 2,
}
IGNORED = (
    'use_checkpoint',
    'use_fp16',
    'diffusion_steps',
    'noise_schedule',
    'timestep_respacing',
    'use_kl',
    'predict_xstart',
    'rescale_timesteps',
    'rescale_learned_sigmas',
)
GROUPS = 32
OUTSIDE = {'time_in': 'time_embed.0', 'time_out': 'time_embed.2', 'stem': 'input_blocks.0.0', 'norm': 'out.0', 'head': 'out.2'}
RESIDUAL = {  # parts of a residual block: ours to theirs
    'norm_in': 'in_layers.0',
    'conv_in': 'in_layers.2',
    'embedding': 'emb_layers.1',
    'norm_out': 'out_layers.0',
    'conv_out': 'out_layers.3',
    'skip': 'skip_connection',
}
PARTS = ('query', 'key', 'value')


def read(state: Mapping[str, np.ndarray], **flags: Any) -> tuple[dict[str, Any], Params]:
    """The specification that `model.make_network` takes, and its parameters, from weights by name and the flags they were trained with.

    Raises `UserError` for flags whose network ours is not, and, in one line that lists them, for weights that are missing, unexpected
    or of another shape.
    """
    spec = specification(**flags)
    return spec, matching.fill(state, *_expected(**flags), f'a U-Net of {WHAT}')


def shapes(**flags: Any) -> dict[str, tuple[int, ...]]:
    """The weights that a network with these flags has: name -> shape."""
    return matching.shapes(_expected(**flags)[1])


def specification(**flags: Any) -> dict[str, Any]:
    """What `model.make_network` takes, from the flags. Raises `UserError` for what our network has not."""
    given = configuration.arguments(WHAT, flags, DEFAULTS, {'dims': (2, 1, 3)}, IGNORED)
    times = _numbers(given['channel_mult'], 'channel_mult', float) or WIDTHS.get(given['image_size'], ())
    if not times or times[0] != 1:
        raise UserError(
            f'channel_mult={times}: only networks whose first is 1 can be read; give those it was made with, or take another one'
        )
    widths = tuple(int(each * given['num_channels']) for each in times)
    configuration.divides(GROUPS, widths, 'groups of the norms')
    where = _numbers(given['attention_resolutions'], 'attention_resolutions', int)
    shrunk = {given['image_size'] // size for size in where if size > 0}
    attention = tuple(2**level in shrunk for level in range(len(widths)))
    if given['num_heads_upsample'] not in (-1, given['num_heads']) and given['num_head_channels'] == -1:
        raise UserError(f'num_heads_upsample={given["num_heads_upsample"]}: only networks with num_heads in both halves can be read')
    return {
        'name': 'unet',
        'design': 'adm' if given['resblock_updown'] else 'ddpm',
        'channels': given['in_channels'] if given['out_channels'] is None else given['out_channels'],
        'learned_variance': bool(given['learn_sigma']),
        'dims': given['dims'],
        'widths': widths,
        'blocks': given['num_res_blocks'],
        'attention': attention,
        'heads': _heads(given, widths, attention),
        'resample': (False, True, True) if given['dims'] == 3 else None,  # in volumes it leaves the depth as it is
        'norm': 'adaptive' if given['use_scale_shift_norm'] else 'add',
        'labels': given['num_classes'] if given['class_cond'] else 0,
        'groups': GROUPS,
        'eps': 1e-5,
        'dropout': given['dropout'],
    }


def _numbers(value: str | Sequence, name: str, kind: type) -> tuple:
    """'32,16,8' or a list as numbers. Raises `UserError` for what is none."""
    try:
        return tuple(kind(each) for each in (value.split(',') if isinstance(value, str) else value) if each != '')
    except (TypeError, ValueError):
        raise UserError(f'{name}={value}: not numbers; give them as 1,2,3') from None


def _heads(given: Mapping[str, Any], widths: Sequence[int], attention: Sequence[bool]) -> tuple[int, ...]:
    size = given['num_head_channels']
    attending = [width for width, attend in zip(widths, (*attention[:-1], True), strict=True) if attend]  # the middle as the last does
    configuration.divides(*((given['num_heads'], attending, 'num_heads') if size == -1 else (size, attending, 'num_head_channels')))
    return tuple(given['num_heads'] if size == -1 else max(width // size, 1) for width in widths)


def find(path: str, shape: tuple[int, ...], *, spec: Mapping[str, Any], together: bool) -> Entry:
    """Where a parameter of ours, such as 'params/decode_2_0/attention/query/kernel', comes from; `together` is the new order of (1)."""
    name = path.removeprefix('params/')
    if name == 'label/embedding':
        rows = {'label_emb.weight': (shape[0] - 1, shape[1])}
        return Entry(rows, lambda table: np.concatenate([table, np.zeros_like(table[:1])]))
    module, _, leaf = name.rpartition('/')
    layer, part = theirs(module, spec), module.rpartition('/')[2]
    if part in PARTS:
        return _third(layer, leaf, shape, PARTS.index(part), _heads_at(module, spec), together)
    if leaf == 'kernel':
        ones = {'skip': spec['dims'], 'project': 1}.get(part, 0)
        return matching.kernel(f'{layer}.weight', shape, ones)
    return matching.same(f'{layer}.{"bias" if leaf == "bias" else "weight"}', shape)


def theirs(module: str, spec: Mapping[str, Any]) -> str:
    """The name there of a layer of ours, such as 'decode_2_0/attention/query'."""
    if module in OUTSIDE:
        return OUTSIDE[module]
    place, _, rest = module.partition('/')
    kind, *numbers = place.split('_')
    level, n = (*map(int, numbers), 0)[:2]
    each, adm = spec['blocks'] + 1, spec['design'] == 'adm'
    above = (len(spec['widths']) - 1 - level) * each
    if kind == 'halve':
        return f'input_blocks.{level * each}.0.{RESIDUAL[rest] if adm else "op"}'
    if kind == 'double':
        return f'output_blocks.{above + each - 1}.{1 + spec["attention"][level]}.{RESIDUAL[rest] if adm else "conv"}'
    what, _, part = rest.partition('/')
    attends = what == 'attention'
    inside = {'norm': 'norm', 'project': 'proj_out'}.get(part, 'qkv') if attends else RESIDUAL[part]
    if kind == 'middle':
        return f'middle_block.{1 if attends else 2 * level}.{inside}'
    block = f'input_blocks.{level * each + n + 1}' if kind == 'encode' else f'output_blocks.{above + n}'
    return f'{block}.{int(attends)}.{inside}'


def _heads_at(module: str, spec: Mapping[str, Any]) -> int:
    kind, level, *_ = module.partition('/')[0].split('_')
    return spec['heads'][-1 if kind == 'middle' else int(level)]


def _third(layer: str, leaf: str, shape: tuple[int, ...], part: int, heads: int, together: bool) -> Entry:
    """Query, key or value out of the one array they are in, (1)."""
    outputs = shape[-1]
    order, axis = ((3, heads), 0) if together else ((heads, 3), 1)

    def make(value):
        own = value.reshape(*order, outputs // heads, -1).take(part, axis).reshape(outputs, -1)
        return own[:, 0] if leaf == 'bias' else own.T

    whole = (3 * outputs,) if leaf == 'bias' else (3 * outputs, shape[0], 1)
    return Entry({f'{layer}.{"bias" if leaf == "bias" else "weight"}': whole}, make)


def _expected(**flags: Any) -> tuple[Params, list[Entry]]:
    """The tree of our parameters, and where each comes from."""
    spec, given = specification(**flags), DEFAULTS | flags
    tree = configuration.image_tree(spec, given['in_channels'], configuration.time)
    found = functools.partial(find, spec=spec, together=bool(given['use_new_attention_order']))
    return tree, matching.entries(tree, found)
