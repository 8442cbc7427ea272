"""What every script shares: a frozen dataclass becomes flags, evaluations become a verdict, a verdict becomes an exit status.

A script owns its `Config`, `PRESETS` and `run(config)`; `main` adds the command line. Exit status: 0 done, 1 a bar was missed under `--check`,
2 a mistake in a flag, file or folder (one line says which and what to do), 130 interrupted and saved.
"""

import dataclasses
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from absl import app, flags, logging

from jaxdiff import parallel, processes, report
from jaxdiff.types import Interrupted, UserError
from jaxdiff.workdir import Workdir, digest, environment, settings_of, write_json

PRESETS = ('smoke', 'cpu', 'gpu', 'paper')
flags.disclaim_key_flags()  # --help shows the flags as the script's own


def option(
    default: Any, help: str, *, low: float | None = None, high: float | None = None, choices: Sequence[str] = (), flag: str = ''
) -> Any:
    """A field of a `Config` that is also a flag: its default gives the type; values below `low`, above `high` or outside `choices` are refused.

    The flag is called as the field, or `flag` where Python keeps that word for itself.
    """
    return dataclasses.field(default=default, metadata={'help': help, 'low': low, 'high': high, 'choices': tuple(choices), 'flag': flag})


@dataclass(frozen=True, kw_only=True)
class Config:
    """The flags that every script has."""

    preset: str = option('cpu', 'smoke: plumbing in seconds; cpu: the honest test; gpu: real size; paper: as published', choices=PRESETS)
    data: str = option('brain', "'brain', 'phantom' or '<layout>:<folder>', such as nifti:scans")
    workdir: str = option('', 'folder for everything the run writes; by default the first free of runs/<script>, runs/<script>-2, ...')
    seed: int = option(0, 'seed of parameters, noise and data order', low=0)
    resume: bool = option(False, 'go on exactly where the workdir stopped')
    dry_run: bool = option(False, 'say what would run and what it costs, then stop')
    check: bool = option(False, 'exit with status 1 when a bar is missed')
    receipts: str = option('', 'folder to write the aggregate receipt to, results in the repository')
    models: str = option('', 'folder of trained models shared by content: one trained before by the same recipe is taken from there')
    retrain: bool = option(False, 'train even what --models holds')
    compilation_cache: str = option('', 'folder that keeps compiled programs between runs')


class Bar(NamedTuple):
    """A threshold on one metric: `value` is a number. Controls that report the same metric must miss it."""

    name: str
    op: str  # '<=' or '>='
    value: float

    def met(self, value: float) -> bool:
        """Whether `value` is on the right side; never for NaN."""
        return value <= self.value if self.op == '<=' else value >= self.value


class Evaluation(NamedTuple):
    """What one evaluation seed measured. Numbers are floats; `baselines` and `controls` map a name to metrics of the same names."""

    metrics: Mapping[str, float]
    baselines: Mapping[str, Mapping[str, float]]
    controls: Mapping[str, Mapping[str, float]]


# ---- command line


def main(config_class: type[Config], presets: Mapping[str, Mapping[str, Any]], run: Callable[[Any], Any]) -> None:
    """Parse flags into `config_class`, call `run`, and end the process with the status that the module's docstring lists."""
    fields = dataclasses.fields(config_class)
    for field in fields:
        _define(field)

    def parse(argv: Sequence[str]) -> Config | UserError:  # an error is told once all processes are there to hear it
        try:
            rest = flags.FLAGS(argv)
            if len(rest) > 1:
                raise UserError(f'{rest[1]}: not a flag; flags are written --name=value')
            given = {field.name: _read(field, flags.FLAGS[_flag(field)].value) for field in fields if flags.FLAGS[_flag(field)].present}
            return configure(config_class, presets, **given)
        except (flags.Error, UserError) as error:
            flags.FLAGS.mark_as_parsed()
            return UserError(str(error).splitlines()[0])

    def start(config: Config | UserError) -> None:
        try:
            logging.set_verbosity(logging.WARNING)  # libraries tell every file they open
            parallel.use_cores()
            processes.initialize()
            if isinstance(config, UserError):
                raise config
            processes.hush()
            if config.compilation_cache:
                jax.config.update('jax_compilation_cache_dir', config.compilation_cache)
                jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.0)  # a script has dozens of small ones
            result = run(config)
        except UserError as error:
            _stop(str(error))
        except (Interrupted, KeyboardInterrupt) as error:
            processes.end(str(error) or 'interrupted', 130)
        except OSError as error:
            if error.filename is None:
                raise
            _stop(f'{error.filename}: {error.strerror}; choose a place that can be read and written')
        except Exception:
            if not processes.several():
                raise
            processes.end(traceback.format_exc(), 1)
        if config.check and not (result or {}).get('passed', True):
            sys.exit(1)

    app.run(start, flags_parser=parse)


def configure(config_class: type[Config], presets: Mapping[str, Mapping[str, Any]], **given: Any) -> Config:
    """The preset's values, or to resume those of the workdir, overridden by `given` and checked. Raises `UserError` naming the flag."""
    before = settings_of(given['workdir']) if given.get('resume') and given.get('workdir') else {}
    names = {field.name: field for field in dataclasses.fields(config_class)}
    before = {name: tuple(value) if isinstance(value, list) else value for name, value in before.items() if name in names}
    preset = given.get('preset', before.get('preset', config_class.preset))
    _check(names['preset'], preset)
    config = config_class(**{**presets.get(preset, {}), **before, 'preset': preset, **given})
    for field in dataclasses.fields(config):
        _check(field, getattr(config, field.name))
    return config


def _flag(field: dataclasses.Field) -> str:
    return field.metadata.get('flag') or field.name


def _define(field: dataclasses.Field) -> None:
    kind, about = type(field.default), field.metadata['help']
    if field.default not in ('', (), False):
        shown = ','.join(map(str, field.default)) if kind is tuple else field.default
        about = f'{about} (unless the preset says otherwise: {shown})'
    if kind is tuple:
        flags.DEFINE_list(_flag(field), None, about)
    else:
        {bool: flags.DEFINE_boolean, int: flags.DEFINE_integer, float: flags.DEFINE_float, str: flags.DEFINE_string}[kind](
            _flag(field), None, about
        )


def _read(field: dataclasses.Field, value: Any) -> Any:
    if type(field.default) is not tuple:
        return value
    kind = type(field.default[0]) if field.default else str
    words = {'true': True, '1': True, 'false': False, '0': False}
    try:
        return tuple(words[each.lower()] if kind is bool else kind(each) for each in value)
    except (ValueError, KeyError):
        raise UserError(f'--{_flag(field)}={",".join(value)}: expected a comma-separated list of {kind.__name__}') from None


def _check(field: dataclasses.Field, value: Any) -> None:
    low, high, choices = (field.metadata[name] for name in ('low', 'high', 'choices'))
    if value == () and field.default:
        raise UserError(f'--{_flag(field)}=: give at least one value')
    if choices and value not in choices:
        raise UserError(f'--{_flag(field)}={value}: choose one of {", ".join(choices)}')
    for number in value if isinstance(value, tuple) else (value,):
        if low is not None and not number >= low:
            raise UserError(f'--{_flag(field)}={number}: must be at least {low}')
        if high is not None and not number <= high:
            raise UserError(f'--{_flag(field)}={number}: must be at most {high}')


def _stop(line: str) -> None:
    processes.end(f'{Path(sys.argv[0]).name}: {line}', 2)


# ---- a result


def titled(name: str, config: Config) -> str:
    """What a run is called, and its receipt: on data other than a script's usual ones with their kind, such as anomaly/simplex_brain."""
    kind = config.data.partition(':')[0]
    return name if kind == type(config).data else f'{name}_{kind}'


def headline(name: str, config: Config, manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The part of result.json that says what was run, on what, with what."""
    return {
        'system': name,
        'preset': config.preset,
        'data': config.data,
        'data_digest': digest(manifest),
        'seed': config.seed,
        **environment(),
    }


def verdict(seen: Sequence[Evaluation], bars: Sequence[Bar]) -> dict[str, Any]:
    """Means and standard deviations over the evaluations, every bar's verdict, and whether every control misses the bars it is measured on."""

    def gather(of: Callable[[Evaluation], Mapping[str, float]]) -> dict[str, dict[str, float]]:
        values = {name: [of(each)[name] for each in seen] for name in of(seen[0])}
        return {
            name: {'mean': float(np.mean(each)), 'sd': float(np.std(each, ddof=min(1, len(each) - 1)))} for name, each in values.items()
        }

    metrics = gather(lambda each: each.metrics)
    baselines = {name: gather(lambda each, name=name: each.baselines[name]) for name in seen[0].baselines}
    controls = {name: gather(lambda each, name=name: each.controls[name]) for name in seen[0].controls}
    judged = []
    for bar in bars:
        if bar.name not in metrics:
            judged.append({'name': bar.name, 'value': None, 'op': bar.op, 'bar': bar.value, 'controls_miss_it': {}, 'passed': False})
            continue
        mean, sd = metrics[bar.name]['mean'], metrics[bar.name]['sd']
        failing = {name: not bar.met(values[bar.name]['mean']) for name, values in controls.items() if bar.name in values}
        passed = bar.met(mean + sd if bar.op == '<=' else mean - sd) and all(failing.values())
        judged.append(
            {'name': bar.name, 'value': mean, 'sd': sd, 'op': bar.op, 'bar': bar.value, 'controls_miss_it': failing, 'passed': bool(passed)}
        )
    if len(seen) == 1:  # one evaluation has no deviation to tell of
        plain = lambda values: {name: each['mean'] for name, each in values.items()}
        metrics, baselines, controls = (
            plain(metrics),
            *({name: plain(each) for name, each in side.items()} for side in (baselines, controls)),
        )
        judged = [{name: value for name, value in bar.items() if name != 'sd'} for bar in judged]
    return {
        'evaluations': len(seen),
        'metrics': metrics,
        'baselines': baselines,
        'controls': controls,
        'bars': judged,
        'passed': all(each['passed'] for each in judged),
    }


def conclude(folder: Workdir, result: Mapping[str, Any], sections: Sequence[report.Section], *, receipts: str = '') -> None:
    """Write result.json and report.html, say how it went, and with `receipts` file the aggregate there: process 0, while the others wait."""
    processes.first(lambda: _write(folder, result, sections, receipts))


def _write(folder: Workdir, result: Mapping[str, Any], sections: Sequence[report.Section], receipts: str) -> None:
    write_json(folder.root / 'result.json', result)
    report.page(folder.root / 'report.html', title=f'{result["system"]}, {result["preset"]} preset', sections=sections, result=result)
    if receipts:
        file = Path(receipts) / f'{result["system"]}.json'
        file.parent.mkdir(parents=True, exist_ok=True)
        write_json(file, result)
    for bar in result['bars']:
        value = 'not measured' if bar['value'] is None else f'{bar["value"]:.3f}'
        print(f'{"passed" if bar["passed"] else "MISSED"}  {bar["name"]} {value} {bar["op"]} {bar["bar"]}')
    print(f'{folder.root / "report.html"}')
