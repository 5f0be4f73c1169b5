"""Weights in files: nets of every kind take them over, and others are refused by name."""

import numpy as np
import pytest
import safetensors.torch
import torch
from helpers.saved_files import (
    TABLE,
    answers,
    assert_same,
    digits,
    ensemble_synthesizer,
    image_classifier,
    table_synthesizer,
)
from helpers.tiny_nets import (
    Dense,
    X,
    augmented,
    own_net,
    synthesizer,
    y,
)
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from skorch import NeuralNetClassifier
from torch import nn

from tsynd_sk import AugmentedClassifier, TargetedSynthesizer
from tsynd_sk._skorch import scoped_seed
from tsynd_sk.autoencoders._net import AutoencoderNet
from tsynd_sk.classifiers._default import NetClassifier


def weights_of(skorch_net):
    return {name: value.clone() for name, value in skorch_net.module_.state_dict().items()}


class TestNets:
    def test_frozen_nets_stay_and_copies_get_the_weights(self, path):
        def nets(seed):
            with scoped_seed(seed):
                return own_net(max_epochs=1).fit(X[:, None], y), AutoencoderNet(
                    max_epochs=1, epoch_size=32
                ).fit(X[:, None])

        def around(nets):
            return synthesizer(
                classifier=FrozenEstimator(nets[0]),
                autoencoder=FrozenEstimator(nets[1]),
                random_state=0,
            )

        fitted, mine = around(nets(0)).fit(X, y), nets(1)
        before = [weights_of(part) for part in mine]
        fitted.save_params(path)
        other = around(mine).load_params(path)
        assert_same(
            answers(fitted, X[:5], y[:5]) | {"sample": y, "sample_y": y},
            {**answers(other, X[:5], y[:5]), "sample": y, "sample_y": y},
        )
        other.classifier_.partial_fit(X[:, None], y)
        other.autoencoder_.partial_fit(X[:, None])
        for part, weights in zip(mine, before, strict=True):
            assert len(part.history) == 1
            assert all(torch.equal(v, weights[k]) for k, v in part.module_.state_dict().items())

    def test_frozen_nets_of_classes_made_in_functions(self, path):
        class Local(Dense):
            pass

        def make():
            with scoped_seed(0):
                frozen = FrozenEstimator(own_net(module=Local, max_epochs=1).fit(X[:, None], y))
            return synthesizer(classifier=frozen, random_state=0)

        fitted = make().fit(X, y)
        fitted.save_params(path)
        assert (make().load_params(path).uncertainty(X) == fitted.uncertainty(X)).all()

    def test_a_frozen_net_need_not_be_fitted_to_say_how_it_is_built(self, path):
        trained = NetClassifier(module__width=2, max_epochs=1).fit(X[:, None], y)
        fitted = synthesizer(classifier=FrozenEstimator(trained), random_state=0).fit(X, y)
        fitted.save_params(path)
        unfitted = FrozenEstimator(NetClassifier(module__width=2))
        other = synthesizer(classifier=unfitted, random_state=0).load_params(path)
        assert (other.uncertainty(X) == fitted.uncertainty(X)).all()
        assert not unfitted.estimator.initialized_

    def test_instances_tied_weights_and_several_modules(self, path):
        class Tied(nn.Module):
            def __init__(self):
                super().__init__()
                self.one = nn.Linear(64, 64)
                self.two = nn.Linear(64, 64)
                self.two.weight = self.one.weight
                self.last = nn.Sequential(nn.Dropout(), nn.Linear(64, 10))

            def forward(self, x):
                return self.last(self.two(self.one(x.flatten(1)).relu()))

        class WithJudge(NeuralNetClassifier):
            def initialize_module(self):
                super().initialize_module()
                self.judge_ = nn.Linear(3, 2)
                return self

        def make():
            with scoped_seed(0):
                estimator = own_net(WithJudge, Tied(), max_epochs=2)
            return augmented(estimator, synthetic_ratio=0)

        fitted = make().fit(X, y)
        fitted.save_params(path)
        assert "classifier0.judge.weight" in safetensors.torch.load_file(path)
        other = make().load_params(path)
        assert torch.equal(other.estimator_.judge_.weight, fitted.estimator_.judge_.weight)
        assert (other.uncertainty(X) == fitted.uncertainty(X)).all()
        module = other.estimator_.module_
        assert module.one.weight is module.two.weight

    def test_training_goes_on_after_loading(self, images, path):
        rows, labels = digits()
        images.save_params(path)
        other = image_classifier().load_params(path)
        x, codes = images.format_.to_tensor(rows).numpy(), np.unique(labels, return_inverse=True)[1]
        assert other.estimator_.classes_.tolist() == [0, 1, 2, 3, 4]
        before = weights_of(other.estimator_)
        other.estimator_.partial_fit(x, codes)
        assert len(other.history_) == 40
        assert any(
            not torch.equal(v, before[k]) for k, v in other.estimator_.module_.state_dict().items()
        )

    def test_a_net_that_can_have_no_members_is_saved_nevertheless(self, path):
        class WithoutLinear(nn.Module):
            def __init__(self):
                super().__init__()
                self.filters = nn.Conv2d(1, 10, 3)

            def forward(self, x):
                return self.filters(x).mean((2, 3))

        def make():
            return augmented(own_net(module=WithoutLinear, max_epochs=1), synthetic_ratio=0)

        fitted = make().fit(X, y)
        fitted.save_params(path)
        other = make().load_params(path)
        assert (other.predict_proba(X) == fitted.predict_proba(X)).all()
        with pytest.raises(ValueError, match=r"calls no torch\.nn\.Linear"):
            other.uncertainty(X)

    def test_members_that_nobody_asked_for_yet_are_in_the_file(self, path):
        def make():
            return augmented(own_net(module__dropout=0, max_epochs=1), synthetic_ratio=0)

        fitted = make().fit(X, y)
        fitted.save_params(path)
        other = make().load_params(path)
        assert (other.uncertainty(X) == fitted.uncertainty(X)).all()
        assert other.uncertainty(X).max() > 0

    def test_own_modules_sized_from_data_say_what_they_found(self, path):
        class Own(nn.Sequential):
            def __init__(self, n_out=2, rate=0.5):
                drop = nn.Dropout(rate)
                super().__init__(nn.Flatten(), nn.Linear(64, 8), drop, nn.Linear(8, n_out))

            @classmethod
            def from_data(cls, X, y, **params):
                return cls(len(np.unique(y)), **params)

        class Telling(Own):
            def __init__(self, n_out=2, rate=0.5):
                super().__init__(n_out, rate)
                self.sizes = {"n_out": n_out}

        fitted = augmented(NetClassifier(Own, max_epochs=1), synthetic_ratio=0).fit(X, y)
        with pytest.raises(ValueError, match=r"Own\.from_data.*Give it an attribute sizes"):
            fitted.save_params(path)
        assert not path.exists()
        fitted = augmented(NetClassifier(Telling, max_epochs=1), synthetic_ratio=0).fit(X, y)
        fitted.save_params(path)
        other = augmented(NetClassifier(Telling), synthetic_ratio=0).load_params(path)
        assert (other.predict_proba(X) == fitted.predict_proba(X)).all()
        with pytest.raises(ValueError, match=r"module__rate=0\.5, but .* module__rate=0\.1"):
            augmented(NetClassifier(Telling, module__rate=0.1)).load_params(path)

    def test_state_that_is_no_tensor_is_refused(self, path):
        class Odd(Dense):
            def get_extra_state(self):
                return {"anything": object()}

            def set_extra_state(self, state):
                pass

        fitted = augmented(own_net(module=Odd, max_epochs=1), synthetic_ratio=0).fit(X, y)
        with pytest.raises(ValueError, match=r"'classifier0\.module\._extra_state'.* is a dict"):
            fitted.save_params(path)
        assert not path.exists()


class TestMisfits:
    @pytest.mark.parametrize(
        ("make", "message"),
        [
            (table_synthesizer, "of class AugmentedClassifier, but .* of class TargetedSynth"),
            (
                lambda: image_classifier().set_params(estimator__module__width=3),
                r"classifier0\.module\.features\.0\.weight does not fit: it has shape "
                r"\(2, 1, 3, 3\) in the file, but \(3, 1, 3, 3\)",
            ),
            (
                lambda: image_classifier().set_params(estimator__module__dropout=0.4),
                r"classifier0 was trained with module__dropout=0\.3, but .*module__dropout=0\.4",
            ),
            (
                lambda: augmented(own_net(module__n_out=5), n_snapshots=1),
                r"the net of the estimator for classifier0 is not sized from data, unlike that in",
            ),
            (
                lambda: image_classifier().set_params(
                    synthesizer__autoencoder__module__n_components=3
                ),
                r"autoencoder was trained with module__n_components=2, but",
            ),
            (
                lambda: image_classifier().set_params(synthesizer__members="laplace"),
                "its members are of the kind 'dropout', but the estimator has members='laplace'",
            ),
            (
                lambda: image_classifier().set_params(synthesizer__image_shape=(2, 32)),
                r"rows of shape \(8, 8\), which image_shape=\(2, 32\) of the estimator",
            ),
        ],
    )
    def test_other_parameters_are_named(self, images, path, make, message):
        images.save_params(path)
        estimator = make()
        before = dict(vars(estimator))
        with pytest.raises(ValueError, match=message) as caught:
            estimator.load_params(path)
        assert str(path) in str(caught.value)
        assert vars(estimator) == before

    def test_other_nets_are_named(self, path):
        def make(*args, **params):
            return augmented(own_net(*args, max_epochs=1, **params), synthetic_ratio=0)

        class Deeper(Dense):
            def __init__(self, **params):
                super().__init__(**params)
                self.more = nn.Linear(2, 2)

        class Double(Dense):
            def __init__(self, **params):
                super().__init__(**params)
                self.double()

        Deeper.__name__ = Double.__name__ = "Dense"
        make().fit(X, y).save_params(path)
        for module, message in [
            (Deeper, r"classifier0\.module\.more\.weight does not fit: the file has no such"),
            (Double, r"it is torch\.float32 in the file, but torch\.float64 in the net"),
            (type("Other", (Dense,), {}), "weights of a Dense, but .* is a Other"),
        ]:
            with pytest.raises(ValueError, match=message):
                make(module=module).load_params(path)
        make(module=Deeper).fit(X, y).save_params(path)
        with pytest.raises(ValueError, match=r"more\.\w+ does not fit: the net .* has no such"):
            make().load_params(path)

    def test_another_number_of_classifiers(self, path):
        ensemble_synthesizer().fit(X[:40], y[:40]).save_params(path)
        for classifier in (own_net(), [own_net()] * 3):
            with pytest.raises(ValueError, match="it holds 2 classifiers, but the estimator has"):
                ensemble_synthesizer().set_params(classifier=classifier).load_params(path)

    def test_an_estimator_without_sense_is_refused_before_the_file_is_read(self, tmp_path):
        for estimator, error in [
            (image_classifier().set_params(warm_up=7), "'warm_up' parameter"),
            (table_synthesizer().set_params(n_members=0), "'n_members' parameter"),
        ]:
            with pytest.raises(ValueError, match=error):
                estimator.load_params(tmp_path / "none")

    def test_a_failed_load_leaves_what_was_learnt(self, images, table, path):
        rows, _ = digits()
        table.save_params(path)
        known, before = images.predict_proba(rows), dict(vars(images))
        with pytest.raises(ValueError, match="of class TargetedSynthesizer"):
            images.load_params(path)
        assert vars(images) == before
        assert (images.predict_proba(rows) == known).all()

    @pytest.mark.parametrize("estimator", [AugmentedClassifier(), TargetedSynthesizer()])
    def test_nothing_to_save(self, estimator, path):
        with pytest.raises(NotFittedError):
            estimator.save_params(path)
        assert not path.exists()

    def test_labels_and_images_that_need_code_are_refused(self, path):
        labels = np.array([True, "yes"], dtype=object)[np.arange(80) % 2]
        fitted = table_synthesizer().fit(TABLE[:80], y)
        fitted.classes_ = labels[:2]
        with pytest.raises(ValueError, match=r"cannot save labels such as True.*astype\(str\)"):
            fitted.save_params(path)
