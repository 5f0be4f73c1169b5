"""`fit_resample`: rows and labels come back in what they were given in."""

import numpy as np
import pytest
from helpers.tiny_nets import IMAGES, LABELS, dense_net, dense_synthesizer, net, synthesizer
from sklearn.datasets import load_breast_cancer
from skorch.callbacks import Callback

from tsynd_sk.synthesis._sampling import in_container_of

pandas = pytest.importorskip("pandas")


def resampler(**params):
    return dense_synthesizer(classifier=dense_net(max_epochs=1), random_state=0, **params)


@pytest.fixture
def table():
    X, y = load_breast_cancer(return_X_y=True)
    rows = np.flatnonzero((y == 1) | (np.arange(len(y)) % 3 == 0))[:60]
    X = X[rows, :5] / X[rows, :5].max(0)
    frame = pandas.DataFrame(
        {
            "float": X[:, 0],
            "nullable float": pandas.array(X[:, 1], dtype="Float32"),
            "count": pandas.array(np.rint(X[:, 2] * 9), dtype="Int64"),
            "bool": X[:, 3] > np.median(X[:, 3]),
            "nullable bool": pandas.array(X[:, 4] > np.median(X[:, 4]), dtype="boolean"),
            "grade": pandas.Categorical(np.array([10, 20, 40])[np.rint(X[:, 1] * 2).astype(int)]),
        },
        index=np.arange(60) * 7,
    )
    return frame, pandas.Series(np.array(["cyst", "none"])[y[rows]], name="finding")


def test_columns_keep_their_types_and_hold_what_they_can(table):
    X, y = table
    sampler = resampler(radius=2, label_policy="keep")
    X_all, y_all = sampler.fit_resample(X, y)
    n_new = len(X_all) - len(X)
    assert n_new > 5
    assert sampler.sampling_strategy_ == {"cyst": n_new}
    pandas.testing.assert_frame_equal(X_all[:60], X.reset_index(drop=True))
    pandas.testing.assert_series_equal(X_all.dtypes, X.dtypes)
    assert not X_all.isna().any(axis=None)
    assert X_all.index.tolist() == list(range(len(X_all)))
    assert (y_all.name, y_all.dtype) == ("finding", y.dtype)
    assert (y_all[60:] == "cyst").all()
    # The same rows as without pandas, each number in the nearest that its column can hold.
    plain, _ = resampler(radius=2, label_policy="keep").fit_resample(
        X.to_numpy(np.float64), y.to_numpy()
    )
    new = plain[60:].T
    np.testing.assert_array_equal(X_all["float"][60:], new[0])
    np.testing.assert_array_equal(X_all["count"][60:], np.rint(new[2]))
    for k, name in [(3, "bool"), (4, "nullable bool")]:
        np.testing.assert_array_equal(X_all[name][60:], new[k] >= 0.5)
    # Rounding up whatever is not zero would make more of them true.
    assert 0 < np.mean(new[3:5] >= 0.5) < np.mean(new[3:5] > 0)
    grades = np.array([10, 20, 40])
    nearest = grades[np.abs(new[5][:, None] - grades).argmin(1)]
    np.testing.assert_array_equal(X_all["grade"][60:].to_numpy(), nearest)


@pytest.mark.parametrize("dtype", ["category", "string", "boolean", "Int8", "bool"])
def test_labels_keep_their_type(table, dtype):
    X, y = table
    if dtype not in ("category", "string"):
        y = y == "none"
    y = y.astype(dtype)
    X_all, y_all = resampler().fit_resample(X, y)
    assert y_all.dtype == y.dtype
    assert not y_all.isna().any()
    assert (y_all[:60] == y.to_numpy()).all()
    assert (y_all[60:] == y.value_counts().idxmin()).all()
    # A frame of one column, without a word about its shape.
    frame = y.to_frame()
    again, column = resampler().fit_resample(X, frame)
    assert isinstance(column, pandas.DataFrame)
    pandas.testing.assert_series_equal(column["finding"], y_all)
    pandas.testing.assert_frame_equal(again, X_all)


def test_categories_that_are_no_numbers_are_refused_before_training(table):
    class Trained(Callback):
        def on_train_begin(self, net, **kwargs):
            pytest.fail("training has begun")

    X, y = table
    X["side"] = pandas.Categorical(np.where(X["bool"], "left", "right"))
    sampler = dense_synthesizer(classifier=dense_net(callbacks=[Trained()]))
    with pytest.raises(ValueError, match=r"'side' .* \['left', 'right'\].*OrdinalEncoder"):
        sampler.fit_resample(X, y)


def test_lists():
    X, y = IMAGES[:30], (LABELS[:30] == 0)
    expected, labels = synthesizer(classifier=net(max_epochs=1), random_state=0).fit_resample(X, y)
    for given in (X.tolist(), list(X)):
        sampler = synthesizer(classifier=net(max_epochs=1), random_state=0)
        X_all, y_all = sampler.fit_resample(given, y.tolist())
        assert type(X_all) is type(y_all) is list
        assert type(X_all[-1]) is type(given[0])
        np.testing.assert_array_equal(X_all, expected)
        assert y_all == labels.tolist()
        assert type(y_all[-1]) is bool


def test_half_is_true_and_a_number_between_categories_goes_to_the_lower():
    given = pandas.DataFrame({"a": [True], "b": pandas.Categorical([4.0], [1.0, 2.0, 4.0])})
    values = np.array([[1, 4], [0.5, 3], [0.499, -8]])
    filled = in_container_of(given, values)
    assert filled["a"].tolist() == [True, True, False]
    assert filled["b"].tolist() == [4.0, 2.0, 1.0]
