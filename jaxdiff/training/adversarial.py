"""A generator and the critic it learns to please, trained in one step; either has an optimizer of its own.

With y what the generator makes of a batch x, f(y) how unfaithful it is to x, p what else is held against it, and D the critic,

    L_G = f(y) + lambda g(y) + p,       g(y) = -mean D(y),                                                              (1)
    lambda = weight min(|df/dw| / (|dg/dw| + 1e-4), cap),                                                               (2)
    L_D = (mean relu(1 - D(x)) + mean relu(1 + D(y))) / 2,      no gradient to y.                                       (3)

w is one leaf of the generator, the kernel of its last convolution, and lambda a constant: the critic pulls there `weight` times as hard as the
rest. Without a cap of about ten, lambda is enormous wherever the critic is flat, and reconstructions fall apart. The critic learns some steps
before the generator hears of it, for the same reason. y is made once: its gradients in (1) and (2) are one linear map applied to df/dy and dg/dy.

Esser, Rombach, Ommer, "Taming transformers for high-resolution image synthesis", CVPR 2021; a cap of 1e4 there.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxdiff.nets.discriminator import hinge
from jaxdiff.training.state import TrainState, init_state
from jaxdiff.training.step import Batch, advance, batch_size, example_keys, norm
from jaxdiff.types import Array, Key, Metrics, Params

Make = Callable[[Params, Any, Key, Batch], tuple[tuple[Array, Array], tuple[Any, Metrics]]]
Faithful = Callable[[Key, Array, Array], tuple[Array, Metrics]]


class Duel(NamedTuple):
    """What training carries: both networks, and arrays that follow what the generator does by a rule, not by a gradient."""

    generator: TrainState
    critic: TrainState | tuple[()]  # () where there is none
    aside: Any

    @property
    def step(self) -> Array:
        return self.generator.step

    @property
    def ema(self) -> Params:
        return self.generator.ema


class Critic(NamedTuple):
    """D, and when and how hard it is heard."""

    apply: Callable[[Params, Array], Array]  # (params, images (B, *spatial, C)) -> numbers, larger is more real
    init: Callable[[Key], Params]
    optimizer: optax.GradientTransformation
    weight: float
    learns: int  # the first step at which it learns
    heard: int  # the first step at which the generator hears of it
    cap: float = 10.0


def init_duel(key: Key, params: Params, aside: Any, optimizer: optax.GradientTransformation, critic: Critic | None) -> Duel:
    """The state before the first step."""
    own, other, fresh = jax.random.split(key, 3)
    return Duel(init_state(params, optimizer, own), init_state(critic.init(fresh), critic.optimizer, other) if critic else (), aside)


def duel_step(
    make: Make,
    faithful: Faithful,
    optimizer: optax.GradientTransformation,
    critic: Critic | None,
    *,
    last: Sequence[str],
    ema: float = 0.999,
) -> Callable[[Duel, Batch], tuple[Duel, Mapping[str, Array]]]:
    """A pure `step(state, batch) -> (state, metrics)` on `Duel` states.

    Args:
        make: (params, aside, keys (B,), batch) -> (y (B, *spatial, C), p), (aside after it, metrics).
        faithful: (keys (B,), x, y) -> f, metrics; x is `batch['image']`.
        last: where w lies in the generator's parameters, such as ('params', 'decoder', 'head', 'kernel').
    """

    def step(state, batch):
        player, rival, real = state.generator, state.critic, batch['image']
        keys = jax.vmap(jax.random.split, out_axes=1)(example_keys(player.key, player.step, batch_size(batch)))
        produce = lambda params: make(params, state.aside, keys[0], batch)
        (fake, penalty), pull, (aside, told) = jax.vjp(produce, player.params, has_aux=True)
        (error, seen), slope = jax.value_and_grad(lambda y: faithful(keys[1], real, y), has_aux=True)(fake)
        told = {'loss': error + penalty, **told, **seen}
        if critic:
            pleased, of_critic = jax.value_and_grad(lambda y: -jnp.mean(critic.apply(rival.params, y)))(fake)
            at_last = lambda slope: leaf(pull((slope, jnp.zeros_like(penalty)))[0], last)
            share = critic.weight * balance(at_last(slope), at_last(of_critic), critic.cap)
            share = jnp.where(player.step >= critic.heard, share, 0.0)
            slope = slope + share * of_critic
            rival, doubt = _learnt(critic, rival, real, fake)
            told |= {'adversarial': pleased, 'adversarial_share': share, 'critic': doubt}
        (grads,) = pull((slope, jnp.ones_like(penalty)))
        return Duel(advance(player, grads, optimizer, ema), rival, aside), {**told, 'grad_norm': norm(grads)}

    return step


def balance(faithful: Array, adversarial: Array, cap: float = 10.0) -> Array:
    """lambda of (2) for a weight of 1, from the two gradients at w."""
    return jnp.minimum(norm(faithful) / (norm(adversarial) + 1e-4), cap)


def leaf(tree: Any, path: Sequence[str]) -> Array:
    """What lies there in dicts of dicts."""
    for name in path:
        tree = tree[name]
    return tree


def _learnt(critic, state, real, fake):
    """The critic after a step of (3), and its loss; before it learns it stands still: Adam moves nothing that never had a gradient."""
    fake = jax.lax.stop_gradient(fake)
    loss, grads = jax.value_and_grad(lambda params: hinge(critic.apply(params, real), critic.apply(params, fake)))(state.params)
    awake = state.step >= critic.learns
    return advance(state, jax.tree.map(lambda leaf: jnp.where(awake, leaf, 0.0), grads), critic.optimizer, 0.0), loss
