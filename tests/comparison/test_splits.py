"""Images of a comparison: training, and what is scored."""

import shutil

import numpy as np
import pytest
from PIL import Image

from tsynd_sk.comparison import Splits, compare, load_splits
from tsynd_sk.datasets import load_image_folder


def sides(splits, run=0):
    """Rows of the first division."""
    return splits.divisions(run + 1)[run]


def sizes(splits):
    return tuple(map(len, sides(splits)))


def equal(one, other):
    return all(
        np.array_equal(getattr(one, name), getattr(other, name)) for name in ("X", "y", "test_rows")
    )


class TestDatasets:
    def folder(self, path, n=6, size=(9, 12)):
        rng = np.random.default_rng(sum(path.name.encode()))
        for name in ("ill", "well"):
            (path / name).mkdir(parents=True)
            for i in range(n):
                pixels = rng.integers(0, 256, size[::-1], dtype=np.uint8)
                Image.fromarray(pixels).save(path / name / f"{i}.png")
        return path

    def test_digits_are_held_out_by_class(self):
        splits = load_splits("digits")
        assert splits.test_rows is None
        assert sizes(splits) == (1347, 450)
        shares = [np.bincount(splits.y[rows]) / len(rows) for rows in sides(splits)]
        assert np.abs(shares[0] - shares[1]).max() < 0.01

    def test_each_run_holds_out_its_own_part_of_a_folder(self, tmp_path):
        folder = str(self.folder(tmp_path / "scans"))
        splits = load_splits(folder, size=8)
        assert splits.name == "scans"
        assert splits.class_names == ["ill", "well"]
        assert splits.X.shape == (12, 8, 8)
        assert (
            splits.notes[-1] == "scored on: a quarter drawn anew for each seed, stratified by class"
        )
        assert splits.counts() == "images per class: ill 6, well 6"
        first, again = splits.divisions(3), load_splits(folder, size=8).divisions(2, 1)
        assert len({test.tobytes() for _, test in first}) > 1
        for (train, test), (train_again, test_again) in zip(first[1:], again, strict=True):
            assert sorted([*train, *test]) == list(range(12))
            np.testing.assert_array_equal(train, train_again)
            np.testing.assert_array_equal(test, test_again)
            assert np.bincount(splits.y[test]).min() >= 1

    def test_a_folder_keeps_its_own_test_split(self, tmp_path):
        self.folder(tmp_path / "Training", 4)
        self.folder(tmp_path / "TEST", 2)
        splits = load_splits(str(tmp_path))
        assert splits.X.shape == (12, 12, 9)
        assert splits.test_rows.tolist() == [8, 9, 10, 11]
        assert splits.reading.size == (12, 9)
        assert splits.notes[-1] == "scored on: its own test images"
        assert splits.counts() == "images per class (train + test): ill 4 + 2, well 4 + 2"
        for train, test in splits.divisions(2):
            np.testing.assert_array_equal(train, np.arange(8))
            np.testing.assert_array_equal(test, splits.test_rows)

    def test_a_class_that_is_never_trained_is_refused_before_training(self, tmp_path):
        self.folder(tmp_path / "train")
        self.folder(tmp_path / "test")
        (tmp_path / "test" / "ill").rename(tmp_path / "test" / "odd")
        splits = load_splits(str(tmp_path))
        assert splits.class_names == ["ill", "odd", "well"]
        assert "classes: test has no images of 'ill'; scores are means over" in splits.notes[-1]
        with pytest.raises(ValueError, match=r"no training images of \[1\]"):
            compare(None, splits.X, splits.y, cv=splits.divisions(1))

    @pytest.mark.parametrize("kind", ["folder", "npz"])
    def test_a_test_split_of_one_class_has_no_auc_and_that_is_said(self, tmp_path, kind):
        if kind == "folder":
            self.folder(tmp_path / "train")
            self.folder(tmp_path / "test")
            shutil.rmtree(tmp_path / "test" / "ill")
            splits = load_splits(str(tmp_path))
        else:
            X, y = np.arange(6 * 64).reshape(6, 8, 8), np.array(["ill", "well"] * 3)
            arrays = {"train_images": X, "train_labels": y, "test_images": X[1::2] + 1}
            np.savez(tmp_path / "x.npz", **arrays, test_labels=y[1::2])
            splits = load_splits(str(tmp_path / "x.npz"))
        message = "classes: test has images of 'well' only, so there is no ROC AUC"
        assert splits.notes[-1] == message

    def test_validation_images_are_held_out_of_the_training_images(self):
        test, val = (load_splits("digits", score_on=split) for split in ("test", "val"))
        assert sizes(val) == (1010, 337)
        assert (test.scored_on, val.scored_on) == ("test", "val")
        train = test.X[sides(test)[0]]
        assert sorted(x.tobytes() for x in val.X) == sorted(x.tobytes() for x in train)
        shares = [np.bincount(val.y[rows]) / len(rows) for rows in sides(val)]
        assert np.abs(shares[0] - shares[1]).max() < 0.01
        assert equal(val, load_splits("digits", score_on="val"))

    @pytest.mark.parametrize("with_test", [True, False])
    def test_a_folder_keeps_its_own_validation_split(self, tmp_path, with_test):
        self.folder(tmp_path / "train", 4)
        self.folder(tmp_path / "val", 3)
        if with_test:
            self.folder(tmp_path / "test", 2)
            test = load_splits(str(tmp_path))
            assert len(test.test_rows) == 4
        val = load_splits(str(tmp_path), score_on="val")
        # What will be the test images is held out first: no choice may depend on them.
        assert sizes(val) == (8 if with_test else 6, 6)
        assert not with_test or (val.X[:8] == test.X[:8]).all()

    def test_test_images_that_are_missing_are_held_out_of_the_training_images(self, tmp_path):
        self.folder(tmp_path / "train", 8)
        self.folder(tmp_path / "val")
        splits = load_splits(str(tmp_path))
        train, test = sides(splits)
        assert (len(train), len(test)) == (12, 4)
        assert np.bincount(splits.y[test]).tolist() == [2, 2]
        val = load_splits(str(tmp_path), score_on="val")
        kept = {x.tobytes() for x in val.X[sides(val)[0]]}
        assert not kept & {x.tobytes() for x in splits.X[test]}

    def test_a_split_without_an_image_that_can_be_read_is_named(self, tmp_path):
        self.folder(tmp_path / "train", 8)
        (tmp_path / "test" / "ill").mkdir(parents=True)
        (tmp_path / "test" / "ill" / "x.png").write_bytes(b"no image")
        with (
            pytest.warns(UserWarning, match="damaged files: 1"),
            pytest.raises(ValueError, match="no image of its split test can be read"),
        ):
            load_splits(str(tmp_path), on_error="skip")

    def test_only_training_images(self, tmp_path):
        self.folder(tmp_path / "train", 8)
        assert equal(load_splits(str(tmp_path)), load_splits(str(tmp_path / "train")))

    def test_groups_and_equal_images_stay_on_one_side(self, tmp_path):
        for k in range(48):
            name = f"{'ill' if k % 2 else 'well'}/p{k // 4:02}_{k}.png"
            # The last image of a patient is that of the next patient but one.
            seed = k + 5 if k % 12 == 3 else k
            (tmp_path / name).parent.mkdir(exist_ok=True)
            pixels = np.random.default_rng(seed).integers(0, 256, (8, 8), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / name)
        with pytest.warns(UserWarning, match="4 of 48 images have the pixels of another one"):
            splits = load_splits(str(tmp_path), group_pattern=r"p\d+")
        with pytest.warns(UserWarning, match="4 of 48"):
            data = load_image_folder(tmp_path, group_pattern=r"p\d+")
        group = dict(zip((x.tobytes() for x in data.X), data.groups, strict=True))
        for rows in splits.divisions(3):
            train, test = ({group[x.tobytes()] for x in splits.X[side]} for side in rows)
            assert not train & test
            train, test = ({x.tobytes() for x in splits.X[side]} for side in rows)
            assert not train & test
            assert abs(len(rows[1]) - 12) <= 4
            assert set(splits.y[rows[1]]) == {0, 1}
        assert splits.notes[-1].endswith("stratified by class, with groups kept together")
        assert any(note.startswith("groups: 12 by group_pattern") for note in splits.notes)

    @pytest.mark.parametrize("splits", [("train", "test"), ()])
    def test_a_folder_without_validation_images_spares_some(self, tmp_path, splits):
        for split in splits or (".",):
            self.folder(tmp_path / split, 8)
        n_all = 16 if splits else 12
        val = load_splits(str(tmp_path), score_on="val")
        assert sizes(val) == (n_all * 3 // 4, n_all // 4)

    @pytest.mark.parametrize("own", [True, False])
    def test_an_npz_keeps_its_own_validation_split(self, tmp_path, own):
        X, y = np.arange(16 * 64, dtype=np.float32).reshape(16, 8, 8), np.arange(16) % 2
        arrays = {"train_images": X, "train_labels": y, "test_images": X[:4], "test_labels": y[:4]}
        if own:
            arrays |= {"val_images": X[:6] + 1, "val_labels": y[:6]}
        np.savez(tmp_path / "own.npz", **arrays)
        val = load_splits(str(tmp_path / "own.npz"), score_on="val")
        # Without them, test images are left out though they are there.
        assert sizes(val) == ((16, 6) if own else (12, 4))

    def test_an_npz_without_test_images_spares_some(self, tmp_path):
        X, y = np.arange(16 * 64, dtype=np.float32).reshape(16, 8, 8), np.arange(16) % 2
        np.savez(tmp_path / "own.npz", train_images=X, train_labels=y)
        splits = load_splits(str(tmp_path / "own.npz"))
        assert np.bincount(splits.y[sides(splits)[1]]).tolist() == [2, 2]
        assert sizes(splits) == (12, 4)

    def test_equal_images_of_an_npz_are_counted_or_held_out_together(self, tmp_path):
        X, y = np.arange(40, dtype=np.uint8).repeat(64).reshape(40, 8, 8), np.arange(40) % 2
        X[20:] = X[:20]
        np.savez(tmp_path / "x.npz", train_images=X, train_labels=y)
        splits = load_splits(str(tmp_path / "x.npz"))
        for rows in splits.divisions(3):
            train, test = (set(splits.X[side][:, 0, 0]) for side in rows)
            assert not train & test
        arrays = {"train_images": X[:9], "train_labels": y[:9]}
        arrays |= {"test_images": X[8:12], "test_labels": y[8:12]}
        np.savez(tmp_path / "x.npz", **arrays)
        splits = load_splits(str(tmp_path / "x.npz"))
        assert splits.notes[1] == "equal pixels: 1 images of test also in train"

    def test_images_of_different_sizes_in_an_npz_are_refused(self, tmp_path):
        X, y = np.zeros((4, 8, 8)), [0, 1, 0, 1]
        np.savez(
            tmp_path / "x.npz", train_images=X, train_labels=y, test_images=X[:, 1:], test_labels=y
        )
        with pytest.raises(ValueError, match=r"\(8, 8\) in train, but of \(7, 8\) in test"):
            load_splits(str(tmp_path / "x.npz"))
        ragged = np.array([np.zeros((2, 2)), np.zeros((3, 3))], dtype=object)
        np.savez(tmp_path / "x.npz", train_images=ragged, train_labels=y[:2])
        with pytest.raises(ValueError, match="images of different sizes as files"):
            load_splits(str(tmp_path / "x.npz"))

    def test_options_for_files_are_refused_where_there_are_none(self):
        with pytest.raises(ValueError, match="window, groups applies to folders of image files"):
            load_splits("digits", window=(0, 1), groups="x.csv")

    def test_official_validation_images_leave_the_training_images_as_they_are(self, medmnist_root):
        test, val = (
            load_splits("breastmnist", root=str(medmnist_root), score_on=split)
            for split in ("test", "val")
        )
        assert (sizes(val), sizes(test)) == ((546, 78), (546, 156))
        np.testing.assert_array_equal(val.X[:546], test.X[:546])

    def test_digits_are_never_mirrored(self, tmp_path):
        folder = str(self.folder(tmp_path / "scans"))
        assert not load_splits("digits").flip
        assert load_splits(folder).flip
        assert not load_splits(folder, flip=False).flip

    @pytest.mark.parametrize("name", ["folder", "folder/in/there", "folder.npz"])
    def test_what_does_not_exist_is_said(self, tmp_path, name):
        with pytest.raises(FileNotFoundError, match=r"no such (folder|file): "):
            load_splits(str(tmp_path / name))

    def test_many_classes_are_counted_in_one_line(self):
        y = np.arange(50) % 25
        splits = Splits("x", np.zeros((50, 8, 8), np.uint8), y, [f"c{k}" for k in range(25)])
        assert splits.counts().endswith("c18 2, c19 2 and 5 more")
