"""Where the time of a compiled program goes on a CPU: operations as they ran, by part of the network, by kind, and forward or backward.

    python -m jaxdiff.benchmark.profile '<Case of twins, as JSON>'

runs on one core and prints the groups. More cores would hide what they share out: work that a thread hands to the others is not in its own events.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax

from jaxdiff.benchmark import twins
from jaxdiff.types import UserError

PARTS = {  # by what stands in the name of a layer
    'attention': ('attention',),
    'group norm, activation': ('norm',),
    'convolutions': ('conv', 'double', 'halve', 'stem', 'skip', 'head'),
}
OTHER = 'all else'
PRODUCTS, MOVES = 'products', 'sums, copies, transforms'
_INSTRUCTION = re.compile(r'\s*(?:ROOT )?%?([\w.\-]+) = .*?[\])}] ([\w\-]+)\(')
_NESTED = ('while', 'call', 'conditional')  # what they hold is counted itself


class Group(NamedTuple):
    """Operations that are counted together."""

    part: str
    kind: str
    backward: bool


def table(case: twins.Case) -> dict[str, Any]:
    """Of forward and of a training step on one core with its share of the batch, in a process of its own; for a receipt."""
    share = case._replace(batch=max(case.batch // jax.device_count(), 1))
    command = [sys.executable, '-m', 'jaxdiff.benchmark.profile', json.dumps(share)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise UserError(f'profile of {case}: {(done.stderr.strip() or f"ended with {done.returncode}").splitlines()[-1]}')
    return {
        'caption': f'Where the time goes, {case.dims}-D, {share.batch} images, one core: percent of all operations of one call.',
        'header': ['work', 'part', 'kind', 'forward', 'backward', 'both'],
        'rows': json.loads(done.stdout.splitlines()[-1]),
    }


def spent(program: Any, call: Callable[[], Any]) -> dict[Group, float]:
    """Seconds of one `call`, which runs `program` (compiled), by group: their sum is too large, for the profiler's own are in it."""
    groups = _groups(program.as_text())
    jax.block_until_ready(call())
    seconds = Counter()
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            jax.block_until_ready(call())
        for file in Path(folder).glob('**/*.xplane.pb'):
            data = jax.profiler.ProfileData.from_file(str(file))
            for event in (event for plane in data.planes for line in plane.lines for event in line.events):
                if group := groups.get(event.name.split('::')[0].removeprefix('%')):
                    seconds[group] += event.duration_ns / 1e9
    return dict(seconds)


def rows(work: str, seconds: dict[Group, float]) -> list[list[Any]]:
    """[work, part, kind, percent forward, backward, in both], the largest first."""
    whole = sum(seconds.values())
    both = Counter()
    for group, each in seconds.items():
        both[group.part, group.kind] += each
    share = lambda key, backward: 100 * seconds.get(Group(*key, backward), 0.0) / whole
    return [[work, *key, share(key, False), share(key, True), 100 * each / whole] for key, each in both.most_common()]


def _groups(text: str) -> dict[str, Group]:
    """The group of every instruction of a program, by its name."""
    found = {}
    for line in text.splitlines():
        if (match := _INSTRUCTION.match(line)) and match[2] not in _NESTED:
            name = re.search(r'op_name="([^"]*)"', line)
            found[match[1]] = _group(match[2], name[1] if name else '')
    return found


def _group(opcode: str, name: str) -> Group:
    layer, _, operation = name.rpartition('/')
    part = next((part for part, words in PARTS.items() if any(word in layer for word in words)), OTHER)
    product = opcode in ('convolution', 'dot') or operation in ('dot_general', 'conv_general_dilated')
    return Group(part, PRODUCTS if product else MOVES, 'transpose(' in name)


def main(arguments: Sequence[str]) -> None:
    """Run as a program."""
    if hasattr(os, 'sched_setaffinity'):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    both = twins.make(twins.Case(*json.loads(arguments[0])), beside=False)
    found = []
    for work in (twins.forward(both)[0], twins.train(both, remat=False)[0]):
        found += rows(work.name, spent(work.programs['jaxdiff'].run, work.calls['jaxdiff']))
    print(json.dumps(found))


if __name__ == '__main__':
    main(sys.argv[1:])
