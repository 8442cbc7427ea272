"""Reconstruction: an image from fewer measurements than it has pixels."""
