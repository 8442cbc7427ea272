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
from jaxdiff.types import Array, Key, Loss, Metrics, UserError

Batch = Mapping[str, Array]
Step = Callable[[TrainState, Batch], tuple[TrainState, Metrics]]


def make_step(loss: Loss, optimizer: optax.GradientTransformation, *, ema: float = 0.999, accumulate: int = 1) -> Step:
    """A pure `step(state, batch) -> (state, metrics)`; every leaf of `batch` is (B, ...).

    `accumulate` splits the batch into that many micro-batches taken one after the other, for less memory at equal results.
    `metrics` are the batch means of what the loss reports, with 'loss' and 'grad_norm', the norm of (1) before any clipping.
    """

    def mean_loss(params, keys, examples):
        losses, metrics = jax.vmap(loss, in_axes=(None, 0, 0))(params, keys, examples)
        means = jax.tree.map(lambda values: jnp.mean(values, axis=0), {'loss': losses, **metrics})
        return means['loss'], means

    def step(state, batch):
        parts = micro_batches(example_keys(state.key, state.step, batch_size(batch)), batch, accumulate)
        total = None
        for keys, examples in parts:  # unrolled: gradients of convolutions inside a loop are slow on CPU
            if total is None:
                total = jax.grad(mean_loss, has_aux=True)(state.params, keys, examples)
            else:
                part = jax.grad(mean_loss, has_aux=True)(state.params, keys, after(total, examples))
                total = jax.tree.map(jnp.add, total, part)
        grads, metrics = jax.tree.map(lambda value: value / accumulate, total)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        averaged = moving_average(state.ema, params, decay(state.step, ema))
        metrics['grad_norm'] = norm(grads)
        return TrainState(state.step + 1, params, averaged, opt_state, state.key), metrics

    return step


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
