"""What a suite of measurements hands to the script that files it."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from jaxdiff.experiment import Evaluation
from jaxdiff.report import Section


class Measured(NamedTuple):
    """The outcome of one suite.

    Attributes:
        evaluations: one per repetition of the whole comparison, at least three where a bar hangs on it.
        tables: as receipts hold them, {'caption', 'header', 'rows'} each.
        lines: one JSON value per timed case, for measurements.jsonl.
        sections: what the page of the run shows.
        notes: what could not be measured here, and why; the receipt keeps it.
    """

    evaluations: Sequence[Evaluation]
    tables: Sequence[Mapping[str, Any]] = ()
    lines: Sequence[Mapping[str, Any]] = ()
    sections: Sequence[Section] = ()
    notes: Sequence[str] = ()
