"""One optimizer step, from the loss of one example.

With theta the parameters, b a batch of B examples and k_i = fold_in(fold_in(key, n), i) the key of example i at step n,

    g = grad_theta 1/B sum_i loss(theta, k_i, b_i)                       (1)
    theta <- theta + optimizer(g)                                        (2)
    ema <- ema + (1 - d_n) (theta - ema),  d_n = min(d, (1+n)/(10+n))    (3)

The sum (1) is the only place where examples meet. Written over the whole batch under `jit`, it needs no collective: the compiler
adds those that the sharding of the batch and of the parameters asks for. The keys hang on the index in the whole batch, so neither
the number of devices nor the accumulation changes what an example sees. Equation (3) starts as a plain mean, which forgets the
initial parameters faster than a constant d would (the warm-up of TensorFlow's ExponentialMovingAverage).
"""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import optax

from jaxdiff.training.state import TrainState
from jaxdiff.types import Array, Key, Loss, Metrics, Params, UserError

Batch = Mapping[str, Array]
Step = Callable[[TrainState, Batch], tuple[TrainState, Metrics]]


def make_step(loss: Loss, optimizer: optax.GradientTransformation, *, ema: float = 0.999, accumulate: int = 1) -> Step:
    """A pure `step(state, batch) -> (state, metrics)`; every leaf of `batch` is (B, ...).

    `accumulate` splits the batch into that many micro-batches taken one after the other, for less memory at equal results.
    `metrics` are the batch means of what the loss reports, with 'loss' and 'grad_norm', the norm of (1) before any clipping.
    """
    differentiate = gradient(loss, accumulate)

    def step(state, batch):
        grads, each = differentiate(state.params, example_keys(state.key, state.step, batch_size(batch)), batch)
        return advance(state, grads, optimizer, ema), summary(grads, each)

    return step


def gradient(loss: Loss, accumulate: int = 1) -> Callable[[Params, Key, Batch], tuple[Params, Metrics]]:
    """(params, keys (B,), batch) -> (1), and what the loss reports of every example, with 'loss', each with a leading axis of B."""

    def mean_loss(params, keys, examples):
        losses, metrics = jax.vmap(loss, in_axes=(None, 0, 0))(params, keys, examples)
        return jnp.mean(losses), {'loss': losses, **metrics}

    def differentiate(params, keys, batch):
        total, reports = None, []
        for own, examples in micro_batches(keys, batch, accumulate):  # unrolled: gradients of convolutions inside a loop are slow on CPU
            if total is None:
                total, each = jax.grad(mean_loss, has_aux=True)(params, own, examples)
            else:
                part, each = jax.grad(mean_loss, has_aux=True)(params, own, after((total, each), examples))
                total = jax.tree.map(jnp.add, total, part)
            reports.append(each)
        in_order = lambda *parts: jnp.stack(parts, axis=1).reshape(-1, *parts[0].shape[1:])
        return jax.tree.map(lambda value: value / accumulate, total), jax.tree.map(in_order, *reports)

    return differentiate


def advance(state: TrainState, grads: Params, optimizer: optax.GradientTransformation, ema: float) -> TrainState:
    """Equations (2) and (3)."""
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    averaged = moving_average(state.ema, params, decay(state.step, ema))
    return TrainState(state.step + 1, params, averaged, opt_state, state.key)


def summary(grads: Params, each: Metrics) -> Metrics:
    """The batch means of what examples report, and the norm of the gradient."""
    return {**jax.tree.map(lambda values: jnp.mean(values, axis=0), each), 'grad_norm': norm(grads)}


def example_keys(key: Key, step: Array, size: int) -> Key:
    """(size,) keys, one for each example of the whole batch at this step."""
    return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(jax.random.fold_in(key, step), jnp.arange(size))


def decay(step: Array, limit: float) -> Array:
    """d_n of (3) for the step that starts at `step`."""
    return jnp.minimum(limit, (1.0 + step) / (10.0 + step))


def moving_average(average, values, decay: Array):
    """Equation (3) on a tree, in the average's dtype; leaves that are not floating are copied."""

    def move(mean, value):
        if not jnp.issubdtype(mean.dtype, jnp.floating):
            return value
        return mean + (1 - decay) * (value.astype(mean.dtype) - mean)

    return jax.tree.map(move, average, values)


def norm(tree) -> Array:
    """The Euclidean norm of all leaves together, in float32."""
    return jnp.sqrt(sum(jnp.sum(jnp.square(leaf.astype(jnp.float32))) for leaf in jax.tree.leaves(tree)))


def batch_size(batch: Batch) -> int:
    return jax.tree.leaves(batch)[0].shape[0]


def micro_batches(keys: Key, batch: Batch, count: int) -> list[tuple[Key, Batch]]:
    """Every `count`-th example, `count` times. Strides keep a batch split over devices where it is; contiguous parts would move."""
    if keys.shape[0] % count:
        raise UserError(f'a batch of {keys.shape[0]} does not split into accumulate={count} equal parts; choose a divisor')
    split = jax.tree.map(lambda leaf: leaf.reshape(-1, count, *leaf.shape[1:]), (keys, batch))
    return [jax.tree.map(lambda leaf, i=i: leaf[:, i], split) for i in range(count)]


def after(total, examples):
    """The same examples, known only once all of `total` is: a zero computed from it is added.

    Otherwise the compiler interleaves the micro-batches and saves no memory; on CPU it drops an `optimization_barrier` too early.
    """
    zero = 0 * sum(jnp.max(leaf) for leaf in jax.tree.leaves(total))
    return jax.tree.map(lambda leaf: leaf + zero.astype(leaf.dtype) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf, examples)
