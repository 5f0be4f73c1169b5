import hashlib
import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torchvision.datasets.utils

from tsynd_sk.datasets import (
    LabeledImages,
    load_digits_images,
    load_medmnist,
    load_npz,
    subsample,
)


class TestSubsample:
    @pytest.mark.parametrize("n_samples", [3, 7, 98, 100])
    def test_any_size_from_one_per_class_to_all_rows(self, n_samples):
        y = np.repeat([2, 0, 1], [80, 19, 1])
        rows = subsample(y, n_samples, random_state=0)
        assert rows.dtype == np.int64
        assert len(rows) == len(set(rows)) == n_samples
        assert set(y[rows]) == {0, 1, 2}

    def test_shares_of_classes_are_kept(self):
        y = np.repeat(["a", "b", "c"], [600, 300, 100])
        counts = np.unique(y[subsample(y, 50, random_state=0)], return_counts=True)[1]
        assert counts.tolist() == [30, 15, 5]
        counts = np.unique(y[subsample(y, 8, random_state=0)], return_counts=True)[1]
        assert counts.tolist() == [5, 2, 1]

    def test_random_state_repeats_and_changes_the_draw(self):
        y = np.repeat([0, 1], 50)
        first, again, other = (subsample(y, 20, random_state=seed).tolist() for seed in (0, 0, 1))
        assert first == again
        assert sorted(first) != sorted(other)

    def test_every_row_is_equally_likely(self):
        y = np.repeat([0, 1], [30, 10])
        rng = np.random.RandomState(0)
        drawn = np.concatenate([subsample(y, 8, random_state=rng) for _ in range(1000)])
        # 200 draws of each row are expected; 13 is their standard deviation.
        assert np.abs(np.bincount(drawn, minlength=40) - 200).max() < 60

    def test_more_than_there_are_is_refused(self):
        with pytest.raises(
            ValueError, match="n_samples must be at most 4, the number of rows; got 5"
        ):
            subsample([0, 1, 0, 1], 5)

    def test_fewer_than_classes_is_refused(self):
        with pytest.raises(ValueError, match="n_samples=2 leaves some of the 3 classes"):
            subsample([0, 1, 2, 2], 2)


class TestOfficialMedMNIST:
    @pytest.mark.parametrize(
        ("name", "split", "shape", "class_names"),
        [
            ("breastmnist", "train", (546, 28, 28), ["malignant", "normal, benign"]),
            ("breastmnist", "val", (78, 28, 28), ["malignant", "normal, benign"]),
            ("pneumoniamnist", "test", (624, 28, 28), ["normal", "pneumonia"]),
            ("retinamnist", "train", (1080, 28, 28, 3), ["0", "1", "2", "3", "4"]),
        ],
    )
    def test_official_files_are_read_as_they_are(
        self, medmnist_root, name, split, shape, class_names
    ):
        data = load_medmnist(name, split=split, root=medmnist_root, download=False)
        with np.load(medmnist_root / f"{name}.npz") as file:
            np.testing.assert_array_equal(data.X, file[f"{split}_images"])
            np.testing.assert_array_equal(data.y, file[f"{split}_labels"][:, 0])
        assert data.X.shape == shape
        assert data.X.dtype == np.uint8
        assert data.y.dtype == np.int64
        assert data.class_names == class_names

    def test_draw_keeps_images_and_labels_together(self, medmnist_root):
        everything = load_medmnist("retinamnist", root=medmnist_root, download=False)
        X, y, _ = load_medmnist(
            "retinamnist", root=medmnist_root, download=False, n_samples=50, random_state=0
        )
        label_of = {
            image.tobytes(): label for image, label in zip(everything.X, everything.y, strict=True)
        }
        assert [label_of[image.tobytes()] for image in X] == y.tolist()
        assert np.bincount(y).tolist() == np.rint(np.bincount(everything.y) * 50 / 1080).tolist()
        assert np.count_nonzero(np.diff(y)) > 10


@pytest.mark.parametrize("name", ["brestmnist", "chestmnist", "organmnist3d"])
def test_names_that_are_none_get_the_list_of_those_that_are(tmp_path, name):
    with pytest.raises(ValueError, match=rf"retinamnist.*got '{name}'") as caught:
        load_medmnist(name, root=tmp_path)
    assert "chestmnist," not in str(caught.value)
    assert "mnist3d," not in str(caught.value)


@pytest.fixture
def official(monkeypatch):
    """Declare small files the official breastmnist ones; return them by the size of images."""
    import medmnist

    contents = {}
    for side, suffix in ((28, ""), (64, "_64")):
        buffer = io.BytesIO()
        np.savez(
            buffer,
            train_images=np.full((4, side, side), 5, dtype=np.uint8),
            train_labels=np.array([[1], [0], [1], [1]], dtype=np.uint8),
        )
        contents[side] = buffer.getvalue()
        md5 = hashlib.md5(contents[side], usedforsecurity=False).hexdigest()
        monkeypatch.setitem(medmnist.INFO["breastmnist"], f"MD5{suffix}", md5)
    return contents


@pytest.fixture
def server(monkeypatch):
    """Send given bytes in place of the network; return the list of what was asked for."""

    def serve(content):
        urls = []

        def send(url, root, filename, md5):
            urls.append(url)
            Path(root, filename).write_bytes(content)

        monkeypatch.setattr(torchvision.datasets.utils, "download_url", send)
        return urls

    return serve


class TestMedMNISTFiles:
    @pytest.mark.parametrize("side", [28, 64])
    def test_missing_file_is_downloaded_into_a_new_folder_once(
        self, tmp_path, official, server, side
    ):
        urls = server(official[side])
        root = tmp_path / "new" / "folder"
        for _ in range(2):
            X, y, class_names = load_medmnist("breastmnist", root=root, size=side)
            assert X.shape == (4, side, side)
            assert y.tolist() == [1, 0, 1, 1]
            assert class_names == ["malignant", "normal, benign"]
        [url], [file] = urls, root.iterdir()
        assert file.name == f"breastmnist{'' if side == 28 else '_64'}.npz"
        assert f"/{file.name}" in url

    def test_no_root_means_the_folder_of_medmnist(self, tmp_path, official, server, monkeypatch):
        import medmnist

        monkeypatch.setattr(medmnist.info, "DEFAULT_ROOT", str(tmp_path))
        server(official[28])
        load_medmnist("breastmnist")
        assert (tmp_path / "breastmnist.npz").is_file()

    @pytest.mark.parametrize("download", [True, False])
    @pytest.mark.parametrize("kept", [0, 100, -1])
    def test_damaged_file_is_refused_and_kept(self, tmp_path, official, server, download, kept):
        urls = server(official[28])
        path = tmp_path / "breastmnist.npz"
        path.write_bytes(official[28][:kept])
        with pytest.raises(OSError, match=r"breastmnist\.npz is damaged.*delete it"):
            load_medmnist("breastmnist", root=tmp_path, download=download)
        assert path.read_bytes() == official[28][:kept]
        assert urls == []

    def test_without_a_network_it_is_said_what_to_fetch(self, tmp_path, monkeypatch):
        def fail(*args, **kwargs):
            raise OSError("no network")

        monkeypatch.setattr(torchvision.datasets.utils, "download_url", fail)
        with pytest.raises(OSError, match=r"breastmnist cannot be downloaded.*breastmnist\.npz"):
            load_medmnist("breastmnist", root=tmp_path)

    def test_missing_file_without_download(self, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"breastmnist\.npz: pass download=True"):
            load_medmnist("breastmnist", root=tmp_path / "absent", download=False)
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.slow
    def test_importing_the_package_leaves_the_home_folder_alone(self, tmp_path):
        home = {"HOME": str(tmp_path), "USERPROFILE": str(tmp_path)}
        subprocess.run(
            [sys.executable, "-c", "import tsynd_sk.datasets"], env=os.environ | home, check=True
        )
        assert not (tmp_path / ".medmnist").exists()


def test_digits_are_scaled_images_with_names():
    data = load_digits_images()
    assert isinstance(data, LabeledImages)
    assert data.X.shape == (1797, 8, 8)
    assert data.X.dtype == np.float32
    assert (data.X.min(), data.X.max()) == (0, 1)
    # The first digit's first row, in sixteenths, as scikit-learn's own documentation prints it.
    assert (data.X[0, 0] * 16).tolist() == [0, 0, 5, 13, 9, 1, 0, 0]
    assert data.y.dtype == np.int64
    assert data.y[:3].tolist() == [0, 1, 2]
    assert data.class_names == list("0123456789")


class TestNpz:
    def save(self, tmp_path, **arrays):
        path = tmp_path / "own.npz"
        np.savez(path, **arrays)
        return path

    def test_codes_are_shared_by_the_splits(self, tmp_path):
        path = self.save(
            tmp_path,
            train_images=np.zeros((3, 4, 5)),
            train_labels=["cat", "ant", "cat"],
            test_images=np.ones((2, 4, 5)),
            test_labels=["cat", "bee"],
        )
        train, test = load_npz(path), load_npz(str(path), split="test")
        assert train.class_names == test.class_names == ["ant", "bee", "cat"]
        assert train.y.tolist() == [2, 0, 2]
        assert test.y.tolist() == [2, 1]
        assert test.y.dtype == np.int64
        assert (test.X == 1).all()

    def test_integer_labels_sort_as_numbers(self, tmp_path):
        path = self.save(
            tmp_path,
            train_images=np.zeros((3, 4, 5, 3), dtype=np.uint8),
            train_labels=np.array([[10], [9], [-1]]),
            val_labels=np.array([10], dtype=np.uint64),
        )
        X, y, class_names = load_npz(path)
        assert X.shape == (3, 4, 5, 3)
        assert X.dtype == np.uint8
        assert class_names == ["-1", "9", "10"]
        assert y.tolist() == [2, 1, 0]

    def test_missing_split_names_what_is_there(self, tmp_path):
        path = self.save(tmp_path, images=np.zeros((2, 4, 5)), train_labels=[0, 1])
        with pytest.raises(ValueError, match=r"'train_images', 'train_labels'.*got \['images'"):
            load_npz(path)
        with pytest.raises(ValueError, match=r"'test_images', 'test_labels'"):
            load_npz(path, split="test")

    @pytest.mark.parametrize(
        ("images", "labels", "message"),
        [
            (np.zeros((2, 4, 5)), [0, 1, 0], "one for each of the 2 images; got 3"),
            (np.zeros((2, 4, 5)), np.zeros((2, 3), int), "one for each of the 2 images; got 6"),
            (np.zeros((2, 4, 5)), [0.5, 1], "integers or all strings.*float64"),
            (np.zeros((2, 3, 4, 5)), [0, 1], r"\(n, H, W, 3\); got \(2, 3, 4, 5\)"),
            (np.zeros((2, 20)), [0, 1], r"got \(2, 20\)"),
        ],
    )
    def test_unfit_arrays_are_named(self, tmp_path, images, labels, message):
        path = self.save(tmp_path, train_images=images, train_labels=labels)
        with pytest.raises(ValueError, match=message):
            load_npz(path)

    def test_labels_of_mixed_kinds_are_refused(self, tmp_path):
        path = self.save(
            tmp_path, train_images=np.zeros((1, 4, 5)), train_labels=[1], test_labels=["1"]
        )
        with pytest.raises(ValueError, match="all integers or all strings"):
            load_npz(path)

    def test_pickled_labels_are_not_run(self, tmp_path):
        class Bomb:
            def __reduce__(self):
                return os.mkdir, (str(tmp_path / "boom"),)

        labels = np.array([Bomb(), Bomb()], dtype=object)
        path = self.save(tmp_path, train_images=np.zeros((2, 4, 5)), train_labels=labels)
        with pytest.raises(ValueError, match=r"own.npz cannot be read.*astype\(str\)"):
            load_npz(path)
        assert not (tmp_path / "boom").exists()

    @pytest.mark.parametrize("content", [b"text", b"PK\x03\x04"])
    def test_other_files_are_refused_without_advice_to_unpickle(self, tmp_path, content):
        path = tmp_path / "other.npz"
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"other\.npz is not an \.npz file") as caught:
            load_npz(path)
        assert "pickle" not in str(caught.value)
