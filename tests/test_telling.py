"""What flags tell a network, by the card of its model."""

import numpy as np
import pytest

from jaxdiff import telling
from jaxdiff.model import Model
from jaxdiff.nets import text
from jaxdiff.types import UserError

READ = text.tokenizer(['a large lesion'], length=6)
UNET = {'name': 'unet', 'channels': 1, 'widths': [4, 8], 'attention': [False, True], 'groups': 2, 'heads': 1}
INNER = {name: value for name, value in UNET.items() if name != 'name'}
NETWORKS = {
    'told': {**UNET, 'labels': 3, 'vector': 2},
    'reader': {'name': 'captioned', 'unet': INNER, 'text': {'words': len(READ.words), 'length': 6, 'width': 4}},
    'pictured': {**UNET, 'image': 1},
    'steered': {'name': 'controlled', 'trunk': {**INNER, 'labels': 2}},
    'plain': UNET,
}
CARDS = {
    'told': {'conditioning': {'label': [], 'vector': [2]}, 'classes': ['T1', 'T2', 'T2, lesion'], 'covariates': {'age': 0, 'size': 0}},
    'reader': {'conditioning': {'words': [6]}, 'tokenizer': text.to_json(READ)},
    'pictured': {'conditioning': {'image': [4, 4, 1]}},
    'steered': {'conditioning': {'hint': [4, 4, 1], 'label': []}},
    'plain': {},
}
MODELS = {name: Model(NETWORKS[name], {'name': 'cosine'}, 'v', None, {}, card) for name, card in CARDS.items()}


@pytest.mark.parametrize(('label', 'number'), [('T2, lesion', 2), ('t2', 1), ('0', 0), ('', 3)])
def test_classes_by_name_or_number_and_none(label, number):
    found = telling.flags(MODELS['told'], name='m', label=label)
    assert found['label'] == number and found['label'].dtype == np.int32 and np.isnan(found['vector']).all()


def test_classes_inside_another_network():
    assert telling.flags(MODELS['steered'], name='m')['label'] == 2


def test_covariates_in_order_and_missing():
    found = telling.flags(MODELS['told'], name='m', covariates=('0.5', 'nan'))['vector']
    np.testing.assert_array_equal(found, np.float32([0.5, np.nan]))


def test_sentences_and_silence():
    said = telling.flags(MODELS['reader'], name='m', say='a Lesion')
    assert READ.text(said['words']) == 'a lesion'
    null = telling.nothing(MODELS['reader'], said)
    np.testing.assert_array_equal(null['words'], telling.flags(MODELS['reader'], name='m')['words'])


def test_nothing_is_what_training_drops_to():
    null = telling.nothing(MODELS['told'], telling.flags(MODELS['told'], name='m', label='T1', covariates=('1', '1')))
    assert null['label'] == 3 and np.isnan(null['vector']).all()


def test_a_hint_alone_is_turned_off_and_beside_others_stays():
    hint = {'hint': np.ones((4, 4, 1), np.float32), 'strength': np.float32(1)}
    assert telling.nothing(MODELS['steered'], hint)['strength'] == 0
    both = telling.nothing(MODELS['steered'], {**hint, 'label': np.int32(0)})
    assert both['strength'] == 1 and both['label'] == 2 and (both['hint'] == 1).all()


@pytest.mark.parametrize(
    ('model', 'given', 'words'),
    [
        ('plain', dict(label='1'), '--label: the model m was trained without any classes'),
        ('told', dict(say='a'), '--say: the model m was trained without any words'),
        ('reader', dict(covariates=('1',)), '--covariates: the model m was trained without'),
        ('plain', dict(weight=2.0), '--weight: the model m is told nothing'),
        ('pictured', dict(weight=2.0), '--weight: the model m never went without its image'),
        ('told', dict(label='PD'), '--label=PD: no such class; give one of: 0 T1; 1 T2; 2 T2, lesion'),
        ('steered', dict(label='2'), '--label=2: no such class; give one of: 0 to 1'),
        ('told', dict(covariates=('1',)), '1 given, the model was told 2: age, size'),
        ('told', dict(covariates=('a', '1')), '--covariates=a,1: give numbers'),
        ('reader', dict(say='a small lesion'), '--say: the model never read small; it knows a large lesion'),
        ('reader', dict(say='a a a a a'), 'say less'),
    ],
)
def test_refusals(model, given, words):
    with pytest.raises(UserError) as caught:
        telling.flags(MODELS[model], name='m', **given)
    assert words in str(caught.value) and '\n' not in str(caught.value)


def test_pictures_where_they_are_told():
    assert telling.picture(MODELS['pictured'], name='m', given='x.nii') == 'image'
    assert telling.picture(MODELS['steered'], name='m', given='x.nii') == 'hint' and telling.picture(MODELS['plain'], name='m') is None
    for model, given in (('pictured', {}), ('pictured', dict(given='x.nii', data='nifti:y')), ('plain', dict(given='x.nii'))):
        with pytest.raises(UserError, match=r'^--(given|data): the model m is told'):
            telling.picture(MODELS[model], name='m', **given)
