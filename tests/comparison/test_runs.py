"""What each run tells of its training: whether it converged, steps, how long all will take."""

import threading
from dataclasses import replace

import numpy as np
import pytest
from helpers.tiny_nets import X, net, own_net, y
from skorch.callbacks import Callback

from tsynd_sk.comparison import ARMS
from tsynd_sk.comparison._runs import Run, Runs, Scoring, in_words, is_converged, n_epochs
from tsynd_sk.images import ImageFormat, ValueRange


class TestConvergence:
    @pytest.mark.parametrize(
        ("losses", "converged"),
        [
            (np.geomspace(1, 0.1, 20), False),
            (np.linspace(1, 0.5, 100), True),
            (np.linspace(1, 0.0, 100), False),
            (np.full(30, 0.7), True),
            (np.linspace(0.5, 1.0, 30), True),
            ([1.0], False),
            ([1.0, 0.8], False),
            ([1.0, 0.95], True),
            # Next to nothing, though it halves.
            ([0.004, 0.002], True),
            ([], False),
        ],
    )
    def test_loss_falls_by_less_than_a_tenth_over_the_last_tenth(self, losses, converged):
        assert is_converged(losses) == converged

    def test_scatter_does_not_matter(self):
        noise = 0.05 * np.random.default_rng(0).normal(size=200)
        assert is_converged(0.5 + noise)
        assert not is_converged(np.geomspace(2, 0.1, 200) * (1 + noise))


def plan(arms=("plain", "smote", "mutual_info"), estimator=None, **params):
    arms = {name: ARMS[name] for name in arms}
    run = Run(0, np.arange(60), np.arange(60, 80))
    estimator = net(max_epochs=4) if estimator is None else estimator
    names = [str(k) for k in range(10)]
    image_format = ImageFormat.infer(X)
    seen = (X, image_format, ValueRange.of(X, image_format), y, names)
    return Runs(*seen, estimator, arms, [run], Scoring(), True, 1)


class TestDuration:
    def test_image_passes_count_further_rows_and_synthesis(self):
        made = plan()
        classifier = ARMS["mutual_info"].make_classifier(net(), n_classes=10, max_epochs=4)
        ratio, after = classifier.synthetic_ratio, 4 - round(4 * classifier.warm_up)
        assert made.image_passes("plain") == round(60 * (4 + ratio * after))
        assert made.image_passes("smote") == made.image_passes("plain")
        refreshes = -(-after // classifier.refresh_every)
        further = refreshes * ratio * 60 * classifier.synthesizer.max_iter
        assert made.image_passes("mutual_info") == round(60 * (4 + ratio * after) + further)
        # Without an ascent, an image passes once.
        arms = {n: replace(ARMS[n], synthesizer={"max_iter": 3}) for n in ("random", "entropy")}
        moving, climbing = (
            replace(made, arms=arms).image_passes(name) - made.image_passes("plain")
            for name in arms
        )
        assert climbing == 3 * moving > 0

    @pytest.mark.parametrize(
        ("seconds", "text"),
        [
            (0.2, "10 seconds"),
            (44, "40 seconds"),
            (100, "2 minutes"),
            (3000, "50 minutes"),
            (9000, "2.5 hours"),
        ],
    )
    def test_is_said_in_round_numbers(self, seconds, text):
        assert in_words(seconds) == text

    def test_is_measured(self):
        assert plan().duration(1) == "about 10 seconds"
        assert plan().duration(10**9).endswith("hours")

    def test_of_a_net_that_does_not_train_is_not_known(self):
        made = plan(estimator=own_net(module__n_out=3))
        assert made.duration(1) == "its duration is not known"


class TestEpochs:
    def test_are_those_of_the_net_unless_it_counts_steps(self):
        assert n_epochs(own_net(max_epochs=7), 100) == 7
        assert n_epochs(net(max_epochs=7), 100) == 7
        few, many = (n_epochs(net(max_epochs="auto"), n) for n in (100, 400))
        assert few * 7 == pytest.approx(many * 25, rel=0.02)

    def test_ranges_of_values_are_those_of_the_images(self):
        options = plan().options(60)
        assert (options["low"], options["high"], options["n_classes"]) == (0.0, 1.0, 10)


def test_the_users_callbacks_know_nothing_of_an_estimate():
    told = []

    class Tracker(Callback):
        def __init__(self):
            # As a tracker's run, it cannot be copied.
            self.lock = threading.Lock()

        def on_epoch_end(self, net, **kwargs):
            told.append(net)

    tracked = net(max_epochs=4, callbacks=[Tracker()])
    assert plan(estimator=tracked).duration(1) == "about 10 seconds"
    assert not told
