"""The scripts of one folder run side by side: each a system with flags, plans and parts of its own, models told apart by their system's name."""

import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple

from jaxdiff import experiment
from jaxdiff.plans import Later, Plan
from jaxdiff.types import UserError

OWN = ('systems', 'workdir', 'resume')  # flags of who asks, which its scripts do not share: what lies in its workdir are its own flags


class System(NamedTuple):
    """A script: its name, its flags, and its PARTS."""

    name: str
    config: experiment.Config
    parts: Any

    def own(self, named: Mapping[str, Any], shared: Sequence[str]) -> dict[str, Any]:
        """Of things named '<system> <name>' this one's, by their names, and those that all share."""
        mine = f'{self.name} '
        return {name.removeprefix(mine): each for name, each in named.items() if name in shared or name.startswith(mine)}


def known(script: str) -> tuple[str, ...]:
    """Names of the scripts beside this one."""
    here = Path(script).resolve()
    return tuple(sorted(file.stem for file in here.parent.glob('*.py') if file != here))


def systems(script: str, config: Any, presets: Mapping[str, Mapping[str, Any]]) -> tuple[System, ...]:
    """Those that `config.systems` names, each at its own preset, with what `config` says otherwise than its preset among `presets`.

    Raises `UserError` for a name that is none.
    """
    here, found = Path(script).resolve(), []
    usual = experiment.configure(type(config), presets, preset=config.preset)
    told = {each.name: getattr(config, each.name) for each in fields(config) if each.name not in OWN}
    shared = {name: value for name, value in told.items() if name == 'preset' or value != getattr(usual, name)}
    for name in config.systems:
        if name not in known(script):
            raise UserError(f'--systems={name}: choose among {", ".join(known(script))}')
        spec = importlib.util.spec_from_file_location(f'{here.parent.name}_{name}', here.parent / f'{name}.py')
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        found.append(System(name, experiment.configure(module.Config, module.PRESETS, **shared), module.PARTS))
    return tuple(found)


def renamed(system: System, todo: Sequence[Plan | Later], shared: Sequence[str]) -> list[Plan | Later]:
    """A system's plans under its name, those that all share left out; what is trained after others, after those of its own system."""
    mine = [each for each in todo if not (isinstance(each, Plan) and each.stage.name in shared)]
    return [_renamed(system, each, shared) for each in mine]


def _renamed(system: System, each: Plan | Later, shared: Sequence[str]) -> Plan | Later:
    if isinstance(each, Plan):
        return each._replace(stage=each.stage._replace(name=f'{system.name} {each.stage.name}'))
    return lambda trained: _renamed(system, each(system.own(trained, shared)), shared)
