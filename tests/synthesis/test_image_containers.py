"""Images come in arrays of any kind, as scikit-learn's checks ask of tables."""

import joblib
import numpy as np
import pytest
import torch
from helpers.image_cases import assert_same, synthesizer_of, y
from scipy import sparse
from sklearn.base import is_classifier


class ArrayLike:
    """Not an array, but something of which numpy makes one."""

    def __init__(self, values):
        self.values = values

    def __array__(self, dtype=None, copy=None):
        return np.array(self.values, dtype=dtype)


class TestContainers:
    """Arrays of any kind are read as what they hold, and never written to."""

    @pytest.mark.parametrize("layout", ["HWC"])
    @pytest.mark.parametrize("dtype", ["uint8", "int32", "int64", "float16", "float32", "float64"])
    def test_dtypes_come_back(self, case, dtype):
        X = (case.X * 200).astype(dtype)
        estimator = case.fit(X)
        answers = case.answers(estimator, X)
        for name in {"reconstruct", "synthesize", "sample"} & answers.keys():
            assert answers[name].dtype == X.dtype
            assert answers[name].shape[1:] == X.shape[1:]
        for name in {"predict_proba", "uncertainty"} & answers.keys():
            assert answers[name].dtype == np.float32
            assert np.isfinite(answers[name]).all()
        if is_classifier(estimator):
            assert answers["predict"].dtype == y.dtype

    @pytest.mark.parametrize("layout", ["HWC", "flat"])
    def test_numbers_of_another_type_are_the_same_images(self, case):
        for X in (case.X.astype(np.float64), case.X.astype(object), case.X.tolist()):
            estimator = case.fit(X)
            answers = case.answers(estimator, X)
            assert answers.keys() == case.expected.keys()
            for name, values in answers.items():
                np.testing.assert_array_equal(
                    values.astype(case.expected[name].dtype), case.expected[name], err_msg=name
                )

    @pytest.mark.parametrize("layout", ["HWC", "flat"])
    @pytest.mark.parametrize("container", [torch.from_numpy, ArrayLike])
    def test_whatever_numpy_takes_for_an_array_is_one(self, case, container):
        X = container(case.X)
        assert_same(case.answers(case.fit(X), X), case.expected)

    def test_strides_do_not_matter(self, case):
        spread = np.zeros((*case.X.shape[:-1], 2 * case.X.shape[-1]), np.float32)
        spread[..., ::2] = case.X
        fortran, backwards = np.asfortranarray(case.X), np.ascontiguousarray(case.X[::-1])[::-1]
        assert_same(case.answers(case.fit(fortran), backwards), case.expected)
        assert_same(case.answers(case.fit(spread[..., ::2]), fortran), case.expected)

    def test_read_only_files_will_do(self, case, tmp_path):
        joblib.dump((case.X, y), tmp_path / "data")
        X, labels = joblib.load(tmp_path / "data", mmap_mode="r")
        assert isinstance(X, np.memmap)
        estimator = case.fit(X, labels)
        assert_same(case.answers(estimator, X), case.expected)

    def test_images_are_not_written_to(self, case):
        X, labels = case.X.copy(), y.copy()
        estimator = case.fit(X, labels)
        for answer in case.answers(estimator, X).values():
            answer[:] = answer[::-1]
        np.testing.assert_array_equal(X, case.X)
        np.testing.assert_array_equal(labels, y)
        # Nor does the estimator lose hold of them when the caller writes to what it got.
        assert_same(case.answers(estimator), case.expected)

    @pytest.mark.parametrize("layout", ["HWC", "flat"])
    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    def test_values_that_are_no_numbers_are_refused(self, case, value):
        X = case.X.copy()
        X[3].flat[5] = value
        for call in (
            lambda: case.fit(X),
            *(lambda name=name: getattr(case.fitted, name)(X) for name in case.methods),
            lambda: synthesizer_of(case.fitted).synthesize(X, y),
        ):
            with pytest.raises(ValueError, match=r"NaN|infinity"):
                call()

    def test_other_things_than_images_are_refused(self, case):
        for X, error, message in (
            (case.X + 1j, ValueError, "Complex data not supported"),
            (case.X.astype(str).astype(object) + "px", ValueError, "could not convert string"),
            (sparse.csr_array(case.X.reshape(len(y), -1)), TypeError, "[Ss]parse"),
            (case.X[:0], ValueError, "0 sample"),
            (case.X[..., :0], ValueError, "0 feature|any features|nothing in it"),
            (case.X[0, ..., 0].ravel()[:3], ValueError, "Expected 2D array|dimensions"),
        ):
            with pytest.raises(error, match=message):
                case.fit(X, y[: X.shape[0]])
            for name in case.methods:
                with pytest.raises(error, match=message):
                    getattr(case.fitted, name)(X)
