"""Ctrl-C, as the signal that it is, at any moment of a fit or a synthesis."""

import os
import pickle
import signal
import threading

import numpy as np
import pytest
import torch
from helpers.tiny_nets import X, augmented, own_net, refreshed, synthesizer, unfitted, y
from helpers.ways import IMAGES, around, inside
from sklearn.model_selection import GridSearchCV
from skorch import NeuralNetClassifier
from skorch.callbacks import Callback, EarlyStopping
from skorch.dataset import ValidSplit

from tsynd_sk._skorch import scoped_seed
from tsynd_sk._skorch._training import interruptible
from tsynd_sk.autoencoders._net import AutoencoderNet

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def heard():
    """Hear the signal, which what is started in the background of a shell ignores."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


class Interrupt(Callback):
    """Sends the signal of Ctrl-C in an epoch, once; keeps account of epochs."""

    fuse = []
    epochs = []

    def __init__(self, name, moment="on_epoch_begin"):
        self.name = name
        self.moment = moment

    def on_epoch_begin(self, net, **kwargs):
        self.epochs.append((self.name, len(net.history)))
        self._hear("on_epoch_begin", net)

    def on_grad_computed(self, net, named_parameters, **kwargs):
        self._hear("on_grad_computed", net)

    def on_epoch_end(self, net, **kwargs):
        self._hear("on_epoch_end", net)

    def _hear(self, moment, net):
        if moment == self.moment and (self.name, len(net.history)) in self.fuse:
            self.fuse.clear()
            os.kill(os.getpid(), signal.SIGINT)


class Interrupting:
    """An objective that sends the signal at one of its calls, once."""

    calls = []

    def __init__(self, call):
        self.call = call

    def __call__(self, log_probs, y):
        self.calls.append(threading.current_thread())
        if len(self.calls) == self.call:
            os.kill(os.getpid(), signal.SIGINT)
        return log_probs.exp().var(0).sum(-1)

    def __deepcopy__(self, memo):
        return self


@pytest.fixture(autouse=True)
def fuse():
    for calls in (Interrupt.fuse, Interrupt.epochs, Interrupting.calls):
        calls.clear()
    return Interrupt.fuse


def classifier(name="classifier", moment="on_epoch_begin", **params):
    return own_net(**{"max_epochs": 6, "callbacks": [Interrupt(name, moment)], **params})


def autoencoder(moment="on_epoch_begin"):
    callbacks = [Interrupt("autoencoder", moment)]
    return AutoencoderNet(max_epochs=3, epoch_size=64, callbacks=callbacks)


def of_synthesis(moment="on_epoch_begin", **params):
    return synthesizer(
        classifier=classifier(moment=moment),
        autoencoder=autoencoder(moment),
        random_state=0,
        **params,
    )


def of_ensemble(moment="on_epoch_begin"):
    nets = [classifier("first", moment), classifier("second", moment)]
    return of_synthesis().set_params(classifier=nets, autoencoder=autoencoder(moment))


def of_training(moment="on_epoch_begin", **params):
    given = synthesizer(autoencoder=autoencoder(moment))
    return augmented(classifier(moment=moment), given, **params)


def global_state():
    return (
        torch.get_rng_state().tolist(),
        pickle.dumps(np.random.get_state()),  # noqa: NPY002
        signal.getsignal(signal.SIGINT),
    )


def answers(estimator):
    learned = getattr(estimator, "synthesizer_", estimator)
    X_new, y_new, info = learned.sample(12, return_info=True)
    nets = learned.classifier_ if isinstance(learned.classifier_, list) else [learned.classifier_]
    return X_new, y_new, info.uncertainty, *(net.predict_proba(IMAGES) for net in nets)


def assert_same(one, other):
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a, b)


# How to make an estimator, and the epoch in which it is interrupted.
TRAININGS = {
    "classifier": (of_synthesis, ("classifier", 3)),
    "autoencoder": (of_synthesis, ("autoencoder", 2)),
    "second of an ensemble": (of_ensemble, ("second", 2)),
    "estimator, between refreshes": (of_training, ("classifier", 4)),
    "autoencoder in an estimator's training": (of_training, ("autoencoder", 2)),
}


@pytest.mark.parametrize(("make", "place"), TRAININGS.values(), ids=TRAININGS)
class TestTraining:
    @pytest.mark.parametrize("moment", ["on_epoch_begin", "on_grad_computed"])
    def test_ends_at_once_and_leaves_what_was_unfitted_unfitted(self, make, place, moment, fuse):
        undisturbed = answers(make(moment).fit(X, y))
        epochs = list(Interrupt.epochs)
        Interrupt.epochs.clear()
        estimator, before = make(moment), global_state()
        fuse.append(place)
        with pytest.raises(KeyboardInterrupt) as caught:
            estimator.fit(X, y)
        assert not fuse
        assert Interrupt.epochs == epochs[: epochs.index(place) + 1]
        assert global_state() == before
        assert unfitted(estimator)
        assert any("epochs. Estimators are as they were" in note for note in caught.value.__notes__)
        # As if nothing had happened.
        assert_same(answers(estimator.fit(X, y)), undisturbed)

    def test_leaves_an_earlier_fit_whole(self, make, place, fuse):
        estimator = make().fit(X, y)
        before, undisturbed = dict(vars(estimator)), answers(estimator)
        fuse.append(place)
        with pytest.raises(KeyboardInterrupt):
            estimator.fit(X[::-1], y[::-1])
        assert vars(estimator).keys() == before.keys()
        assert all(vars(estimator)[name] is value for name, value in before.items())
        assert_same(answers(estimator), undisturbed)


@pytest.mark.parametrize("n_jobs", [1, 2])
class TestSynthesis:
    @pytest.mark.parametrize("method", ["sample", "synthesize"])
    def test_ends_soon_and_leaves_the_estimator_as_it_is(self, method, n_jobs):
        # Threads may finish the batches at which they are, of the twenty that there are.
        given = synthesizer(
            classifier=own_net(max_epochs=2),
            objective=Interrupting(5),
            n_jobs=n_jobs,
            batch_size=4,
            max_iter=4,
            random_state=0,
        ).fit(X, y)
        attributes = dict(vars(given))

        def call():
            return given.sample(80) if method == "sample" else given.synthesize(X, y)

        before = global_state()
        with pytest.raises(KeyboardInterrupt):
            call()
        assert global_state() == before
        for thread in set(Interrupting.calls) - {threading.main_thread()}:
            thread.join(timeout=10)
        n_calls = len(Interrupting.calls)
        assert n_calls < 45
        assert all(vars(given)[name] is value for name, value in attributes.items())
        first, second = call(), call()
        assert_same(first, second)
        # Nothing of the interrupted call was still at work.
        assert len(Interrupting.calls) >= n_calls + 2 * 20 * 4


def test_a_search_ends(fuse):
    fuse.append(("classifier", 2))
    learned = of_training().set_params(estimator__train_split=None)
    search = GridSearchCV(learned, {"estimator__lr": [0.01, 0.1]}, cv=2, error_score=np.nan)
    with pytest.raises(KeyboardInterrupt):
        search.fit(X, y)
    assert Interrupt.epochs == [("classifier", 1), ("classifier", 2)]
    assert not hasattr(search, "best_params_")


class TestUsersNets:
    """skorch takes Ctrl-C for the wish to train no further; so it is where it trains."""

    @pytest.mark.parametrize(
        ("place", "n_epochs"),
        [(("classifier", 5), 5), (("autoencoder", 2), 2)],
    )
    def test_end_their_training_and_keep_what_they_have_learnt(self, place, n_epochs, fuse):
        fuse.append(place)
        split, before = ValidSplit(4), global_state()
        net = classifier(train_split=split, module__dropout=0.5)
        inside(net, synthesizer(autoencoder=autoencoder()), warm_up=0.1)
        assert len(net.history) == n_epochs
        assert net.train_split is split
        assert "get_iterator" not in net.get_params()
        assert global_state() == before
        assert net.predict_proba(IMAGES).shape == (80, 10)
        with scoped_seed(0):
            net.partial_fit(IMAGES, y)
        assert len(net.history) == n_epochs + 6
        assert [i for i in refreshed(net.history) if i >= n_epochs] == [n_epochs + 1]


class TestNoInterruption:
    def test_early_stopping(self):
        stop = EarlyStopping("train_loss", patience=2, threshold=10)
        learned = of_training().set_params(
            estimator__callbacks=[stop, Interrupt("classifier")],
            synthesizer__autoencoder__callbacks=[stop],
            synthesizer__autoencoder__max_epochs=20,
        )
        learned.fit(X, y)
        assert len(learned.history_) == 3
        assert len(learned.synthesizer_.autoencoder_.history) == 3
        assert learned.predict(X).shape == (80,)

    def test_in_another_thread_nothing_is_heard(self):
        handlers = []

        class Listening(NeuralNetClassifier):
            def fit(self, X, y, **fit_params):
                handlers.append(signal.getsignal(signal.SIGINT))
                return super().fit(X, y, **fit_params)

        before, fitted = signal.getsignal(signal.SIGINT), []
        thread = threading.Thread(
            target=lambda: fitted.append(around(own_net(Listening, max_epochs=2)))
        )
        thread.start()
        thread.join()
        assert len(fitted) == 1
        assert handlers == [before]

    def test_handlers_of_the_users_own_are_called(self, fuse):
        heard = []
        before = signal.signal(signal.SIGINT, lambda *arguments: heard.append(arguments[0]))
        try:
            fuse.append(("classifier", 3))
            learned = of_training().fit(X, y)
            assert signal.getsignal(signal.SIGINT) is not before
        finally:
            signal.signal(signal.SIGINT, before)
        # A handler that raises nothing wants no end.
        assert heard == [signal.SIGINT]
        assert len(learned.history_) == 6


def test_an_interrupt_outlives_another_error():
    """What the signal has broken is no error of its own."""

    def broken():
        with interruptible():
            try:
                os.kill(os.getpid(), signal.SIGINT)
            except KeyboardInterrupt:
                raise RuntimeError("a consequence") from None

    with pytest.raises(KeyboardInterrupt):
        broken()


def test_while_a_net_is_initialised_it_is_an_interruption_too():
    class Interrupted(torch.nn.Module):
        def __init__(self):
            super().__init__()
            signal.raise_signal(signal.SIGINT)

    net = NeuralNetClassifier(Interrupted, max_epochs=3)
    with pytest.raises(KeyboardInterrupt) as caught:
        synthesizer(classifier=net).fit(X, y)
    assert "had trained for 0 epochs" in "".join(caught.value.__notes__)
