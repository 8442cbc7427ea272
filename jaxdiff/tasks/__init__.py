"""What clinicians ask for: one package per family, one file per system. Pure functions of denoisers and arrays, ending in a NamedTuple."""
