"""Eight simulated devices, strict keys and strict broadcasting for every test."""

import os
import sys
from pathlib import Path

os.environ.setdefault('XLA_FLAGS', '--xla_force_host_platform_device_count=8')
os.environ.setdefault('MPLBACKEND', 'Agg')

sys.path.insert(0, str(Path(__file__).parents[1] / 'experiments'))  # scripts are imported by name, as they are run by path

import jax

jax.config.update('jax_legacy_prng_key', 'error')
jax.config.update('jax_numpy_rank_promotion', 'raise')
jax.config.update('jax_default_matmul_precision', 'highest')
