"""What targeted synthesis is compared with: further rows, SMOTE, mixup, training on attacks."""

from functools import partial

import numpy as np
import pytest
import torch
from helpers.tiny_nets import Recorder, X, net, recorder_of, row_set, y
from torch import nn

from tsynd_sk.comparison._baselines import AdversarialNetClassifier, MoreRows, mixed_rows, smote

N = 40
IMAGES, LABELS = X[:N, None], y[:N]


def fitted(kind, ratio=1.0, refresh_every=5):
    rows = {"kind": kind, "ratio": ratio, "first_epoch": 2, "refresh_every": refresh_every}
    params = {f"iterator_train__{name}": value for name, value in rows.items()}
    torch.manual_seed(0)
    classifier = net(
        iterator_train=MoreRows, iterator_train__random_state=0, callbacks=[Recorder()], **params
    )
    return classifier.fit(IMAGES, LABELS)


class TestMoreRows:
    def test_copies_follow_the_real_rows_after_the_warm_up(self):
        recorder = recorder_of(fitted("copies"))
        assert recorder.n_rows() == [N] * 2 + [2 * N] * 6
        targets = np.bincount(recorder.targets(-1), minlength=10)
        np.testing.assert_array_equal(targets, 2 * np.bincount(LABELS, minlength=10))

    def test_smote_makes_new_rows_at_each_refresh_only(self):
        recorder, real = recorder_of(fitted("smote", refresh_every=3)), row_set(IMAGES)
        new = [row_set(recorder.rows(epoch)) - real for epoch in range(8)]
        assert new[:2] == [set(), set()]
        assert min(len(new[2]), len(new[5])) > 0.9 * N
        assert new[2] == new[3] == new[4]
        assert not new[2] & new[5]
        assert new[5] == new[6] == new[7]


class TestSmote:
    def test_new_rows_lie_between_rows_of_their_class(self):
        labels = LABELS % 3
        sources = np.arange(N)
        new = smote(IMAGES, labels, sources, 0)
        assert new.shape == IMAGES.shape
        assert new.dtype == np.float32
        flat, made = IMAGES.reshape(N, -1).astype(float), new.reshape(N, -1).astype(float)
        for row, label in zip(made, labels, strict=True):
            own = flat[labels == label]
            # On the way from one image to another, the two distances add up to theirs.
            there = np.linalg.norm(own - row, axis=1)
            between = np.linalg.norm(own[:, None] - own[None], axis=2)
            assert np.abs(there[:, None] + there[None] - between).min() < 1e-3
        assert len(row_set(new) & row_set(IMAGES)) == 0

    def test_a_class_of_a_few_rows_takes_the_neighbours_that_there_are(self):
        labels = np.zeros(N, int)
        labels[:2] = 1
        new = smote(IMAGES, labels, np.arange(N), 0)
        assert len(row_set(new) & row_set(IMAGES)) == 0
        low, high = IMAGES[:2].min(0) - 1e-6, IMAGES[:2].max(0) + 1e-6
        assert ((new[:2] >= low) & (new[:2] <= high)).all()

    def test_a_class_of_one_row_is_copied(self):
        labels = np.zeros(N, int)
        labels[3] = 1
        new = smote(IMAGES, labels, np.arange(N), 0)
        np.testing.assert_array_equal(new[3], IMAGES[3])
        assert len(row_set(new) & row_set(IMAGES)) == 1


class TestMixup:
    def test_labels_are_mixed_as_images_are(self):
        torch.manual_seed(0)
        batch = [(torch.full((1, 2, 2), float(i)), np.int64(i)) for i in range(3)]
        x, soft = mixed_rows(5, batch, alpha=1.0)
        assert x.shape == (3, 1, 2, 2)
        assert soft.shape == (3, 5)
        torch.testing.assert_close(soft.sum(1), torch.ones(3))
        # Images hold their class, and so the mean class of their label.
        torch.testing.assert_close(soft @ torch.arange(5.0), x[:, 0, 0, 0])
        assert (soft.max(1).values < 1).all()

    def test_a_net_trains_on_soft_labels_and_is_scored_on_none(self):
        classifier = net(iterator_train__collate_fn=partial(mixed_rows, 10), callbacks=[Recorder()])
        torch.manual_seed(0)
        classifier.set_params(max_epochs=30, module__width=32).fit(IMAGES, LABELS)
        first = recorder_of(classifier).targets(0)
        assert first.shape == (N, 10)
        assert np.mean(first.max(1) < 1) > 0
        assert "valid_acc" not in classifier.history[-1]
        assert classifier.score(IMAGES, LABELS) > 0.8


class Watched(nn.Module):
    """Keeps the mode of every pass."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Flatten(), nn.BatchNorm1d(64), nn.Linear(64, 10), nn.Dropout(0.5)
        )
        self.modes = []

    def forward(self, x):
        self.modes.append(self.training)
        return self.layers(x)


class TestAdversarialNet:
    @pytest.fixture
    def attacker(self):
        torch.manual_seed(0)
        params = {"max_epochs": 5, "module__width": 4, "lr": 0.01}
        return AdversarialNetClassifier(**params).fit(IMAGES, LABELS)

    def loss(self, attacker, x):
        attacker.module_.eval()
        with torch.no_grad():
            return float(attacker.criterion_(attacker.infer(x), torch.from_numpy(LABELS)))

    def attacked(self, attacker, x=None, **params):
        x = torch.from_numpy(IMAGES) if x is None else x
        torch.manual_seed(1)
        return attacker.set_params(**params)._attacked(x, torch.from_numpy(LABELS))

    def test_attacks_stay_near_and_within_the_range(self, attacker):
        x = torch.from_numpy(IMAGES)
        for params in ({"eps": 0.1}, {"eps": 0.05, "low": -1.0, "high": 1.0}):
            attacked = self.attacked(attacker, **params)
            assert attacked.min() >= attacker.low
            assert attacked.max() <= attacker.high
            distance = float((attacked - x).abs().max())
            assert distance == pytest.approx(0.1, abs=1e-6)
            assert not attacked.requires_grad

    def test_attacks_mislead_far_more_than_noise(self, attacker):
        x = torch.from_numpy(IMAGES)
        noise = (x + 0.1 * torch.randn_like(x).sign()).clamp(0, 1)
        attacked = self.attacked(attacker, eps=0.1)
        clean = self.loss(attacker, x)
        gain, gain_of_noise = (self.loss(attacker, z) - clean for z in (attacked, noise))
        assert gain > 5 * abs(gain_of_noise)

    def test_it_trains_on_attacks_in_train_mode_and_attacks_in_eval_mode(self):
        classifier = AdversarialNetClassifier(Watched, max_epochs=1, batch_size=20, n_steps=3)
        classifier.fit(IMAGES, LABELS)
        assert classifier.module_.modes == [False, False, False, True] * 2
        # One batch, one update: an attack leaves no statistics.
        assert int(classifier.module_.layers[1].num_batches_tracked) == 2

    def test_attacks_leave_the_network_alone(self, attacker):
        module = attacker.module_.train()
        module.head[0].eval()
        for parameter in module.parameters():
            parameter.grad = torch.ones_like(parameter)
        before = {name: value.clone() for name, value in module.state_dict().items()}
        modes = [part.training for part in module.modules()]
        self.attacked(attacker)
        assert [part.training for part in module.modules()] == modes
        assert all(torch.equal(before[n], v) for n, v in module.state_dict().items())
        assert all((p.grad == 1).all() and p.requires_grad for p in module.parameters())
