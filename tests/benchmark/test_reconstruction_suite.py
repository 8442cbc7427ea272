"""The timing of reconstructions, at toy size."""

import numpy as np

from jaxdiff.benchmark import reconstruction


def test_every_round_is_an_evaluation_and_published_times_stand_beside():
    seen = reconstruction.measure(size=32, steps=2, counts=(1, 2), widths=(8, 8), rounds=3)
    assert len(seen.evaluations) == 3 and all(each.metrics['seconds'] > 0 for each in seen.evaluations)
    rows = {row[0]: row[2] for row in seen.tables[0]['rows']}
    assert rows['DiffuseRecon, thread 3'] == 480 and rows['32 x 32, 2 samples'] > 0
    assert np.median([each.metrics['seconds'] for each in seen.evaluations]) == rows['32 x 32, 1 sample']
