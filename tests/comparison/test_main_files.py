"""The main job on folders of image files: what is chosen is said before anything trains."""

import numpy as np
import pytest
from helpers.image_files import grey, noise, tiff
from PIL import Image

from tsynd_sk.__main__ import main

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
        "  scored on: a quarter drawn anew for each seed, stratified by class",
        "  images per class: a 24, b 24",
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
    assert "  values: [-10, 200] scaled to [0, 255], as asked for" in out
    assert "  groups: 12 by groups.csv, each kept on one side of a split" in out
    assert (
        "a quarter drawn anew for each seed, stratified by class, with groups kept together" in out
    )
    assert "left out: excluded by name: 3" in out
    assert "damaged files: 1 (a/cut.png)" in out
    [plan] = untrained
    assert plan.X.shape[1:] == (12, 12, 3)
    [run] = plan.runs
    patients = np.array([row.split(",")[1] for row in rows])
    assert not set(patients[run.train]) & set(patients[run.test])


@pytest.mark.parametrize("option", ["--colour", "--color", "--grayscale"])
def test_colours_by_either_spelling(folder, tmp_path, capsys, untrained, option):
    printed(folder, tmp_path, capsys, option, "--group-pattern", r"patient\d+")
    [plan] = untrained
    assert plan.X.shape == ((48, 16, 16) if option == "--grayscale" else (48, 16, 16, 3))


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
    assert "fit, window applies to folders of image files, and digits is none: leave it out" in err


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
    assert "classes: test has images of 'a' only, so there is no ROC AUC" in out
    assert "nan" not in out


@pytest.mark.parametrize("path", ["scans/of/nobody", "~/scans-of-nobody", "./x.npz"])
def test_what_does_not_exist_is_no_unknown_data_set(tmp_path, capsys, path):
    status, _, err = printed(path, tmp_path, capsys)
    assert status == 2
    assert f"error: no such {'file' if path.endswith('npz') else 'folder'}: " in err
    assert "MedMNIST" not in err
    assert "~" not in err


def test_a_name_without_a_folder_tells_that_there_is_none(tmp_path, capsys):
    status, _, err = printed("scans-of-nobody", tmp_path, capsys)
    assert status == 2
    assert "there is no such folder or .npz file in" in err


def test_results_that_cannot_be_written_are_told_before_training(
    folder, tmp_path, capsys, untrained
):
    (tmp_path / "out").write_text("a file")
    status, _, err = printed(folder, tmp_path, capsys)
    assert status == 2
    assert "error: results cannot be written to out=" in err
    assert "kept" not in err
    assert not untrained


def test_all_images_of_a_folder_are_trained_on_by_default(folder, tmp_path, capsys, untrained):
    arguments = ["--dataset", str(folder), "--arms", "plain", "--out", str(tmp_path / "out")]
    main(arguments)
    [plan] = untrained
    assert [len(run.train) for run in plan.runs] == [36] * 3
    assert len({run.test.tobytes() for run in plan.runs}) == 3
    assert "scans: 36 of 36 training images" in capsys.readouterr().out


def test_help_names_the_options(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    help_ = capsys.readouterr().out
    assert all(
        option in help_
        for option in ("--size", "--fit", "--grayscale", "--colour", "--exclude", "--window")
    )
