"""The main job on folders of image files: what is chosen is said before anything trains."""

import pytest
from helpers.image_files import grey, noise, tiff
from PIL import Image

from tsynd_sk.__main__ import main
from tsynd_sk.comparison import Comparison

TINY = ["--arms", "plain", "--seeds", "1", "--epochs", "1", "--n-jobs", "1", "--n-train", "8"]


@pytest.fixture
def folder(tmp_path):
    """Twelve patients with two images of each class, of two sizes."""
    folder = tmp_path / "scans"
    for k in range(48):
        path = folder / "ab"[k % 2] / f"patient{k // 4}_{k}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noise(k, (16, 16 + k % 4 // 2))).save(path)
    return folder


@pytest.fixture
def untrained(monkeypatch):
    """Stop where training would begin, and return the comparisons that got there."""
    begun = []

    def stop(self, report):
        begun.append(self)
        raise ValueError("stopped before training")

    monkeypatch.setattr(Comparison, "run", stop)
    return begun


def printed(folder, tmp_path, capsys, *options):
    status = main(["--dataset", str(folder), *TINY, "--out", str(tmp_path / "out"), *options])
    output = capsys.readouterr()
    return status, output.out, output.err


def test_what_was_chosen_is_printed_before_training(folder, tmp_path, capsys, untrained):
    status, out, err = printed(folder, tmp_path, capsys)
    assert status == 1
    assert "stopped before training" in err
    assert "files of scans" in err  # the bar
    assert "scans: 8 of 36 training images, 12 test images of shape (16, 16), 2 classes" in out
    for line in (
        "  size: 16 x 16 pixels (the median of the files' shorter sides, at most 224), crop to "
        "fit, grey",
        "  scored on: 12 images that are held out by class",
        "  images per class (train + test): a 18 + 6, b 18 + 6",
    ):
        assert line in out.splitlines()
    assert "Names look like patients" in out


def test_all_options_reach_the_files(folder, tmp_path, capsys, untrained):
    for name in ("a/1_mask.png", "b/2_mask.png", "b/odd.gif"):
        grey(folder / name)
    (folder / "a" / "cut.png").write_bytes(b"no image")
    table = tmp_path / "groups.csv"
    files = sorted(p for p in folder.rglob("patient*.png"))
    rows = [f"{p.relative_to(folder).as_posix()},{p.name.split('_')[0]}" for p in files]
    table.write_text("\n".join(["file,group", *rows]))
    options = ["--size", "12", "--fit", "pad", "--colour", "--window", "-10", "200"]
    options += ["--exclude", "*_mask.png", "--exclude", "odd.*", "--groups", str(table)]
    options += ["--on-error", "skip", "--duplicates", "drop", "--pages", "all"]
    _, out, err = printed(folder, tmp_path, capsys, *options)
    [warning] = [line for line in err.splitlines() if line.startswith("warning: Left out of")]
    assert "damaged files: 1 (a/cut.png)" in warning
    assert "  size: 12 x 12 pixels (as asked for), pad to fit, colour (48 grey" in out
    assert "  values: [-10, 200] become black to white, as asked for" in out
    assert "  groups: 12 by groups.csv; none has images on two sides" in out
    assert "held out by class, with groups kept on one side" in out
    assert "left out: excluded by name: 3" in out
    assert "damaged files: 1 (a/cut.png)" in out
    [comparison] = untrained
    splits = comparison.splits
    assert splits.X_train.shape[1:] == (12, 12, 3)
    assert splits.reading.window_8bit == (-10, 200)
    assert splits.reading.fit == "pad"
    assert splits.reading.pages == "all"


@pytest.mark.parametrize("option", ["--colour", "--color", "--grayscale"])
def test_colours_by_either_spelling(folder, tmp_path, capsys, untrained, option):
    printed(folder, tmp_path, capsys, option, "--group-pattern", r"patient\d+")
    [comparison] = untrained
    assert comparison.splits.reading.grayscale == (option == "--grayscale")
    assert len(comparison.splits.X_train) + len(comparison.splits.X_test) == 48


def test_native_sizes_that_differ_are_refused(folder, tmp_path, capsys):
    status, _, err = printed(folder, tmp_path, capsys, "--size", "native")
    assert status == 2
    assert "2 different sizes" in err
    assert not (tmp_path / "out").exists()


def test_broken_files_are_named(folder, tmp_path, capsys):
    (folder / "a" / "cut.png").write_bytes(b"no image")
    status, _, err = printed(folder, tmp_path, capsys)
    assert status == 2
    assert "a/cut.png: not an image that Pillow knows" in err
    assert "--on-error skip" in err


def test_options_for_files_are_refused_elsewhere(tmp_path, capsys):
    status, _, err = printed("digits", tmp_path, capsys, "--window", "0", "9", "--fit", "pad")
    assert status == 2
    assert "fit, window: how files are read applies to folders of images, and digits is none" in err


@pytest.mark.parametrize("size", ["small", "1.5"])
def test_other_sizes_are_refused_by_the_command_line(size, capsys):
    with pytest.raises(SystemExit):
        main(["--size", size])
    assert "argument --size" in capsys.readouterr().err


def test_a_test_split_of_one_class_has_no_auc(tmp_path, capsys, two_corruptions, no_picture):
    for k in range(12):
        tiff(tmp_path / "set" / "train" / "ab"[k % 2] / f"{k}.tif", noise(k, (16, 16)))
    for k in range(12, 16):
        tiff(tmp_path / "set" / "test" / "a" / f"{k}.tif", noise(k, (16, 16)))
    status, out, _ = printed(tmp_path / "set", tmp_path, capsys)
    assert status == 0
    assert "classes: test has images of 'a' only: there is no ROC AUC" in out
    assert "one class" in out.split("there is no ROC AUC")[1]
    assert "nan" not in out


def test_help_names_the_options(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    help_ = capsys.readouterr().out
    assert all(
        option in help_
        for option in ("--size", "--fit", "--grayscale", "--colour", "--exclude", "--window")
    )
