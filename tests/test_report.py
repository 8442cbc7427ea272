import base64
import io
import json
import re
import subprocess
import sys
from html.parser import HTMLParser

import matplotlib.image
import numpy as np
import pytest

from jaxdiff import report

LEFT_FRONT = np.full((32, 32), -1.0)
LEFT_FRONT[2:10, 24:30] = 1.0  # low x: the patient's left; high y: the front

RESULT = {
    'system': 'anomaly/simplex',
    'preset': 'cpu',
    'data': 'phantom',
    'seed': 0,
    'versions': {'jax': '0.10.2'},
    'wall_s': {'train': 61.25, 'total': 100.0},
    'metrics': {'ap': 0.81234, 'dice': float('nan')},
    'baselines': {'linear': {'ap': 0.75}},
    'controls': {'untrained': {'ap': 0.05}},
    'bars': [
        {'name': 'ap', 'value': 0.81234, 'op': '>=', 'bar': 0.8, 'passed': True},
        {'name': 'memorised', 'value': 0.3, 'sd': 0.02, 'op': '<=', 'bar': 0.15, 'passed': False},
    ],
    'passed': False,
}


def pixels(figure):
    return matplotlib.image.imread(io.BytesIO(report.picture(figure, '', alt='').png))[..., :3]


class Page(HTMLParser):
    """What a browser would find: tags with their attributes, and the text."""

    def __init__(self, source):
        super().__init__()
        self.tags, self.open, self.text = [], [], ''
        self.feed(source)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in ('meta', 'img'):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


@pytest.fixture(scope='module')
def written(tmp_path_factory):
    path = tmp_path_factory.mktemp('run') / 'deep' / 'report.html'
    sample = report.picture(report.grid([[LEFT_FRONT]]), 'A <b>sample</b>', alt='a "bright" square', path=path.with_name('sample.png'))
    table = report.Table('Scores & more', ['map', 'AP'], [['<i>ours</i>', 0.123456], ['theirs', None]])
    sections = [report.Section('Samples <script>alert(1)</script>', 'One.\n\nTwo & <img src=x>.', [sample], [table])]
    report.page(path, title='Lesions <script>', lead='Found?', sections=sections, result={**RESULT, 'commit': '<script>x</script>'})
    return path, sample


def test_page_is_self_contained_and_escaped(written):
    path, sample = written
    source = path.read_text()
    assert not re.search(r'https?://|//\w|url\(|@import', re.sub(r'base64,[^"]+', '', source))
    page = Page(source)
    assert page.open == []  # every tag is closed, in order
    tags = [tag for tag, _ in page.tags]
    assert 'script' not in tags and 'link' not in tags and tags.count('img') == 1
    assert 'Samples <script>alert(1)</script>' in page.text and '<b>sample</b>' in page.text and '<i>ours</i>' in page.text
    image = next(attributes for tag, attributes in page.tags if tag == 'img')
    assert image['alt'] == 'a "bright" square'
    png = base64.b64decode(image['src'].removeprefix('data:image/png;base64,'), validate=True)
    assert png == sample.png == path.with_name('sample.png').read_bytes()
    assert matplotlib.image.imread(io.BytesIO(png)).std() > 0.1
    assert [file.name for file in path.parent.iterdir() if file.suffix == '.part'] == []


def test_page_tells_bars_baselines_and_the_run(written):
    source = written[0].read_text()
    text = Page(source).text
    assert '1 of 2 bars missed' in text and '≥ 0.8' in text and '≤ 0.15' in text and '0.300 ± 0.020' in text
    verdicts = re.findall(r'<td><span class="(\w+)">(\w+)</span></td>', source)
    assert verdicts == [('passed', 'passed'), ('missed', 'missed')]
    for words in (
        'baseline: linear',
        'control: untrained',
        '0.8123',
        '0.1235',
        'not measured',
        'not a number',
        'train 61.25, total 100',
        'jax 0.10.2',
    ):
        assert words in text, words
    embedded = json.loads(text[text.index('{\n  "') : text.rindex('}') + 1])
    assert embedded['bars'] == RESULT['bars'] and embedded['commit'] == '<script>x</script>'


def test_page_without_result(tmp_path):
    report.page(tmp_path / 'r.html', title='T', result={**RESULT, 'bars': RESULT['bars'][:1]})
    assert 'All 1 bars passed' not in (text := Page((tmp_path / 'r.html').read_text()).text) and 'The bar is passed' in text
    report.page(tmp_path / 'r.html', title='T')
    assert 'bar' not in Page((tmp_path / 'r.html').read_text()).text


def test_slices_are_drawn_front_up_left_at_left():
    image = pixels(report.grid([[LEFT_FRONT]]))
    rows, columns = np.nonzero(image.mean(-1)[: int(0.85 * len(image))] > 0.95)
    assert rows.mean() < 0.3 * len(image) and columns.mean() < 0.35 * image.shape[1]


def test_window_is_fixed():
    """The same value is the same grey, whatever else is in the picture."""
    middle = lambda image: pixels(report.grid([[image]], window=(0, 2)))[60, 120]
    flat, spiked = np.full((32, 32), 1.0), np.full((32, 32), 1.0)
    spiked[30, 2] = 100
    np.testing.assert_allclose(middle(flat), 0.5, atol=0.01)
    np.testing.assert_allclose(middle(spiked), 0.5, atol=0.01)


def test_grid_keeps_one_scale_and_leaves_gaps():
    figure = report.grid([[np.zeros((20, 30)), np.zeros((40, 10, 1))], [None, np.zeros((10, 10))]], titles=['a', 'b'], labels=['c', 'd'])
    boxes = [axis.get_position() for axis in figure.axes]
    size = figure.get_size_inches()
    assert boxes[1].width * size[0] == pytest.approx(1.5) and boxes[0].width == pytest.approx(boxes[1].width / 2)
    assert (boxes[1].x0 - boxes[0].x1) * size[0] == pytest.approx(0.05)
    assert boxes[0].height * size[1] == pytest.approx(30 * 1.5 / 40)
    assert not figure.axes[2].images and figure.axes[3].images
    assert {'a', 'b', 'c', 'd'} <= {text.get_text() for text in figure.texts}


def test_tiles_and_orthogonal():
    rows = report.tiles(np.zeros((5, 4, 4)), 3)
    assert [len(row) for row in rows] == [3, 3] and rows[1][2] is None and rows[1][1] is not None
    assert [len(row) for row in report.tiles(np.zeros((2, 4, 4)), 8)] == [2]
    volume = np.arange(24).reshape(2, 3, 4, 1)
    axial, coronal, sagittal = report.orthogonal(volume, (1, 2, 3))
    assert (axial.shape, coronal.shape, sagittal.shape) == ((2, 3), (2, 4), (3, 4))
    assert axial[1, 2] == coronal[1, 3] == sagittal[2, 3] == volume[1, 2, 3, 0]


def test_anomaly_map_shows_score_colour_bar_and_outline():
    scores, lesions = np.zeros((2, 32, 32)), np.zeros((2, 32, 32), bool)
    scores[0, 8:14, 18:24], lesions[0, 8:14, 18:24] = 2.0, True
    images = np.full((2, 32, 32, 1), 0.0)
    figure = report.anomalies(images, scores, restored=images, lesions=lesions, score='|x - restored|', top=2.0)
    assert len(figure.axes) == 2 * 3 + 1
    scan, _, heat = (axis.images[0].get_array() for axis in figure.axes[:3])
    np.testing.assert_allclose(heat[lesions[0].T], np.tile([0.988, 1.0, 0.645], (36, 1)), atol=0.01)  # the end of inferno
    np.testing.assert_allclose(heat[~lesions[0].T], scan[~lesions[0].T])  # no score, bare anatomy
    assert len(figure.axes[2].collections) == 1 and not figure.axes[5].collections  # an empty lesion has no outline
    outline = figure.axes[2].collections[0].get_paths()[0].vertices
    np.testing.assert_allclose([outline.min(0), outline.max(0)], [[7.5, 17.5], [13.5, 23.5]])
    assert figure.axes[-1].get_ylim() == (0, 2)
    blue = (np.abs(pixels(figure) - [0.27, 0.816, 1.0]).max(-1) < 0.05).sum()
    assert blue > 50
    report.picture(report.anomalies(images, np.zeros((2, 32, 32))), '', alt='')  # nothing found anywhere is a picture too


def test_curves():
    xs = np.arange(0, 3000, 10)
    noisy = 1 + 0.1 * np.random.default_rng(0).standard_normal(300)
    noisy[50] = np.nan
    figure = report.curves({'loss': (xs, noisy), 'short': ([5, 10], [0.0, 2.0])}, smooth=300, log='y')
    raw, smoothed, _, short = figure.axes[0].lines
    assert len(raw.get_xdata()) == 299 and short.get_ydata() == [2.0]  # no NaN, and no 0 on a logarithmic axis
    assert np.std(smoothed.get_ydata()) < 0.35 * np.std(raw.get_ydata()) and np.isfinite(smoothed.get_ydata()).all()
    assert figure.axes[0].get_yscale() == 'log' and figure.axes[0].get_xscale() == 'linear'
    xs, ys = np.array([0.0, 1, 3, 4, 9]), np.array([1.0, 5, 2, 7, 0])
    kernel = np.exp(-2 * np.abs(xs[:, None] - xs) / 4)
    line = report.curves({'line': (xs, ys)}, smooth=4).axes[0].lines[1]
    np.testing.assert_allclose(line.get_ydata(), kernel @ ys / kernel.sum(1))


def test_results_table():
    other = {**RESULT, 'system': '1|2', 'seeds': [0, 1, 2], 'bars': RESULT['bars'][1:]}
    lines = report.results_table([RESULT, other]).splitlines()
    assert len(lines) == 2 + 3 and all(len(re.findall(r'(?<!\\)\|', line)) == 9 for line in lines)
    assert lines[2].startswith('| 1\\|2 |') and '| 0, 1, 2 |' in lines[2] and '| missed |' in lines[2]
    assert '| 0.8123 | ≥ 0.8 | passed | linear 0.75, untrained 0.05 | 0 |' in lines[3]


def test_tables_of_a_receipt_follow_the_bars():
    table = {'caption': 'Orders', 'header': ['solver', 'order'], 'rows': [['a|b', 2.00049], ['c', None]]}
    text = report.results_table([{**RESULT, 'system': 'proof', 'tables': [table]}])
    assert '## proof\n\nOrders\n\n| solver | order |\n|---|---|\n| a\\|b | 2 |\n| c | – |\n' in text


def test_no_pyplot_and_no_matplotlib_on_import():
    code = (
        'import sys, numpy as np; from jaxdiff import report; assert "matplotlib" not in sys.modules\n'
        'z = np.ones((1, 8, 8)); report.picture(report.anomalies(z, z, lesions=np.eye(8, dtype=bool)[None]), "", alt="")\n'
        'report.picture(report.curves({"a": ([1], [1])}), "", alt=""); assert "matplotlib.pyplot" not in sys.modules'
    )
    subprocess.run([sys.executable, '-c', code], check=True)
