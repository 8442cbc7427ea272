"""Third order here and elsewhere: the error of a walk on the mixture, and that of one stochastic step without its noise."""

import jax
import jax.numpy as jnp
import numpy as np
import oracles
from cases import T
from walks import PATHS

from jaxdiff import grids, paths
from jaxdiff.noise import gaussian
from jaxdiff.solvers.dpm_solver import dpmpp, sde_dpmpp

LINEAR = PATHS['linear']
# Its time is sigma / alpha, by which the peer counts.
LEVELS = paths.GaussianPath(lambda t: 1 / jnp.hypot(1.0, t), lambda t: t / jnp.hypot(1.0, t), lambda t: -2 * jnp.log(t), 1e3, lambda t: t)
START = np.random.default_rng(2).normal(size=500)
LAMBDA = -0.5  # where the stochastic walk of three steps begins; x0_hat is lambda^2, and the third step is the one looked at


def walk(step, x, times, memory=()):
    """Every x along the times by a compiled (key, memory, x, t, s) -> (x, x0, memory): one compilation whatever the number of steps."""
    states = []
    for i in range(len(times) - 1):
        x, _, memory = step(jax.random.key(i), memory, x, times[i], times[i + 1])
        states.append(x)
    return states


def compiled(solver, denoise):
    return jax.jit(lambda key, memory, x, t, s: solver.step(key, denoise, memory, x, t, s))


def exact_end():
    with jax.enable_x64(True):
        denoise = oracles.denoiser(LINEAR, oracles.TEST_BED)
        return np.asarray(jax.jit(lambda x: oracles.flow(LINEAR, denoise, x, float(T), 1.0))(jnp.asarray(START)))


def root_mean_square(x):
    return float(np.sqrt(np.mean(np.square(np.asarray(x, np.float64)))))


def their_third_order(steps):
    import torch
    from diffusers import DPMSolverMultistepScheduler

    scheduler = DPMSolverMultistepScheduler(
        solver_order=3, prediction_type='sample', use_lu_lambdas=True, lower_order_final=False, euler_at_final=False
    )
    scheduler.set_timesteps(steps + 1)  # the last is the step to data, left out
    scheduler.set_begin_index(0)
    denoise = jax.jit(oracles.denoiser(LEVELS, oracles.TEST_BED))
    x = torch.tensor(START, dtype=torch.float32).reshape(1, 1, 1, -1)
    for t, sigma in zip(scheduler.timesteps[:steps], scheduler.sigmas[:steps], strict=True):
        x0 = torch.from_numpy(np.array(denoise(x.numpy(), sigma.numpy())))
        x = scheduler.step(x0, t, x).prev_sample
    return root_mean_square(x.numpy().ravel() - exact_end())


def our_third_order():
    solver = dpmpp(LINEAR, order=3)
    step = compiled(solver, oracles.denoiser(LINEAR, oracles.TEST_BED))

    def error(steps):
        x = jnp.asarray(START, jnp.float32)
        times = np.asarray(grids.log_snr(LINEAR, steps, last=1.0, zero=False))
        return root_mean_square(walk(step, x, times, solver.init(x))[-1] - exact_end())

    return error


def _error_of_step(states, h):
    """How far the last state is from the exact mean, of which the integral of x0_hat is taken by quadrature."""
    begin = LAMBDA + 2 * h
    nodes, weights = np.polynomial.legendre.leggauss(20)
    u = h * (nodes + 1) / 2
    integral = np.sum(weights * h * np.exp(-2 * (h - u)) * (begin + u) ** 2)
    alpha, sigma = (lambda at: np.sqrt(1 / (1 + np.exp(-2 * at)))), (lambda at: np.sqrt(1 / (1 + np.exp(2 * at))))
    return abs(states[-1] - (sigma(begin + h) / sigma(begin) * np.exp(-h) * states[-2] + alpha(begin + h) * integral))


def their_stochastic_step(h):
    import torch
    from diffusers import DPMSolverMultistepScheduler

    scheduler = DPMSolverMultistepScheduler(
        algorithm_type='sde-dpmsolver++', solver_order=3, prediction_type='sample', final_sigmas_type='sigma_min', lower_order_final=False
    )
    scheduler.set_timesteps(3)
    scheduler.sigmas = torch.exp(-(LAMBDA + h * torch.arange(4)))
    x, states = torch.zeros(1, 1, 1, 1), []
    for i, t in enumerate(scheduler.timesteps):
        x = scheduler.step(torch.full_like(x, (LAMBDA + h * i) ** 2), t, x, variance_noise=torch.zeros_like(x)).prev_sample
        states.append(float(x))
    return _error_of_step(states, h)


def our_stochastic_step(h):
    solver = sde_dpmpp(LINEAR, 2)
    with jax.enable_x64(True):
        times = paths.time_of(LINEAR, 2 * (LAMBDA + h * jnp.arange(4.0)))
        x, states = jnp.zeros(()), []
        memory = solver.init(x)
        for i in range(3):
            key, (t, s) = jax.random.key(i), times[i : i + 2]
            x, _, memory = solver.step(key, lambda x, t: (LINEAR.log_snr(t) / 2) ** 2, memory, x, t, s)
            x -= paths.bridge(LINEAR, x, x, t, s)[1] * gaussian(key, ())
            states.append(float(x))
    return _error_of_step(states, h)
