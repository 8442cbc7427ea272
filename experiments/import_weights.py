"""Import a network that another library has trained, as a model that the other scripts can use.

    python experiments/import_weights.py --from=monai --file=model.pt --arguments=network.json --shape=64,64 --out=runs/imported
    python experiments/import_weights.py --from=diffusers --file=folder --path=scaled_linear --out=runs/imported
    python experiments/sample.py --model=runs/imported --count=4
    python experiments/sample.py --model=runs/imported --autoencoder=runs/vae        a model of latents

`--arguments` is a JSON file with the arguments that the network was made with, or a bundle of MONAI that defines it; a folder with config.json needs
none. How the network was trained, no file of weights says: `--path` and `--kind` must, and `--betas` where they are not the usual ones. Denoisers
are saved as model.json and model.npz, autoencoders as autoencoder.json and .npz, and so on. A ControlNet and the U-Net in `--trunk`, imported
before, become one model. Without a file a small network with random weights is imported, to show the way.
"""

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxdiff import experiment, model
from jaxdiff.clock import Clock
from jaxdiff.data import preprocess
from jaxdiff.data.scope import Seen
from jaxdiff.experiment import Evaluation, option
from jaxdiff.interop import families, files
from jaxdiff.interop.monai import control, unet
from jaxdiff.model import Model
from jaxdiff.predict import KINDS
from jaxdiff.types import Params, UserError
from jaxdiff.workdir import open_workdir, peak_memory

TABLES = ('linear', 'scaled_linear', 'cosine_table', 'sigmoid', 'zero_snr')
FAR = 1e6  # mm: nothing is known of what it was trained on, and nothing refused
SMALL = {'spatial_dims': 2, 'in_channels': 1, 'out_channels': 1, 'channels': [8, 8], 'num_res_blocks': 1, 'norm_num_groups': 4}


@dataclass(frozen=True, kw_only=True)
class Config(experiment.Config):
    data: str = option('', 'there is none', choices=('',))
    source: str = option('monai', 'library that trained it', choices=families.LIBRARIES, flag='from')
    file: str = option('', 'safetensors, .npz, .pt, .pth, .bin or .ckpt, or a folder with one of them')
    arguments: str = option('', 'JSON file with the arguments that the network was made with; by default config.json beside the file')
    path: str = option('linear', 'how its data became noise', choices=tuple(model.PATHS))
    timesteps: int = option(1000, 'steps of that where it is a table of betas', low=1)
    betas: tuple = option((), 'first and last of the betas, where they are not the usual ones of the path')
    kind: str = option('eps', 'what it predicts', choices=KINDS)
    shape: tuple = option((), 'pixels of images along each axis, by default the fewest that the network takes, or 64 where that is more')
    scale: float = option(0.0, 'of an autoencoder: what its latents are multiplied by; by default what its configuration says', low=0)
    trunk: str = option('', 'of a ControlNet: workdir of the U-Net that it belongs to')
    out: str = option('', 'another name for --workdir')


PRESETS = {'smoke': {}, 'cpu': {}, 'gpu': {}, 'paper': {}}


class Found(NamedTuple):
    """What was read: the part of a workdir that it is, its class, its specification and parameters, the sha256 of its file, and a scale."""

    part: str
    name: str
    spec: dict[str, Any]
    params: Params
    digest: str
    scale: float | None = None  # of an autoencoder's latents, where its arguments say it


def run(config: Config) -> dict[str, Any]:
    """Read, check and save; returns what result.json holds."""
    clock = Clock()
    config = dataclasses.replace(config, workdir=config.out or config.workdir)
    found = read(config) if config.file else invented(config)
    trunk = trunk_of(config, found)
    made = imported(config, found) if trunk is None else steered(trunk, found)
    if config.dry_run:
        print(f'{found.name} of {config.source}: {model.count(made.params):,} parameters')
        return {}
    manifest = {'file': Path(config.file).name, 'sha256': found.digest}
    folder = open_workdir(config, manifest, name='import_weights')
    part = 'model' if trunk else found.part
    model.save(made, folder.root / part)
    clock.lap('data')
    result = {
        **experiment.headline('import_weights', config, manifest),
        'wall_s': clock.seconds(),
        'peak_memory_bytes': peak_memory(),
        'parameters': {part: model.count(made.params)},
        **experiment.verdict([Evaluation({}, {}, {})], ()),
    }
    experiment.conclude(folder, result, [], receipts=config.receipts)
    return result


def read(config: Config) -> Found:
    """The network of the flags. Raises `UserError` for a file that cannot be read, or that is not of the network its arguments describe."""
    state, known = files.read(config.file), families.classes(config.source)
    arguments = files.arguments(config.arguments, known) if config.arguments else files.config(config.file)
    if not arguments:
        raise UserError(f'--arguments: {config.file} does not say how its network was made; give a JSON file with the arguments')
    name = families.choose(config.source, arguments, state)
    spec, params = families.read(config.source, name, state, arguments)
    with open(files.find(config.file), 'rb') as opened:
        digest = hashlib.file_digest(opened, 'sha256').hexdigest()
    return Found(families.FAMILIES[config.source, name].part, name, spec, params, digest, families.scale(config.source, name, arguments))


def invented(config: Config) -> Found:
    """A small network of MONAI with random weights."""
    if config.preset != 'smoke' or config.source != 'monai':
        raise UserError('--file: name the file of weights to be imported')
    rng = np.random.default_rng(config.seed)
    arguments = {**SMALL, 'attention_levels': [False, True]}
    state = {name: rng.standard_normal(shape).astype(np.float32) / 10 for name, shape in unet.shapes(**arguments).items()}
    return Found('model', 'DiffusionModelUNet', *unet.read(state, **arguments), 'random')


def trunk_of(config: Config, found: Found) -> Model | None:
    """The U-Net that a ControlNet belongs to; None for anything else."""
    if found.part != 'control':
        if config.trunk:
            raise UserError(f'--trunk: a {found.name} has none; leave the flag out')
        return None
    if not (Path(config.trunk) / 'model.npz').exists() or not config.trunk:
        raise UserError(
            f'--trunk={config.trunk}: no U-Net there; a ControlNet needs the one it belongs to: import that first, and name its workdir'
        )
    return model.load(Path(config.trunk) / 'model')


def steered(trunk: Model, found: Found) -> Model:
    """The model of a U-Net with a ControlNet beside it, whose hint is as large as what latents of the trunk are latents of."""
    spec, params = control.join((trunk.network, trunk.params), (found.spec, found.params))
    spec = json.loads(json.dumps(spec))
    *shape, _ = trunk.card['shape']
    times = 2 ** (len(spec['hint_widths']) - 1)
    told = {**trunk.card.get('conditioning', {}), 'hint': [*(times * size for size in shape), spec['hint']]}
    return trunk._replace(network=spec, params=params, card={**trunk.card, 'conditioning': told, 'state_digest': found.digest})


def imported(config: Config, found: Found) -> Model:
    """The model of what was read, its specification as JSON has it."""
    spec = json.loads(json.dumps(found.spec))
    if config.scale and found.part != 'autoencoder':
        raise UserError(f'--scale: a {found.name} has no latents; leave the flag out')
    card = {'state_digest': found.digest, 'imported': {'from': config.source, 'class': found.name, 'file': Path(config.file).name}}
    if found.part == 'text':
        return Model(spec, {}, '', found.params, {}, card)
    shape, channels = sized(config, found), inputs(found)
    prepare = preprocess.to_json(unknown(shape, channels))
    if found.part != 'model':
        scale = config.scale or found.scale
        card |= {'latent': {'scale': scale}} if scale and found.part == 'autoencoder' else {}
        return Model(spec, {}, '', found.params, prepare, {'shape': [*shape, channels], **card})
    if spec['channels'] != channels:
        raise UserError(
            f'{config.file}: takes {channels} channels and gives {spec["channels"]}; only denoisers of what they take can be imported'
        )
    told = {'label': []} if spec.get('labels') else {}
    path = {'name': config.path, **betas(config)}
    model.make_path(path)
    return Model(spec, path, config.kind, found.params, prepare, {'shape': [*shape, channels], 'conditioning': told, **card})


def betas(config: Config) -> dict[str, float]:
    """What the flags say about a path that is a table."""
    if config.path not in TABLES:
        if config.betas:
            raise UserError(f'--betas: {config.path} has none; leave the flag out, or choose a --path of {", ".join(TABLES)}')
        return {}
    try:
        ends = dict(zip(('start', 'end'), map(float, config.betas), strict=bool(config.betas)))
    except ValueError:
        raise UserError(f'--betas={",".join(config.betas)}: give the first and the last, such as 0.0015,0.0195') from None
    return {'steps': config.timesteps, **ends}


def inputs(found: Found) -> int:
    """Channels of the images that the network takes."""
    tree = found.params['params']
    tree = tree.get('encoder', tree)
    return int(tree['stem' if 'stem' in tree else 'halve_0']['kernel'].shape[-2])


def sized(config: Config, found: Found) -> tuple[int, ...]:
    """Pixels along each axis. Raises `UserError` for sizes that the network does not take."""
    factor = model.make_network(found.spec).factor()
    if not config.shape:
        return tuple(-(-64 // each) * each for each in factor)
    if not all(size.isdecimal() and int(size) for size in config.shape) or len(config.shape) != len(factor):
        raise UserError(f'--shape={",".join(config.shape)}: give {len(factor)} sizes in pixels')
    shape = tuple(map(int, config.shape))
    if any(size % each for size, each in zip(shape, factor, strict=True)):
        raise UserError(f'--shape={",".join(config.shape)}: the network needs multiples of {factor}')
    return shape


def unknown(shape: tuple[int, ...], channels: int) -> preprocess.Preprocess:
    """Images of that shape in the range [-1, 1], of which nothing else is known."""
    anything = ((0.0,) * 3, (FAR,) * 3)
    seen = Seen(spacing=anything, extent=anything, intensity=((-FAR, FAR),) * channels)
    ends = ((0.5,) * channels, (99.5,) * channels)
    return preprocess.Preprocess(len(shape), shape, channels, None, 'field', 'percentile', *ends, seen)


if __name__ == '__main__':
    experiment.main(Config, PRESETS, run)
