"""Arms of a comparison: what each says, and that all cost as many rows and steps."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from helpers.tiny_nets import Recorder, X, net, own_net, recorder_of, row_set, y
from sklearn.base import clone
from skorch.callbacks import PassthroughScoring
from torch import nn

from tsynd_sk.classifiers import NetClassifier
from tsynd_sk.comparison import ARMS, AUGMENTATIONS, DEFAULT_ARMS, Arm
from tsynd_sk.comparison._arms import check_arms, check_net, with_twins

EPOCHS, N = 8, 30
# One arm of each kind; other objectives cost the same steps.
KINDS = ("plain", *AUGMENTATIONS, "random", "standard+random", "standard+duplicate")
TINY_SYNTHESIS = {"n_members": 4, "max_iter": 2}


def tiny(arm, **net):
    synthesis = {**TINY_SYNTHESIS, **arm.synthesizer} if arm.objective else {}
    return replace(arm, synthesizer=synthesis, net={"module__width": 4, **arm.net, **net})


def trained(arm, images=X[:N], labels=y[:N], estimator=None, **params):
    estimator = net() if estimator is None else clone(estimator)
    estimator.set_params(callbacks=[*(estimator.callbacks or ()), Recorder()])
    classifier = arm.make_classifier(
        estimator,
        n_classes=10,
        max_epochs=EPOCHS,
        low=float(images.min()),
        high=float(images.max()),
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
def classifiers():
    return {name: trained(tiny(ARMS[name])) for name in KINDS}


class TestBudget:
    @pytest.mark.parametrize("name", KINDS)
    def test_all_arms_take_as_many_steps_on_as_many_rows(self, name, classifiers):
        assert batches(classifiers[name]) == [[16, 14]] * 2 + [[16, 16, 13]] * 6

    @pytest.mark.parametrize("name", ["smote", "random"])
    @pytest.mark.parametrize("how", ["apart", "mixed"])
    def test_further_rows_come_in_batches_as_synthetic_ones_do(self, name, how):
        arm = replace(tiny(ARMS[name], batch_size=15), classifier={"batches": how})
        recorder, real = recorder_of(trained(arm).estimator_), row_set(X[:N, None])
        n_real = [len(row_set(rows.numpy()) & real) for rows, _ in recorder.train_[-1]]
        assert sum(n_real) == N
        assert (sorted(n_real) == [0, 15, 15]) == (how == "apart")

    def test_all_arms_start_from_the_same_network(self, classifiers):
        starts = [recorder_of(made.estimator_).weights_ for made in classifiers.values()]
        assert len(starts) == len(KINDS)
        for start in starts[1:]:
            assert all(torch.equal(a, b) for a, b in zip(start, starts[0], strict=True))

    @pytest.mark.parametrize("name", ["plain", "smote", "random"])
    def test_what_is_said_of_the_classifier_holds_with_and_without_synthesis(self, name):
        arm = tiny(ARMS[name], batch_size=50)
        later = replace(arm, classifier={"warm_up": 0.5, "synthetic_ratio": 0.6})
        assert batches(trained(later)) == [[30]] * 4 + [[48]] * 4
        never = replace(arm, classifier={"synthetic_ratio": 0})
        assert batches(trained(never)) == [[30]] * 8

    def test_smote_is_renewed_as_often_as_what_is_synthesised(self):
        arm = replace(tiny(ARMS["smote"]), classifier={"refresh_every": 2})
        recorder = recorder_of(trained(arm).estimator_)
        seen = [row_set(recorder.rows(epoch)) for epoch in range(2, EPOCHS)]
        assert [a == b for a, b in pairwise(seen)] == [True, False, True, False, True]

    def test_equal_seeds_train_alike(self, classifiers):
        for name in ("mixup", "trivial_augment", "smote", "adversarial", "standard+random"):
            again = trained(tiny(ARMS[name]))
            np.testing.assert_array_equal(
                again.predict_proba(X), classifiers[name].predict_proba(X)
            )

    @pytest.mark.parametrize("even", [True, False])
    def test_twins_even_classes_out_alike(self, even):
        labels = np.arange(N) % 2 if even else (np.arange(N) > 20).astype(int)
        arm = replace(tiny(ARMS["random"]), classifier={"synthetic_ratio": "balanced"})
        both = [trained(each, labels=labels) for each in (arm, arm.without_synthesis())]
        assert batches(both[0]) == batches(both[1])
        last = [np.bincount(recorder_of(each.estimator_).targets(-1)) for each in both]
        assert (last[0] == last[1]).all()
        assert last[1][0] == last[1][1]


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
            rows = rows_of(trained(tiny(ARMS["standard"]), images, labels, flip=flip))
            sides[flip] = rows[..., 4:].sum((1, 2, 3)) > rows[..., :4].sum((1, 2, 3))
        assert 0.2 < sides[True].mean() < 0.8
        assert not sides[False].any()

    @pytest.mark.parametrize("name", ["standard", "trivial_augment", "adversarial"])
    def test_images_of_any_range_keep_it(self, name):
        images = 600 * X[:N] - 1000
        rows = rows_of(trained(tiny(ARMS[name]), images))
        assert rows.min() >= images.min() - 1e-2
        assert rows.max() <= images.max() + 1e-2
        # As in [0, 1], where what is moved in is black.
        assert abs(rows.mean() - images.mean()) < 100

    def test_own_augmentations_get_one_image_each(self):
        seen = []

        def halved(image):
            seen.append((image.dtype, tuple(image.shape)))
            return image / 2

        for arm in (Arm(halved), Arm(halved, "random")):
            rows = rows_of(trained(tiny(arm)))
            assert set(seen) == {(torch.float32, (1, 8, 8))}
            assert 0.4 < rows.max() <= 0.5
        assert len(row_set(rows) & row_set(X[:N, None] / 2)) == N

    def test_errors_in_own_augmentations_name_the_image(self):
        def broken(image):
            raise KeyError("x")

        message = r"broken fails on an image of shape \(1, 8, 8\) and dtype torch.float32: KeyErr"
        with pytest.raises(ValueError, match=message):
            trained(tiny(Arm(broken)))


class TestDefinition:
    def test_there_are_the_arms_that_were_asked_for(self):
        augmentations = ("standard", "trivial_augment")
        objectives = ["duplicate", "random", "entropy", "mutual_info"]
        combined = [f"{first}+{second}" for first in augmentations for second in objectives]
        assert list(ARMS) == ["plain", *AUGMENTATIONS, *objectives, *combined]
        assert ARMS["plain"] == Arm()
        assert ARMS["trivial_augment+random"] == Arm("trivial_augment", "random")
        assert set(DEFAULT_ARMS) <= set(ARMS)

    def test_parameters_reach_their_estimators(self):
        arm = Arm(
            "adversarial",
            "random",
            synthesizer={"radius": 0.25},
            classifier={"warm_up": 0.5},
            net={"module__dropout": 0.5, "eps": 0.1},
            autoencoder={"module__n_components": 8},
        )
        classifier = arm.make_classifier(n_classes=10, max_epochs=3, random_state=4)
        assert (classifier.warm_up, classifier.random_state) == (0.5, 4)
        assert (classifier.synthesizer.radius, classifier.synthesizer.objective) == (0.25, "random")
        assert classifier.estimator.get_params()["module__dropout"] == 0.5
        assert (classifier.estimator.eps, classifier.estimator.max_epochs) == (0.1, 3)
        assert classifier.synthesizer.autoencoder.get_params()["module__n_components"] == 8

    def test_an_estimator_stays_as_it_was(self):
        given = net(max_epochs=7)
        made = ARMS["standard"].make_classifier(given, n_classes=10, max_epochs=3).estimator
        assert made is not given
        assert (given.max_epochs, made.max_epochs, made.get_params()["module__width"]) == (7, 3, 4)
        assert "iterator_train__collate_fn" not in given.get_params()

    def test_the_same_network_trains_on_attacks(self):
        given = net(lr=0.5, batch_size=3)
        made = ARMS["adversarial"].make_classifier(given, n_classes=10, max_epochs=3, low=-1.0)
        made = made.estimator
        assert (made.lr, made.batch_size, made.get_params()["module__width"]) == (0.5, 3, 4)
        assert (made.low, made.high) == (-1.0, 1.0)

    def test_skorch_classifiers_keep_their_callbacks(self):
        given = net(callbacks=[("own", PassthroughScoring("train_loss"))])
        made = ARMS["plain"].make_classifier(given, n_classes=10, max_epochs=1)
        assert [name for name, _ in made.estimator.callbacks] == ["own"]


class TestTwins:
    def test_each_synthesis_is_compared_with_its_augmentation(self):
        names = ("plain", "standard", "standard+random", "random")
        arms, references = with_twins({name: ARMS[name] for name in names})
        assert set(arms) == set(names)
        assert references == {"standard": "plain", "standard+random": "standard", "random": "plain"}

    def test_those_that_are_missing_join(self):
        arms, references = with_twins({"standard+mutual_info": ARMS["standard+mutual_info"]})
        assert list(arms) == ["standard", "standard+mutual_info"]
        assert references == {"standard+mutual_info": "standard"}

    def test_a_twin_is_looked_for_among_the_arms_first(self):
        mine = {"nothing": Arm(), "drawn": Arm(objective="random")}
        arms, references = with_twins(mine)
        assert arms == mine
        assert references == {"drawn": "nothing"}

    def test_own_augmentations_have_twins_too(self):
        arms, references = with_twins({"own+random": Arm(abs, "random")})
        assert references == {"own+random": "own"}
        assert arms["own"] == Arm(abs)
        _, references = with_twins({"own": Arm(abs, "random")})
        assert references == {"own": "own, without synthesis"}

    def test_a_twin_has_the_same_net_and_budget(self):
        net, classifier = {"lr": 0.1}, {"warm_up": 0.5}
        arm = Arm("standard", "random", {"radius": 1}, classifier, net)
        assert arm.without_synthesis() == Arm("standard", classifier=classifier, net=net)

    def test_plain_comes_first(self):
        names = ("standard+random", "standard", "plain")
        arms, references = with_twins({name: ARMS[name] for name in names})
        assert list(arms) == ["plain", "standard", "standard+random"]
        assert "plain" not in references

    def test_without_plain_the_first_arm_is_what_others_are_set_against(self):
        references = with_twins({name: ARMS[name] for name in ("mixup", "standard")})[1]
        assert references == {"standard": "mixup"}


class TestNames:
    def test_there_are_defaults(self):
        assert tuple(check_arms(None)) == DEFAULT_ARMS
        assert check_arms("standard") == {"standard": ARMS["standard"]}

    @pytest.mark.parametrize(
        ("arms", "message"),
        [
            (
                ["plain", "standarrd"],
                r"; got 'standarrd' \(did you mean 'standard'\?\)",
            ),
            (["magic"], "arms must be some of plain, standard.*; got 'magic'$"),
            ({"a": "standard"}, "a dict from names to Arm"),
            ({"a": Arm(), "A": Arm()}, "differ in capitals only"),
            ([], "arms is empty"),
        ],
    )
    def test_wrong_ones_are_refused(self, arms, message):
        with pytest.raises(ValueError, match=message):
            check_arms(arms)


class TestNets:
    @pytest.mark.parametrize("name", sorted(ARMS))
    def test_the_default_net_suits_every_arm(self, name):
        check_net(name, ARMS[name], NetClassifier())

    @pytest.mark.parametrize("name", ["plain", "mixup", "standard+random", "smote"])
    def test_plain_skorch_classifiers_suit_those_that_need_no_class_of_their_own(self, name):
        check_net(name, ARMS[name], own_net())
        arm = ARMS[name]
        synthesis = TINY_SYNTHESIS if arm.objective else {}
        made = trained(replace(arm, synthesizer=synthesis), estimator=own_net(train_split=None))
        assert batches(made) == [[16, 14]] * 2 + [[16, 16, 13]] * 6

    @pytest.mark.parametrize(
        ("arm", "estimator", "message"),
        [
            ("adversarial", own_net(), "trains by a class of its own.*NeuralNetClassifier"),
            ("mixup", own_net(criterion=nn.NLLLoss), "mixes labels, which the criterion NLLLoss"),
            ("plain", net(iterator_train=list), "has an iterator_train of its own"),
            ("plain", net(iterator_train__collate_fn=abs), "has an iterator_train__collate_fn of"),
        ],
    )
    def test_others_are_refused_by_name(self, arm, estimator, message):
        with pytest.raises(ValueError, match=message):
            check_net(arm, ARMS[arm], estimator)

    def test_parameters_that_a_net_lacks_are_refused(self):
        with pytest.raises(ValueError, match="'eps'"):
            check_net("x", Arm(net={"eps": 0.1}), net())


class TestWrongArms:
    @pytest.mark.parametrize(
        ("params", "message"),
        [
            (
                {"augmentation": "cutmix"},
                "augmentation must be None, one of standard.*a callable",
            ),
            ({"objective": abs}, "objective must be None or one of duplicate"),
            ({"augmentation": "smote", "objective": "random"}, "choose one"),
            ({"synthesizer": {"radius": 1}}, "no effect without an objective"),
            ({"autoencoder": {"max_epochs": 1}}, "no effect without an objective"),
            ({"objective": "random", "synthesizer": {"radios": 1}}, "'radios'"),
            ({"objective": "random", "synthesizer": {"radius": -1}}, "'radius'"),
            ({"objective": "random", "autoencoder": {"epochs": 1}}, "'epochs'"),
            ({"classifier": {"warm_up": 2}}, "'warm_up'"),
            ({"net": {"max_epochs": 2}}, "sets for all arms"),
            ({"classifier": {"synthesizer": None}}, "sets for all arms"),
            ({"objective": "random", "synthesizer": {"image_shape": (8, 8)}}, "sets for all arms"),
        ],
    )
    def test_are_refused_when_they_are_made(self, params, message):
        with pytest.raises(ValueError, match=message):
            Arm(**params)
