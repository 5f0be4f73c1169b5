"""How real and synthetic rows come to a net: samplers, loaders and workers of the user's own."""

import numpy as np
import pytest
from helpers.tiny_nets import (
    Recorder,
    X,
    augmented,
    own_net,
    recorder_of,
    refreshed,
    row_set,
    synthesizer,
    y,
)
from helpers.ways import IMAGES, both_ways, inside
from skorch.dataset import Dataset
from torch import nn
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    RandomSampler,
    SequentialSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
)

from tsynd_sk._skorch import scoped_seed
from tsynd_sk._utils._batches import Batches
from tsynd_sk.classifiers import NetClassifier
from tsynd_sk.synthesis._training_data import (
    AugmentingIterator,
    SourceSampler,
    joined_rows,
)

# Every row its own image, also where it is not known which class it is of.
KEEP = {"objective": "random", "label_policy": "keep"}


def recorded(train, given=None, batches="apart", **params):
    net = own_net(**{"train_split": None, "callbacks": [Recorder()], **params})
    return train(net, given or synthesizer(**KEEP), batches=batches)


def n_batches(net):
    return [len(row["batches"]) for row in net.history]


def drawn(sampler):
    """Numbers of real rows and of synthetic ones that come in an epoch."""
    rows, n_real = np.array(list(sampler)), sampler.n_real
    assert len(rows) == len(sampler)
    return rows[rows < n_real], rows[rows >= n_real] - n_real


class TestSourceSampler:
    def test_draws_as_large_a_share_of_synthetic_rows(self):
        sources = np.repeat(np.arange(20), 3)
        real, synthetic = drawn(SourceSampler(SubsetRandomSampler(range(8)), 20, sources))
        assert sorted(real) == list(range(8))
        # Each image of each of these sources once.
        assert sorted(synthetic) == list(range(24))

    def test_what_is_never_drawn_is_no_source(self):
        sources = np.tile(np.arange(20), 2)
        chances = np.where(np.arange(20) < 5, 1.0, 0.0)
        sampler = SourceSampler(WeightedRandomSampler(chances, 400), 20, sources)
        with scoped_seed(0):
            real, synthetic = drawn(sampler)
        assert len(synthetic) == 800
        assert set(real) == set(sources[synthetic]) == set(range(5))
        assert set(synthetic) == {0, 1, 2, 3, 4, 20, 21, 22, 23, 24}

    def test_probabilities_hold_for_synthetic_rows(self):
        # The last two rows have no images; of one row there are three.
        sources = np.array([0, 1, 1, 1, 2, 3])
        chances = np.array([1, 2, 3, 4, 5, 5]) / 20
        sampler = SourceSampler(WeightedRandomSampler(chances, 6000), 6, sources)
        with scoped_seed(0):
            _, synthetic = drawn(sampler)
        shares = np.bincount(sources[synthetic]) / 6000
        np.testing.assert_allclose(shares, [0.1, 0.2, 0.3, 0.4], atol=0.03)
        # All images of a source come as often.
        counts = np.bincount(synthetic)
        assert counts[1:4].max() - counts[1:4].min() <= 1

    def test_without_images_of_what_is_drawn_real_rows_come_alone(self):
        sampler = SourceSampler(SubsetRandomSampler([1, 2]), 4, np.array([3, 3]))
        assert sorted(sampler) == [1, 2]


class TestSamplers:
    @both_ways
    def test_that_balance_classes_balance_synthetic_ones_too(self, train):
        rare = y > 1
        chances = np.where(rare, 0.1 / rare.sum(), 0.9 / (~rare).sum())
        sampler = WeightedRandomSampler(chances, 400)
        net = recorded(train, iterator_train__sampler=sampler, max_epochs=4, batch_size=100)
        recorder = recorder_of(net)
        assert recorder.n_rows() == [400, 800, 800, 800]
        assert net.iterator_train__sampler.num_samples == 400
        real, targets = row_set(X), recorder.targets(3)
        is_real = np.array([row.tobytes() in real for row in recorder.rows(3)])
        assert is_real.sum() == 400
        for part in (is_real, ~is_real):
            assert (targets[part] > 1).mean() == pytest.approx(0.1, abs=0.05)

    def test_of_a_subset_keep_the_others_out(self):
        chosen = np.arange(0, 80, 4)
        sampler = SubsetRandomSampler(chosen.tolist())
        reconstruct = synthesizer(objective="reconstruction", keep_detail=False)
        net = recorded(inside, reconstruct, iterator_train__sampler=sampler)
        recorder = recorder_of(net)
        assert recorder.n_rows() == [20] * 2 + [40] * 6
        real = row_set(X[chosen])
        assert row_set(recorder.rows(0)) == real
        synthetic = row_set(recorder.rows(7)) - row_set(X)
        # One reconstruction of each.
        assert len(synthetic) == 20
        assert row_set(recorder.rows(7)) - synthetic == real
        np.testing.assert_array_equal(np.bincount(recorder.targets(7)), 2 * np.bincount(y[chosen]))

    def test_are_reproducible(self):
        first, second = (
            recorded(inside, iterator_train__sampler=RandomSampler(range(80)), max_epochs=4)
            for _ in range(2)
        )
        for epoch in range(4):
            one, other = (recorder_of(net).rows(epoch) for net in (first, second))
            np.testing.assert_array_equal(one, other)
        assert (recorder_of(first).rows(2) != recorder_of(first).rows(3)).any()

    @both_ways
    def test_of_batches_are_refused_before_training(self, train):
        batches = BatchSampler(SequentialSampler(range(80)), 16, drop_last=False)
        net = own_net(iterator_train__batch_sampler=batches, callbacks=[Recorder()])
        with pytest.raises(ValueError, match=r"batch_sampler knows real rows.*train__sampler"):
            train(net)
        if train is inside:
            assert len(net.history) == 0


def shuffling_loader(dataset, batch_size, **kwargs):
    """A loader of the user's own, with a sampler over the rows that there are at the moment."""
    return DataLoader(dataset, batch_size, sampler=RandomSampler(range(len(dataset))), **kwargs)


def loader_by_batches(dataset, batch_size):
    batches = BatchSampler(SequentialSampler(range(len(dataset))), batch_size, drop_last=False)
    return DataLoader(dataset, batch_sampler=batches)


class TestLoaders:
    @both_ways
    @pytest.mark.parametrize("loader", [shuffling_loader, loader_by_batches])
    def test_of_the_users_own_see_synthetic_rows(self, train, loader):
        net = recorded(train, iterator_train=loader)
        recorder = recorder_of(net)
        assert recorder.n_rows() == [80] * 2 + [160] * 6
        assert len(row_set(recorder.rows(7))) == 160
        assert net.iterator_train is loader

    @pytest.mark.parametrize(
        "order",
        [{}, {"iterator_train__shuffle": True}, {"iterator_train__sampler": RandomSampler(X)}],
        ids=["in order", "shuffled", "by a sampler"],
    )
    def test_have_batches_of_real_or_of_synthetic_rows(self, order):
        recorder, real = recorder_of(recorded(inside, batch_size=30, **order)), row_set(X)
        kinds = []
        for rows, _ in recorder.train_[2]:
            kinds.append({row.numpy().tobytes() in real for row in rows})
        sizes = [len(rows) for rows, _ in recorder.train_[2]]
        # Of 80 rows each, 20 are left.
        assert sizes == [30] * 5 + [10]
        assert sorted(map(len, kinds[:4])) == [1] * 4
        assert sum(kind == {True} for kind in kinds[:4]) == 2

    def test_without_shuffle_spread_synthetic_rows_among_real_ones(self):
        net = recorded(inside, batches="mixed")
        real = row_set(X)
        rows = [row.tobytes() in real for row in recorder_of(net).rows(2)]
        assert rows == [True, False] * 80
        np.testing.assert_array_equal(recorder_of(net).rows(2)[::2], recorder_of(net).rows(0))
        assert "iterator_train__sampler" not in net.get_params(deep=False)

    def test_all_rows_in_one_batch(self):
        net = recorded(inside, batch_size=-1)
        assert n_batches(net) == [1] * 8
        assert recorder_of(net).n_rows() == [80] * 2 + [160] * 6

    def test_last_batch_dropped(self):
        net = recorded(inside, batch_size=64, iterator_train__drop_last=True)
        assert n_batches(net) == [1] * 2 + [2] * 6
        assert recorder_of(net).n_rows() == [64] * 2 + [128] * 6

    def test_workers_that_stay_see_exchanged_rows(self):
        net = own_net(
            train_split=None,
            callbacks=[Recorder()],
            max_epochs=3,
            iterator_train__num_workers=1,
            iterator_train__persistent_workers=True,
        )
        net = inside(net, synthesizer(**KEEP), warm_up=0.3, refresh_every=1)
        assert refreshed(net.history) == [1, 2]
        recorder = recorder_of(net)
        first, second = (row_set(recorder.rows(epoch)) - row_set(X) for epoch in (1, 2))
        assert len(first) == len(second) == 80
        assert not first & second

    @both_ways
    def test_that_fail_leave_no_trace(self, train):
        def failing(dataset, batch_size):
            raise RuntimeError("on purpose")

        net = own_net(iterator_train=failing)
        params = net.get_params(deep=False).keys()
        with pytest.raises(RuntimeError, match="on purpose"):
            train(net)
        assert net.get_params(deep=False).keys() == params
        assert net.iterator_train is failing


def test_a_split_that_fails_is_no_hindrance_to_the_next_training():
    def failing(dataset, y=None):
        raise RuntimeError("on purpose")

    net = own_net(train_split=failing, callbacks=[Recorder()])
    with pytest.raises(RuntimeError, match="on purpose"):
        inside(net)
    net.set_params(train_split=None).fit(IMAGES, y)
    assert recorder_of(net).n_rows() == [80] * 2 + [160] * 6
    assert net.iterator_train is DataLoader


def test_sampler_over_a_training_part():
    sampler = WeightedRandomSampler(np.ones(64), 64)
    net = own_net(iterator_train__sampler=sampler, callbacks=[Recorder()])
    learned = augmented(net).fit(X, y)
    recorder = recorder_of(learned.estimator_)
    assert recorder.n_rows() == [64] * 2 + [128] * 6
    held_out = row_set(recorder.rows(0, "valid"))
    for epoch in range(8):
        assert not held_out & row_set(recorder.rows(epoch))


@pytest.mark.parametrize(("n_real", "n_synthetic"), [(10, 5), (8, 8), (7, 0), (1, 0)])
@pytest.mark.parametrize("drop_last", [False, True])
def test_batches_apart_are_those_that_a_loader_counts(n_real, n_synthetic, drop_last):
    order = np.random.default_rng(0).permutation(n_real + n_synthetic)
    batches = Batches(order, 4, drop_last, n_real)
    drawn = list(batches)
    plain = list(BatchSampler(order, 4, drop_last))
    assert [len(batch) for batch in drawn] == [len(batch) for batch in plain]
    assert len(batches) == len(drawn)
    rows = [row for batch in drawn for row in batch]
    assert len(set(rows)) == len(rows)
    mixed = [i for i, batch in enumerate(drawn) if len({row >= n_real for row in batch}) == 2]
    assert set(mixed) <= {len(drawn) - 2, len(drawn) - 1}


@pytest.mark.parametrize(("n_real", "n_synthetic"), [(6, 3), (7, 6), (8, 1), (9, 0)])
@pytest.mark.parametrize("apart", [False, True])
def test_a_single_row_that_is_left_joins_the_batch_before_it(n_real, n_synthetic, apart):
    order = np.random.default_rng(0).permutation(n_real + n_synthetic)
    batches = Batches(order, 4, n_real=n_real if apart else None)
    drawn = list(batches)
    assert [len(batch) for batch in drawn] == [4] * (len(batches) - 1) + [5]
    assert sorted(row for batch in drawn for row in batch) == list(range(len(order)))
    dropped = Batches(order, 4, True, n_real=n_real if apart else None)
    assert [len(batch) for batch in dropped] == [4] * len(dropped)
    assert len(dropped) == len(batches)
    # Nobody wants another batch where each is of one row.
    assert [len(batch) for batch in Batches(order, 1)] == [1] * len(order)


class Normalising(nn.Module):
    """Refuses to learn from a single row."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Flatten(), nn.BatchNorm1d(64), nn.Dropout(0.5), nn.Linear(64, 10)
        )

    def forward(self, x):
        return self.layers(x)


class TestBatchNormalisation:
    @pytest.mark.parametrize("batches", ["apart", "mixed"])
    # Of 43 rows and 22 more, or of the real ones alone, one is left.
    @pytest.mark.parametrize(("n", "batch_size"), [(43, 64), (65, 32)])
    def test_learns_from_all_batches(self, batches, n, batch_size):
        params = {"max_epochs": 2, "module": Normalising, "batch_size": batch_size}
        net = own_net(train_split=None, callbacks=[Recorder()], **params)
        rows = {"synthetic_ratio": 0.5, "warm_up": 0.5, "batches": batches}
        inside(net, synthesizer(**KEEP), (IMAGES[:n], y[:n]), **rows)
        assert recorder_of(net).n_rows() == [n, n + round(n / 2)]
        assert n_batches(net)[1] == (n + round(n / 2)) // batch_size

    def test_learns_from_all_batches_of_the_default_net(self):
        net = NetClassifier(Normalising, max_epochs=1, batch_size=16, callbacks=[Recorder()])
        net.fit(IMAGES[:65], y[:65])
        assert [row["train_batch_size"] for row in net.history[0, "batches"]] == [16] * 3 + [17]
        assert recorder_of(net).n_rows() == [65]


def test_synthetic_rows_follow_the_real_ones_in_their_types():
    real = Dataset(np.arange(5, dtype=np.float32)[:, None], np.zeros(5, dtype=np.int64))
    dataset = joined_rows(real, np.full((2, 1), 7.0), np.ones(2))
    assert len(dataset) == 7
    image, label = dataset[6]
    assert (image.dtype, label.dtype) == (np.float32, np.int64)
    assert (image.tolist(), label.tolist()) == ([7.0], 1)
    assert [int(dataset[i][0][0]) for i in (0, 4, 5)] == [0, 4, 7]


def test_an_iterator_takes_the_place_of_the_nets_own_while_it_is_made():
    net = own_net(iterator_train__drop_last=True, batch_size=2).initialize()
    rows = AugmentingIterator(net, apart=True)
    dataset = Dataset(np.arange(5, dtype=np.float32)[:, None], np.zeros(5, dtype=np.int64))
    iterator = net.get_iterator(dataset, training=True)
    assert iterator is rows
    rows.detach()
    assert net.iterator_train is DataLoader
    assert len(iterator) == len(list(iterator)) == 2
    rows.exchange(np.full((3, 1), 7.0), np.ones(3), np.array([0, 1, 2]))
    assert len(iterator) == 4
    batches = [sorted(x.flatten().tolist()) for x, _ in iterator]
    assert all(batch == [7, 7] or 7 not in batch for batch in batches[:3])
    # What the user has set in the meantime stays.
    net.iterator_train = loader_by_batches
    rows.detach()
    assert net.iterator_train is loader_by_batches
