"""Solvers: each moves x from time t to time s with a denoiser; `loop.sample` scans one along a grid of times."""
