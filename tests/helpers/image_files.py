"""Small image files as people have them."""

import warnings

import numpy as np
from PIL import Image

from tsynd_sk.datasets import load_image_folder


def grey(path, value=0, size=(2, 2)):
    """Write a grey 8-bit image of one value; `size` is (width, height)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", size, value).save(path)
    return path


def tiff(path, values, **options):
    """Write values as tifffile does, white or black as zero."""
    import tifffile

    path.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(path, values, **{"photometric": "minisblack", **options})
    return path


def dicom(path, values, **tags):
    """Write 16-bit values as a CT slice, with these tags besides."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

    path.parent.mkdir(parents=True, exist_ok=True)
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    dataset = Dataset()
    dataset.file_meta = meta
    dataset.SOPClassUID = CTImageStorage
    dataset.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    dataset.Rows, dataset.Columns = values.shape[-2:]
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit = 15
    dataset.PixelRepresentation = 1 if values.dtype.kind == "i" else 0
    if values.ndim == 3:
        dataset.NumberOfFrames = len(values)
    for name, value in tags.items():
        setattr(dataset, name, value)
    dataset.PixelData = values.astype(values.dtype.newbyteorder("<")).tobytes()
    dataset.save_as(path, enforce_file_format=True)
    return path


def loaded(folder, **options):
    """Load a folder, and return the messages of the warnings besides."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        data = load_image_folder(folder, verbose=False, **options)
    return data, [str(warning.message) for warning in caught]


def silently_loaded(folder, **options):
    """Load a folder where nothing is to be warned of."""
    data, messages = loaded(folder, **options)
    assert messages == []
    return data


def row_of(data, name):
    """Image of a file."""
    return data.X[data.files.index(name)]


def noise(seed, shape=(8, 8), dtype=np.uint8, high=256):
    """Return values that differ from file to file."""
    return np.random.default_rng(seed).integers(0, high, shape).astype(dtype)
