"""What a person looks at: pictures of anatomy, curves, one self-contained HTML page per run, and the table of all results."""

from jaxdiff.report.page import Section, Table, filled, page, results_table
from jaxdiff.report.pictures import AXIAL, ORTHOGONAL, Picture, anomalies, curves, grid, middle, orthogonal, picture, tiles

__all__ = [
    'AXIAL',
    'ORTHOGONAL',
    'Picture',
    'Section',
    'Table',
    'anomalies',
    'curves',
    'filled',
    'grid',
    'middle',
    'orthogonal',
    'page',
    'picture',
    'results_table',
    'tiles',
]
