"""How fast, how large, how exact: suites of measurements, each side by side with its alternatives in one run."""
