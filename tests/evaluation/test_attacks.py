import sys
import warnings

import numpy as np
import pytest
import torch
from helpers.tiny_nets import augmented, net, own_net
from sklearn.frozen import FrozenEstimator
from skorch import NeuralNetBinaryClassifier
from torch import nn

from tsynd_sk import TargetedSynthesizer
from tsynd_sk._skorch import scoped_seed
from tsynd_sk.datasets._loaders import load_digits_images
from tsynd_sk.evaluation._attacks import (
    ATTACKS,
    Attacker,
    GradientMaskingWarning,
    adversarial_scores,
    signs_of_masking,
)
from tsynd_sk.evaluation._scores import classification_scores

pytest.importorskip("art", reason="attacks need the extra robustness")

DIGITS, LABELS, _ = load_digits_images()
X, y = DIGITS[:400, None], LABELS[:400]
TEST, TRUE = DIGITS[400:520, None], LABELS[400:520]


def fitted(estimator, X, y):
    with scoped_seed(0):
        return estimator.fit(X, y)


@pytest.fixture(scope="module")
def classifier():
    return fitted(own_net(max_epochs=20), X, y)


class Scaled(nn.Module):
    """Sees another range of values; a large factor leaves gradients nothing to see."""

    def __init__(self, module, low=0, scale=1, factor=1):
        super().__init__()
        self.module, self.low, self.scale, self.factor = module, low, scale, factor

    def forward(self, x):
        return self.factor * self.module((x - self.low) / self.scale)


def two_of(X, y):
    """Zeros against nines."""
    chosen = (y == 0) | (y == 9)
    return X[chosen], (y[chosen] == 9).astype(np.int64)


def accuracies(scores, attack):
    return [row["accuracy"] for row in scores.rows if row["attack"] == attack]


def quick(estimator, X, y, **params):
    params = {"attacks": ["pgd"], "eps": 0.1, "random_state": 0, **params}
    return adversarial_scores(estimator, X, y, **params)


def own_pgd(module, x, y, eps, steps=20, restarts=3):
    """Accuracy under a textbook attack."""
    generator, standing = torch.Generator().manual_seed(1), torch.ones(len(x), dtype=bool)
    for _ in range(restarts):
        start = 2 * torch.rand(x.shape, generator=generator) - 1
        z = (x + eps * start).clamp(0, 1)
        for _ in range(steps):
            z.requires_grad_()
            loss = nn.functional.cross_entropy(module(z), y)
            step = 2.5 * eps / steps * torch.autograd.grad(loss, z)[0].sign()
            z = (x + (z.detach() + step - x).clamp(-eps, eps)).clamp(0, 1)
        standing &= module(z).argmax(1) == y
    return standing.float().mean().item()


class TestStrength:
    def test_pgd_is_the_textbook_attack(self, classifier):
        strengths = [0.02, 0.1]
        X, y = DIGITS[400:1000, None], LABELS[400:1000]
        scores = quick(classifier, X, y, eps=strengths)
        module = classifier.module_.eval()
        expected = [
            own_pgd(module, torch.from_numpy(X), torch.from_numpy(y), eps) for eps in strengths
        ]
        np.testing.assert_allclose(accuracies(scores, "pgd"), expected, atol=0.01)
        assert 0.05 < expected[1] < expected[0] - 0.3

    def test_accuracy_falls_with_strength_down_to_nothing(self, classifier):
        strengths = [0.05, 0.3]
        X, y = TEST[:40], TRUE[:40]
        scores = quick(classifier, X, y, attacks=ATTACKS, eps=strengths, n_queries=100)
        (clean,) = accuracies(scores, "clean")
        for attack in ("pgd", "autoattack", "square"):
            weak, strong = accuracies(scores, attack)
            assert clean - 0.02 > weak > strong + 0.05
            assert strong < 0.03
        assert scores.gradient_masking == []
        assert scores.loss_rises > 0.99

    def test_nothing_is_better_than_clean_images(self, classifier):
        scores = quick(classifier, TEST, TRUE, attacks=["pgd", "square"], eps=0.004, n_queries=5)
        wrong, rows = scores.proba[0].argmax(1) != TRUE, np.arange(len(TRUE))
        assert wrong.any()
        for proba in scores.proba[1:]:
            fooled = proba.argmax(1) != TRUE
            assert fooled[wrong].all()
            no_likelier = proba[rows, TRUE] <= scores.proba[0][rows, TRUE] + 1e-6
            assert no_likelier[wrong | ~fooled].all()

    def test_attacked_images_stay_in_the_ball_and_the_range(self, classifier, monkeypatch):
        tried, candidates = {}, Attacker.candidates

        def spied(self, attack, eps):
            for rows, attacked in candidates(self, attack, eps):
                if eps == 0.07:
                    assert np.abs(attacked - self.x[rows]).max() <= 0.07 + 1e-6
                    assert attacked.min() >= 0
                    assert attacked.max() <= 1
                    tried[attack] = np.abs(attacked - self.x[rows]).max()
                yield rows, attacked

        monkeypatch.setattr(Attacker, "candidates", spied)
        quick(classifier, TEST[:30], TRUE[:30], attacks=ATTACKS, eps=0.07, n_queries=20)
        assert list(tried) == list(ATTACKS)
        assert min(tried.values()) > 0.0699


class TestResult:
    def test_rows_are_tidy_and_first_of_all_clean(self, classifier):
        scores = quick(classifier, TEST, TRUE, attacks=["fgsm", "pgd"], eps=(0.1, 0.05))
        assert [(row["attack"], row["eps"]) for row in scores.rows] == [
            ("clean", 0.0),
            ("fgsm", 0.1),
            ("fgsm", 0.05),
            ("pgd", 0.1),
            ("pgd", 0.05),
        ]
        assert scores.proba.shape == (5, len(TEST), 10)
        np.testing.assert_allclose(scores.proba[0], classifier.predict_proba(TEST), atol=1e-5)
        for row, proba in zip(scores.rows, scores.proba, strict=True):
            expected = classification_scores(TRUE, proba, np.arange(10))
            assert row["accuracy"] == pytest.approx(np.mean(proba.argmax(1) == TRUE))
            assert {n: row[n] for n in expected} == pytest.approx(expected)

    def test_repeats_whatever_else_is_asked_for_and_leaves_generators_alone(self, classifier):
        states = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
        params = {"attacks": ["pgd", "square"], "eps": [0.05, 0.08], "n_queries": 30}
        all_four = quick(classifier, TEST, TRUE, **params)
        assert torch.equal(torch.get_rng_state(), states[0])
        np.testing.assert_array_equal(np.random.get_state()[1], states[1])  # noqa: NPY002
        np.random.random()  # noqa: NPY002
        one = quick(classifier, TEST, TRUE, attacks="square", eps=0.08, n_queries=30)
        np.testing.assert_array_equal(one.proba[1], all_four.proba[4])
        other = quick(
            classifier, TEST, TRUE, attacks="square", eps=0.08, n_queries=30, random_state=1
        )
        assert not np.array_equal(one.proba, other.proba)

    def test_gradients_may_be_switched_off_outside(self, classifier):
        expected = quick(classifier, TEST[:20], TRUE[:20]).rows
        with torch.inference_mode():
            assert quick(classifier, TEST[:20], TRUE[:20]).rows == expected


class TestNets:
    def test_the_users_net_is_left_as_it_is(self):
        given = fitted(own_net(max_epochs=2), X, y)
        module = given.module_.train()

        def refuse(running, *_):
            # Copies keep their hooks. The net itself does no more than predict.
            assert running is not module or not torch.is_grad_enabled()

        handle = module.register_forward_hook(refuse)
        before = {name: value.clone() for name, value in module.state_dict().items()}
        grads = [p.grad for p in module.parameters()]
        first, second = (
            quick(given, TEST[:20], TRUE[:20], attacks=ATTACKS, n_queries=5) for _ in range(2)
        )
        # In evaluation mode, or dropout would make the two differ.
        np.testing.assert_array_equal(first.proba, second.proba)
        handle.remove()
        assert all(part.training for part in module.modules())
        assert all(p.requires_grad for p in module.parameters())
        assert all(a is b.grad for a, b in zip(grads, module.parameters(), strict=True))
        for name, value in module.state_dict().items():
            assert torch.equal(value, before[name])

    @pytest.mark.parametrize("kind", ["two logits", "one logit"])
    def test_two_classes(self, kind):
        data, codes = two_of(X, y)
        test, true = two_of(TEST, TRUE)
        if kind == "one logit":
            given = own_net(NeuralNetBinaryClassifier, module__n_out=1, max_epochs=30)
            codes = codes.astype(np.float32)
        else:
            given = own_net(module__n_out=2, max_epochs=30)
        fitted(given, data, codes)
        test, true = test[:20], true[:20]
        params = {"attacks": ATTACKS, "eps": 0.5, "n_queries": 50}
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            scores = quick(given, test, true, **params)
        np.testing.assert_allclose(scores.proba[0], given.predict_proba(test), atol=1e-5)
        assert accuracies(scores, "clean") == [1.0]
        for attack in ("pgd", "autoattack"):
            assert accuracies(scores, attack)[-1] == 0
        assert accuracies(scores, "square")[-1] < 0.3

    def test_frozen_nets_and_images_without_channels(self, classifier):
        expected = quick(classifier, TEST, TRUE).rows
        assert quick(FrozenEstimator(classifier), TEST, TRUE).rows == expected
        # The module flattens whatever comes.
        assert quick(classifier, TEST[:, 0], TRUE).rows == expected
        pixels = (TEST * 255).astype(np.uint8)
        assert quick(classifier, pixels, TRUE).rows == quick(classifier, pixels / 255, TRUE).rows
        flat = fitted(own_net(max_epochs=5), X.reshape(400, -1), y)
        flat.image_shape_ = (1, 8, 8)
        scores = quick(flat, TEST.reshape(120, -1), TRUE, attacks="square", n_queries=20)
        assert accuracies(scores, "square")[0] < accuracies(scores, "clean")[0]


@pytest.fixture(scope="module")
def by_layout():
    """Colour images in every layout, each with a classifier that was fitted on them."""
    colours = np.stack([DIGITS, 1 - DIGITS, DIGITS / 2], -1)[:200]
    images = (colours * 255).astype(np.uint8)
    names = np.array(["even", "odd"])[LABELS[:200] % 2]
    layouts = {
        "hwc": (images, None),
        "flat": (images.reshape(200, -1), (8, 8, 3)),
        "float": (images / np.float32(255), None),
    }
    return {
        layout: (
            augmented(net(), TargetedSynthesizer(image_shape=shape), synthetic_ratio=0).fit(
                X[:150], names[:150]
            ),
            X[150:],
            names[150:],
        )
        for layout, (X, shape) in layouts.items()
    }


class TestAugmentedClassifier:
    @pytest.mark.parametrize("layout", ["flat", "float"])
    def test_every_layout_and_type_is_attacked_alike(self, by_layout, layout):
        def scored(given, X, names):
            return quick(given, X, names, attacks=["pgd", "square"], eps=0.1, n_queries=30)

        given, images, names = by_layout[layout]
        scores, expected = scored(given, images, names), scored(*by_layout["hwc"])
        np.testing.assert_allclose(scores.proba[0], given.predict_proba(images), atol=1e-5)
        clean, attacked, _ = (row["accuracy"] for row in scores.rows)
        assert clean == pytest.approx(given.score(images, names))
        assert attacked < clean - 0.2
        np.testing.assert_allclose(scores.proba, expected.proba, atol=0.01)

    def test_strength_is_a_share_of_the_range(self, classifier):
        wide = own_net(module=Scaled(classifier.module_, low=-3, scale=8)).initialize()
        expected = quick(classifier, TEST, TRUE, eps=[0.03, 0.06]).rows
        rows = quick(wide, TEST * 8 - 3, TRUE, eps=[0.03, 0.06]).rows
        for row, other in zip(rows, expected, strict=True):
            assert row["accuracy"] == pytest.approx(other["accuracy"], abs=0.01)

    def test_range_is_that_of_the_fit_and_of_the_images(self, monkeypatch):
        images = DIGITS[:60] * 4
        given = augmented(net(max_epochs=1), synthetic_ratio=0).fit(images, LABELS[:60])
        seen, candidates = [], Attacker.candidates

        def spied(self, attack, eps):
            seen.append((self.target.low, self.target.scale, self.x.min(), self.x.max()))
            return candidates(self, attack, eps)

        monkeypatch.setattr(Attacker, "candidates", spied)
        quick(given, images[:5] / 2, LABELS[:5], attacks="fgsm")
        assert seen[0] == (0, 4, 0, 0.5)
        quick(given, images[:5] - 1, LABELS[:5], attacks="fgsm")
        assert seen[-1] == pytest.approx((-1, 5, 0, 0.8))


class TestGradientMasking:
    def test_saturated_probabilities_are_noticed(self, classifier):
        masked = own_net(module=Scaled(classifier.module_, factor=1e4)).initialize()
        with pytest.warns(GradientMaskingWarning, match=r"rises along its gradient.*Trust no"):
            scores = quick(
                masked, TEST, TRUE, attacks=["pgd", "square"], eps=[0.06, 0.1], n_queries=150
            )
        assert scores.loss_rises < 0.5
        assert any("'pgd' with eps=0.1 leaves" in sign for sign in scores.gradient_masking)
        square, pgd = accuracies(scores, "square"), accuracies(scores, "pgd")
        assert square[-1] < pgd[-1] - 0.1

    @staticmethod
    def signs(rises=1.0, n=200, **accuracy):
        rows = [{"attack": "clean", "eps": 0.0, "accuracy": 0.9}]
        for attack, values in accuracy.items():
            rows += [
                {"attack": attack, "eps": eps, "accuracy": value}
                for eps, value in zip((0.02, 0.01), values, strict=True)
            ]
        return signs_of_masking(rows, rises, n)

    def test_what_is_as_it_should_be_is_no_sign(self):
        assert (
            self.signs(fgsm=(0.75, 0.7), pgd=(0.4, 0.5), autoattack=(0.4, 0.5), square=(0.6, 0.7))
            == []
        )
        # Attacks draw at random.
        assert self.signs(fgsm=(0.4, 0.5), pgd=(0.42, 0.52), square=(0.4, 0.5)) == []
        assert self.signs(n=10, fgsm=(0.4, 0.5), pgd=(0.5, 0.6)) == []

    @pytest.mark.parametrize(
        ("accuracies", "found"),
        [
            ({"pgd": (0.5, 0.4)}, "'pgd' with eps=0.02 leaves accuracy 0.500, 'pgd' with eps=0.01"),
            ({"square": (0.5, 0.4)}, "'square' with eps=0.02"),
            ({"pgd": (0.4, 0.6), "fgsm": (0.4, 0.5)}, "'pgd' with eps=0.01 leaves accuracy 0.600"),
            ({"autoattack": (0.4, 0.6), "pgd": (0.4, 0.5)}, "'autoattack' with eps=0.01"),
            ({"pgd": (0.4, 0.6), "square": (0.4, 0.5)}, "'pgd' with eps=0.01"),
        ],
    )
    def test_more_strength_and_stronger_attacks_must_not_do_worse(self, accuracies, found):
        (sign,) = self.signs(**accuracies)
        assert sign.startswith(found)


class TestRefusals:
    def test_without_the_toolbox_the_extra_is_named(self, classifier, monkeypatch):
        monkeypatch.setitem(sys.modules, "art", None)
        with pytest.raises(ImportError, match=r'pip install "tsynd_sk\[robustness\]"'):
            quick(classifier, TEST, TRUE)

    @pytest.mark.parametrize(
        ("params", "error", "message"),
        [
            ({"attacks": ["pgd", "cw"]}, ValueError, "'cw'; known: fgsm, pgd"),
            ({"eps": 8}, ValueError, "fractions of the range.*2/255"),
            ({"eps": [0.1, 0]}, ValueError, "eps must be above 0"),
        ],
    )
    def test_parameters_out_of_range(self, classifier, params, error, message):
        with pytest.raises(error, match=message):
            quick(classifier, TEST, TRUE, **params)

    def test_images_and_labels_that_do_not_match(self, classifier):
        with pytest.raises(ValueError, match=r"dtype int64.*astype\('float32'\) / 255"):
            quick(classifier, (TEST * 255).astype(np.int64), TRUE)
        with pytest.raises(ValueError, match="set its attribute image_shape_"):
            quick(classifier, TEST.reshape(120, -1), TRUE)
        with pytest.raises(ValueError, match="inconsistent numbers of samples"):
            quick(classifier, TEST, TRUE[:50])
        with pytest.raises(ValueError, match=r"not seen in fit: \[77\]"):
            quick(classifier, TEST, np.where(TRUE == 0, 77, TRUE))

    def test_a_single_class_is_refused(self):
        one = own_net(module__n_out=1).initialize()
        with pytest.raises(ValueError, match="two classes at least"):
            quick(one, TEST, np.zeros(120, int))
