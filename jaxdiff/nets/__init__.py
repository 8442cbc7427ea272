"""Networks in Flax Linen: batched, channels last, and ignorant of diffusion."""
