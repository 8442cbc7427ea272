"""Eight simulated devices, strict keys and strict broadcasting for every test."""

import os

os.environ.setdefault('XLA_FLAGS', '--xla_force_host_platform_device_count=8')
os.environ.setdefault('MPLBACKEND', 'Agg')

import jax  # noqa: E402

jax.config.update('jax_legacy_prng_key', 'error')
jax.config.update('jax_numpy_rank_promotion', 'raise')
