"""What is no array of images is refused by its name, with the way to one."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from skorch.helper import SliceDataset
from torch.utils.data import DataLoader, Dataset, TensorDataset

from tsynd_sk import AugmentedClassifier
from tsynd_sk.classifiers import DenseNet, NetClassifier
from tsynd_sk.evaluation import corrupt

X = np.random.default_rng(0).random((12, 8, 8), dtype=np.float32)
y = np.arange(12) % 2


class Pairs(Dataset):
    def __len__(self):
        return len(X)

    def __getitem__(self, i):
        return X[i], int(y[i])


def classifier():
    estimator = NetClassifier(max_epochs=1, module__width=2)
    return AugmentedClassifier(estimator, synthetic_ratio=0, random_state=0)


SLICED = r"pass skorch.helper.SliceDataset\(X, 0\) as X and SliceDataset\(X, 1\) as y"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (TensorDataset(torch.tensor(X), torch.tensor(y)), f"X is a TensorDataset.*{SLICED}"),
        (Pairs(), f"X is a Pairs, .*{SLICED}"),
        (DataLoader(Pairs()), r"X is a DataLoader, .*SliceDataset\(X.dataset, 0\)"),
        ("some/folder", "of names of .* 'some/folder': .* tsynd_sk.datasets.load_image_folder"),
        (Path("some/folder"), "of names of .* 'some/folder': .*load_image_folder"),
        (["a.png"] * 12, "X is a list of names .* such as 'a.png': .*load_image_folder"),
        (np.array(["a.png"] * 12), "X is a ndarray of names .* such as 'a.png'"),
        (pd.Series(["a.png"] * 12), "X is a Series of names .* such as 'a.png'"),
        (
            pd.Series(list(X)),
            r"X is a Series of arrays, .*shape \(8, 8\): pass np.stack\(X\)",
        ),
        (pd.Series(list(X)).to_numpy(), r"X is a ndarray of arrays, .*np.stack\(X\)"),
        (pd.DataFrame({"image": list(X)}), r"a DataFrame of arrays.*np.stack\(X.iloc\[:, 0\]\)"),
    ],
)
def test_is_named_with_the_way(given, message):
    with pytest.raises(TypeError, match=message):
        classifier().fit(given, y)
    with pytest.raises(TypeError, match=message):
        corrupt(given, "noise", 1)


def test_ways_lead_to_images():
    fitted, pairs = classifier().fit(X, y), Pairs()
    expected = fitted.predict_proba(X)
    sliced = classifier().fit(SliceDataset(pairs, 0), SliceDataset(pairs, 1))
    np.testing.assert_array_equal(sliced.predict_proba(X), expected)
    for images in (
        np.stack([image for image, label in pairs]),
        np.stack(pd.Series(list(X))),
        np.stack(pd.DataFrame({"image": list(X)}).iloc[:, 0]),
    ):
        np.testing.assert_array_equal(fitted.predict_proba(images), expected)
    np.testing.assert_array_equal(fitted.predict_proba(X[0][np.newaxis]), expected[:1])


@pytest.mark.parametrize("shape", [(8, 8), (8, 8, 3), (3, 8, 8)])
def test_one_image_needs_its_axis(shape):
    images = np.random.default_rng(0).random((12, *shape), dtype=np.float32)
    fitted = classifier().fit(images, y)
    with pytest.raises(ValueError, match=r"that of a single image in fit: .*X\[np.newaxis\]"):
        fitted.predict(images[0])
    assert fitted.predict(images[0][np.newaxis]).shape == (1,)


def test_one_column_of_a_table_is_one():
    column = pd.DataFrame({"age": np.arange(12.0)})
    estimator = NetClassifier(DenseNet, max_epochs=1)
    table = AugmentedClassifier(estimator, synthetic_ratio=0, random_state=0).fit(column, y)
    assert table.predict(column).shape == (12,)
