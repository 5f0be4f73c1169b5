"""Folders of all sorts: nothing is lost, nothing depends on the file system, one scale for all."""

import warnings
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import tifffile
from helpers.image_files import loaded
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from tsynd_sk.comparison import load_splits
from tsynd_sk.comparison._splits import hold_out

#: Kinds of files, by what they hold of values from 0 to 255.
DEEP = {
    ".u16.tif": lambda v: (v * 16 + 100).astype(np.uint16),
    ".i16.tif": lambda v: (v * 16 + 100).astype(np.int16),
    ".f64.tif": lambda v: v * 16.0 + 100,
}
SHALLOW = {".png": "L", ".bmp": "L", ".rgb.png": "RGB", ".one.png": "1", ".rgba.png": "RGBA"}
OTHER = (".txt", ".broken.png", ".empty.png")

stems = st.text("abcXYZ é09_-. ", min_size=1, max_size=8).filter(
    lambda name: name[0] != "." and name.strip(" .") == name
)
entries = st.dictionaries(
    stems,
    st.tuples(
        st.sampled_from([*DEEP, *SHALLOW, *OTHER]),
        st.integers(0, 2**16),
        st.sampled_from(["file", "link", "folder"]),
    ),
    min_size=1,
    max_size=6,
)


def write(path, kind, seed):
    values = np.random.default_rng(seed).integers(0, 256, (6, 5))
    if kind in DEEP:
        tifffile.imwrite(path, DEEP[kind](values), photometric="minisblack")
    elif kind in SHALLOW:
        Image.fromarray(values.astype(np.uint8)).convert(SHALLOW[kind]).save(path)
    else:
        path.write_bytes(b"no image" if kind != ".empty.png" else b"")


def build(folder, store, classes, order):
    """Write a folder, in one order or the other; return the names of all files."""
    names = []
    for class_name, files in sorted(classes.items(), reverse=order):
        (folder / class_name).mkdir()
        Image.new("L", (5, 6), 7).save(folder / class_name / "always.png")
        names.append(f"{class_name}/always.png")
        for stem, (kind, seed, how) in sorted(files.items(), reverse=order):
            at = folder / class_name / (f"in {stem}" if how == "folder" else "")
            at.mkdir(exist_ok=True)
            path = at / f"{stem}{kind}"
            write(store / f"{class_name}{stem}{kind}" if how == "link" else path, kind, seed)
            if how == "link":
                path.symlink_to(store / f"{class_name}{stem}{kind}")
            names.append(path.relative_to(folder).as_posix())
    return names


def expected(kind, seed, window):
    values = np.random.default_rng(seed).integers(0, 256, (6, 5))
    if kind in DEEP:
        low, high = window
        return np.rint((values * 16.0 + 100 - low) * (255 / (high - low)))
    return values


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.fixed_dictionaries({"ill": entries, "well": entries}))
def test_every_file_is_read_or_counted_and_all_share_one_scale(classes):
    results = []
    for order in (False, True):
        with TemporaryDirectory() as folder, TemporaryDirectory() as store:
            names = build(Path(folder), Path(store), classes, order)
            data, _ = loaded(folder, on_error="skip", grayscale=True)
        counted = [name for left in data.left_out.values() for name in left]
        assert sorted([*data.files, *counted]) == sorted(names)
        results.append(data)
    first, again = results
    assert first.files == again.files
    assert first.reading == again.reading
    np.testing.assert_array_equal(first.X, again.X)
    assert first.files == sorted(first.files)
    window = first.reading.window
    for class_name, files in classes.items():
        for stem, (kind, seed, how) in files.items():
            inner = f"in {stem}/" if how == "folder" else ""
            name = f"{class_name}/{inner}{stem}{kind}"
            assert (name in first.files) == (kind not in OTHER)
            if kind in OTHER or kind == ".one.png":
                continue
            image = first.X[first.files.index(name)]
            assert np.abs(image - expected(kind, seed, window)).max() <= 1
            assert first.class_names[first.y[first.files.index(name)]] == class_name


def refused(error):
    """Check that too few images, or groups, are the reason."""
    assert "held out" in str(error) or "training images" in str(error)


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 12), st.integers(0, 30)), min_size=1),
    st.integers(0, 3),
)
def test_no_group_and_no_copy_is_on_two_sides(rows, seed):
    y, groups, pixels = np.array(rows).T
    try:
        train, held = hold_out(y, list("abc"), groups=groups, first_equal=pixels, random_state=seed)
    except ValueError as error:
        refused(error)
        return
    assert sorted([*train, *held]) == list(range(len(y)))
    assert len(held)
    for together in (groups, pixels):
        assert not set(together[train]) & set(together[held])
    assert set(y[train]) == set(y)


@settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.integers(0, 9), min_size=24, max_size=40), st.sampled_from(["test", "val"]))
def test_groups_of_files_stay_on_one_side_of_a_comparison(patients, score_on):
    with TemporaryDirectory() as folder:
        for k, patient in enumerate(patients):
            path = Path(folder, "ab"[k % 2], f"p{patient}_{k}.png")
            path.parent.mkdir(exist_ok=True)
            Image.fromarray(np.full((4, 4), k, np.uint8)).save(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                splits = load_splits(folder, group_pattern=r"p\d+", score_on=score_on)
                divisions = splits.divisions(2)
            except ValueError as error:
                refused(error)
                return
    for division in divisions:
        train, scored = ({patients[k] for k in splits.X[rows, 0, 0]} for rows in division)
        assert not train & scored
