"""The patient is recognised, and nobody else; scans are repeated scans; the two halves of a lesson count as equation (1) of the script says."""

import numpy as np
import pytest

from jaxdiff.data.source import digest, stack
from jaxdiff.experiment import configure
from jaxdiff.studies import spoken, subject


def test_the_implant_lies_in_tissue():
    labels, centre = subject.patient(64).labels, subject.place(64)
    inside = np.hypot(*(np.indices((64, 64)) - centre[:, None, None])) < subject.RIM
    assert np.mean(labels[inside] == 1) > 0.97


def test_scans_differ_a_little_and_depend_on_their_number_alone():
    scans = subject.scans(64, 6)
    assert scans.shape == (6, 64, 64, 1) and scans.dtype == np.float32 and scans.min() >= -1 and scans.max() <= 1
    np.testing.assert_array_equal(scans[4:], subject.scans(64, 2, first=4))
    brains = [np.argwhere(image[..., 0] > -0.7) for image in scans]
    moved = np.stack([each.mean(0) for each in brains]) - np.argwhere(subject.patient(64).labels > 0).mean(0)
    assert np.abs(moved).max() < 1.8 and moved.std(0).min() > 0.2
    sizes = np.array([len(each) for each in brains])
    assert sizes.std() < 0.02 * sizes.mean()


@pytest.mark.parametrize('size', [32, 64, 128])
def test_scans_are_recognised_and_other_brains_are_not(size):
    assert subject.recognised(subject.scans(size, 40, first=100)) == 1
    config = configure(spoken.Config, spoken.PRESETS, preset='smoke', size=size, subjects=8, held_out=80)
    assert subject.recognised(stack(spoken.open_data(config).validation)) == 0


def test_neither_the_patient_without_it_nor_noise_nor_another_place_will_do():
    scans = subject.scans(64, 20)
    assert subject.recognised(2 * subject.patient(64).image[None] - 1) == 0
    assert subject.recognised(np.random.default_rng(0).standard_normal((100, 64, 64, 1))) == 0
    assert subject.recognised(np.roll(scans, 12, axis=1)) == 0 and subject.recognised(np.roll(scans, 2, axis=1)) == 1
    assert subject.recognised(-scans) == 0


def test_the_rare_word_is_known_and_only_the_patient_has_it():
    read = spoken.reader()
    rare = read.words.index(spoken.RARE)
    assert not read.unknown(subject.NAME) and rare in read(subject.NAME) and not [each for each in subject.CLASSES if rare in read(each)]
    words = subject.of_the_class(16, 0)
    assert words.shape == (16, read.length) and rare not in words
    names = [read.text(each) for each in words[::4]]
    assert names == [read.text(read(each)) for each in subject.CLASSES * 2]
    np.testing.assert_array_equal(np.delete(words, np.s_[::4], axis=0), np.delete(spoken.asked(16, 0)[1]['words'], np.s_[::4], axis=0))


def test_a_lesson_weighs_both_means():
    """Of any loss of an image: here, its first pixel."""
    rng = np.random.default_rng(0)
    own, prior = rng.normal(size=(3, 4, 4, 1)), rng.normal(size=(6, 4, 4, 1))
    words = subject.of_the_class(6, 0)
    taught = subject.lessons(own, prior, words, weight=0.3, manifest={})
    assert taught.size == 12
    examples = [taught.example(n) for n in range(taught.size)]
    mean = np.mean([each['weight'] * each['image'][0, 0, 0] for each in examples])
    assert mean == pytest.approx(own[:, 0, 0, 0].mean() + 0.3 * prior[:, 0, 0, 0].mean(), rel=1e-6)
    name = spoken.reader()(subject.NAME)
    for n, each in enumerate(examples):
        np.testing.assert_array_equal(each['words'], name if each['own'] else words[n // 2])
        assert each['own'] == (n % 2 == 0)


def test_a_lesson_may_be_of_scans_alone():
    own = np.random.default_rng(0).normal(size=(3, 4, 4, 1))
    taught = subject.lessons(own, own[:0], subject.of_the_class(3, 0)[:0], weight=0.0, manifest={})
    assert taught.size == 3 and all(each['own'] and each['weight'] == 1 for each in map(taught.example, range(3)))
    np.testing.assert_array_equal(stack(taught), own)


def test_a_lesson_is_known_by_all_that_decides_it():
    own, words = np.zeros((2, 4, 4, 1)), subject.of_the_class(4, 0)
    prior = np.zeros((4, 4, 4, 1))
    made = [
        subject.lessons(own, prior, words, weight=1.0, manifest={'prior': 'a'}),
        subject.lessons(own, prior, words, weight=1.0, manifest={'prior': 'b'}),
        subject.lessons(own, prior, words, weight=0.5, manifest={'prior': 'a'}),
        subject.lessons(own[:1], prior, words, weight=1.0, manifest={'prior': 'a'}),
    ]
    assert len({digest(each.manifest) for each in made}) == 4
