"""From a specification to a trained model: which network, on which data, for how long.

A `Plan` is one model to train; a system is a tuple of plans, trained in order. A plan's recipe is JSON and decides every parameter, so its
digest names the trained model in a cache (`--models`) that systems share.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec

from jaxdiff import losses, model, parallel, processes, weights
from jaxdiff import noise as noises
from jaxdiff.data import loader
from jaxdiff.data.source import Source
from jaxdiff.export import bill
from jaxdiff.model import Model
from jaxdiff.training import autoencoding, checkpoint, optimizer, stages, teacher
from jaxdiff.training.state import TrainState, init_state, state_digest
from jaxdiff.training.step import make_step
from jaxdiff.types import Example, Key, Loss, Params, UserError
from jaxdiff.workdir import Workdir, digest

Condition = Callable[[Key, Example], dict[str, jax.Array]]  # one example -> what its network is told, randomly dropped


class Plan(NamedTuple):
    """One model to train."""

    stage: stages.Stage
    recipe: dict[str, Any]  # JSON: network, path, data digest, schedule, seed
    blank: Model  # the model before training, its `params` None
    mesh: jax.sharding.Mesh  # the devices that train it
    finish: Callable[[TrainState], Model]


Later = Callable[[Mapping[str, Model]], Plan]  # the models trained so far, by name -> what is to be trained with them


class Trained(NamedTuple):
    """A trained model, and the digest of the state it came from."""

    model: Model
    state_digest: str


def denoiser(
    name: str,
    blank: Model,
    source: Source,
    *,
    weight: dict[str, Any] | None = None,
    condition: Condition | None = None,
    noise: dict[str, Any] | None = None,
    **schedule: Any,
) -> Plan:
    """Train `blank`'s network to predict `blank.kind` along `blank.path` on the images of `source`.

    `weight` names a weight of `weights` and its arguments, such as {'name': 'min_snr', 'gamma': 5}; `noise` is one of `noise.named`, None white;
    `schedule` as in `learner`.
    """
    options = {} if noise is None else {'noise': noises.named(noise, blank.card['shape'])}
    if weight is not None:
        arguments = {name: value for name, value in weight.items() if name != 'name'}
        options['weight'] = getattr(weights, weight['name'])(blank.kind, **arguments)
    if condition is not None:
        options['condition'] = condition
    loss = losses.denoising(model.make_network(blank.network).apply, model.make_path(blank.path), blank.kind, **options)
    recipe = {'weight': weight, 'condition': name_of(condition), **({'noise': noise} if noise else {})}
    return learner(name, blank, source, loss, recipe=recipe, **schedule)


def restorer(
    name: str, blank: Model, source: Source, spoil: Callable, *, told: dict[str, Any], power: float = 2.0, **schedule: Any
) -> Plan:
    """Train `blank`'s network to give the images of `source` back after `spoil`, see `losses.restoration`; `told` is JSON that says what it does."""
    loss = losses.restoration(model.make_network(blank.network).apply, model.make_path(blank.path), blank.kind, spoil, power=power)
    return learner(name, blank, source, loss, recipe={'spoil': told, 'power': power}, **schedule)


def classifier(name: str, blank: Model, source: Source, *, clean: bool = False, **schedule: Any) -> Plan:
    """Train `blank`'s network to tell `example['label']` from an image noised along `blank.path`, or with `clean` from the image itself.

    The network answers with a number for each class. `schedule` as in `learner`.
    """
    times = (lambda key: jnp.zeros(())) if clean else None
    loss = losses.classification(model.make_network(blank.network).apply, model.make_path(blank.path), times=times)
    return learner(name, blank, source, loss, recipe={'clean': clean}, **schedule)


def autoencoder(
    name: str,
    blank: Model,
    source: Source,
    *,
    penalty: dict[str, Any],
    perception: dict[str, Any] | None = None,
    critic: dict[str, Any] | None = None,
    batch: int,
    steps: int,
    rate: float,
    warmup: int | None = None,
    clip: float = 1.0,
    ema: float = 0.995,
    augment: loader.Augment | None = None,
    fsdp: int = 1,
    seed: int = 0,
) -> Plan:
    """Train `blank`'s network to give the images of `source` back from their latents.

    `penalty`, `perception` and `critic` as in `training.autoencoding.trainer`, the rest as in `learner`.
    """
    warmup = min(200, steps // 10) if warmup is None else warmup
    schedule = {'batch': batch, 'steps': steps, 'rate': rate, 'warmup': warmup, 'clip': clip, 'ema': ema}
    recipe = _recipe(blank, source, schedule, augment, seed) | {'penalty': penalty, 'perception': perception, 'critic': critic}
    _check(blank)
    mesh = parallel.make_mesh(fsdp=fsdp, batch=batch)
    init, step = autoencoding.trainer(
        model.make_network(blank.network),
        blank.card['shape'],
        optimizer.adam(rate, steps, warmup=warmup, clip=clip, b1=0.5, b2=0.9),
        penalty=penalty,
        perception=perception,
        critic=critic,
        ema=ema,
        together=lambda fn: parallel.whole(fn, mesh),
    )
    finish = lambda state: blank._replace(params=_fetched(autoencoding.variables(state)))
    return Plan(stages.Stage(name, init, step, _stream(source, batch, augment, seed), steps), recipe, blank, mesh, finish)


def learner(
    name: str,
    blank: Model,
    source: Source,
    loss: Loss | teacher.Lesson,
    *,
    batch: int,
    steps: int,
    rate: float,
    warmup: int | None = None,
    clip: float = 1.0,
    ema: float = 0.995,
    augment: loader.Augment | None = None,
    accumulate: int = 1,
    fsdp: int = 1,
    seed: int = 0,
    start: Params | None = None,
    frozen: Params | None = None,
    recipe: dict[str, Any] | None = None,
) -> Plan:
    """Train `blank`'s network by a loss of its parameters on the examples of `source`.

    Args:
        warmup: 200 steps, or a tenth of few.
        start: the parameters to begin with, where they are not fresh ones; `recipe` must say which.
        frozen: arrays that belong to the state and never change; `loss` is then a `training.teacher.Lesson`: of them and of the running average
            it makes a loss.
        recipe: what else decides the parameters, JSON.

    Raises `UserError` for a network that does not fit the images, and a batch that does not split.
    """
    warmup = min(200, steps // 10) if warmup is None else warmup
    schedule = {'batch': batch, 'steps': steps, 'rate': rate, 'warmup': warmup, 'clip': clip, 'ema': ema, 'accumulate': accumulate}
    whole_recipe = _recipe(blank, source, schedule, augment, seed) | (recipe or {})
    if batch % accumulate:
        raise UserError(f'--batch={batch} does not split into --accumulate={accumulate} equal parts; choose a divisor')
    network = model.make_network(blank.network)
    _check(blank)
    adam = optimizer.adam(rate, steps, warmup=warmup, clip=clip)
    mesh = parallel.make_mesh(fsdp=fsdp, batch=batch)

    def init(start: Params | None, key: Key) -> TrainState:
        weights_key, state_key = jax.random.split(key)
        fresh = lambda: network.init(weights_key, jnp.zeros((1, *blank.card['shape'])), jnp.zeros(1))
        return init_state(fresh() if start is None else start, adam, state_key)

    data = _stream(source, batch, augment, seed)
    if frozen is None:
        step = make_step(parallel.whole(loss, mesh), adam, ema=ema, accumulate=accumulate)
        stage = stages.Stage(name, jax.tree_util.Partial(init, start), step, data, steps)
    else:
        lesson = lambda *known: parallel.whole(loss(*known), mesh)
        stage = teacher.student(
            name, teacher.taught_step(lesson, adam, ema=ema, accumulate=accumulate), adam, data, steps, start=start, teacher=frozen
        )
    finish = lambda state: blank._replace(params=_fetched(state.ema))
    return Plan(stage, whole_recipe, blank, mesh, finish)


def train(plans: Sequence[Plan | Later], folder: Workdir, *, seed: int, cache: Path | None = None, **options: Any) -> dict[str, Trained]:
    """Train the plans in order inside the workdir, from the newest checkpoint where there is one.

    A plan that needs what earlier ones have trained is given as a function of those models. A model that `cache` holds under the same recipe, or
    without a cache an earlier plan has trained by it, is taken from there. Leaves `<name>.json` in the workdir from the start and `<name>.npz`
    at the end, so that an interrupted run can be sampled from too. `options` are those of `training.loop.run`: save_every, log_every.
    """
    done, alike = {}, {}
    for each in plans:
        plan = each if isinstance(each, Plan) else each({label: other.model for label, other in done.items()})
        name, stem, recipe = plan.stage.name, folder.root / plan.stage.name, digest(plan.recipe)
        kept = cache / recipe if cache else alike.setdefault(recipe, stem)
        if (cache or kept != stem) and processes.first(kept.with_suffix('.npz').exists):
            print(f'{name}: trained before by the same recipe, taken from {kept}.npz')
            found = model.load(kept)
            processes.first(lambda found=found, stem=stem: model.save(found, stem))
            done[name] = Trained(found, found.card['state_digest'])
            continue
        processes.first(lambda plan=plan, stem=stem: model.save_card(plan.blank, stem))
        shardings, place = functools.partial(parallel.state_shardings, plan.mesh), functools.partial(parallel.place_batch, plan.mesh)
        states = stages.train([plan.stage], folder.root, jax.random.key(seed), shardings=shardings, place=place, **options)
        seen = state_digest(states[name])
        trained = plan.finish(states[name])
        trained = trained._replace(card={**trained.card, 'recipe': plan.recipe, 'state_digest': seen})
        for where in {stem, kept}:
            processes.first(lambda trained=trained, where=where: _save(trained, where))
        done[name] = Trained(trained, seen)
    return done


def _save(trained: Model, where: Path) -> None:
    where.parent.mkdir(parents=True, exist_ok=True)
    model.save(trained, where)


def unfinished(root: Path, name: str) -> Model:
    """The model of an interrupted training, from the averaged parameters of its newest readable checkpoint.

    Raises `UserError` where the workdir has no card of that name or no checkpoint that can be read.
    """
    blank = model.load_card(root / name)
    like = jax.eval_shape(lambda params: init_state(params, optimizer.adam(1.0, 1), jax.random.key(0)), model.shapes(blank))
    state = checkpoint.restore(root / 'checkpoints' / name, like)
    if state is None:
        raise UserError(f'{root}: no trained model and no checkpoint yet; train longer or name another workdir')
    return blank._replace(params=jax.device_get(state.ema))


def resolved(plans: Sequence[Plan | Later]) -> tuple[Plan, ...]:
    """The plans as they would be, of earlier models the shapes alone."""
    known, found = {}, []
    for each in plans:
        plan = each if isinstance(each, Plan) else each(known)
        known[plan.stage.name] = plan.blank._replace(params=model.shapes(plan.blank))
        found.append(plan)
    return tuple(found)


def forecast(plans: Sequence[Plan], jobs: Sequence[bill.Job] = ()) -> dict[str, Any]:
    """Print what training the plans, and the `jobs` around it, would cost on these devices, without doing any of it; the same as JSON."""
    told = {'parameters': {plan.stage.name: model.count(model.shapes(plan.blank)) for plan in plans}}
    for name, numbers in told['parameters'].items():
        print(f'{name}: {numbers:,} parameters')
    return {**told, **bill.bill([*map(training, plans), *jobs])}


def training(plan: Plan) -> bill.Job:
    """The steps of a plan's training; of its data the first batch is looked at."""
    stage, mesh = plan.stage, plan.mesh
    stream = stage.data(0)
    batch = next(stream)
    stream.close()
    tree = jax.tree_util.Partial
    init = stage.init if isinstance(stage.init, tree) else tree(stage.init)  # an argument, since it may hold shapes alone
    state = jax.eval_shape(lambda init, key: init(key), init, jax.random.key(0))
    places, split = parallel.state_shardings(mesh, state), NamedSharding(mesh, PartitionSpec(parallel.AXES))
    state = jax.tree.map(lambda leaf, place: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place), state, places)
    ways = jax.process_count()
    batch = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((ways * leaf.shape[0], *leaf.shape[1:]), leaf.dtype, sharding=split), batch)
    step = jax.jit(stage.step, donate_argnums=0, out_shardings=(places, None))
    dtype = plan.blank.network.get('dtype', 'float32')
    return bill.Job(f'training step of {stage.name}', step, (state, batch), stage.steps, dtype=dtype, run=False)


def _recipe(blank: Model, source: Source, schedule: dict[str, Any], augment: loader.Augment | None, seed: int) -> dict[str, Any]:
    return {
        'network': blank.network,
        'path': blank.path,
        'kind': blank.kind,
        'data': digest(source.manifest),
        'schedule': schedule,
        'augment': name_of(augment),
        'conditioning': blank.card.get('conditioning', {}),
        'seed': seed,
    }


def _check(blank: Model) -> None:
    try:
        model.shapes(blank)
    except (ValueError, TypeError, ZeroDivisionError) as error:
        shape, reason = tuple(blank.card['shape']), str(error).splitlines()[0]
        raise UserError(f'the network does not fit images of {shape}: {reason}; change --size, --widths, --attention or --patch') from None


def _stream(source: Source, batch: int, augment: loader.Augment | None, seed: int) -> Callable:
    return functools.partial(
        _batches, source, batch, seed=seed, augment=augment, process_index=jax.process_index(), process_count=jax.process_count()
    )


def _fetched(params: Params) -> Params:
    return jax.device_get(jax.tree.map(parallel.localise, params))


def name_of(function: Callable | None) -> str | None:
    """What a recipe says of a function."""
    return None if function is None else getattr(function, '__name__', repr(function))


def _batches(source: Source, batch: int, start: int, **options: Any):
    return loader.batches(source, batch, start=start, **options)
