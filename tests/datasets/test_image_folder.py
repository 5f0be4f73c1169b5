"""Sets of image files: size, faults, equal pixels, groups, and how others are read alike."""

import json
import os
import subprocess
import sys
import warnings
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from helpers.image_files import grey, loaded, noise, row_of, silently_loaded, tiff
from joblib import cpu_count
from PIL import Image

from tsynd_sk.datasets import Reading, load_image_folder, read_images
from tsynd_sk.datasets._read_image import ImageFacts, n_threads


@pytest.fixture
def folder(tmp_path):
    """Two classes with one dark 2 x 2 image each."""
    grey(tmp_path / "a" / "dark.png", 0)
    grey(tmp_path / "b" / "dark.png", 1)
    return tmp_path


class TestSize:
    def of(self, folder, *sizes, **options):
        for k, size in enumerate(sizes):
            grey(folder / "ab"[k % 2] / f"{k}.png", k, size)
        data = silently_loaded(folder, **options)
        return data.X.shape[1:], data.notes[0]

    def test_own_size_where_all_agree(self, tmp_path):
        assert self.of(tmp_path, (30, 224), (30, 224)) == (
            (224, 30),
            "size: 30 x 224 pixels (the files' own size), grey",
        )

    def test_at_most_224_unless_asked_for(self, tmp_path):
        shape, note = self.of(tmp_path, (300, 225), (300, 225))
        assert shape == (224, 224)
        assert "files are 300 x 225; more than 224 only by size (--size)), crop to fit" in note
        assert silently_loaded(tmp_path, size="native").X.shape[1:] == (225, 300)
        assert silently_loaded(tmp_path, size=250).X.shape[1:] == (250, 250)

    def test_the_median_of_different_sizes(self, tmp_path):
        shape, note = self.of(tmp_path, (30, 20), (50, 40), (999, 60), (60, 500), (40, 40))
        assert shape == (40, 40)
        assert "the median of the files' shorter sides, at most 224" in note

    def test_the_median_is_at_most_224(self, tmp_path):
        assert self.of(tmp_path, (500, 400), (300, 350))[0] == (224, 224)

    def test_native_refuses_different_sizes_with_examples(self, folder):
        grey(folder / "a" / "wide.png", 5, (30, 20))
        with pytest.raises(ValueError, match=r"2 different sizes.*size=PX \(--size PX\)") as caught:
            load_image_folder(folder, size="native")
        assert "2 x 2 (a/dark.png)" in str(caught.value)
        assert "30 x 20 (a/wide.png)" in str(caught.value)

    @pytest.mark.parametrize("shape", [(40, 100), (100, 40)])
    @pytest.mark.parametrize("deep", [False, True])
    def test_crop_and_pad_keep_the_aspect_ratio(self, folder, shape, deep):
        values = np.zeros(shape, np.uint8)
        middle = tuple(slice(side // 2 - 20, side // 2 + 20) for side in shape)
        values[middle] = 200
        if deep:
            tiff(folder / "b" / "x.tif", values.astype(np.uint16) * 257)
        else:
            Image.fromarray(values).save(folder / "b" / "x.tif")
        cropped = silently_loaded(folder, size=10)
        assert cropped.X.shape == (3, 10, 10)
        # The filter reaches a little beyond the cut; squeezing all in would give black margins.
        assert np.abs(row_of(cropped, "b/x.tif").astype(int) - 200).max() < 20
        padded = row_of(silently_loaded(folder, size=10, fit="pad"), "b/x.tif")
        padded = padded if shape[1] > shape[0] else padded.T
        assert padded[:3].max() == padded[7:].max() == 0
        assert np.abs(padded[3:7, 4:6].astype(int) - 200).max() < 20
        assert padded[3:7, :2].max() == 0

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"size": "small"}, "size must be an int, or one of auto, native; got 'small'"),
            ({"size": 0}, "size must be an int of at least 1"),
            ({"fit": "stretch"}, "fit must be one of crop, pad; got 'stretch'"),
            ({"pages": 2}, "pages must be one of first, all; got 2"),
            ({"grayscale": "no"}, "grayscale must be one of None, True, False"),
            ({"duplicates": "first"}, "duplicates must be one of keep, drop"),
            ({"on_error": "ignore"}, "on_error must be one of raise, skip"),
        ],
    )
    def test_unknown_choices_are_refused(self, folder, options, message):
        with pytest.raises(ValueError, match=message):
            load_image_folder(folder, **options)


class TestFaults:
    @pytest.fixture
    def faulty(self, folder, monkeypatch):
        pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
        for suffix in ("jpg", "png", "tiff"):
            file = folder / "b" / f"cut.{suffix}"
            Image.fromarray(pixels).save(file)
            file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
        (folder / "a" / "empty.png").touch()
        (folder / "a" / "text.png").write_text("<html>")
        pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"
        (folder / "a" / "pointer.png").write_text(pointer)
        Image.fromarray(np.array([[np.nan, 0.5]], np.float32)).save(folder / "b" / "nan.tif")
        five = np.zeros((6, 7, 5), np.uint16)
        tiff(folder / "b" / "five.tif", five, photometric="rgb", planarconfig="contig")
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 5000)
        grey(folder / "b" / "bomb.png", 0, (90, 90))
        grey(folder / "b" / "big bomb.png", 0, (200, 200))
        tiff(folder / "b" / "bomb.tif", np.zeros((90, 90), np.uint16))
        return folder

    FAULTS = {
        "a/empty.png": "it has zero bytes",
        "a/pointer.png": "a Git LFS pointer in place of the image: run git lfs pull",
        "a/text.png": "not an image that Pillow knows, or cut short",
        "b/big bomb.png": "raise PIL.Image.MAX_IMAGE_PIXELS if you trust the file",
        "b/bomb.png": "raise PIL.Image.MAX_IMAGE_PIXELS if you trust the file",
        "b/bomb.tif": "8100 pixels, more than the limit of 5000",
    }

    def test_all_are_named_with_the_reason(self, faulty):
        with pytest.raises(ValueError, match=r"image files of .* cannot be read:") as caught:
            load_image_folder(faulty)
        message = str(caught.value)
        for name, reason in self.FAULTS.items():
            assert any(name in line and reason in line for line in message.splitlines())
        assert 'on_error="skip" (--on-error skip)' in message

    def test_those_that_fail_late_are_named_too(self, folder):
        for k in range(3):
            file = folder / "a" / f"cut{k}.png"
            Image.fromarray(noise(k, (64, 64))).save(file)
            file.write_bytes(file.read_bytes()[:-2000])
        with pytest.raises(ValueError, match=r"3 image files of .*\n  a/cut0\.png: .*\n.*cut1"):
            load_image_folder(folder)

    def test_they_are_left_out_and_counted_if_asked_for(self, faulty):
        data, messages = loaded(faulty, on_error="skip")
        assert len(messages) == 1, messages
        assert data.files == ["a/dark.png", "b/dark.png"]
        assert data.X[:, 0, 0, 0].tolist() == [0, 1]
        for part in (
            "files of zero bytes: 1 (a/empty.png)",
            "Git LFS pointers: 1 (a/pointer.png)",
            "decompression bombs: 3 (b/big bomb.png, b/bomb.png, b/bomb.tif)",
            "damaged files: 5 (",
            "images of more than four channels: 1 (b/five.tif)",
        ):
            assert part in messages[0]
        assert sum(map(len, data.left_out.values())) == 11

    def test_the_warning_points_at_the_call(self, folder):
        (folder / "a" / "notes.txt").touch()
        with pytest.warns(UserWarning, match="Left out") as caught:
            load_image_folder(folder, verbose=False)
        assert caught[0].filename == __file__


class TestEqualPixels:
    @pytest.fixture
    def copies(self, tmp_path):
        for name, value in {
            "train/a/1": 1,
            "train/a/2": 1,
            "train/b/3": 3,
            "train/b/4": 4,
            "test/a/5": 3,
            "test/b/6": 4,
            "test/b/7": 7,
        }.items():
            grey(tmp_path / f"{name}.png", value)
        return tmp_path

    def test_are_counted_and_named_where_they_should_not_be(self, copies):
        data, [message] = loaded(copies)
        assert "3 of 7 images have the pixels of another one" in message
        assert "under two labels: train/b/3.png and test/a/5.png" in message
        assert (
            "in two splits: train/b/3.png and test/a/5.png, train/b/4.png and test/b/6" in message
        )
        assert 'duplicates="drop"' in message
        assert data.first_equal.tolist() == [0, 0, 2, 3, 2, 3, 6]

    def test_the_first_is_kept_if_asked_for(self, copies):
        data, [message] = loaded(copies, duplicates="drop")
        assert message.endswith("; the first of each is kept")
        kept = ["train/a/1.png", "train/b/3.png", "train/b/4.png", "test/b/7.png"]
        assert data.files == kept
        assert data.X[:, 0, 0].tolist() == [1, 3, 4, 7]
        assert data.y.tolist() == [0, 1, 1, 1]
        assert data.split.tolist() == ["train"] * 3 + ["test"]
        gone = ["train/a/2.png", "test/a/5.png", "test/b/6.png"]
        assert data.left_out == {"equal to an earlier image": gone}

    def test_of_one_class_an_example_is_named(self, folder):
        grey(folder / "a" / "again.png", 0)
        _, [message] = loaded(folder)
        assert "1 of 3 images have the pixels of another one; such as: a/again.png and a/dark" in (
            message
        )

    def test_a_negative_is_no_copy(self, tmp_path):
        values = noise(0, high=65536, dtype=np.uint16)
        for name, kind in (("a", "minisblack"), ("b", "miniswhite")):
            tiff(tmp_path / name / "x.tif", values, photometric=kind)
        assert silently_loaded(tmp_path).first_equal.tolist() == [0, 1]

    def test_equality_is_that_of_the_files_not_of_what_is_left_at_a_size(self, tmp_path):
        for k, shape in enumerate([(4, 4), (8, 8)]):
            grey(tmp_path / "ab"[k] / "x.png", 5, shape)
        assert silently_loaded(tmp_path, size=4).first_equal.tolist() == [0, 1]


class TestGroups:
    @pytest.fixture
    def patients(self, tmp_path):
        names = [f"{'ab'[k % 2]}/patient{k // 2}_{k}.png" for k in range(12)]
        for k, name in enumerate(names):
            grey(tmp_path / name, k)
        return tmp_path, names

    def test_names_that_look_like_patients_are_a_hint(self, patients):
        folder, _ = patients
        data = silently_loaded(folder)
        assert data.groups is None
        hint = data.notes[-1]
        assert "Names look like patients, or the like: patient0, patient1, patient2 (6 in all)" in (
            hint
        )
        assert "--group-pattern" in hint
        pattern = hint.split("group_pattern=")[1].split(" (--")[0].strip("'")
        assert len(set(silently_loaded(folder, group_pattern=pattern.replace("\\\\", "\\")).groups))

    def test_other_names_are_no_hint(self, tmp_path):
        for k in range(12):
            grey(tmp_path / "ab"[k % 2] / f"img_{k}.png", k)
        assert len(silently_loaded(tmp_path).notes) == 1

    def test_a_prefix_that_several_names_share_is_a_hint(self, tmp_path):
        for k in range(20):
            grey(tmp_path / "ab"[k % 2] / f"SOB-{k // 4:03}-{k % 4}.png", k)
        assert "SOB-000, SOB-001, SOB-002 (5 in all)" in silently_loaded(tmp_path).notes[-1]

    @pytest.mark.parametrize("pattern", [r"patient\d+", r"patient(\d+)_", r"(pat)ient(\d+)"])
    def test_by_a_pattern(self, patients, pattern):
        data = silently_loaded(patients[0], group_pattern=pattern)
        numbers = [name.split("patient")[1].split("_")[0] for name in data.files]
        pairs = set(zip(numbers, data.groups.tolist(), strict=True))
        assert len(pairs) == len(set(data.groups)) == 6
        assert data.grouped_by == f"group_pattern {pattern!r}"

    @pytest.mark.parametrize("form", ["paths", "names", "stems", "columns", "dict"])
    def test_by_a_table(self, patients, tmp_path_factory, form):
        folder, names = patients
        groups = {name: f"g{k % 3}" for k, name in enumerate(names)}
        keys = {name: name for name in names}
        if form == "names":
            keys = {name: name.split("/")[1] for name in names}
        if form == "stems":
            keys = {name: name.split("/")[1][:-4] for name in names}
        table = tmp_path_factory.mktemp("table") / "groups.csv"
        rows = [f"{keys[name]},{groups[name]}" for name in names]
        if form == "columns":
            rows = ["\ufeffage;Group;File", *(f"9;{groups[name]};{name}" for name in names)]
        table.write_text("\n".join(rows))
        data = silently_loaded(folder, groups=groups if form == "dict" else table)
        assert data.groups.tolist() == [groups[name] for name in data.files]
        assert data.grouped_by == ("groups" if form == "dict" else "groups.csv")
        assert any(note.startswith("groups: 3 by") for note in data.notes)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"group_pattern": "("}, "must be a regular expression"),
            ({"group_pattern": "p1"}, "finds nothing in 10 of 12, such as a/patient0_0.png"),
            ({"group_pattern": "a", "groups": {}}, "exclude each other"),
            ({"groups": {"a/patient0_0.png": "x"}}, "has no group for 11 of 12 files"),
        ],
    )
    def test_files_without_one_are_named(self, patients, options, message):
        options = {k: v.replace("p1", "patient1_") if v == "p1" else v for k, v in options.items()}
        with pytest.raises(ValueError, match=message):
            load_image_folder(patients[0], **options)

    def test_ambiguous_rows_are_refused(self, folder, tmp_path_factory):
        with pytest.raises(ValueError, match=r"2 files are called 'dark.png': name them by their"):
            load_image_folder(folder, groups={"dark.png": "x"})
        table = tmp_path_factory.mktemp("table") / "groups.csv"
        with pytest.raises(FileNotFoundError, match=r"groups: there is no file .*groups\.csv"):
            load_image_folder(folder, groups=table)
        table.write_text("a/dark.png,x\na/dark.png,y\n")
        with pytest.raises(
            ValueError, match=r"two groups for 'a/dark\.png', 'x' and 'y': keep one"
        ):
            load_image_folder(folder, groups=table)
        table.write_bytes("a/dark.png,Müller\n".encode("latin-1"))
        with pytest.raises(ValueError, match=r"groups\.csv is not text in UTF-8"):
            load_image_folder(folder, groups=table)
        table.write_text("a/dark.png\n")
        with pytest.raises(ValueError, match=r"row 1 is \['a/dark.png'\]; expected a file and"):
            load_image_folder(folder, groups=table)

    def test_none_may_be_in_two_splits(self, tmp_path):
        for k, name in enumerate(["train/a/p1_0", "train/b/p2_1", "test/a/p1_2", "test/b/p3_3"]):
            grey(tmp_path / f"{name}.png", k)
        with pytest.raises(
            ValueError, match=r"1 groups by .* several splits, such as 'p1' \(train, test\)"
        ):
            load_image_folder(tmp_path, group_pattern=r"p\d")


class TestReadingOthersAlike:
    def test_a_new_file_is_scaled_and_fitted_as_the_set(self, tmp_path):
        low = noise(0, (8, 8), np.uint16, 1000)
        for k in range(4):
            tiff(tmp_path / "set" / "ab"[k % 2] / f"{k}.tif", low + 500 * k)
        data, _ = loaded(tmp_path / "set")
        new = tiff(tmp_path / "new.tif", low + 500)
        np.testing.assert_array_equal(read_images(new, like=data), [row_of(data, "b/1.tif")])
        bright = tiff(tmp_path / "bright.tif", np.full((16, 12), 60000, np.uint16))
        X = read_images([new, str(bright)], like=data.reading)
        assert X.shape == (2, 8, 8)
        assert X.dtype == np.uint8
        assert X[1].min() == 255

    def test_all_files_of_the_set_are_read_as_they_were(self, tmp_path):
        Image.fromarray(noise(0, (30, 20, 3))).save(tmp_path / "rgb.png")
        files = [tmp_path / "rgb.png", grey(tmp_path / "grey.png", 7, (40, 40))]
        for k, name in enumerate("ab"):
            (tmp_path / "set" / name).mkdir(parents=True)
            (tmp_path / "set" / name / "x.png").symlink_to(files[k])
        for options in ({}, {"fit": "pad"}, {"grayscale": True}, {"window": (3, 200), "size": 9}):
            data = silently_loaded(tmp_path / "set", **options)
            np.testing.assert_array_equal(read_images(files, like=data), data.X)

    def test_a_reading_survives_json(self, tmp_path):
        reading = Reading((8, 9), "pad", False, (-160.0, 240.0), None)
        assert Reading(**json.loads(json.dumps(asdict(reading)))) == reading

    def test_files_that_do_not_fit_are_named(self, tmp_path, folder):
        data = silently_loaded(folder, size="native")
        deep = tiff(tmp_path / "deep.tif", np.zeros((2, 2), np.uint16))
        wide = grey(tmp_path / "wide.png", 0, (3, 2))
        with pytest.raises(ValueError, match="2 image files cannot be read") as caught:
            read_images([deep, wide], like=data)
        assert "more than 8 bits, signed values or floats, but the set had only files of 8" in (
            str(caught.value)
        )
        assert "it is 3 x 2, the others 2 x 2" in str(caught.value)

    def test_no_files_are_no_images(self, folder):
        assert read_images([], like=silently_loaded(folder)).shape == (0, 2, 2)


def test_progress_is_shown_unless_it_is_not_wanted(folder, capsys):
    load_image_folder(folder)
    assert "files of" in capsys.readouterr().err
    load_image_folder(folder, verbose=False)
    assert capsys.readouterr().err == ""


def test_threads_share_a_budget_of_memory():
    small, large = (ImageFacts("pillow", (side, side), colour=True) for side in (28, 4000))
    assert n_threads([small] * 3) == min(cpu_count(), 16)
    assert n_threads([small, large]) == 1


MEASURED = """
import resource, sys, time
from tsynd_sk.datasets import load_image_folder

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

before, start = peak(), time.perf_counter()
data = load_image_folder(sys.argv[1], verbose=False)
print(len(data.X), time.perf_counter() - start, peak() - before - data.X.nbytes / 2**20)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("n", "shape", "seconds"), [(10_000, (28, 28), 60), (12, (3000, 2500), 60)]
)
def test_time_and_memory(tmp_path, n, shape, seconds):
    for k in range(n):
        if n > 100:
            path = tmp_path / "ab"[k % 2] / f"{k}.png"
            path.parent.mkdir(exist_ok=True)
            Image.fromarray(noise(k, shape)).save(path)
        else:
            tiff(tmp_path / "ab"[k % 2] / f"{k}.tif", noise(k, shape, np.uint16, 4096))
    command = [sys.executable, "-W", "ignore", "-c", MEASURED, str(tmp_path)]
    here = str(Path(__file__).parents[2])
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, env=os.environ | {"PYTHONPATH": here}
    )
    n_read, taken, beyond = map(float, done.stdout.split())
    assert n_read == n
    assert taken < seconds
    assert beyond < 200


def test_filters_of_warnings_are_left_as_they_were(folder):
    before = warnings.filters[:]
    load_image_folder(folder, verbose=False)
    assert warnings.filters[:] == before
