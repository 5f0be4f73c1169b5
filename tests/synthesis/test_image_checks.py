"""scikit-learn's checks that it does not run for images, in all layouts and for both estimators."""

import copy
import pickle
from collections import Counter

import joblib
import numpy as np
import pytest
import torch
from helpers.image_cases import assert_close, assert_same, synthesizer_of, y
from sklearn import config_context
from sklearn.base import clone, is_classifier
from sklearn.exceptions import DataConversionWarning, NotFittedError
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils import estimator_html_repr, get_tags
from sklearn.utils.validation import check_is_fitted

# What is said of images of another shape than in fit.
SHAPES = r"rows of shape .* as in fit|\d+ features, but .* is expecting \d+|Expected 2D array"


class TestFit:
    def test_returns_self(self, case):
        estimator = case.new()
        assert estimator.fit(case.X, y) is estimator

    def test_twice_is_as_good_as_once(self, case):
        assert_same(case.answers(case.copy().fit(case.X, y)), case.expected)

    def test_of_a_clone_learns_the_same(self, case):
        cloned = clone(case.fitted)
        with pytest.raises(NotFittedError):
            check_is_fitted(cloned)
        assert_same(case.answers(cloned.fit(case.X, y)), case.expected)

    def test_leaves_parameters_alone(self, case):
        estimator = case.new()
        given, hashed = estimator.get_params(deep=False), joblib.hash(estimator.get_params())
        estimator.fit(case.X, y)
        assert joblib.hash(estimator.get_params()) == hashed
        after = estimator.get_params(deep=False)
        assert [name for name in given if after[name] is not given[name]] == []

    def test_adds_attributes_that_end_in_an_underscore_or_are_private(self, case):
        estimator = case.new()
        assert vars(estimator).keys() == estimator.get_params(deep=False).keys()
        added = vars(case.fitted).keys() - vars(estimator).keys()
        assert {"n_features_in_", "image_shape_", "classes_"} <= added
        assert [name for name in added if not name.startswith("_") and name[-1] != "_"] == []

    def test_of_other_images_forgets_the_first(self, case):
        X = case.X.reshape(case.X.shape[0], *(case.image_shape or case.X.shape[1:]))
        X, labels = X[8:, :, 1:], np.array(["a", "b", "c"])[y[8:]]
        params = {f"{case.synthesizer}image_shape": None}
        refitted = case.copy().set_params(**params).fit(X, labels)
        fresh = case.fit(X, labels, **params)
        assert refitted.n_features_in_ == np.prod(X.shape[1:]) < case.fitted.n_features_in_
        assert refitted.image_shape_ == fresh.image_shape_
        assert_same(case.rows(refitted, X), case.rows(fresh, X))
        assert_same(
            *({"sample": synthesizer_of(fitted).sample(9)[0]} for fitted in (refitted, fresh))
        )

    @pytest.mark.parametrize("layout", ["HWC"])
    @pytest.mark.parametrize(
        "names",
        [
            np.array(["cyst", "benign", "malignant"]),
            np.array(["cyst", "benign", "malignant"], dtype=object),
            np.array([300, -4, 7]),
            np.array([False, True, True]),
        ],
        ids=lambda names: str(names.dtype.kind),
    )
    def test_labels_are_of_any_type(self, case, names):
        estimator = case.fit(labels=names[y])
        assert estimator.classes_.dtype == names.dtype
        np.testing.assert_array_equal(estimator.classes_, np.unique(names))
        y_new = synthesizer_of(estimator).sample(24)[1]
        assert y_new.dtype == names.dtype
        assert Counter(y_new.tolist()) == Counter(names[y].tolist())
        if is_classifier(estimator):
            predicted = estimator.predict(case.X)
            assert predicted.dtype == names.dtype
            assert estimator.score(case.X, names[y]) == np.mean(predicted == names[y])

    @pytest.mark.parametrize("layout", ["HWC"])
    def test_labels_may_be_a_list_or_a_column(self, case):
        assert_same(case.answers(case.fit(labels=y.tolist())), case.expected)
        with pytest.warns(DataConversionWarning, match="column-vector"):
            estimator = case.fit(labels=y[:, None])
        assert_same(case.answers(estimator), case.expected)


class TestFitted:
    def test_knows_the_shape_of_its_images(self, case):
        assert not hasattr(case.new(), "n_features_in_")
        assert case.fitted.n_features_in_ == case.X[0].size
        grey = case.X.shape[1:] == (8, 8)
        assert case.fitted.image_shape_ == ((1, 8, 8) if grey else (3, 8, 7))

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

    def test_answers_row_by_row_as_all_at_once(self, case):
        X = case.X[:10]
        whole = case.rows(case.fitted, X)
        for size in (1, 4):
            parts = [case.rows(case.fitted, X[i : i + size]) for i in range(0, len(X), size)]
            joined = {name: np.concatenate([p[name] for p in parts]) for name in case.methods}
            assert_close(joined, whole)

    def test_answers_in_the_order_of_the_rows(self, case):
        order = np.random.default_rng(0).permutation(len(y))
        whole = case.rows(case.fitted, case.X)
        permuted = case.rows(case.fitted, case.X[order])
        assert_close(permuted, {name: values[order] for name, values in whole.items()})

    def test_synthesises_alike_whatever_the_size_of_batches_and_the_rows_that_follow(self, case):
        sampler = copy.copy(synthesizer_of(case.fitted))
        images = case.expected["synthesize"]
        # Normalised gradients magnify what rounds differently; a grey level is 200 times as much.
        alike = {"rtol": 0, "atol": 2e-5}
        few, _ = sampler.synthesize(case.X[:5], y[:5], random_state=1)
        np.testing.assert_allclose(few, images[:5], **alike)
        for size in (1, 7):
            sampler.set_params(batch_size=size)
            in_parts, _ = sampler.synthesize(case.X, y, random_state=1)
            np.testing.assert_allclose(in_parts, images, **alike)

    def test_answers_change_nothing(self, case):
        estimator = case.copy()
        before = dict(vars(estimator)), dict(vars(synthesizer_of(estimator)))
        case.answers(estimator)
        for values, now in zip(before, (estimator, synthesizer_of(estimator)), strict=True):
            assert vars(now).keys() == values.keys()
            assert [name for name in values if vars(now)[name] is not values[name]] == []
        assert_same(case.answers(estimator), case.expected)

    def test_answers_leave_global_random_states_alone(self, case):
        before = torch.get_rng_state(), pickle.dumps(np.random.get_state())  # noqa: NPY002
        case.answers(case.fitted)
        assert (torch.get_rng_state() == before[0]).all()
        assert pickle.dumps(np.random.get_state()) == before[1]  # noqa: NPY002

    def test_copies_answer_alike(self, case, tmp_path):
        joblib.dump(case.fitted, tmp_path / "estimator")
        for twin in (
            pickle.loads(pickle.dumps(case.fitted)),
            # Read-only, as in a worker process of joblib.
            joblib.load(tmp_path / "estimator", mmap_mode="r"),
        ):
            assert_same(case.answers(twin), case.expected)
        unfitted = pickle.loads(pickle.dumps(case.new()))
        learned = case.rows(unfitted.fit(case.X, y), case.X)
        assert_same(learned, {name: case.expected[name] for name in case.methods})

    def test_keeps_what_it_has_learnt_whatever_parameters_are_set_for_the_next_fit(self, case):
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

    @pytest.mark.parametrize("layout", ["HWC"])
    def test_works_under_any_configuration_of_scikit_learn(self, case):
        for config in (
            {"assume_finite": True, "skip_parameter_validation": True},
            {"transform_output": "pandas", "enable_metadata_routing": True},
        ):
            with config_context(**config):
                assert_same(case.answers(case.fit()), case.expected)


def test_not_fitted_is_said_before_anything_else(case):
    for name in (*case.methods, *(("score",) if case.kind == "AugmentedClassifier" else ())):
        with pytest.raises(NotFittedError):
            getattr(case.new(), name)("no images", *(["no labels"] if name == "score" else []))
    with pytest.raises(NotFittedError):
        check_is_fitted(case.new())
    check_is_fitted(case.fitted)


class TestParameters:
    def test_are_given_back_as_they_were_set(self, case):
        estimator = case.new()
        params = estimator.get_params(deep=False)
        assert estimator.set_params(**params) is estimator
        assert all(estimator.get_params(deep=False)[name] is params[name] for name in params)
        assert params.items() <= estimator.get_params(deep=True).items()
        # Nothing is refused before fit.
        for name in params:
            odd = object()
            assert getattr(clone(estimator).set_params(**{name: odd}), name) is odd
            assert getattr(type(estimator)(**{name: odd}), name) is odd
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

    def test_show_in_text_and_html(self, case):
        passing = FunctionTransformer()
        for estimator in (case.new(), case.fitted):
            for shown in (estimator, Pipeline([("pass", passing), ("model", estimator)])):
                text = repr(shown)
                assert text == str(shown)
                assert f"{case.kind}(" in text
                html = estimator_html_repr(shown)
                assert html == shown._repr_html_() or "sk-container-id" in html
                assert shown._repr_mimebundle_().keys() == {"text/plain", "text/html"}
                for word in (case.kind, "autoencoder", "n_members"):
                    assert word in html

    def test_tags_admit_images_and_tables(self, case):
        tags = get_tags(case.new())
        assert tags.input_tags.two_d_array
        assert tags.input_tags.three_d_array
        assert tags.target_tags.required
        assert not tags.input_tags.sparse
        assert not tags.input_tags.allow_nan
