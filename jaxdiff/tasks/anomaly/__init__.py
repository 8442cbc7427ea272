"""Anomaly detection: restore the image to what health would look like there, and compare."""
