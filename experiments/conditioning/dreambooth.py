"""DreamBooth: one patient taught to a model that reads, by a word that no caption has, without it forgetting what others look like.

    python experiments/conditioning/dreambooth.py                   six scans of a phantom with an implant, on the model of `text`
    python experiments/conditioning/dreambooth.py --preservation=0.3
    python experiments/conditioning/dreambooth.py --preset=smoke

    L = E_scans |v_hat - v|^2 + preservation E_class |v_hat - v|^2                                                        (1)

Images of the class in (1) are those that the model itself drew before, of captions without the rare word. `recognised` is the share of images, asked
for by the rare word, that show the implant; `leak` the same share where it is not said. Ruiz et al., CVPR 2023.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdiff import experiment, grids, losses, model, plans, report, sampling, study
from jaxdiff.data.datasets import Dataset
from jaxdiff.data.source import Source, stack
from jaxdiff.experiment import Bar, Evaluation, option
from jaxdiff.export import bill
from jaxdiff.model import Model
from jaxdiff.nets import captioned
from jaxdiff.plans import Plan
from jaxdiff.studies import spoken, subject
from jaxdiff.types import Array, Example, Key, UserError
from jaxdiff.workdir import Workdir


@dataclass(frozen=True, kw_only=True)
class Config(spoken.Config):
    weight: float = option(2.0, 'classifier-free guidance: 1 is plain, above 1 exaggerates what is said', low=0)
    scans: int = option(6, 'of the patient', low=1)
    prior: int = option(200, 'images of the class that the model draws beforehand', low=1)
    preservation: float = option(1.0, 'weight of those images, equation (1)', low=0)
    tune_steps: int = option(1000, 'training steps with the patient', low=1)
    tune_rate: float = option(3e-4, 'learning rate of those steps', low=0)


_TUNING = {
    'smoke': dict(scans=2, prior=4, tune_steps=4),
    'cpu': {},
    'gpu': dict(prior=1000, tune_steps=1500, tune_rate=1e-4),
    'paper': dict(prior=1000, tune_steps=1000, tune_rate=2e-6),
}
PRESETS = {name: {**spoken.PRESETS[name], **more} for name, more in _TUNING.items()}
BARS = (Bar('recognised', '>=', 0.8), Bar('prior_fall', '<=', 0.05), Bar('preserved', '>=', 0.0))
WITHOUT = 'without'  # the model that is taught by scans alone


def plan(config: Config, data: Dataset) -> tuple[Plan | plans.Later, ...]:
    """The model that reads, the classifier, and two students of the patient: with images of the class and without."""
    own = subject.scans(config.size, config.scans)
    words = subject.of_the_class(config.prior, config.seed)

    def kept(models: Mapping[str, Model]) -> Plan:
        base = models['model']
        made = {'prior': base.card.get('state_digest'), 'count': config.prior, 'guidance': config.weight, 'steps': config.sample_steps}
        source = subject.lessons(
            own, drawn_before(config, base, words), words, weight=config.preservation, manifest=made | {'seed': config.seed}
        )
        return tuned('subject', config, base, source, batch=config.batch)

    def forgotten(models: Mapping[str, Model]) -> Plan:
        source = subject.lessons(own, own[:0], words[:0], weight=0.0, manifest={})
        return tuned(WITHOUT, config, models['model'], source, batch=max(config.batch // 2, 1))  # as many scans

    return spoken.denoiser('model', config, data), spoken.judge(config, data), kept, forgotten


def drawn_before(config: Config, base: Model, words: np.ndarray) -> np.ndarray:
    """Images of the class by the model itself; zeros, where of the model the shapes alone are known."""
    if not model.concrete(base):
        return np.zeros((len(words), *base.card['shape']), np.float32)
    key = jax.random.fold_in(jax.random.key(config.seed), subject.PATIENT)
    return drawer(config, base)(base.params, key, len(words), weight=config.weight, words=words)


def tuned(name: str, config: Config, base: Model, source: Source, *, batch: int) -> Plan:
    """All of a model, its text encoder included, trained on from where it is."""
    path, network = model.make_path(base.path), model.make_network(base.network)
    loss = losses.denoising(network.apply, path, base.kind, condition=tell)
    recipe = {'start': base.card.get('state_digest'), 'condition': plans.name_of(tell), 'lesson': 'subject'}
    schedule = {'batch': batch, 'steps': config.tune_steps, 'rate': config.tune_rate, 'ema': 0.99, 'seed': config.seed}
    return plans.learner(name, base._replace(params=None), source, loss, start=base.params, recipe=recipe, **schedule)


def tell(key: Key, example: Example) -> dict[str, Array]:
    """What is said of an image; of the class, one time in ten nothing, so that silence does not come to mean the patient."""
    drop = jax.random.bernoulli(key, 0.1) & ~example['own']
    return {'words': jnp.where(drop, captioned.silence(example['words']), example['words'])}


def drawer(config: Config, trained: Model) -> Callable[..., np.ndarray]:
    """What draws with a weight; one for all models of this network."""
    return sampling.drawer(trained, times=grids.default(model.make_path(trained.path), config.sample_steps), guided=True)


def evaluate(config: Config, models: Mapping[str, Model], data: Dataset, seed: int) -> Evaluation:
    """The same noise and words for the model before and both after: captions of the class, the patient's name, and that without the rare word."""
    kinds, told = spoken.asked(config.samples, seed)
    read, part = spoken.reader(), asked_by_name(config)
    words = np.concatenate([told['words'], *(np.tile(read(said), (part, 1)) for said in (subject.NAME, subject.CLASSES[0]))])
    draw = drawer(config, models['model'])

    def score(trained: Model) -> dict[str, float]:
        images = draw(trained.params, jax.random.key(seed), len(words), weight=config.weight, words=words)
        of_class, by_name, by_class = np.split(images, [config.samples, config.samples + part])
        return {
            'recognised': subject.recognised(by_name),
            'leak': subject.recognised(of_class),
            'leak_by_name': subject.recognised(by_class),
            'attributes': spoken.right(spoken.shown(models['judge'], of_class), kinds)['attributes'],
        }

    base, kept, forgotten = (score(models[name]) for name in ('model', 'subject', WITHOUT))
    fall, worse = (base['attributes'] - each['attributes'] for each in (kept, forgotten))
    real = stack(data.validation)
    truth = np.array([data.validation.example(n)['label'] for n in range(len(real))])
    unseen = subject.scans(config.size, config.samples, first=config.scans + seed * config.samples)
    judged = {
        'recognised': subject.recognised(unseen),
        'leak': subject.recognised(real),
        'attributes': spoken.right(spoken.shown(models['judge'], real), truth)['attributes'],
    }
    return Evaluation(
        {**kept, 'prior_fall': fall, 'preserved': worse - fall},
        {
            'real': judged,
            'model before': {name: base[name] for name in ('leak', 'leak_by_name', 'attributes')},
            'no preservation': forgotten,
        },
        {'model before': {'recognised': base['recognised']}, 'no preservation': {'prior_fall': worse}},
    )


def asked_by_name(config: Config) -> int:
    """How many images an evaluation asks for by the patient's name, and how many by that of the class."""
    return max(config.samples // 4, 2)


def show(config: Config, models: Mapping[str, Model], data: Dataset, folder: Workdir) -> list[report.Section]:
    """Scans, draws by the rare word, and draws of the class."""
    across, read, draw = 6, spoken.reader(), drawer(config, models['model'])
    said = [subject.NAME] * across + [spoken.captions(kind)[0] for kind in range(across)]
    words = np.stack([read(each) for each in said])
    make = lambda name: draw(models[name].params, jax.random.key(config.seed), len(words), weight=config.weight, words=words)
    drawn = {name: np.split(make(name), 2) for name in ('model', 'subject', WITHOUT)}
    rows = {
        'scans': subject.scans(config.size, across),
        'rare word, before': drawn['model'][0],
        'rare word, after': drawn['subject'][0],
        'class, before': drawn['model'][1],
        'class, after': drawn['subject'][1],
        'class, no preservation': drawn[WITHOUT][1],
    }
    figure = report.grid(report.tiles([report.middle(image) for row in rows.values() for image in row], across), labels=list(rows))
    caption = f'The rare word is said as "{subject.NAME}"; columns of the class are captions of kinds: {"; ".join(said[across:])}.'
    return [
        report.Section('A patient', caption, [report.picture(figure, caption, alt='rows of images', path=folder.figures / 'samples.png')])
    ]


def jobs(config: Config, todo: tuple[Plan, ...]) -> tuple[bill.Job, ...]:
    """What is drawn before, and what judging draws."""
    times = grids.default(model.make_path(todo[0].blank.path), config.sample_steps)
    judged = 3 * config.evaluations * (config.samples + 2 * asked_by_name(config))
    return (bill.drawing(todo[0].blank, times=times, count=2 * (config.prior + judged), size=60, calls=config.sample_steps),)


def run(config: Config) -> dict[str, Any]:
    """Train, judge and write the workdir; returns what result.json holds."""
    if config.prior < config.scans:
        raise UserError(f'--prior={config.prior}: fewer images of the class than the {config.scans} scans; give at least as many')
    bars = BARS if config.preset in ('cpu', 'gpu') else ()
    return study.run(
        'conditioning/dreambooth', config, open_data=spoken.open_data, plan=plan, evaluate=evaluate, show=show, bars=bars,
        evaluations=config.evaluations, save_every=config.save_every, nfe=2 * config.sample_steps, sketch=spoken.sketch, jobs=jobs,
    )  # fmt: skip


if __name__ == '__main__':
    experiment.main(Config, PRESETS, run)
