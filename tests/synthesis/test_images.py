"""scikit-learn's checks that it does not run for images, for both estimators."""

import copy
import pickle

import joblib
import numpy as np
import pytest
import torch
from helpers.image_cases import LAYOUTS, assert_close, assert_same, synthesizer_of, y
from sklearn import config_context
from sklearn.base import clone, is_classifier
from sklearn.exceptions import DataConversionWarning, NotFittedError
from sklearn.pipeline import Pipeline
from sklearn.utils import get_tags
from sklearn.utils.validation import check_is_fitted

# What is said of images of another shape than in fit.
SHAPES = (
    r"rows of shape .* as in fit|\d+ features, but .* is expecting \d+|Expected 2D array|"
    r"that of a single image in fit: pass X"
)


@pytest.fixture(params=["HWC"])
def layout(request):
    """Layout of the images, where it does not matter."""
    return request.param


every_layout = pytest.mark.parametrize("layout", LAYOUTS)


class TestFit:
    @every_layout
    def test_twice_or_of_a_clone_learns_the_same(self, case):
        estimator = case.copy()
        assert estimator.fit(case.X, y) is estimator
        assert_same(case.answers(estimator), case.expected)
        cloned = clone(case.fitted)
        with pytest.raises(NotFittedError):
            check_is_fitted(cloned)
        assert_same(case.answers(cloned.fit(case.X, y)), case.expected)

    def test_leaves_parameters_alone_and_adds_attributes_that_end_in_an_underscore(self, case):
        estimator = case.new()
        given, hashed = estimator.get_params(deep=False), joblib.hash(estimator.get_params())
        assert vars(estimator).keys() == given.keys()
        estimator.fit(case.X, y)
        assert joblib.hash(estimator.get_params()) == hashed
        after = estimator.get_params(deep=False)
        assert [name for name in given if after[name] is not given[name]] == []
        added = vars(estimator).keys() - given.keys()
        assert {"image_shape_", "classes_"} <= added
        assert [name for name in added if name[-1] != "_"] == []

    def test_of_other_images_forgets_the_first(self, case):
        X, labels = np.moveaxis(case.X, -1, 1)[8:, :, 1:], np.array(["a", "b", "c"])[y[8:]]
        refitted, fresh = case.copy().fit(X, labels), case.fit(X, labels)
        assert refitted.image_shape_ == fresh.image_shape_
        assert_same(case.rows(refitted, X), case.rows(fresh, X))
        assert_same(
            *({"sample": synthesizer_of(fitted).sample(9)[0]} for fitted in (refitted, fresh))
        )

    def test_labels_may_be_a_list_or_a_column(self, case):
        assert_same(case.answers(case.fit(labels=y.tolist())), case.expected)
        with pytest.warns(DataConversionWarning, match="column-vector"):
            estimator = case.fit(labels=y[:, None])
        assert_same(case.answers(estimator), case.expected)


class TestFitted:
    @every_layout
    def test_refuses_images_of_another_shape(self, case):
        others = [case.X[..., :-1], case.X[0], case.X[:, None]]
        if case.X.ndim > 2:
            others += [case.X.swapaxes(1, -1)[:, :5], case.X.reshape(len(y), -1)]
        for X in others:
            for name in case.methods:
                with pytest.raises(ValueError, match=SHAPES):
                    getattr(case.fitted, name)(X)
            with pytest.raises(ValueError, match=SHAPES):
                synthesizer_of(case.fitted).synthesize(X, y[: len(X)])

    def test_answers_row_by_row_and_in_any_order_as_all_at_once(self, case):
        X, order = case.X[:10], np.random.default_rng(0).permutation(10)
        whole = case.rows(case.fitted, X)
        for size in (1, 4):
            parts = [case.rows(case.fitted, X[i : i + size]) for i in range(0, len(X), size)]
            joined = {name: np.concatenate([p[name] for p in parts]) for name in case.methods}
            assert_close(joined, whole)
        permuted = case.rows(case.fitted, X[order])
        assert_close(permuted, {name: values[order] for name, values in whole.items()})

    def test_synthesises_alike_whatever_the_size_of_batches_and_the_rows_that_follow(self, case):
        sampler = copy.copy(synthesizer_of(case.fitted))
        images = case.expected["synthesize"]
        # Normalised gradients magnify what rounds differently; a grey level is 200 times as much.
        alike = {"rtol": 0, "atol": 2e-5}
        few, _ = sampler.synthesize(case.X[:5], y[:5], random_state=1)
        np.testing.assert_allclose(few, images[:5], **alike)
        for size in (1, 7):
            in_parts, _ = sampler.set_params(batch_size=size).synthesize(case.X, y, random_state=1)
            np.testing.assert_allclose(in_parts, images, **alike)

    def test_answers_change_nothing(self, case):
        estimator = case.copy()
        before = dict(vars(estimator)), dict(vars(synthesizer_of(estimator)))
        case.answers(estimator)
        for values, now in zip(before, (estimator, synthesizer_of(estimator)), strict=True):
            assert vars(now).keys() == values.keys()
            assert [name for name in values if vars(now)[name] is not values[name]] == []
        assert_same(case.answers(estimator), case.expected)

    def test_copies_answer_alike(self, case, tmp_path):
        joblib.dump(case.fitted, tmp_path / "estimator")
        for twin in (
            pickle.loads(pickle.dumps(case.fitted)),
            # Read-only, as in a worker process of joblib.
            joblib.load(tmp_path / "estimator", mmap_mode="r"),
        ):
            assert_same(case.answers(twin), case.expected)

    def test_keeps_what_it_has_learned_whatever_parameters_are_set_for_the_next_fit(self, case):
        estimator = case.copy()
        estimator.set_params(**{f"{case.synthesizer}image_shape": (2, 2)})
        estimator.set_params(**{f"{case.synthesizer}autoencoder__max_epochs": 5})
        estimator.set_params(**{f"{case.synthesizer}autoencoder": None})
        estimator.set_params(**{f"{case.synthesizer}sampling_strategy": "all"})
        name = "estimator" if is_classifier(estimator) else "classifier"
        estimator.set_params(**{f"{name}__lr": 1.0}).set_params(**{name: None})
        if is_classifier(estimator):
            estimator.set_params(
                synthetic_ratio=0, warm_up=1, synthesizer__radius=9, synthesizer__n_members=2
            )
            estimator.set_params(synthesizer=None)
        assert_same(case.answers(estimator), case.expected)

    def test_works_under_any_configuration_of_scikit_learn(self, case):
        for config in (
            {"assume_finite": True, "skip_parameter_validation": True},
            {"transform_output": "pandas", "enable_metadata_routing": True},
        ):
            with config_context(**config):
                assert_same(case.answers(case.fit()), case.expected)


class TestParameters:
    def test_are_given_back_as_they_were_set(self, case):
        estimator = case.new()
        params = estimator.get_params(deep=False)
        assert estimator.set_params(**params) is estimator
        assert all(estimator.get_params(deep=False)[name] is params[name] for name in params)
        # Nothing is refused before fit.
        for name in params:
            odd = object()
            assert getattr(clone(estimator).set_params(**{name: odd}), name) is odd
        with pytest.raises(ValueError, match="Invalid parameter 'widht'"):
            estimator.set_params(widht=1)

    def test_of_nets_are_reached_by_nested_names(self, case):
        name = "estimator" if case.kind == "AugmentedClassifier" else "classifier"
        values = {
            f"{name}__lr": 0.5,
            f"{name}__module__width": 9,
            f"{case.synthesizer}autoencoder__module__width": 7,
            f"{case.synthesizer}radius": 0.3,
        }
        nested = Pipeline([("model", case.new())])
        nested.set_params(**{f"model__{key}": value for key, value in values.items()})
        assert values.items() <= nested["model"].get_params().items()
        assert not values.items() & case.unfitted.get_params().items()
        learned = nested["model"].fit(case.X, y)
        assert getattr(learned, f"{name}_").lr == 0.5
        assert learned.get_params()[f"{name}__module__width"] == 9

    def test_tags_admit_images_and_tables(self, case):
        tags = get_tags(case.new())
        assert tags.input_tags.two_d_array
        assert tags.input_tags.three_d_array
        assert tags.target_tags.required
        assert not tags.input_tags.sparse
        assert not tags.input_tags.allow_nan


class ArrayLike:
    """Not an array, but something of which numpy makes one."""

    def __init__(self, values):
        self.values = values

    def __array__(self, dtype=None, copy=None):
        return np.array(self.values, dtype=dtype)


class TestContainers:
    """Arrays of any kind are read as what they hold, and never written to."""

    @pytest.mark.parametrize("dtype", ["uint8", "int64", "float16", "float64"])
    def test_dtypes_come_back(self, case, dtype):
        X = (case.X * 200).astype(dtype)
        answers = case.answers(case.fit(X), X)
        for name in {"reconstruct", "synthesize", "sample"} & answers.keys():
            assert answers[name].dtype == X.dtype
            assert answers[name].shape[1:] == X.shape[1:]
        for name in {"predict_proba", "uncertainty"} & answers.keys():
            assert answers[name].dtype == np.float32
            assert np.isfinite(answers[name]).all()

    @pytest.mark.parametrize("container", [torch.from_numpy, ArrayLike])
    def test_whatever_numpy_takes_for_an_array_is_one(self, case, container):
        X = container(case.X)
        assert_same(case.answers(case.fit(X), X), case.expected)

    def test_objects_and_lists_are_the_same_images(self, case):
        for X in (case.X.astype(object), case.X.tolist()):
            for name, values in case.rows(case.fit(X), X).items():
                np.testing.assert_array_equal(
                    values.astype(case.expected[name].dtype), case.expected[name], err_msg=name
                )

    @every_layout
    def test_strides_and_files_that_are_read_only_do_not_matter(self, case, tmp_path):
        spread = np.zeros((*case.X.shape[:-1], 2 * case.X.shape[-1]), np.float32)
        spread[..., ::2] = case.X
        fortran, backwards = np.asfortranarray(case.X), np.ascontiguousarray(case.X[::-1])[::-1]
        assert_same(case.answers(case.fit(fortran), backwards), case.expected)
        joblib.dump((case.X, y), tmp_path / "data")
        on_disk, labels = joblib.load(tmp_path / "data", mmap_mode="r")
        assert isinstance(on_disk, np.memmap)
        assert_same(case.answers(case.fit(on_disk, labels), spread[..., ::2]), case.expected)

    @every_layout
    def test_images_are_not_written_to(self, case):
        X, labels = case.X.copy(), y.copy()
        estimator = case.fit(X, labels)
        for answer in case.answers(estimator, X).values():
            answer[:] = answer[::-1]
        np.testing.assert_array_equal(X, case.X)
        np.testing.assert_array_equal(labels, y)
        # Nor does the estimator lose hold of them when the caller writes to what it got.
        assert_same(case.answers(estimator), case.expected)
