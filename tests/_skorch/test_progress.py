"""What a fit tells while it goes on: by progress bars, and to scikit-learn's callbacks."""

import importlib.util
import pickle

import numpy as np
import pytest
from helpers.tiny_nets import (
    LABELS,
    X,
    augmented,
    dense_net,
    dense_synthesizer,
    net,
    y,
)
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from skorch.callbacks import Checkpoint

from tsynd_sk._skorch import _progress

ROWS = X.reshape(len(X), -1)


class TestBars:
    @pytest.mark.parametrize("verbose", [0, 1])
    def test_every_phase_of_augmented_training_has_one(self, verbose, capfd):
        augmented(net(max_epochs=2), warm_up=0.5, verbose=verbose).fit(X, y)
        told = capfd.readouterr()
        for phase in ("classifier", "autoencoder", "synthesis"):
            assert (f"{phase}: " in told.err) == bool(verbose)
        # 80 rows twice, and 80 more; 80 codes move so many times; an autoencoder of 64 images.
        line = "Image passes: classifier 240, synthesis 160, autoencoder 64\n"
        assert told.out == line * verbose
        assert ("464/464" in told.err) == bool(verbose)

    def test_of_a_training_counts_what_passes_before_its_batches(self, monkeypatch):
        seen = []

        class Bar(_progress.tqdm):
            def update(self, n=1):
                seen.append(n)
                return super().update(n)

        monkeypatch.setattr(_progress, "tqdm", Bar)
        bare = net(max_epochs=2, batch_size=40)
        augmented(bare, warm_up=0.5, verbose=1).fit(X, y)
        # In between, the one batch of the autoencoder.
        assert seen == [0, 40, 40, 0, 64, 160 + 64, 40, 40, 40, 40]

    @pytest.mark.parametrize("verbose", [0, 1])
    def test_every_phase_of_a_synthesizer_has_one(self, verbose, capfd):
        fitted = dense_synthesizer(classifier=dense_net(max_epochs=2), verbose=verbose)
        fitted.fit(ROWS, y).sample(5)
        told = capfd.readouterr().err
        for phase in ("classifier", "autoencoder", "synthesis"):
            assert (f"{phase}: " in told) == bool(verbose)

    def test_a_net_that_is_saved_while_it_trains_takes_no_bar_along(self, tmp_path):
        file = tmp_path / "net.pkl"
        saves = Checkpoint(monitor=None, f_params=None, f_optimizer=None, f_criterion=None)
        saves.set_params(f_history=None, f_pickle=str(file))
        augmented(net(max_epochs=2, callbacks=[saves]), verbose=1).fit(X, y)
        saved = pickle.loads(file.read_bytes())
        assert saved.predict(np.float32(X[:3, None])).shape == (3,)


needs_callbacks = pytest.mark.skipif(
    importlib.util.find_spec("sklearn.callback") is None,
    reason="scikit-learn has callbacks from version 1.9 on",
)


class Journal:
    """Callback of scikit-learn that notes all it hears."""

    def __init__(self, stop_after=None):
        self.stop_after = stop_after
        self.heard = []
        self.predictions = []

    def setup(self, estimator, context):
        self.heard.append(("setup", estimator))

    def teardown(self, estimator, context):
        self.heard.append(("teardown", estimator))

    def on_fit_task_begin(self, estimator, context, *, X=None, y=None):
        self.heard.append(("begin", context.task_name, context.max_subtasks))
        np.testing.assert_array_equal(y, LABELS[: len(y)])

    def on_fit_task_end(self, estimator, context, *, X=None, fitted_estimator=None):
        self.heard.append(("end", context.task_name))
        if fitted_estimator is not None and hasattr(fitted_estimator, "predict_proba"):
            self.predictions.append(fitted_estimator.predict_proba(X))
        return self.stop_after == (context.task_name, context.task_id)

    def names(self, event):
        return [entry[1] for entry in self.heard if entry[0] == event]


def heard_by(estimator, X, y, **params):
    journal = Journal(**params)
    estimator.set_callbacks(journal)
    return journal, estimator.fit(X, y)


@needs_callbacks
class TestCallbacksOfScikitLearn:
    def test_hear_every_epoch_of_augmented_training(self):
        journal, fitted = heard_by(augmented(net(max_epochs=3)), X, y)
        assert journal.heard[:3] == [
            ("setup", fitted),
            ("begin", "fit", 3),
            ("begin", "epoch", 0),
        ]
        assert journal.names("end") == ["epoch", "epoch", "epoch", "fit"]
        assert journal.heard[-1] == ("teardown", fitted)

    def test_get_an_estimator_that_predicts_as_training_would_if_it_ended_now(self):
        params = {"warm_up": 1, "synthetic_ratio": 1}
        constant = {"callbacks__lr_scheduler": None}
        journal, fitted = heard_by(augmented(net(max_epochs=3, **constant), **params), X, y)
        for epochs, proba in zip((1, 2, 3), journal.predictions, strict=False):
            shorter = augmented(net(max_epochs=epochs, **constant), **params).fit(X, y)
            np.testing.assert_array_equal(proba, shorter.predict_proba(X))
        np.testing.assert_array_equal(journal.predictions[3], fitted.predict_proba(X))

    def test_can_end_a_training(self):
        _, fitted = heard_by(augmented(net(max_epochs=9)), X, y, stop_after=("epoch", 2))
        assert len(fitted.history_) == 3

    def test_hear_the_trainings_of_a_synthesizer(self):
        nets = [dense_net(max_epochs=2), dense_net(max_epochs=1)]
        journal, _ = heard_by(dense_synthesizer(classifier=nets), ROWS, y)
        assert ("begin", "fit", 3) in journal.heard
        epochs = ["epoch", "epoch", "classifier", "epoch", "classifier", "epoch", "autoencoder"]
        assert journal.names("end") == [*epochs, "fit"]

    def test_are_torn_down_after_an_error(self):
        journal = Journal()
        failing = augmented(net(max_epochs=2, lr=-1.0))
        failing.set_callbacks(journal)
        with pytest.raises(ValueError, match="Invalid learning rate"):
            failing.fit(X, y)
        assert journal.heard[-1] == ("teardown", failing)
        assert not hasattr(failing, "_callback_fit_ctx")

    @pytest.mark.slow
    def test_score_epoch_by_epoch_through_pipeline_and_search(self):
        from sklearn.callback import ScoringMonitor

        monitor = ScoringMonitor(scoring="accuracy")
        classifier = augmented(net(max_epochs=2), warm_up=1).set_callbacks(monitor)
        pipeline = make_pipeline(FunctionTransformer(), classifier)
        grid = {"augmentedclassifier__estimator__lr": [1e-3, 1e-2]}
        GridSearchCV(pipeline, grid, cv=2).fit(X, y)
        scores = [entry for run in monitor.get_logs(select="all") for entry in run.data]
        # An epoch, and the fit, of two candidates in two folds and of the best one again.
        assert len(scores) >= 5 * 3
        assert all(0 <= entry["accuracy"] <= 1 for entry in scores if "accuracy" in entry)
