"""Images of a comparison: training, and what is scored."""

import numpy as np
import pytest
from PIL import Image

from tsynd_sk.comparison._comparison import Comparison
from tsynd_sk.comparison._settings import Settings
from tsynd_sk.comparison._splits import Splits, load_splits


class TestDatasets:
    def folder(self, path, n=6, size=(9, 12)):
        rng = np.random.default_rng(0)
        for name in ("ill", "well"):
            (path / name).mkdir(parents=True)
            for i in range(n):
                pixels = rng.integers(0, 256, size[::-1], dtype=np.uint8)
                Image.fromarray(pixels).save(path / name / f"{i}.png")
        return path

    def test_digits_are_held_out_by_class(self):
        splits = load_splits("digits")
        assert (len(splits.X_train), len(splits.X_test)) == (1347, 450)
        shares = [np.bincount(y) / len(y) for y in (splits.y_train, splits.y_test)]
        assert np.abs(shares[0] - shares[1]).max() < 0.01

    def test_a_folder_is_held_out_alike_every_time(self, tmp_path):
        folder = str(self.folder(tmp_path / "scans"))
        splits = load_splits(folder, size=8)
        assert splits.name == "scans"
        assert splits.class_names == ["ill", "well"]
        assert splits.X_train.shape == (9, 8, 8)
        assert np.bincount(splits.y_test).min() >= 1
        assert splits.digest() == load_splits(folder, size=8).digest()

    def test_a_folder_keeps_its_own_test_split(self, tmp_path):
        self.folder(tmp_path / "train", 4)
        self.folder(tmp_path / "test", 2)
        splits = load_splits(str(tmp_path))
        assert splits.X_train.shape == (8, 28, 28)
        assert splits.X_test.shape == (4, 28, 28)

    def test_classes_of_train_and_test_must_agree(self, tmp_path):
        self.folder(tmp_path / "train")
        self.folder(tmp_path / "test")
        (tmp_path / "test" / "ill").rename(tmp_path / "test" / "odd")
        with pytest.raises(ValueError, match=r"\['ill', 'well'\] in train, but \['odd'"):
            load_splits(str(tmp_path))

    def test_a_class_without_training_images_is_refused(self, tmp_path):
        X = np.zeros((4, 8, 8), np.uint8)
        splits = Splits("x", X, np.array([0, 0, 1, 1]), X, np.array([0, 1, 2, 2]), list("abc"))
        with pytest.raises(ValueError, match=r"no training ones of \['c'\]"):
            Comparison(splits, Settings(4), tmp_path)

    def test_validation_images_are_held_out_of_the_training_images(self):
        test, val = (load_splits("digits", score_on=split) for split in ("test", "val"))
        assert (len(val.X_train), len(val.X_test)) == (1010, 337)
        assert (test.scored_on, val.scored_on) == ("test", "val")
        given = [*val.X_train, *val.X_test]
        assert sorted(x.tobytes() for x in given) == sorted(x.tobytes() for x in test.X_train)
        shares = [np.bincount(y) / len(y) for y in (val.y_train, val.y_test)]
        assert np.abs(shares[0] - shares[1]).max() < 0.01
        assert val.digest() == load_splits("digits", score_on="val").digest()

    @pytest.mark.parametrize("with_test", [True, False])
    def test_a_folder_keeps_its_own_validation_split(self, tmp_path, with_test):
        self.folder(tmp_path / "train", 4)
        self.folder(tmp_path / "val", 3)
        if with_test:
            self.folder(tmp_path / "test", 2)
            test = load_splits(str(tmp_path))
            assert len(test.X_test) == 4
        val = load_splits(str(tmp_path), score_on="val")
        assert (len(val.X_train), len(val.X_test)) == (8, 6)
        assert not with_test or (val.X_train == test.X_train).all()

    def test_a_folder_without_test_images_is_explained(self, tmp_path):
        self.folder(tmp_path / "train")
        self.folder(tmp_path / "val")
        with pytest.raises(ValueError, match="--score-on val"):
            load_splits(str(tmp_path))

    @pytest.mark.parametrize("splits", [("train", "test"), ()])
    def test_a_folder_without_validation_images_spares_some(self, tmp_path, splits):
        for split in splits or (".",):
            self.folder(tmp_path / split, 8)
        n_all = 16 if splits else 12
        val = load_splits(str(tmp_path), score_on="val")
        assert (len(val.X_train), len(val.X_test)) == (n_all * 3 // 4, n_all // 4)

    @pytest.mark.parametrize("own", [True, False])
    def test_an_npz_keeps_its_own_validation_split(self, tmp_path, own):
        X, y = np.arange(16 * 64, dtype=np.float32).reshape(16, 8, 8), np.arange(16) % 2
        arrays = {"train_images": X, "train_labels": y, "test_images": X[:4], "test_labels": y[:4]}
        if own:
            arrays |= {"val_images": X[:6] + 1, "val_labels": y[:6]}
        np.savez(tmp_path / "own.npz", **arrays)
        val = load_splits(str(tmp_path / "own.npz"), score_on="val")
        assert (len(val.X_train), len(val.X_test)) == ((16, 6) if own else (12, 4))

    def test_official_validation_images_leave_the_training_images_as_they_are(self, medmnist_root):
        test, val = (
            load_splits("breastmnist", root=str(medmnist_root), score_on=split)
            for split in ("test", "val")
        )
        assert (len(val.X_train), len(val.X_test), len(test.X_test)) == (546, 78, 156)
        np.testing.assert_array_equal(val.X_train, test.X_train)

    def test_digits_are_never_mirrored(self, tmp_path):
        folder = str(self.folder(tmp_path / "scans"))
        assert not load_splits("digits").flip
        assert load_splits(folder).flip
        assert not load_splits(folder, flip=False).flip
