"""Folders of known data sets as indices of `Patient`s.

    brats2020, brats2021, brats2023   <patient>/<patient>_{t1,t1ce,t2,flair,seg}.nii.gz; 2023 says -{t1n,t1c,t2w,t2f,seg}
    brats_slices                      a folder for each slice: brats_train_<patient>_<contrast>_<slice>_w.nii.gz; slices to test have
                                      <slice>-label.nii.gz in test_labels in place of _seg_
    ixi                               IXI<number>-<hospital>-<number>-{T1,T2,PD}.nii.gz, all healthy; ages from a .csv with IXI_ID and AGE
    atlas                             ATLAS v2: sub-*_T1w.nii.gz, and the stroke in *_mask.nii.gz beside it
    chexpert                          train.csv and .jpg: frontal views with no finding, or with a pleural effusion; or .npy files in
                                      <split>/healthy and <split>/diseased, patientN_studyM.npy
    pairs                             a .csv with img_path, and if there are any seg_path (of lesions), age, label, person and img_name

The parts that a layout names (train, test, ...) are not kept: whoever opens it splits by person. Raises `UserError`, one line with the file and the
remedy, for what is missing.
"""

import csv
import math
import re
from collections.abc import Callable, Sequence
from itertools import groupby
from pathlib import Path

from jaxdiff.data.patients import Patient
from jaxdiff.data.volumes import SUFFIXES
from jaxdiff.types import UserError

Contrasts = Sequence[str]
BRATS = ('flair', 't1', 't1ce', 't2')
BRATS_2023 = {'flair': 't2f', 't1': 't1n', 't1ce': 't1c', 't2': 't2w'}
SLICE = re.compile(r'(?P<person>.+?_\d+)_(?P<contrast>t1|t1ce|t2|flair|seg)_(?P<slice>\d+)_w\.nii(\.gz)?$')
IXI = re.compile(r'(?P<person>IXI(?P<number>\d+)-.+)-(?P<contrast>T1|T2|PD|MRA)\.nii(\.gz)?$')
STUDY = re.compile(r'(?P<person>patient\d+)_study\d+.*\.npy$')
HEALTHY, DISEASED = 'healthy', 'diseased'


def patients(spec: str, contrasts: Contrasts = (), *, flag: str = 'data') -> tuple[Patient, ...]:
    """The index of '<layout>:<folder>', of these contrasts (in any case) in this order, or of all that the layout has; `flag` is who gave it."""
    name, _, where = spec.partition(':')
    if name not in LAYOUTS or not where:
        raise UserError(f'--{flag}={spec}: choose {", ".join(f"{each}:<folder>" for each in LAYOUTS)}')
    folder = Path(where)
    kind = 'file' if name == 'pairs' else 'folder'
    if not (folder.is_file() if name == 'pairs' else folder.is_dir()):
        raise UserError(f'{folder}: no such {kind}: check the path after {name}:')
    return LAYOUTS[name](folder, tuple(contrasts))


def brats(folder: Path, contrasts: Contrasts, *, join: str = '_', names: dict[str, str] | None = None) -> tuple[Patient, ...]:
    """A folder for each patient, named as its files begin."""
    found, wanted = [], _wanted(contrasts or BRATS, BRATS, folder)
    for home in sorted(each for each in folder.iterdir() if each.is_dir() and not each.name.startswith('.')):
        stem = f'{home.name}{join}'
        if not list(home.glob(f'{stem}*')):
            continue
        files = tuple(_nifti(home / f'{stem}{(names or {}).get(each, each)}') for each in wanted)
        mask = _nifti(home / f'{stem}seg', missing='')
        found.append(Patient(_person(home.name, join), files, mask or None, 1))
    return _marked(found, folder, f'<patient>/<patient>{join}{(names or {}).get("t1", "t1")}.nii.gz')


def brats_2023(folder: Path, contrasts: Contrasts) -> tuple[Patient, ...]:
    """BraTS-GLI-<patient>-<time>: the last number is a time of the same patient."""
    return brats(folder, contrasts, join='-', names=BRATS_2023)


def _person(name: str, join: str) -> str:
    return name.rpartition('-')[0] if join == '-' and name.count('-') > 2 else name


def brats_slices(folder: Path, contrasts: Contrasts) -> tuple[Patient, ...]:
    """A folder for each slice; the patient is what stands before the contrast in a file's name."""
    found, wanted = [], _wanted(contrasts or ('t1', 't1ce', 't2', 'flair'), BRATS, folder)
    named = [(file, match) for file in _files(folder) if (match := SLICE.match(file.name))]
    one = lambda each: (each[0].parent, each[1]['person'], each[1]['slice'])
    for (home, person, _), files in groupby(sorted(named, key=one), key=one):
        matches = {match['contrast']: (file, match) for file, match in files}
        for each in wanted:
            if each not in matches:
                raise UserError(f'{home}: no file of {each}: add it, or leave it out of --contrasts')
        mask = str(matches['seg'][0]) if 'seg' in matches else None
        if mask is None:
            labels = [*home.parent.parent.glob(f'test_labels/{home.name}-label.nii*'), *folder.glob(f'test_labels/{home.name}-label.nii*')]
            mask = str(labels[0]) if labels else None
        found.append(Patient(person, tuple(str(matches[each][0]) for each in wanted), mask))
    return _marked(found, folder, '<slice>/brats_train_001_t1_123_w.nii.gz')


def ixi(folder: Path, contrasts: Contrasts) -> tuple[Patient, ...]:
    """Healthy people; those who lack one of the contrasts are refused by name."""
    matches = [(file, match) for file in _files(folder) if (match := IXI.match(file.name))]
    present = sorted({match['contrast'] for _, match in matches} & {'T1', 'T2', 'PD'})
    wanted = _wanted(contrasts or present, ('T1', 'T2', 'PD'), folder)
    ages = {}
    for table in sorted(folder.glob('*.csv')):
        rows = [[_number(table, name, row[name]) for name in ('IXI_ID', 'AGE')] for row in _rows(table, ('IXI_ID', 'AGE'))]
        ages |= {int(number): age for number, age in rows if number is not None and age is not None}
    found = []
    for person in sorted({match['person'] for _, match in matches}):
        own = {match['contrast']: (file, match) for file, match in matches if match['person'] == person}
        for each in wanted:
            if each not in own:
                raise UserError(f'{folder}/{person}-{each}.nii.gz: no such file: add it, or leave {each} out of --contrasts')
        number = int(next(iter(own.values()))[1]['number'])
        covariates = {'age': ages[number]} if number in ages else {}
        found.append(Patient(person, tuple(str(own[each][0]) for each in wanted), None, 0, covariates))
    return _some(found, folder, 'IXI002-Guys-0828-T1.nii.gz')


def atlas(folder: Path, contrasts: Contrasts) -> tuple[Patient, ...]:
    """Strokes: a T1 image and the mask beside it, which scans of the test set have not."""
    _wanted(contrasts or ('T1',), ('T1',), folder)
    found = []
    for file in (each for each in _files(folder) if each.name.startswith('sub-') and '_T1w.nii' in each.name):
        masks = [each for each in file.parent.glob(f'{file.name.split("_")[0]}*_mask.nii*') if not each.name.startswith('.')]
        found.append(Patient(file.name.split('_')[0], (str(file),), str(sorted(masks)[0]) if masks else None, 1))
    return _marked(found, folder, 'sub-r001s001/ses-1/anat/sub-r001s001_ses-1_..._T1w.nii.gz')


def chexpert(folder: Path, contrasts: Contrasts) -> tuple[Patient, ...]:
    """One picture is one scan, of a person without a finding or with a pleural effusion."""
    _wanted(contrasts or ('xray',), ('xray',), folder)
    arrays = sorted(each for each in folder.rglob('*.npy') if each.parent.name in (HEALTHY, DISEASED))
    if arrays:
        found = []
        for file in arrays:
            match = STUDY.match(file.name)
            if not match:
                raise UserError(f'{file}: not named patientN_studyM.npy: name it so, for people are told apart by it')
            found.append(Patient(match['person'], (str(file),), None, int(file.parent.name == DISEASED)))
        return tuple(found)
    table, found = folder / 'train.csv', []
    if not table.exists():
        raise UserError(f'{table}: no such file: give the folder of CheXpert, or one with <split>/healthy and <split>/diseased')
    for row in _rows(table, ('Path', 'Frontal/Lateral', 'No Finding', 'Pleural Effusion')):
        label = 1 if _one(row['Pleural Effusion']) else 0 if _one(row['No Finding']) else None
        if label is None or row['Frontal/Lateral'] != 'Frontal':
            continue
        if not row['Path']:
            raise UserError(f'{table}: a row without Path: fill it in, or take the row out')
        parts = Path(row['Path']).parts
        file = folder.joinpath(*parts[1:]) if not (folder / row['Path']).exists() else folder / row['Path']
        if not file.exists():
            raise UserError(f'{file}: no such file, though {table} names it: put it back, or take its row out')
        found.append(Patient(next((part for part in parts if part.startswith('patient')), row['Path']), (str(file),), None, label))
    return _some(found, folder, 'train.csv with frontal views')


def pairs(table: Path, contrasts: Contrasts) -> tuple[Patient, ...]:
    """Rows of a table, paths being relative to it; `person` names whose scan it is, or `img_name` does, or the file."""
    found, named = [], {}
    for row in _rows(table, ('img_path',)):
        file, mask = (_beside(table, row.get(name) or '') for name in ('img_path', 'seg_path'))
        if not file:
            raise UserError(f'{table}: a row without img_path: fill it in')
        label = (row.get('label') or '').strip()
        if label and label not in ('0', '1', '0.0', '1.0'):
            raise UserError(f'{table}: label {label!r} of {row["img_path"]}: write 0 for healthy and 1 for diseased')
        if not (row.get('person') or row.get('img_name')) and named.setdefault(Path(file).name, file) != file:
            raise UserError(f'{table}: {named[Path(file).name]} and {file} share a name: say in a column person whose scans they are')
        age = (row.get('age') or '').strip()
        covariates = {'age': _number(table, 'age', age)} if age else {}
        found.append(
            Patient(
                Path(row.get('person') or row.get('img_name') or file).name,
                (file,),
                mask or None,
                int(float(label)) if label else None,
                covariates,
            )
        )
    return _some(found, table, 'rows')


LAYOUTS: dict[str, Callable[[Path, Contrasts], tuple[Patient, ...]]] = {
    'brats2020': brats, 'brats2021': brats, 'brats2023': brats_2023, 'brats_slices': brats_slices, 'ixi': ixi, 'atlas': atlas,
    'chexpert': chexpert, 'pairs': pairs,
}  # fmt: skip


def _wanted(contrasts: Contrasts, known: Contrasts, folder: Path) -> Contrasts:
    spelt = {each.lower(): each for each in known}
    for each in contrasts:
        if each.lower() not in spelt:
            raise UserError(f'--contrasts={each}: {folder} is of a layout with {", ".join(known)}')
    return tuple(spelt[each.lower()] for each in contrasts)


def _some(found: Sequence[Patient], where: Path, example: str) -> tuple[Patient, ...]:
    if not found:
        raise UserError(f'{where}: holds nothing like {example}: check the path')
    return tuple(found)


def _marked(found: Sequence[Patient], where: Path, example: str) -> tuple[Patient, ...]:
    """All with a mask or all without: one without among others is misnamed, and would count as free of lesions."""
    without = [each for each in found if each.mask is None]
    if without and len(without) < len(found):
        raise UserError(f'{Path(without[0].files[0]).parent}: no mask, though other scans have one: add it, or leave the scan out')
    return _some(found, where, example)


def _files(folder: Path) -> list[Path]:
    return sorted(each for each in folder.rglob('*') if each.name.endswith(SUFFIXES) and not each.name.startswith('.'))


def _nifti(stem: Path, missing: str | None = None) -> str:
    """The file of this name with either ending."""
    for ending in reversed(SUFFIXES):
        file = stem.with_name(stem.name + ending)
        if file.exists():
            return str(file)
    if missing is None:
        raise UserError(f'{stem}{SUFFIXES[1]}: no such file: add it, leave its contrast out of --contrasts, or leave out the patient')
    return missing


def _beside(table: Path, path: str) -> str:
    if not path.strip():
        return ''
    file = table.parent / path.strip()
    if not file.exists():
        raise UserError(f'{file}: no such file, though {table} names it: put it back, or mend the row')
    return str(file)


def _rows(table: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    try:
        with open(table, newline='', encoding='utf-8-sig') as file:
            reader = csv.DictReader(file)
            names, rows = reader.fieldnames or (), list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f'{table}: cannot be read as a table ({error}): save it as .csv') from None
    for column in columns:
        if column not in names:
            raise UserError(f'{table}: has no column {column}, only {", ".join(names)}: add it')
    return [{name: (row[name] or '').strip() for name in names} for row in rows]


def _number(table: Path, column: str, text: str) -> float | None:
    try:
        value = float(text) if text else None
    except ValueError:
        value = math.inf
    if value is not None and not math.isfinite(value):
        raise UserError(f'{table}: {column} {text!r}: write a number or leave it empty')
    return value


def _one(value: str | None) -> bool:
    return (value or '').strip() in ('1', '1.0')
