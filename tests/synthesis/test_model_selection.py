"""The estimators inside scikit-learn's own tools: pipelines, searches, ensembles."""

import joblib
import numpy as np
import pytest
import torch
from helpers.tiny_nets import (
    IMAGES,
    LABELS,
    X,
    augmented,
    dense_net,
    dense_synthesizer,
    net,
    synthesizer,
    y,
)
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import VotingClassifier
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.frozen import FrozenEstimator
from sklearn.inspection import permutation_importance
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import (
    GridSearchCV,
    HalvingGridSearchCV,
    cross_val_predict,
    cross_val_score,
    cross_validate,
    learning_curve,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

ROWS = X.reshape(len(X), -1)
FEW = np.flatnonzero(LABELS < 3)[:60]
FEW_IMAGES, FEW_LABELS = IMAGES[FEW], LABELS[FEW]
NAMES = {
    "strings": np.array(["cyst", "benign", "malignant"]),
    "bools": np.array([True, False, False]),
    "numbers with gaps": np.array([40, -7, 3]),
}


def learner(**params):
    """Make a small classifier that tells three digits apart."""
    estimator = net(**{"max_epochs": 5, "module__width": 6, "lr": 0.02, "batch_size": 8, **params})
    return augmented(estimator, synthesizer(), warm_up=0.6)


def flattened(images):
    return images.reshape(len(images), -1)


def darkened(images):
    return np.round(images * 200).astype(np.uint8)


class TestPipelines:
    def test_scaled_rows_are_folded_into_images_in_one_process_and_in_two(self):
        pipeline = make_pipeline(
            StandardScaler(), augmented(net(max_epochs=4), synthesizer(image_shape=(8, 8)))
        )
        grid = {"augmentedclassifier__synthetic_ratio": [0.5, 1]}
        one, two = (
            GridSearchCV(pipeline, grid, cv=2, n_jobs=n_jobs, scoring="neg_log_loss").fit(ROWS, y)
            for n_jobs in (1, 2)
        )
        np.testing.assert_array_equal(
            one.cv_results_["mean_test_score"], two.cv_results_["mean_test_score"]
        )
        best = one.best_estimator_
        assert best[-1].image_shape_ == (1, 8, 8)
        assert best[-1].n_features_in_ == best.n_features_in_ == 64
        assert best[-1].synthesizer_.sample(3)[0].shape == (3, 64)
        np.testing.assert_array_equal(one.predict(ROWS), two.predict(ROWS))

    def test_functions_of_images_come_before_the_classifier(self):
        pipeline = make_pipeline(FunctionTransformer(darkened), learner())
        pipeline.fit(FEW_IMAGES, FEW_LABELS)
        assert pipeline[-1].synthesizer_.sample(3)[0].dtype == np.uint8
        plain = learner().fit(darkened(FEW_IMAGES), FEW_LABELS)
        np.testing.assert_array_equal(
            pipeline.predict_proba(FEW_IMAGES), plain.predict_proba(darkened(FEW_IMAGES))
        )
        assert pipeline.score(FEW_IMAGES, FEW_LABELS) > 0.6


class TestCrossValidation:
    def test_repeats_itself(self):
        estimator = net(module__width=16)
        first, second = (
            cross_val_score(augmented(estimator, warm_up=0.5), IMAGES[:150], LABELS[:150], cv=2)
            for _ in range(2)
        )
        assert (first == second).all()
        assert first.min() > 0.3

    def test_by_threads_is_the_same_as_one_after_the_other(self):
        before = torch.get_rng_state()
        expected = cross_val_score(learner(), FEW_IMAGES, FEW_LABELS, scoring="neg_log_loss", cv=3)
        with joblib.parallel_config(backend="threading", n_jobs=3):
            by_threads = cross_val_score(
                learner(), FEW_IMAGES, FEW_LABELS, scoring="neg_log_loss", cv=3
            )
        np.testing.assert_array_equal(by_threads, expected)
        assert (torch.get_rng_state() == before).all()

    @pytest.mark.parametrize("kind", NAMES)
    def test_gives_estimators_and_several_measures_for_labels_of_any_type(self, kind):
        labels = NAMES[kind][FEW_LABELS]
        scoring = ["accuracy", "neg_log_loss", "f1_macro"]
        results = cross_validate(
            learner(),
            FEW_IMAGES,
            labels,
            cv=2,
            scoring=scoring,
            return_estimator=True,
            return_train_score=True,
            return_indices=True,
            error_score="raise",
        )
        assert len(results["estimator"]) == 2
        for i, fitted in enumerate(results["estimator"]):
            test = results["indices"]["test"][i]
            assert fitted.score(FEW_IMAGES[test], labels[test]) == results["test_accuracy"][i]
            np.testing.assert_array_equal(fitted.classes_, np.unique(labels))
            sources = fitted.synthesizer_.sample(5, return_info=True)[2].source_index
            assert set(sources) <= set(range(len(FEW) - len(test)))
        for name in scoring:
            assert np.isfinite(results[f"test_{name}"]).all()
        assert results["train_accuracy"].min() > 0.5

    @pytest.mark.parametrize("kind", NAMES)
    def test_predicts_probabilities_in_the_order_of_the_classes(self, kind):
        labels = NAMES[kind][FEW_LABELS]
        proba = cross_val_predict(learner(), FEW_IMAGES, labels, cv=2, method="predict_proba")
        assert proba.shape == (60, len(np.unique(labels)))
        np.testing.assert_allclose(proba.sum(1), 1, atol=1e-5)
        predicted = cross_val_predict(learner(), FEW_IMAGES, labels, cv=2)
        assert predicted.dtype == labels.dtype
        np.testing.assert_array_equal(np.unique(labels)[proba.argmax(1)], predicted)
        assert np.mean(predicted == labels) > 0.5

    def test_learning_curve(self):
        sizes, train, test = learning_curve(
            learner(),
            FEW_IMAGES,
            FEW_LABELS,
            train_sizes=[6, 30],
            cv=2,
            shuffle=True,
            random_state=0,
            error_score="raise",
        )
        assert sizes.tolist() == [6, 30]
        assert train.shape == test.shape == (2, 2)
        assert test[1].mean() > test[0].mean()


class TestSearches:
    def test_over_nested_names_in_two_processes(self):
        grid = {
            "synthesizer__radius": [0.2, 1.0],
            "estimator__lr": [1e-9, 1e-2],
            "estimator__module__width": [4, 6],
        }
        # Accuracy after so few epochs is a matter of luck, the likelihood is not.
        search = GridSearchCV(
            augmented(net(max_epochs=4)),
            grid,
            scoring="neg_log_loss",
            cv=2,
            n_jobs=2,
            error_score="raise",
        ).fit(X, y)
        assert len(search.cv_results_["params"]) == 8
        assert not np.isnan(search.cv_results_["mean_test_score"]).any()
        fitted, params = search.best_estimator_, search.best_params_
        assert params["estimator__lr"] == fitted.estimator_.lr == 1e-2
        assert fitted.synthesizer_.radius == params["synthesizer__radius"]
        width = params["estimator__module__width"]
        assert fitted.estimator_.module_.features[0].out_channels == width
        # The refit is no other than a fit with these parameters.
        again = clone(search.estimator).set_params(**params).fit(X, y)
        np.testing.assert_array_equal(search.predict_proba(X), again.predict_proba(X))

    def test_over_whole_parts(self):
        dense = dense_net(max_epochs=2)
        grid = [
            {"synthesizer": [None], "synthetic_ratio": [0], "estimator": [None, dense]},
            {"synthesizer": [dense_synthesizer(objective="random")], "warm_up": [0, 1]},
        ]
        estimator = augmented(dense, dense_synthesizer(), synthetic_ratio=0.5)
        search = GridSearchCV(estimator, grid, cv=2, error_score="raise").fit(ROWS[:40], y[:40])
        assert len(search.cv_results_["params"]) == 4
        assert np.isfinite(search.cv_results_["mean_test_score"]).all()

    @pytest.mark.parametrize("resource", ["n_samples", "estimator__max_epochs"])
    def test_halving(self, resource):
        search = HalvingGridSearchCV(
            learner(),
            {"synthesizer__radius": [0.2, 1.0], "estimator__lr": [1e-9, 1e-2]},
            resource=resource,
            min_resources=30 if resource == "n_samples" else 3,
            max_resources=60 if resource == "n_samples" else 6,
            factor=2,
            cv=2,
            n_jobs=2,
            random_state=0,
            error_score="raise",
        ).fit(FEW_IMAGES, FEW_LABELS)
        assert search.n_candidates_ == [4, 2]
        assert search.best_params_["estimator__lr"] == 1e-2
        assert search.score(FEW_IMAGES, FEW_LABELS) > 0.6

    def test_over_weights_of_the_classes(self):
        labels = FEW_LABELS == 0
        weights = [torch.tensor([1.0, 1.0]), torch.tensor([1.0, 1e4])]
        search = GridSearchCV(
            learner(), {"estimator__criterion__weight": weights}, cv=2, error_score="raise"
        ).fit(FEW_IMAGES, labels)
        assert search.best_params_["estimator__criterion__weight"] is weights[0]
        weighted = learner(criterion__weight=weights[1]).fit(FEW_IMAGES, labels)
        # All that counts is to find the zeros.
        assert weighted.predict(FEW_IMAGES).all()
        assert not search.predict(FEW_IMAGES).all()
        assert weighted.estimator_.criterion_.weight.tolist() == [1.0, 1e4]


class TestOnTop:
    @pytest.mark.parametrize("ensemble", [True, False])
    def test_calibration(self, ensemble):
        calibrated = CalibratedClassifierCV(learner(), cv=2, ensemble=ensemble)
        calibrated.fit(FEW_IMAGES, NAMES["strings"][FEW_LABELS])
        proba = calibrated.predict_proba(FEW_IMAGES)
        np.testing.assert_allclose(proba.sum(1), 1, atol=1e-5)
        assert calibrated.score(FEW_IMAGES, NAMES["strings"][FEW_LABELS]) > 0.5

    def test_calibration_of_a_trained_one(self):
        trained = learner().fit(FEW_IMAGES[:40], FEW_LABELS[:40])
        calibrated = CalibratedClassifierCV(FrozenEstimator(trained))
        calibrated.fit(FEW_IMAGES[40:], FEW_LABELS[40:])
        assert calibrated.calibrated_classifiers_[0].estimator.estimator is trained
        assert calibrated.predict_proba(FEW_IMAGES).shape == (60, 3)

    def test_voting(self):
        labels = NAMES["strings"][FEW_LABELS]
        linear = make_pipeline(FunctionTransformer(flattened), LogisticRegression())
        voting = VotingClassifier([("net", learner()), ("linear", linear)], voting="soft")
        voting.fit(FEW_IMAGES, labels)
        each = [fitted.predict_proba(FEW_IMAGES) for fitted in voting.estimators_]
        np.testing.assert_allclose(voting.predict_proba(FEW_IMAGES), np.mean(each, 0), atol=1e-6)
        assert voting.score(FEW_IMAGES, labels) > 0.8

    def test_permutation_importance(self):
        rng = np.random.default_rng(0)
        table = rng.standard_normal((80, 4)).astype(np.float32)
        labels = np.where(table[:, 2] > 0, "high", "low")
        estimator = augmented(dense_net(max_epochs=10), dense_synthesizer()).fit(table, labels)
        importance = permutation_importance(estimator, table, labels, n_repeats=3, random_state=0)
        assert importance.importances_mean.argmax() == 2
        assert importance.importances_mean[2] > 0.2
