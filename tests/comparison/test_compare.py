"""Comparisons as they are made from Python."""

import csv
import json
import threading
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.made_results import made
from helpers.tiny_nets import Recorder, net, own_net
from skorch.callbacks import Callback
from skorch.dataset import ValidSplit

from tsynd_sk.__main__ import main
from tsynd_sk._utils._names import KEPT
from tsynd_sk.comparison import ARMS, Arm, compare
from tsynd_sk.comparison._runs import Runs
from tsynd_sk.synthesis import AugmentedClassifier

pytestmark = pytest.mark.usefixtures("two_corruptions", "no_picture")

FEW = {"max_iter": 2, "n_members": 4}
QUICK = {
    "plain": ARMS["plain"],
    "random": replace(ARMS["random"], synthesizer=FEW),
}


def tiny(**params):
    return net(**{"max_epochs": 2, **params})


def table(out):
    with (out / "results.csv").open(newline="") as file:
        return [
            {k: v for k, v in row.items() if not k.startswith("seconds")}
            for row in csv.DictReader(file)
        ]


@pytest.fixture(scope="module")
def done(data, two_corruptions, no_picture):
    """A comparison of a net with two arms, in two hold-outs."""
    return compare(tiny(), *data, arms=QUICK, n_repeats=2, n_jobs=1)


class TestResult:
    def test_there_is_a_row_for_each_run_and_arm(self, done, data):
        assert [(row["run"], row["arm"]) for row in done.rows] == [
            (run, arm) for run in (0, 1) for arm in QUICK
        ]
        for row in done.rows:
            assert (row["n_train"], row["n_test"], row["epochs"]) == (90, 30, 2)
            assert 0 <= row["roc_auc"] <= 1
            assert 0 <= row["perturbed_balanced_accuracy"] <= 1
            assert row["seconds"] > 0
            assert (row["label_agreement"] is None) == (row["arm"] == "plain")
        assert done.references == {"random": "plain"}
        assert done.n_runs == 2

    def test_scores_follow_from_what_was_predicted(self, done, data):
        for row in done.rows:
            proba = done.probabilities[row["run"], row["arm"]]
            codes = done.codes[done.test_rows[row["run"]]]
            assert proba.shape == (30, 4)
            assert row["nll"] == pytest.approx(
                -np.log(proba[np.arange(30), codes]).mean(), rel=1e-5
            )

    def test_all_arms_take_as_many_steps(self, done):
        assert len({row["steps"] for row in done.rows}) == 1

    def test_another_primary_score_needs_no_training(self, done):
        other = replace(done, primary="nll")
        assert other.differences()[0].score == "nll"
        assert "NLL" in other.summary()
        assert str(other) == other.summary()
        assert done.differences()[0].score == "roc_auc"

    def test_is_a_table_of_pandas(self, done):
        frame = done.to_frame()
        assert len(frame) == 4
        assert {"run", "arm", "roc_auc", "nll", "seconds"} <= set(frame.columns)

    def test_is_drawn(self):
        display = made({"standard": 0.6}).plot()
        assert display.ax_.get_xlabel() == "difference in ROC AUC"
        assert len(display.ax_.get_yticklabels()) == 3
        assert made().plot("perturbed_nll").ax_.get_xlabel() == "difference in perturbed nll"

    def test_makes_an_arm_to_be_fitted_on_everything(self, done, data):
        winner = done.make_estimator("random", random_state=3)
        assert isinstance(winner, AugmentedClassifier)
        assert winner.random_state == 3
        assert winner.estimator.max_epochs == 2
        assert winner.fit(*data).predict_proba(data[0][:5]).shape == (5, 4)
        with pytest.raises(KeyError, match="magic"):
            done.make_estimator("magic")

    def test_the_arms_epochs_count_the_steps_of_all_images(self, data):
        estimator = net(max_epochs="auto", batch_size=40)
        result = made(base=estimator, options={"n_classes": 4, "max_epochs": 7})
        assert result.make_estimator("standard").estimator.max_epochs == 7
        assert estimator.max_epochs == "auto"


class TestBudget:
    def test_equal_initial_weights_in_a_run_and_others_in_the_next(self, data):
        starts = {}

        class Noting(Recorder):
            def on_train_begin(self, net, **kwargs):
                starts.setdefault(
                    len(starts), [p.detach().clone() for p in net.module_.parameters()]
                )

        compare(
            own_net(module__n_out=4, max_epochs=2, train_split=None, callbacks=[Noting()]),
            *data,
            arms=QUICK,
            n_repeats=2,
            n_jobs=1,
        )
        one, two, three, four = (starts[k] for k in list(starts)[-4:])
        for a, b in ((one, two), (three, four)):
            assert all(torch.equal(x, z) for x, z in zip(a, b, strict=True))
        assert not torch.equal(one[0], three[0])

    def test_other_arms_do_not_change_results(self, done, data):
        alone = compare(tiny(), *data, arms={"random": QUICK["random"]}, n_repeats=1, n_jobs=1)
        for arm in QUICK:
            np.testing.assert_array_equal(alone.probabilities[0, arm], done.probabilities[0, arm])

    @pytest.mark.slow
    def test_processes_do_not_change_results(self, done, data):
        again = compare(tiny(), *data, arms=QUICK, n_repeats=2, n_jobs=2)
        for pair, proba in done.probabilities.items():
            np.testing.assert_array_equal(again.probabilities[pair], proba)

    def test_the_next_seed_is_the_next_run(self, done, data):
        later = compare(tiny(), *data, arms=["plain"], n_repeats=1, n_jobs=1, random_state=1)
        np.testing.assert_array_equal(
            later.probabilities[0, "plain"], done.probabilities[1, "plain"]
        )


class TestLabels:
    def test_may_be_strings(self, data, done):
        names = np.array(["a", "b", "c", "d"])[data[1]]
        result = compare(tiny(), data[0], names, arms=["plain"], n_repeats=1, n_jobs=1)
        assert result.classes.tolist() == ["a", "b", "c", "d"]
        assert result.classes[result.codes].tolist() == names.tolist()
        np.testing.assert_array_equal(result.test_rows[0], done.test_rows[0])
        assert "of a, b, c, d: a single image moves" in result.verdict

    def test_a_class_that_training_and_test_lack_has_no_probability(self, data):
        rows = np.flatnonzero(data[1] != 2)
        pairs = [(rows[20:], rows[:20])]
        arms = {**QUICK, "mixup": ARMS["mixup"]}
        result = compare(tiny(), *data, arms=arms, cv=pairs, n_repeats=1, n_jobs=1)
        for arm in arms:
            proba = result.probabilities[0, arm]
            assert (proba[:, 2] == 0).all()
            np.testing.assert_allclose(proba.sum(1), 1, rtol=1e-5)
        assert len({row["steps"] for row in result.rows}) == 1

    def test_a_test_part_of_one_class_has_no_auc(self, data):
        pairs = [(np.arange(60), 60 + np.flatnonzero(data[1][60:] == 0))]
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            result = compare(tiny(), *data, arms=QUICK, cv=pairs, n_repeats=2, n_jobs=1)
            assert "There is no ROC AUC" in result.summary()


class TestNets:
    @pytest.mark.parametrize("split", [None, ValidSplit(3)])
    def test_any_skorch_classifier_is_trained_as_it_is(self, data, split):
        estimator = own_net(module__n_out=4, max_epochs=2, batch_size=7, train_split=split)
        result = compare(estimator, *data, arms=QUICK, n_repeats=1, n_jobs=1)
        row = result.rows[0]
        # Steps are those of training alone.
        n_rows = 90 if split is None else 60
        assert row["steps"] >= 2 * -(-n_rows // 7)
        assert row["steps"] < 2 * -(-n_rows // 7) + 12
        assert row["epochs"] == 2
        assert not estimator.initialized_

    def test_callbacks_may_be_disabled(self, data):
        estimator = tiny(callbacks="disable")
        result = compare(estimator, *data, arms=["plain"], n_repeats=1, n_jobs=1)
        assert result.rows[0]["converged"] in (True, False)


class TestFolders:
    def test_more_repeats_and_arms_may_join(self, data, tmp_path, done, monkeypatch):
        out = tmp_path / "grown"
        compare(tiny(), *data, arms=["plain"], n_repeats=1, n_jobs=1, out=str(out))
        trained, train = [], Runs._train

        def noted(self, *pair):
            trained.append(pair)
            return train(self, *pair)

        monkeypatch.setattr(Runs, "_train", noted)
        result = compare(tiny(), *data, arms=QUICK, n_repeats=2, n_jobs=1, out=out)
        assert trained == [(0, "random"), (1, "plain"), (1, "random")]
        for pair, proba in done.probabilities.items():
            np.testing.assert_array_equal(result.probabilities[pair], proba)
        assert [row["arm"] for row in table(out)] == ["plain", "random"] * 2
        # From there on it is only read.
        again = compare(tiny(), *data, arms=QUICK, n_repeats=2, n_jobs=1, out=out, scoring="nll")
        assert len(trained) == 3
        assert list(again.rows) == list(result.rows)
        report = (out / "report.html").read_text("utf-8")
        assert "NLL on clean images" in report
        assert "n_repeats=2, scoring=&#39;nll&#39;, n_jobs=1, out=" in report
        assert [len(losses) for losses in again.losses.values()] == [2] * 4
        with pytest.raises(ValueError, match=r"arms\.random: .* You may add seeds and arms\."):
            compare(tiny(), *data, arms=["plain"], n_repeats=2, out=out)
        with pytest.raises(ValueError, match=r"net\.NetClassifier\.lr"):
            compare(tiny(lr=0.5), *data, arms=QUICK, n_repeats=2, out=out)
        with pytest.raises(ValueError, match="images"):
            compare(tiny(), 1 - data[0], data[1], arms=QUICK, n_repeats=2, out=out)
        other = {**QUICK, "random": replace(QUICK["random"], synthesizer={**FEW, "radius": 0.3})}
        with pytest.raises(ValueError, match=r"arms\.random\.synthesizer\.radius: None -> 0\.3"):
            compare(tiny(), *data, arms=other, n_repeats=2, out=out)
        assert len(trained) == 3

    def test_other_defaults_are_not_mixed_in(self, data, tmp_path):
        compare(tiny(), *data, arms=["plain"], n_repeats=1, n_jobs=1, out=tmp_path)
        path = tmp_path / "settings.json"
        settings = json.loads(path.read_text())
        settings["defaults"]["TargetedSynthesizer.radius"] = "9.0"
        path.write_text(json.dumps(settings))
        with pytest.raises(ValueError, match=r"defaults\.TargetedSynthesizer\.radius: '9\.0' ->"):
            compare(tiny(), *data, arms=["plain"], n_repeats=1, out=tmp_path)

    def test_arms_of_any_name_have_files(self, data, tmp_path):
        arms = {"../half": Arm(classifier={"synthetic_ratio": 0.5})}
        result = compare(tiny(), *data, arms=arms, n_repeats=1, n_jobs=1, out=tmp_path)
        assert list(result.probabilities) == [(0, "../half")]
        assert len(list((tmp_path / "runs").iterdir())) == 2

    def test_a_failing_run_leaves_the_others(self, data, tmp_path, monkeypatch):
        make = Arm.make_classifier

        def fail(self, *args, **kwargs):
            if self.objective and "random_state" in kwargs:
                raise RuntimeError("no space")
            return make(self, *args, **kwargs)

        monkeypatch.setattr(Arm, "make_classifier", fail)
        with pytest.raises(RuntimeError, match="no space"):
            compare(tiny(), *data, arms=QUICK, n_repeats=1, n_jobs=1, out=tmp_path)
        assert [row["arm"] for row in table(tmp_path)] == ["plain"]


class TestOwnAugmentations:
    def test_are_arms_alone_and_under_synthesis(self, data):
        seen = set()

        def noted(image):
            seen.add((image.dtype, tuple(image.shape)))
            return image / 2

        arms = {"own": Arm(noted), "own+random": Arm(noted, "random", FEW)}
        result = compare(tiny(), *data, arms=arms, n_repeats=1, n_jobs=1)
        assert seen == {(torch.float32, (1, 8, 8))}
        assert result.references == {"own+random": "own"}

    def test_flips_are_the_data_sets_business(self, data):
        scores = [
            compare(tiny(), *data, arms=["standard"], n_repeats=1, n_jobs=1, flip=flip).rows[0][
                "nll"
            ]
            for flip in (True, False)
        ]
        assert scores[0] != scores[1]


@pytest.fixture(scope="module")
def attacked(data, two_corruptions):
    pytest.importorskip("art")
    nets = {"plain": {"lr": 0.01}, "adversarial": {"lr": 0.01, "eps": 48 / 255}}
    arms = {name: replace(ARMS[name], net=each) for name, each in nets.items()}
    eps = (48 / 255, 0.5 / 255)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return compare(
            tiny(max_epochs=30), *data, arms=arms, n_repeats=1, eps=eps, n_attacked=20, n_jobs=1
        )


class Warns(Callback):
    def on_train_begin(self, net, **kwargs):
        warnings.warn("as every training does", UserWarning, stacklevel=2)


@pytest.mark.parametrize("n_jobs", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_what_all_trainings_warn_of_is_said_once(data, n_jobs):
    with pytest.warns(UserWarning, match="every training") as caught:
        compare(tiny(callbacks=[Warns()]), *data, arms=QUICK, n_repeats=2, n_jobs=n_jobs)
    assert [str(each.message) for each in caught] == ["as every training does"]


class TestAttacks:
    def test_there_is_a_column_for_each_strength(self, attacked):
        for row in attacked.rows:
            strong, weak = row["pgd_48_accuracy"], row["pgd_0.5_accuracy"]
            assert 0 <= strong <= weak <= 1
            # Twenty images were attacked.
            assert strong * 20 == pytest.approx(round(strong * 20))
            assert row["gradient_masking"] == ""
            assert 0 <= row["pgd_48_balanced_accuracy"] <= 1
        assert "48/255" in attacked.summary()

    def test_attacks_mislead_and_training_on_them_helps(self, attacked):
        plain, adversarial = (row["pgd_48_accuracy"] for row in attacked.rows)
        assert plain < attacked.rows[0]["pgd_0.5_accuracy"] - 0.1
        assert adversarial > plain


def test_callbacks_share_what_cannot_be_copied(data):
    told = []

    class Tracker(Callback):
        def __init__(self):
            self.lock, self.told = threading.Lock(), told

        def on_train_end(self, net, **kwargs):
            self.told.append(len(net.history))

    compare(tiny(callbacks=[Tracker()]), *data, arms=QUICK, n_repeats=1, n_jobs=1)
    assert told == [2] * len(QUICK)


def test_an_error_in_a_training_says_what_is_kept(data, tmp_path, monkeypatch):
    def fail(self, *pair):
        raise ValueError("diverged")

    monkeypatch.setattr(Runs, "_train", fail)
    notes = {}
    for out in (None, tmp_path / "out"):
        with pytest.raises(ValueError, match="diverged") as caught:
            compare(tiny(), *data, arms=["plain"], n_repeats=1, n_jobs=1, out=out)
        notes[out] = getattr(caught.value, "__notes__", [])
    assert notes == {None: [], tmp_path / "out": [KEPT]}
    arguments = ["--n-train", "20", "--epochs", "1", "--seeds", "1", "--arms", "plain"]
    assert main([*arguments, "--n-jobs", "1", "--out", str(tmp_path / "other")]) == 1


def test_synthetic_images_are_shown_where_they_are_kept(data, tmp_path, monkeypatch):
    shown = []
    monkeypatch.setattr(
        "tsynd_sk.comparison._runs.sample_synthesis", lambda *arguments: shown.append(arguments)
    )
    for out in (None, tmp_path / "out"):
        result = compare(tiny(), *data, arms=QUICK, n_repeats=1, n_jobs=1, out=out)
        assert len(shown) == (out is not None)
        assert not result.samples
