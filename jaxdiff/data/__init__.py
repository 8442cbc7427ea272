"""Data as NumPy: sources of examples, images read from files, and synthetic cohorts. Nothing here is traced by JAX."""
