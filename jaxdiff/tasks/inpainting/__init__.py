"""Inpainting: fill a hole so that the whole is a plausible image and the known voxels stay as they are."""
