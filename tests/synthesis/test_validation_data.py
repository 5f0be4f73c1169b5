"""`AugmentedClassifier.fit(X, y, X_val=..., y_val=...)`: what a net is validated by."""

import pickle

import numpy as np
import pytest
from helpers.tiny_nets import (
    IMAGES,
    LABELS,
    Recorder,
    X,
    augmented,
    dense_net,
    dense_synthesizer,
    net,
    own_net,
    recorder_of,
    refreshed,
    row_set,
    y,
)
from skorch import NeuralNetBinaryClassifier
from skorch.callbacks import EarlyStopping
from skorch.dataset import Dataset, ValidSplit

X_VAL, Y_VAL = IMAGES[300:330], LABELS[300:330]
NAMES = np.array(list("jihgfedcba"))


@pytest.mark.parametrize("train_split", [None, ValidSplit(4)])
def test_it_takes_the_place_of_the_split_and_is_never_trained_on(train_split):
    estimator = own_net(callbacks=[Recorder()], max_epochs=4, train_split=train_split)
    learned = augmented(estimator, warm_up=0.5)
    learned.fit(X, NAMES[y], X_val=X_VAL, y_val=NAMES[Y_VAL])
    recorder = recorder_of(learned.estimator_)
    assert recorder.n_rows() == [80, 80, 160, 160]
    for epoch in range(4):
        np.testing.assert_array_equal(recorder.rows(epoch, "valid"), X_VAL[:, None])
        assert not row_set(recorder.rows(epoch)) & row_set(X_VAL)
    assert row_set(recorder.rows(3)) >= row_set(X)
    sources = learned.synthesizer_.sample(300, return_info=True)[2].source_index
    assert set(sources) == set(range(80))
    # What is measured is measured on it, with the weights at that time.
    score = np.mean(learned.predict(X_VAL) == NAMES[Y_VAL])
    assert learned.history_[-1, "valid_acc"] == score == learned.score(X_VAL, NAMES[Y_VAL])
    # The net has its own split back, and holds no validation data.
    assert type(learned.estimator_.train_split) is type(train_split)
    assert X_VAL.tobytes() not in pickle.dumps(learned)


def test_it_stops_a_training():
    stop = EarlyStopping("valid_loss", patience=1, threshold=10)
    estimator = own_net(callbacks=[stop], train_split=None)
    learned = augmented(estimator, warm_up=0.1).fit(X, y, X_val=X_VAL, y_val=Y_VAL)
    assert len(learned.history_) < 4
    assert refreshed(learned.history_) == [1]


def test_integers_tables_and_two_classes_are_converted_like_x():
    pixels = np.rint(X * 255).astype(np.uint8)
    learned = augmented(net(max_epochs=2, callbacks=[Recorder()]), synthetic_ratio=0)
    learned.fit(pixels, y, X_val=pixels[:5], y_val=y[:5])
    seen = recorder_of(learned.estimator_).rows(0, "valid")
    np.testing.assert_array_equal(seen, pixels[:5, None] / np.float32(255))

    binary = own_net(NeuralNetBinaryClassifier, module__n_out=1, max_epochs=2)
    learned = augmented(binary, synthetic_ratio=0).fit(X, y > 4, X_val=X_VAL, y_val=Y_VAL > 4)
    assert np.isfinite(learned.history_[:, "valid_loss"]).all()

    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(X.reshape(80, -1)[:, 20:24], columns=list("abcd"))
    learned = augmented(dense_net(max_epochs=2), dense_synthesizer(), synthetic_ratio=0)
    learned.fit(frame, y, X_val=frame[:9], y_val=y[:9])
    assert learned.history_[-1, "valid_acc"] == learned.score(frame[:9], y[:9])
    with pytest.raises(ValueError, match="feature names"):
        learned.fit(frame, y, X_val=frame[:9][list("bacd")], y_val=y[:9])


def test_a_data_set_of_the_net_serves_it_too():
    class Halved(Dataset):
        def __getitem__(self, i):
            image, target = super().__getitem__(i)
            return image / 2, target

    estimator = own_net(max_epochs=1, dataset=Halved, callbacks=[Recorder()])
    learned = augmented(estimator, synthetic_ratio=0).fit(X, y, X_val=X_VAL, y_val=Y_VAL)
    rows = recorder_of(learned.estimator_).rows(0, "valid")
    np.testing.assert_array_equal(rows, X_VAL[:, None] / 2)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"X_val": X_VAL}, "belong together"),
        ({"y_val": Y_VAL}, "belong together"),
        ({"X_val": X_VAL, "y_val": Y_VAL[:9]}, "inconsistent numbers of samples(.|\n)*X_val"),
        ({"X_val": X_VAL[:, 1:], "y_val": Y_VAL}, r"rows of shape \(7, 8\)(.|\n)*X_val"),
        ({"X_val": X_VAL, "y_val": Y_VAL + 40}, r"not seen in fit(.|\n)*y_val"),
        ({"X_val": X_VAL[:0], "y_val": Y_VAL[:0]}, "X_val"),
    ],
)
def test_what_does_not_fit_is_refused_before_training(given, message):
    learned = augmented(own_net(max_epochs=10**6))
    with pytest.raises(ValueError, match=message):
        learned.fit(X, y, **given)
    assert not hasattr(learned, "classes_")


def test_none_is_nothing():
    learned = augmented(net(max_epochs=1), synthetic_ratio=0)
    learned.fit(X, y, X_val=None, y_val=None, sample_weight=None, groups=None)
    assert "valid_loss" not in learned.history_[-1]
    learned.synthesizer_.set_params(classifier=net(max_epochs=1)).fit(X, y, sample_weight=None)
