import pickle

import numpy as np
import pytest
import torch
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.model_selection import train_test_split
from torch import nn
from torch.utils.data import DataLoader, SequentialSampler

from tsynd_sk._skorch import log_proba_head, scoped_seed
from tsynd_sk.classifiers._default import ConvNet, DenseNet, NetClassifier
from tsynd_sk.members._fixed_noise import DropoutMembers
from tsynd_sk.uncertainty import mean_log_proba, mutual_information


def digits(n_train=300):
    X, y = load_digits(return_X_y=True)
    X = (X.reshape(-1, 1, 8, 8) / 16).astype(np.float32)
    return train_test_split(X, y, train_size=n_train, stratify=y, random_state=0)


def table(dtype=np.float32):
    X, y = load_breast_cancer(return_X_y=True)
    X = np.hstack([X, np.full((len(X), 1), 0.1)]).astype(dtype)
    return train_test_split(X, y, train_size=300, stratify=y, random_state=0)


def fitted(X, y, seed=0, **params):
    with scoped_seed(seed):
        return NetClassifier(**params).fit(X, y)


@pytest.fixture(scope="module")
def digits_net():
    X, _, y, _ = digits()
    return fitted(X, y, max_epochs=10)


class TestNetClassifier:
    def test_learns_digits_from_three_hundred_images(self, digits_net):
        _, X, _, y = digits()
        assert digits_net.score(X, y) >= 0.94
        proba = digits_net.predict_proba(X)
        assert proba.shape == (len(X), 10)
        np.testing.assert_allclose(proba.sum(1), 1, atol=1e-5)
        assert digits_net.classes_.tolist() == list(range(10))

    def test_learns_a_table_with_features_of_any_scale_and_a_constant_one(self):
        X, X_test, y, y_test = table()
        net = fitted(X, y, module=DenseNet, max_epochs=20)
        assert net.score(X_test, y_test) >= 0.93
        # A feature that was constant in training must not decide when it is not afterwards.
        moved = X_test.copy()
        moved[:, -1] += 0.01
        np.testing.assert_allclose(net.predict_proba(moved), net.predict_proba(X_test), atol=0.05)

    def test_members_of_the_default_net_disagree_and_centre_on_it(self, digits_net):
        X = torch.from_numpy(digits()[1][:100])
        members = DropoutMembers(digits_net.module_, log_proba_head(digits_net), n_members=32)
        log_probs = members(X)
        mi = mutual_information(log_probs)
        assert log_probs.shape == (32, 100, 10)
        assert (mi > 0).all()
        assert mi.max() > 0.05
        agree = mean_log_proba(log_probs).argmax(1).numpy() == digits_net.predict(X)
        assert agree.mean() > 0.9

    def test_dropout_sits_behind_everything_costly(self):
        seen = []

        class Convolution(nn.Conv2d):
            def forward(self, x):
                seen.append(x.shape[0])
                return super().forward(x)

        net = ConvNet((1, 8, 8), 3)
        net.features[0].__class__ = Convolution
        members = DropoutMembers(net, lambda logits: logits.log_softmax(-1), n_members=8)
        members(torch.rand(2, 1, 8, 8))
        seen.clear()
        members(torch.rand(2, 1, 8, 8))
        assert seen == [2]

    def test_order_of_training_rows_does_not_matter(self):
        X, X_test, y, y_test = digits()
        order = np.argsort(y, kind="stable")
        assert fitted(X[order], y[order], max_epochs=8).score(X_test, y_test) > 0.8

    @pytest.mark.parametrize(
        "params",
        [
            {"iterator_train__shuffle": False, "iterator_train__sampler": None},
            {"iterator_train__sampler": SequentialSampler(range(20))},
            {"iterator_train": lambda dataset, batch_size: DataLoader(dataset, batch_size)},
        ],
    )
    def test_order_of_training_rows_can_be_given(self, params):
        seen = []

        class Net(NetClassifier):
            def train_step(self, batch, **fit_params):
                seen.extend(batch[0].mean((1, 2, 3)).tolist())
                return super().train_step(batch, **fit_params)

        x = (
            np.ones((20, 1, 8, 8), np.float32)
            * np.arange(20, dtype=np.float32)[:, None, None, None]
        )
        Net(max_epochs=1, **params).fit(x, np.arange(20) % 2)
        assert seen == list(range(20))

    def test_survives_pickling_without_the_data(self, digits_net):
        X = digits()[1][:20]
        content = pickle.dumps(digits_net)
        np.testing.assert_array_equal(
            pickle.loads(content).predict_proba(X), digits_net.predict_proba(X)
        )
        X_large = np.zeros((2000, 1, 8, 8), dtype=np.float32)
        small = fitted(X_large, np.arange(2000) % 2, max_epochs=1, module__width=4)
        assert len(pickle.dumps(small)) < X_large.nbytes / 4

    def test_equal_seeds_give_equal_nets(self):
        X, _, y, _ = digits(60)
        first, second, third = (
            fitted(X, y, seed=seed, max_epochs=2).predict_proba(X) for seed in (0, 0, 1)
        )
        np.testing.assert_array_equal(first, second)
        assert np.abs(first - third).max() > 1e-3

    def test_another_fit_is_sized_anew(self):
        X, _, y, _ = digits(60)
        net = fitted(X, y, max_epochs=1)
        X = np.random.default_rng(0).random((12, 3, 16, 16), dtype=np.float32)
        assert net.fit(X, np.arange(12) % 2).predict_proba(X).shape == (12, 2)


class TestConvNet:
    @pytest.mark.parametrize(
        "image_shape",
        [
            (1, 8, 8),
            (1, 28, 5),
            (3, 65, 97),
            (3, 224, 224),
        ],
    )
    def test_takes_images_of_8_to_224_pixels_grey_and_colour(self, image_shape):
        X = torch.rand(2, *image_shape, generator=torch.Generator().manual_seed(0))
        net = ConvNet.from_data(X, np.array([0, 4]), width=4)
        logits = net(X)
        assert logits.shape == (2, 5)
        logits.sum().backward()
        last = net.features[:-2](X)
        assert max(last.shape[2:]) <= 8

    @pytest.mark.parametrize("as_type", [np.asarray, torch.as_tensor, list])
    def test_classes_are_counted_in_any_sequence(self, as_type):
        net = ConvNet.from_data(torch.rand(3, 1, 8, 8), as_type([0, 2, 1]))
        assert net(torch.rand(1, 1, 8, 8)).shape == (1, 3)


class TestDenseNet:
    @pytest.mark.parametrize("value", [0.1, -123.456])
    def test_standardises_inside_and_leaves_constant_features_alone(self, value):
        X = torch.randn(200, 3, generator=torch.Generator().manual_seed(0)) * 1e4 + 5e4
        X = torch.cat([X, torch.full((200, 1), value)], 1)
        net = DenseNet.from_data(X, np.arange(200) % 2)
        seen = []
        net.layers[0].register_forward_pre_hook(lambda module, args: seen.append(args[0]))
        net(X)
        net(X + 1)
        np.testing.assert_allclose(seen[0].mean(0), 0, atol=1e-4)
        np.testing.assert_allclose(seen[0][:, :3].std(0, correction=0), 1, atol=1e-4)
        np.testing.assert_allclose(seen[1][:, 3], 1, atol=1e-4)
