"""Arms of a comparison: what each says, and that all cost as many rows and steps."""

import json
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from helpers.tiny_nets import LABELS, Recorder, X, recorder_of, row_set, y
from sklearn.frozen import FrozenEstimator

from tsynd_sk.autoencoders import AutoencoderNet
from tsynd_sk.comparison import ARMS, AUGMENTATIONS, DEFAULT_ARMS, Arm

EPOCHS, N = 8, 30
# One arm of each kind; other objectives cost the same steps.
KINDS = ("plain", *AUGMENTATIONS, "random", "standard+random", "standard+duplicate")
TINY_SYNTHESIS = {"n_members": 4, "max_iter": 2}


@pytest.fixture(scope="module")
def autoencoder():
    return FrozenEstimator(AutoencoderNet(max_epochs=1, epoch_size=64).fit(X[:N, None]))


def tiny(arm, **net):
    synthesis = {**TINY_SYNTHESIS, **arm.synthesizer} if arm.objective else {}
    return replace(arm, synthesizer=synthesis, net={"module__width": 4, **arm.net, **net})


def trained(arm, autoencoder, images=X[:N], labels=y[:N], **params):
    classifier = arm.make_classifier(
        images,
        labels,
        max_epochs=EPOCHS,
        autoencoder=autoencoder,
        callbacks=[Recorder()],
        random_state=0,
        **params,
    )
    return classifier.fit(images, labels)


def batches(classifier):
    return [[b["train_batch_size"] for b in epoch["batches"]] for epoch in classifier.history_]


def rows_of(classifier):
    """Rows of its last epoch."""
    return recorder_of(classifier.estimator_).rows(-1)


@pytest.fixture(scope="module")
def classifiers(autoencoder):
    return {name: trained(tiny(ARMS[name]), autoencoder) for name in KINDS}


class TestBudget:
    @pytest.mark.parametrize("name", KINDS)
    def test_all_arms_take_as_many_steps_on_as_many_rows(self, name, classifiers):
        assert batches(classifiers[name]) == [[16, 14]] * 2 + [[16, 16, 13]] * 6

    @pytest.mark.parametrize("name", ["smote", "random"])
    @pytest.mark.parametrize("how", ["apart", "mixed"])
    def test_further_rows_come_in_batches_as_synthetic_ones_do(self, name, how, autoencoder):
        arm = replace(tiny(ARMS[name], batch_size=15), classifier={"batches": how})
        recorder, real = recorder_of(trained(arm, autoencoder).estimator_), row_set(X[:N, None])
        n_real = [len(row_set(rows.numpy()) & real) for rows, _ in recorder.train_[-1]]
        assert sum(n_real) == N
        assert (sorted(n_real) == [0, 15, 15]) == (how == "apart")

    def test_all_arms_start_from_the_same_network(self, classifiers):
        starts = [recorder_of(made.estimator_).weights_ for made in classifiers.values()]
        assert len(starts) == len(KINDS)
        for start in starts[1:]:
            assert all(torch.equal(a, b) for a, b in zip(start, starts[0], strict=True))

    @pytest.mark.parametrize("name", ["plain", "smote", "random"])
    def test_what_is_said_of_the_classifier_holds_with_and_without_synthesis(
        self, name, autoencoder
    ):
        arm = tiny(ARMS[name], batch_size=50)
        later = replace(arm, classifier={"warm_up": 0.5, "synthetic_ratio": 0.6})
        assert batches(trained(later, autoencoder)) == [[30]] * 4 + [[48]] * 4
        never = replace(arm, classifier={"synthetic_ratio": 0})
        assert batches(trained(never, autoencoder)) == [[30]] * 8

    def test_smote_is_renewed_as_often_as_what_is_synthesised(self, autoencoder):
        arm = replace(tiny(ARMS["smote"]), classifier={"refresh_every": 2})
        recorder = recorder_of(trained(arm, autoencoder).estimator_)
        seen = [row_set(recorder.rows(epoch)) for epoch in range(2, EPOCHS)]
        assert [a == b for a, b in pairwise(seen)] == [True, False, True, False, True]

    def test_equal_seeds_train_alike(self, autoencoder, classifiers):
        for name in ("mixup", "trivial_augment", "smote", "adversarial", "standard+random"):
            again = trained(tiny(ARMS[name]), autoencoder)
            np.testing.assert_array_equal(
                again.predict_proba(X), classifiers[name].predict_proba(X)
            )


class TestWhatArmsTrainOn:
    def test_plain_sees_every_second_image_twice(self, classifiers):
        rows = rows_of(classifiers["plain"])[:, 0]
        found, counts = np.unique(rows.reshape(len(rows), -1), axis=0, return_counts=True)
        assert row_set(found) == row_set(X[:N].reshape(N, -1))
        assert sorted(counts) == [1] * (N // 2) + [2] * (N // 2)

    @pytest.mark.parametrize("name", ["standard", "trivial_augment", "standard+duplicate"])
    def test_further_rows_are_augmented_independently(self, name, classifiers):
        rows = rows_of(classifiers[name])
        # The mildest of TrivialAugment's operations do nothing at all.
        assert len(row_set(rows)) > 1.5 * N - (15 if name == "trivial_augment" else 1)
        assert len(row_set(rows) - row_set(X[:N, None])) >= 0.75 * N

    def test_synthetic_rows_are_augmented_too(self, classifiers):
        bare, moved = (
            row_set(rows_of(classifiers[name])) for name in ("random", "standard+random")
        )
        assert len(bare & row_set(X[:N, None])) == N
        assert not moved & row_set(X[:N, None])

    def test_flips_are_left_out_where_they_do_not_suit(self):
        # A bright left half, which at most 15 degrees do not bring to the right.
        images, labels = np.zeros((N, 8, 8), np.float32), np.arange(N) % 2
        images[:, :, :3] = 1
        sides = {}
        for flip in (True, False):
            rows = rows_of(trained(tiny(ARMS["standard"]), None, images, labels, flip=flip))
            sides[flip] = rows[..., 4:].sum((1, 2, 3)) > rows[..., :4].sum((1, 2, 3))
        assert 0.2 < sides[True].mean() < 0.8
        assert not sides[False].any()

    @pytest.mark.parametrize("name", ["standard", "trivial_augment", "adversarial"])
    def test_images_of_any_range_keep_it(self, name):
        images = 600 * X[:N] - 1000
        rows = rows_of(trained(tiny(ARMS[name]), None, images))
        assert rows.min() >= images.min() - 1e-2
        assert rows.max() <= images.max() + 1e-2
        # As in [0, 1], where what is moved in is black.
        assert abs(rows.mean() - images.mean()) < 100


class TestDefinition:
    def test_there_are_the_arms_that_were_asked_for(self):
        augmentations = ("standard", "trivial_augment")
        objectives = ["duplicate", "random", "entropy", "mutual_info"]
        combined = [f"{first}+{second}" for first in augmentations for second in objectives]
        assert list(ARMS) == ["plain", *AUGMENTATIONS, *objectives, *combined]
        assert ARMS["plain"] == Arm()
        assert ARMS["trivial_augment+random"] == Arm("trivial_augment", "random")
        assert set(DEFAULT_ARMS) <= set(ARMS)
        assert "standard+mutual_info" in DEFAULT_ARMS

    def test_what_is_not_said_is_left_out(self):
        assert ARMS["plain"].definition() == {}
        assert Arm(**ARMS["standard+random"].definition()) == ARMS["standard+random"]
        assert ARMS["entropy"].definition() == {"objective": "entropy"}
        assert len({json.dumps(arm.definition()) for arm in ARMS.values()}) == len(ARMS)

    def test_parameters_reach_their_estimators(self):
        arm = Arm(
            "adversarial",
            "random",
            synthesizer={"radius": 0.25},
            classifier={"warm_up": 0.5},
            net={"module__dropout": 0.5, "eps": 0.1},
            autoencoder={"module__n_components": 8},
        )
        classifier = arm.make_classifier(X, y, max_epochs=3, random_state=4)
        assert (classifier.warm_up, classifier.random_state) == (0.5, 4)
        assert (classifier.synthesizer.radius, classifier.synthesizer.objective) == (0.25, "random")
        assert classifier.estimator.get_params()["module__dropout"] == 0.5
        assert (classifier.estimator.eps, classifier.estimator.max_epochs) == (0.1, 3)
        assert classifier.synthesizer.autoencoder.get_params()["module__n_components"] == 8

    def test_an_arm_without_a_given_autoencoder_trains_its_own(self):
        arm = replace(tiny(ARMS["random"]), autoencoder={"epoch_size": 64})
        classifier = arm.make_classifier(X, LABELS[:80], max_epochs=4, random_state=0).fit(X, y)
        assert classifier.synthesizer_.autoencoder_.epoch_size == 64
        assert [len(row["batches"]) for row in classifier.history_] == [5, 8, 8, 8]


class TestWrongArms:
    @pytest.mark.parametrize(
        ("params", "message"),
        [
            (
                {"augmentation": "cutmix"},
                "augmentation must be None or one of standard",
            ),
            ({"objective": abs}, "objective must be None or one of duplicate"),
            ({"objective": "reconstruction"}, "give objective='duplicate', or keep_detail=False"),
            ({"augmentation": "smote", "objective": "random"}, "choose one"),
            ({"synthesizer": {"radius": 1}}, "no effect without an objective"),
            ({"unlabelled": True}, "no effect without an objective"),
            ({"objective": "random", "synthesizer": {"radios": 1}}, "'radios'"),
            ({"objective": "random", "synthesizer": {"radius": -1}}, "'radius'"),
            ({"classifier": {"warm_up": 2}}, "'warm_up'"),
            ({"net": {"max_epochs": 2}}, "decides"),
            ({"net": {"eps": 0.1}}, "'eps'"),
        ],
    )
    def test_are_refused_when_they_are_made(self, params, message):
        with pytest.raises(ValueError, match=message):
            Arm(**params)
