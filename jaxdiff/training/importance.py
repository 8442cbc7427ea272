"""Times of training drawn in proportion to how large the loss is there.

The mean over times of a loss L_t is also the mean of w L_t over times drawn with probability p, w = 1 / (T p_t), and the gradient varies
least if p follows the size of L_t. With the last n losses seen at each of the times 1..T,

    p_t = (1 - f) r_t / sum r + f / T,    r_t = sqrt(mean L_t^2),                                         (1)

and 1 / T until every time has been seen n times, which takes about T (ln T + (n - 1) ln ln T) examples. Made for the variational bound,
whose terms differ by orders of magnitude; weighted losses differ too little to gain from it.

Nichol and Dhariwal, "Improved DDPM", ICML 2021. Float32 is enough: what a rounded p favours, w, made from the same p, takes back, and the
draw resolves probabilities far below f / T.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxdiff.training.state import TrainState, init_state
from jaxdiff.training.step import Step, advance, batch_size, example_keys, gradient, summary
from jaxdiff.types import Array, Key, Loss, Params, Time

FLOOR = 1e-3  # f, so that no time is forgotten and no weight exceeds 1 / f


class History(NamedTuple):
    """What was seen of the loss at each of the times 1..T."""

    losses: Array  # (T, n), the last n, each row in a circle
    counts: Array  # (T,) int32, how many were ever seen


class TimedState(NamedTuple):
    """A `TrainState` with the losses by time that its next times are drawn from."""

    step: Array
    params: Params
    ema: Params
    opt_state: Any
    key: Key
    history: History


def init_history(steps: int, *, size: int = 10) -> History:
    """Nothing seen yet of `steps` times. Small batches are long in filling a history of 10: take 3."""
    return History(jnp.zeros((steps, size)), jnp.zeros(steps, jnp.int32))


def probabilities(history: History, *, floor: float | Array = FLOOR) -> Array:
    """(T,) probabilities of the times 1..T (1)."""
    steps, size = history.losses.shape
    root = jnp.sqrt(jnp.mean(jnp.square(history.losses), axis=1))
    known = jnp.all(history.counts >= size) & jnp.any(root > 0)
    return jnp.where(known, (1 - floor) * root / jnp.where(known, jnp.sum(root), 1.0) + floor / steps, 1 / steps)


def draw(key: Key, history: History, *, floor: float | Array = FLOOR) -> tuple[Time, Array]:
    """A time of 1..T, as a float, and its weight w, whose mean is 1."""
    p = probabilities(history, floor=floor)
    index = jax.random.categorical(key, jnp.log(p), mode='high')  # the other mode never draws what is rarer than 1e-7
    return (index + 1).astype(p.dtype), 1 / (len(p) * p[index])


def update(history: History, times: Array, losses: Array) -> History:
    """The history after a batch of times (B,) and unweighted losses (B,), as if they had come one after the other."""
    steps, size = history.losses.shape
    index = times.astype(int) - 1
    same = index[:, None] == index[None, :]
    earlier, later = jnp.sum(jnp.tril(same, -1), axis=1), jnp.sum(jnp.triu(same, 1), axis=1)
    row = jnp.where(later < size, index, steps)  # those that later ones of this batch overwrite go nowhere: no place is written twice
    slot = (history.counts[index] + earlier) % size
    kept = history.losses.at[row, slot].set(losses.astype(history.losses.dtype), mode='drop')
    return History(kept, history.counts.at[index].add(1))


def init_timed(params: Params, optimizer: optax.GradientTransformation, key: Key, steps: int, *, size: int = 10) -> TimedState:
    """The state before the first step, for a path of `steps` times."""
    return TimedState(*init_state(params, optimizer, key), init_history(steps, size=size))


def make_timed_step(
    loss: Loss, optimizer: optax.GradientTransformation, *, floor: float = FLOOR, ema: float = 0.999, accumulate: int = 1
) -> Step:
    """`step.make_step` for a `TimedState`: as there, but each example's time is drawn by (1), and what its loss was is remembered.

    Args:
        loss: takes its time from `example['time']`, one of 1..T, and is multiplied by `example['weight']`, w.
    """
    differentiate = gradient(loss, accumulate)

    def step(state, batch):
        *train, history = state
        train = TrainState(*train)
        keys = jax.vmap(jax.random.split, out_axes=1)(example_keys(train.key, train.step, batch_size(batch)))
        times, weights = jax.vmap(lambda key: draw(key, history, floor=floor))(keys[0])
        grads, each = differentiate(train.params, keys[1], {**batch, 'time': times, 'weight': weights})
        history = update(history, times, each['loss'] / weights)
        return TimedState(*advance(train, grads, optimizer, ema), history), summary(grads, each)

    return step
