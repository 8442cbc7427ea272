"""Small files of the layout of fastMRI."""

HEADER = """<?xml version="1.0"?><ismrmrdHeader xmlns="http://www.ismrm.org/ISMRMRD"><encoding>
<encodedSpace><matrixSize><x>16</x><y>12</y><z>1</z></matrixSize></encodedSpace>
<reconSpace><matrixSize><x>8</x><y>{recon}</y><z>1</z></matrixSize></reconSpace>
<encodingLimits><kspace_encoding_step_1><minimum>0</minimum><maximum>{maximum}</maximum><center>{center}</center></kspace_encoding_step_1>
</encodingLimits></encoding></ismrmrdHeader>"""


def written(path, kspace, xml, patient=None, **datasets):
    """The file, without what is None."""
    import h5py

    with h5py.File(path, 'w') as file:
        if kspace is not None:
            file['kspace'] = kspace
        if xml is not None:
            file['ismrmrd_header'] = xml
        for name, values in datasets.items():
            file[name] = values
        file.attrs['max'] = 2.5
        file.attrs['acquisition'] = 'CORPD_FBK'
        if patient:
            file.attrs['patient_id'] = patient
    return path
