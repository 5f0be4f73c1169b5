"""`synthetic_ratio="balanced"`, and warnings of trainings that saw no synthetic row."""

import warnings

import numpy as np
import pytest
from helpers.tiny_nets import (
    IMAGES,
    LABELS,
    Recorder,
    augmented,
    net,
    own_net,
    recorder_of,
    refreshed,
    synthesizer,
)
from sklearn.model_selection import cross_validate
from skorch.callbacks import EarlyStopping
from torch.utils.data import RandomSampler

COUNTS = {0: 30, 1: 12, 2: 5}
ROWS = np.concatenate([np.flatnonzero(k == LABELS)[:n] for k, n in COUNTS.items()])
X, y = IMAGES[ROWS], LABELS[ROWS]


def balanced(estimator=None, given=None, **params):
    return augmented(estimator, given, **{"synthetic_ratio": "balanced", "warm_up": 0.5, **params})


def recording(**params):
    return net(**{"max_epochs": 4, "callbacks": [Recorder()], **params})


@pytest.mark.parametrize("batches", ["apart", "mixed"])
def test_every_refresh_evens_classes_out(batches):
    learned = balanced(recording(), refresh_every=1, batches=batches).fit(X, y)
    recorder = recorder_of(learned.estimator_)
    assert refreshed(learned.history_) == [2, 3]
    for epoch in range(4):
        expected = list(COUNTS.values()) if epoch < 2 else [30, 30, 30]
        assert np.bincount(recorder.targets(epoch)).tolist() == expected
    # New images in each of them.
    rows = [{row.tobytes() for row in recorder.rows(epoch)} for epoch in (2, 3)]
    assert len(rows[0] & rows[1]) <= len(X)


def test_each_fold_is_evened_out_by_its_own_rows():
    names = np.array(["a", "b", "c"])[y]
    results = cross_validate(
        balanced(recording()), X, names, cv=2, return_estimator=True, return_indices=True
    )
    for fitted, train in zip(results["estimator"], results["indices"]["train"], strict=True):
        most = np.unique(names[train], return_counts=True)[1].max()
        assert np.bincount(recorder_of(fitted.estimator_).targets(3)).tolist() == [most] * 3


def test_even_classes_need_none_and_that_is_said():
    rows = np.concatenate([np.flatnonzero(y == label)[:5] for label in COUNTS])
    with pytest.warns(UserWarning, match="no synthetic row was trained on.*classes of equal size"):
        learned = balanced(recording()).fit(X[rows], y[rows])
    assert recorder_of(learned.estimator_).n_rows() == [15] * 4
    assert learned.synthesizer_.sample(2)[0].shape == (2, 8, 8)


@pytest.mark.parametrize("strategy", ["all", 0.5, {0: 40}])
@pytest.mark.parametrize("ratio", ["balanced", 0.5])
def test_a_strategy_of_the_synthesizer_is_refused(ratio, strategy):
    learned = balanced(given=synthesizer(sampling_strategy=strategy), synthetic_ratio=ratio)
    with pytest.raises(ValueError, match=r"fit_resample.*synthetic_ratio='balanced'"):
        learned.fit(X, y)


def test_a_sampler_besides_is_refused():
    learned = balanced(net(iterator_train__sampler=RandomSampler(X)))
    with pytest.raises(ValueError, match="one of the two"):
        learned.fit(X, y)


@pytest.mark.parametrize("ratio", ["even", -1, None])
def test_other_ratios_are_refused(ratio):
    with pytest.raises(ValueError, match="'synthetic_ratio' parameter"):
        balanced(synthetic_ratio=ratio).fit(X, y)


class TestNoSyntheticRow:
    def test_one_epoch(self):
        with pytest.warns(UserWarning, match=r"no synthetic row .* after 1 of 1 epochs.*had 1\."):
            augmented(own_net(max_epochs=1, module__n_out=3)).fit(X, y)

    def test_early_stopping(self):
        stop = EarlyStopping("train_loss", patience=2, threshold=10)
        with pytest.warns(UserWarning, match=r"begins after 6 of 12 epochs.*had 3\. Give"):
            augmented(own_net(callbacks=[stop], max_epochs=12, module__n_out=3), warm_up=0.5).fit(
                X, y
            )

    @pytest.mark.parametrize("params", [{"warm_up": 0}, {"warm_up": 1}, {"synthetic_ratio": 0}])
    def test_no_warning_where_there_were_some_or_none_are_wanted(self, params):
        with warnings.catch_warnings():
            warnings.filterwarnings("error", "no synthetic row")
            augmented(own_net(max_epochs=1, module__n_out=3), **params).fit(X, y)
