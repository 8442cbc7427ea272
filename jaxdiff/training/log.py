"""Numbers for the file and for the eyes: metrics.jsonl, and a bar (or a line every 30 s) while something long runs."""

import contextlib
import json
import math
import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import jax
from tqdm.auto import tqdm

Log = Callable[[int, Mapping[str, float]], None]  # step, metrics


def jsonl(path: str | Path, *, start: int = 0, **fields) -> Log:
    """A log that appends one JSON line per call: `fields`, the step, the metrics (null where not finite).

    Lines with the same `fields` and a step beyond `start` are dropped first, as are torn ones: they were written after the
    checkpoint from which the run goes on, and the run writes them again. Only process 0 writes.
    """
    path = Path(path)
    if jax.process_index():
        return lambda step, metrics: None
    if path.exists():
        again = lambda line: fields.items() <= line.items() and line['step'] > start
        keep = [line for line in read(path) if not again(line)]
        replacement = path.with_suffix('.tmp')
        replacement.write_text(''.join(json.dumps(line) + '\n' for line in keep))
        os.replace(replacement, path)

    def write(step, metrics):
        values = {name: value if math.isfinite(value) else None for name, value in metrics.items()}
        with path.open('a') as file:
            file.write(json.dumps({**fields, 'step': step, **values}) + '\n')

    return write


def read(path: str | Path) -> list[dict]:
    """The lines of a metrics.jsonl, without those that a killed run tore."""
    lines = []
    for line in Path(path).read_text().splitlines():
        with contextlib.suppress(ValueError):
            lines.append(json.loads(line))
    return [line for line in lines if isinstance(line, dict) and 'step' in line]


class Progress:
    """A context showing `name`, the step, the latest numbers, steps/s and the time left, on stderr.

    A tqdm bar on a terminal or in a notebook; elsewhere a line every `every` seconds. `update(step, loss=...)` moves it.
    """

    def __init__(self, total: int, *, name: str = '', start: int = 0, every: float = 30.0):
        self.total, self.name, self.every = total, name, every
        self.step, self.printed = start, (start, time.monotonic())
        self.silent = jax.process_index() > 0
        live = not self.silent and (sys.stderr.isatty() or 'ipykernel' in sys.modules)
        self.bar = tqdm(total=total, initial=start, desc=name, unit='step', dynamic_ncols=True) if live else None

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        if self.bar is not None:
            self.bar.close()

    def update(self, step: int, **numbers: float):
        """`step` steps are done."""
        shown = {name: f'{value:.4g}' for name, value in numbers.items()}
        if self.bar is not None:
            self.bar.set_postfix(shown, refresh=False)
            self.bar.update(step - self.step)
        elif not self.silent and time.monotonic() - self.printed[1] >= self.every:
            self.print(step, ''.join(f', {name} {value}' for name, value in shown.items()))
        self.step = step

    def print(self, step: int, shown: str):
        before, then = self.printed
        now = time.monotonic()
        rate = (step - before) / (now - then)
        left = tqdm.format_interval((self.total - step) / rate) if rate else '?'
        print(f'{self.name}: step {step}/{self.total}{shown}, {rate:.3g} steps/s, {left} left', file=sys.stderr, flush=True)
        self.printed = (step, now)
