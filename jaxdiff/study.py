"""A study: data opened, models trained on them, what they make judged, all of it written down. What most scripts run."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxdiff import experiment, model, plans, report
from jaxdiff.clock import Clock
from jaxdiff.export.bill import Job
from jaxdiff.workdir import open_workdir, peak_memory


def run(
    name: str,
    config: experiment.Config,
    *,
    open_data: Callable[[Any], Any],
    plan: Callable[[Any, Any], Sequence[plans.Plan | plans.Later]],
    evaluate: Callable[..., experiment.Evaluation],
    show: Callable[..., Sequence[report.Section]],
    bars: Sequence[experiment.Bar] = (),
    evaluations: int = 3,
    save_every: int = 500,
    nfe: int | None = None,
    sketch: Callable[[Any], Any] | None = None,
    jobs: Callable[[Any, Sequence[plans.Plan]], Sequence[Job]] = lambda config, todo: (),
    notes: Mapping[str, str] | None = None,
    tables: Callable[[Mapping[str, Any]], Sequence[Mapping[str, Any]]] = lambda verdict: (),
) -> dict[str, Any]:
    """Open the data, train what `plan(config, data)` asks for, evaluate, and write the workdir; returns what result.json holds.

    `evaluate(config, models, data, seed)` is called for `evaluations` seeds; a bar holds for the mean less one standard deviation (on the side that
    counts). `nfe` is how often the network is called for one image; `notes` are what else result.json says, such as a convention.
    `tables(verdict)` are those of the receipt, {caption, header, rows}. `show(config, models, data, folder)` makes the sections of the page, once.
    A dry run tells instead what the plans and `jobs(config, plans)`, the rest of the run, would cost, of data of which `sketch(config)` knows
    the shapes.
    """
    if config.dry_run:
        todo = plans.resolved(plan(config, (sketch or open_data)(config)))
        return plans.forecast(todo, jobs(config, todo))
    name = experiment.titled(name, config)
    clock = Clock()
    data = open_data(config)
    clock.lap('data')
    todo = tuple(plan(config, data))
    folder = open_workdir(config, data.manifest, name=name.rpartition('/')[2])
    cache = Path(config.models) if config.models and not config.retrain else None
    trained = plans.train(todo, folder, seed=config.seed, save_every=save_every, cache=cache)
    clock.lap('train')
    models = {label: each.model for label, each in trained.items()}
    seen = [evaluate(config, models, data, config.seed + n) for n in range(evaluations)]
    sections = show(config, models, data, folder)
    clock.lap('infer')
    verdict = experiment.verdict(seen, bars)
    extra = list(tables(verdict))
    result = {
        **experiment.headline(name, config, data.manifest),
        'wall_s': clock.seconds(),
        'peak_memory_bytes': peak_memory(),
        'nfe': nfe,
        **(notes or {}),
        'parameters': {label: model.count(each.params) for label, each in models.items()},
        'steps': {label: each.model.card['recipe']['schedule']['steps'] for label, each in trained.items()},
        'state_digest': {label: each.state_digest for label, each in trained.items()},
        **verdict,
        **({'tables': extra} if extra else {}),
    }
    experiment.conclude(folder, result, sections, receipts=config.receipts)
    return result
