"""DICOM files: rescaled values, windows, white as zero, and patients."""

import sys

import numpy as np
import pytest
from helpers.image_files import dicom, grey, loaded, silently_loaded, tiff

from tsynd_sk.datasets import load_image_folder, read_images

pytest.importorskip("pydicom", reason="reading DICOM files needs pydicom")

STORED = np.array([[0, 500], [1000, 2000]], np.uint16)
CT = {"RescaleSlope": 2, "RescaleIntercept": -1000}


def pair(folder, first=None, second=None, values=STORED):
    """Write a set of two files with these tags, and return the folder."""
    first = first or {}
    dicom(folder / "a" / "1.dcm", values, **first)
    dicom(folder / "b" / "2.dcm", values[::-1], **(first if second is None else second))
    return folder


def test_slope_and_intercept_come_before_the_scale(tmp_path):
    data, [message] = loaded(pair(tmp_path, CT))
    assert data.reading.window == (-1000, 3000)
    assert "[-1000, 3000], which is stretched" in message
    assert data.X[0].tolist() == [[0, 64], [128, 255]]
    assert data.X[1].tolist() == data.X[0, ::-1].tolist()


def test_signed_values_are_read(tmp_path):
    data = silently_loaded(pair(tmp_path, values=STORED.astype(np.int16) - 1000), window=(-500, 0))
    assert data.X[0].tolist() == [[0, 0], [255, 255]]


def test_the_window_that_all_files_have_is_the_scale(tmp_path):
    window = {"WindowCenter": [0.5, 9], "WindowWidth": [1001, 9]}
    data = silently_loaded(pair(tmp_path, {**CT, **window}))
    assert data.reading.window == (-500, 500)
    assert data.X[0].tolist() == [[0, 128], [255, 255]]
    assert "values: the window of all DICOM files, [-500, 500]" in data.notes


def test_windows_that_differ_are_no_scale_and_that_is_said(tmp_path):
    first, second = ({"WindowCenter": c, "WindowWidth": 100} for c in (0, 40))
    data, [message] = loaded(pair(tmp_path, first, second))
    assert data.reading.window == (0, 2000)
    assert "the DICOM files' windows differ" in message


def test_monochrome1_is_turned_round(tmp_path):
    negative = {"PhotometricInterpretation": "MONOCHROME1"}
    data, _ = loaded(pair(tmp_path, negative, {}))
    assert data.X[0].tolist() == [[255, 191], [128, 0]]
    assert data.X[1, ::-1].tolist() == [[0, 64], [128, 255]]


def test_what_lies_outside_of_the_field_of_view_widens_no_range(tmp_path):
    values = STORED.astype(np.int16)
    values[0, 0] = -2000
    data, _ = loaded(pair(tmp_path, {"PixelPaddingValue": -2000}, values=values))
    assert data.reading.window == (500, 2000)
    assert data.X[0, 0, 0] == 0


def test_patients_are_groups(tmp_path):
    for k in range(6):
        name = f"{'ab'[k % 2]}/{k}.dcm"
        dicom(tmp_path / name, STORED + k, PatientID=f"P{k // 2}")
    data, _ = loaded(tmp_path)
    assert data.groups.tolist() == ["P0", "P1", "P2"] * 2
    assert data.grouped_by == "PatientID"
    assert "groups: 3 by PatientID, each kept on one side of a split" in data.notes


@pytest.mark.parametrize("ids", [("", ""), ("anonymous", "anonymous"), ("P1", "")])
def test_empty_or_equal_patients_are_none(tmp_path, ids):
    data, _ = loaded(pair(tmp_path, *({"PatientID": name} for name in ids)))
    assert data.groups is None
    assert any("PatientID is empty or everywhere" in n for n in data.notes) == any(ids)


def test_patients_on_two_sides_are_a_warning(tmp_path):
    for k, name in enumerate(["train/a/1", "train/b/2", "test/a/3", "test/b/4"]):
        dicom(tmp_path / f"{name}.dcm", STORED + k, PatientID="PQQP"[k])
    _, messages = loaded(tmp_path)
    assert any("2 groups by PatientID have images in several splits" in m for m in messages)


def test_names_need_no_ending_and_frames_are_pages(tmp_path):
    frames = np.stack([STORED, STORED + 100])
    dicom(tmp_path / "a" / "IM0001", frames)
    dicom(tmp_path / "b" / "1.2.840.113", frames + 50)
    data, messages = loaded(tmp_path)
    assert data.files == ["a/IM0001", "b/1.2.840.113"]
    assert "further pages of files, which" in messages[0]
    assert len(loaded(tmp_path, pages="all")[0].X) == 4


def test_beside_other_files_they_share_one_scale(tmp_path):
    dicom(tmp_path / "a" / "1.dcm", STORED, **CT)
    tiff(tmp_path / "b" / "2.tif", np.array([[-1000, 0], [1000, 3000]], np.float32))
    data, _ = loaded(tmp_path)
    np.testing.assert_array_equal(data.X[0], data.X[1])
    again = read_images([tmp_path / "a" / "1.dcm"], like=data)
    np.testing.assert_array_equal(again[0], data.X[0])


def test_colours_of_eight_bits(tmp_path):
    rgb = np.arange(12, dtype=np.uint8).reshape(2, 2, 3) * 20
    for name in "ab":
        tags = {"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB", "PlanarConfiguration": 0}
        tags |= {"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7, "Rows": 2, "Columns": 2}
        dicom(tmp_path / name / "x.dcm", rgb, **tags, NumberOfFrames=1)
    data, _ = loaded(tmp_path)
    np.testing.assert_array_equal(data.X[0], rgb)


def test_without_an_image_they_are_named(tmp_path):
    pair(tmp_path)
    dicom(tmp_path / "a" / "report.dcm", STORED, Rows=None)
    with pytest.raises(ValueError, match=r"a/report\.dcm: a DICOM file without an image"):
        load_image_folder(tmp_path)


def test_without_pydicom_the_way_out_is_told(tmp_path, monkeypatch):
    pair(tmp_path)
    grey(tmp_path / "a" / "x.png")
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(
        ImportError, match=r"[12]\.dcm is a DICOM .*pip install \"tsynd_sk\[dicom\]"
    ):
        load_image_folder(tmp_path)
