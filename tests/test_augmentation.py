"""Standard augmentation of training batches, row by row."""

import copy
import pickle
import runpy
import sys

import numpy as np
import pytest
import torch
from helpers.tiny_nets import (
    Recorder,
    X,
    augmented,
    dense_net,
    net,
    recorder_of,
    row_set,
    y,
)
from sklearn.base import clone
from skorch.dataset import ValidSplit
from torch.utils.data import DataLoader, default_collate
from torchvision.transforms import v2

from tsynd_sk import augmentation
from tsynd_sk.augmentation import TransformRows, standard_transform
from tsynd_sk.autoencoders._net import AutoencoderNet

RNG = np.random.default_rng(0)
GREY = RNG.random((1, 12, 10), dtype=np.float32)
COLOUR = RNG.random((3, 12, 10), dtype=np.float32)
ROWS = {
    "grey": GREY,
    "colour": COLOUR,
    "many channels": RNG.random((5, 12, 10), dtype=np.float32),
    "without channels": GREY[0],
    "another range": 40 * COLOUR - 30,
    "float64": COLOUR.astype(np.float64),
    "a tensor": torch.from_numpy(COLOUR),
    "read-only": np.lib.stride_tricks.as_strided(GREY, writeable=False),
}
STILL = {"flip": False, "degrees": 0, "scale": 0, "shift": 0}
ROWS_20, COLUMNS_20 = np.mgrid[-20:21, -20:21].astype(np.float32)


class Negative:
    """Remembers what it is given, and gives the negative."""

    def __init__(self):
        self.seen = []

    def __call__(self, image):
        self.seen.append(image.numpy().copy())
        return 1 - image


def collated(rows, image, n=12, seed=0):
    torch.manual_seed(seed)
    return rows([(image, label) for label in range(n)])


def draws(transform, image, n=200):
    torch.manual_seed(0)
    return np.stack([transform(torch.from_numpy(image)[None])[0].numpy() for _ in range(n)])


def centres(images):
    mass = images.sum((1, 2))
    return np.stack([(images * axis).sum((1, 2)) / mass for axis in (ROWS_20, COLUMNS_20)], 1)


def global_states():
    return torch.get_rng_state().tolist(), np.random.get_state()[1].tolist()  # noqa: NPY002


class TestRows:
    @pytest.mark.parametrize("image", ROWS.values(), ids=ROWS)
    def test_no_two_rows_of_equal_images_are_alike(self, image):
        images, labels = collated(TransformRows(), image)
        assert type(images) is torch.Tensor
        assert images.shape == (12, *image.shape)
        assert images.dtype == getattr(torch, str(image.dtype).removeprefix("torch."))
        assert labels.tolist() == list(range(12))
        assert len(row_set(images)) == 12
        assert row_set(images).isdisjoint(row_set([image]))
        assert images.min() >= min(float(image.min()), 0) - 1e-5
        assert images.max() <= max(float(image.max()), 0) + 1e-5

    @pytest.mark.parametrize("label", [3, np.int64(3), torch.tensor(3), np.float32(0.5)])
    def test_are_joined_with_their_labels_as_torch_does(self, label):
        batch = [(COLOUR, label)] * 4
        expected = default_collate(batch)
        joined = TransformRows(torch.clone)(batch)
        assert type(joined) is type(expected)
        for part, other in zip(joined, expected, strict=True):
            assert type(part) is type(other)
            np.testing.assert_array_equal(part, other)
            assert getattr(part, "dtype", None) == getattr(other, "dtype", None)

    @pytest.mark.parametrize("image", [COLOUR, torch.from_numpy(COLOUR)], ids=["array", "tensor"])
    def test_are_copies_that_may_be_changed_in_place(self, image):
        before = copy.deepcopy(image)
        images, _ = collated(TransformRows(torch.Tensor.zero_), image)
        assert not images.any()
        np.testing.assert_array_equal(image, before)

    def test_equal_seeds_give_equal_rows_and_others_do_not(self):
        for rows in (TransformRows(), TransformRows(v2.TrivialAugmentWide())):
            one, again, other = (collated(rows, COLOUR, seed=seed)[0] for seed in (0, 0, 1))
            np.testing.assert_array_equal(one, again)
            assert not np.array_equal(one, other)


class TestWaysThatAreDocumented:
    def test_through_pil(self):
        way = [v2.ToPILImage(), v2.RandomHorizontalFlip(1), v2.ToImage()]
        rows = TransformRows(v2.Compose([*way, v2.ToDtype(torch.float32, scale=True)]))
        for image in (GREY, COLOUR):
            images, _ = collated(rows, image)
            np.testing.assert_allclose(images[0], image[..., ::-1], atol=1 / 255)

    def test_through_uint8(self):
        to_bytes, back = (v2.ToDtype(t, scale=True) for t in (torch.uint8, torch.float32))
        seen = []
        rows = TransformRows(v2.Compose([to_bytes, lambda x: seen.append(x) or x, back]))
        images, _ = collated(rows, COLOUR)
        assert seen[0].dtype == torch.uint8
        np.testing.assert_allclose(images[0], COLOUR, atol=1 / 255)


@pytest.fixture(scope="module")
def learned():
    """Classifier that was trained on negatives, and validated."""
    estimator = net(
        max_epochs=4,
        iterator_train__collate_fn=TransformRows(Negative()),
        callbacks=[Recorder()],
        train_split=ValidSplit(4),
    )
    return augmented(estimator, warm_up=0.5, refresh_every=2).fit(X, y)


class TestTraining:
    @staticmethod
    def seen(learned):
        return learned.estimator_.iterator_train__collate_fn.transform.seen

    def test_sees_real_and_synthetic_rows_transformed(self, learned):
        seen, recorder = self.seen(learned), recorder_of(learned.estimator_)
        assert recorder.n_rows() == [60, 60, 120, 120]
        assert len(seen) == 360
        trained = np.concatenate([recorder.rows(epoch) for epoch in range(4)])
        np.testing.assert_array_equal(trained, 1 - np.stack(seen))
        real = row_set(seen[:60])
        assert real < row_set(X)
        for epoch in (seen[120:240], seen[240:]):
            assert row_set(epoch) > real
            assert len(row_set(epoch) - real) == 60

    def test_validates_and_predicts_on_images_as_they_are(self, learned):
        recorder, n_seen = recorder_of(learned.estimator_), len(self.seen(learned))
        for epoch in range(4):
            assert row_set(recorder.rows(epoch, "valid")) < row_set(X)
        learned.predict(X)
        learned.uncertainty(X[:5])
        learned.synthesizer_.sample(3, random_state=0)
        assert len(self.seen(learned)) == n_seen

    def test_follows_random_state_and_leaves_the_users_generators_alone(self):
        estimator = net(max_epochs=2, iterator_train__collate_fn=TransformRows())
        predicted = []
        for user, random_state in ((1, 0), (2, 0)):
            torch.manual_seed(user)
            before = global_states()
            learned = augmented(estimator, random_state=random_state).fit(X, y)
            assert global_states() == before
            predicted.append(learned.predict_proba(X))
        np.testing.assert_array_equal(predicted[0], predicted[1])

    def test_of_an_autoencoder_has_transformed_images_as_its_targets(self):
        class Kept(torch.nn.MSELoss):
            def forward(self, output, target):
                self.target = target
                return super().forward(output, target)

        autoencoder = AutoencoderNet(
            criterion=Kept,
            max_epochs=1,
            epoch_size=16,
            train_split=None,
            iterator_train__collate_fn=TransformRows(lambda image: image + 10),
        ).fit(X[:, None])
        assert autoencoder.criterion_.target.min() >= 10


class TestWorkers:
    def test_draw_apart_and_by_the_seed(self):
        loader = DataLoader(
            [(COLOUR, 0)] * 24, batch_size=4, num_workers=2, collate_fn=TransformRows()
        )
        passes = []
        for seed in (0, 0, 1):
            torch.manual_seed(seed)
            passes.append(torch.cat([images for images, _ in loader]))
        assert len(row_set(passes[0])) == 24
        np.testing.assert_array_equal(passes[0], passes[1])
        assert row_set(passes[0]).isdisjoint(row_set(passes[2]))


class TestCopies:
    @pytest.mark.parametrize(
        "copied",
        [
            lambda rows: pickle.loads(pickle.dumps(rows)),
            lambda rows: clone(net(iterator_train__collate_fn=rows)).iterator_train__collate_fn,
        ],
        ids=["pickle", "clone"],
    )
    def test_transform_alike(self, copied):
        rows = TransformRows()
        other = copied(rows)
        assert repr(other) == repr(rows)
        np.testing.assert_array_equal(collated(other, COLOUR)[0], collated(rows, COLOUR)[0])

    def test_are_told_apart_by_what_is_shown(self):
        shown = repr(TransformRows())
        assert "\n" not in shown
        assert shown.startswith("TransformRows(Compose( RandomHorizontalFlip(p=0.5) RandomAffine(")
        assert "degrees=[-15.0, 15.0]" in shown
        assert repr(TransformRows(v2.RandomInvert(0.25))) == "TransformRows(RandomInvert(p=0.25))"
        assert repr(TransformRows(draws)) == "TransformRows(draws)"


class TestRefusals:
    @pytest.mark.parametrize(
        ("transform", "told"),
        [
            (0.5, "must be callable.*a float"),
            ([v2.Identity()], "must be callable.*a list.*Compose"),
        ],
    )
    def test_of_what_is_no_transform(self, transform, told):
        with pytest.raises(TypeError, match=told):
            TransformRows(transform)

    def test_of_rows_of_a_table(self):
        learned = augmented(dense_net(iterator_train__collate_fn=TransformRows()))
        learned.set_params(synthetic_ratio=0)
        told = r"rows have shape \(64,\).*TargetedSynthesizer\(image_shape="
        with pytest.raises(ValueError, match=told):
            learned.fit(X.reshape(80, 64), y)
        learned.set_params(estimator=net(max_epochs=1, iterator_train__collate_fn=TransformRows()))
        learned.set_params(synthesizer__image_shape=(8, 8))
        assert learned.fit(X.reshape(80, 64), y).image_shape_ == (1, 8, 8)

    @pytest.mark.parametrize(
        ("transform", "told"),
        [
            (
                v2.CenterCrop((6, 10)),
                r"CenterCrop must .*\(3, 12, 10\).* got torch.float32, \(3, 6, 10\)",
            ),
            (lambda image: image[0], r"<lambda> must .* got torch.float32, \(12, 10\)"),
            (
                lambda image: image.no_such_thing,
                r"<lambda> fails on an image of shape \(3, 12, 10\) and dtype torch.float32",
            ),
            (v2.ToPILImage(), "ToPILImage must return a Tensor .* got a Image"),
        ],
    )
    def test_of_transforms_that_change_the_shape(self, transform, told):
        with pytest.raises(ValueError, match=told):
            TransformRows(transform)([(COLOUR, 0)])


class TestStandardTransform:
    def test_without_anything_leaves_images_as_they_are(self):
        for fill in (0.0, 0.5):
            same = standard_transform(**STILL, fill=fill)(torch.from_numpy(COLOUR))
            np.testing.assert_array_equal(same, COLOUR)

    def test_flips_every_second_image(self):
        images = draws(standard_transform(**{**STILL, "flip": True}), GREY[0])
        mirrored = (images == GREY[0, :, ::-1]).all((1, 2))
        assert (mirrored | (images == GREY[0]).all((1, 2))).all()
        assert 0.4 < mirrored.mean() < 0.6

    def test_turns_as_far_as_it_is_told(self):
        bar = np.exp(-(ROWS_20**2) / 4 - COLUMNS_20**2 / 50)
        images = draws(standard_transform(**{**STILL, "degrees": 30}), bar)
        across = (images * ROWS_20 * COLUMNS_20).sum((1, 2))
        along = (images * (COLUMNS_20**2 - ROWS_20**2)).sum((1, 2))
        angles = np.degrees(np.arctan2(2 * across, along)) / 2
        assert 27 < angles.max() < 30.5
        assert -30.5 < angles.min() < -27

    def test_scales_as_far_as_it_is_told(self):
        disc = np.exp(-(ROWS_20**2 + COLUMNS_20**2) / 50)
        images = draws(standard_transform(**{**STILL, "scale": 0.3}), disc)
        sizes = np.sqrt(images.sum((1, 2)) / disc.sum())
        assert 0.69 < sizes.min() < 0.73
        assert 1.27 < sizes.max() < 1.31

    def test_shifts_as_far_as_it_is_told(self):
        disc = np.exp(-(ROWS_20**2 + COLUMNS_20**2) / 10)
        moved = centres(draws(standard_transform(**{**STILL, "shift": 0.1}), disc))
        assert set(moved.round(2).ravel()) == {-4, -3, -2, -1, 0, 1, 2, 3, 4}
        assert abs(np.corrcoef(moved.T)[0, 1]) < 0.2

    @pytest.mark.parametrize("fill", [0.0, 1.0, -3.0])
    def test_moves_as_if_the_fill_went_on_outside(self, fill):
        transform = standard_transform(degrees=40, scale=0.3, shift=0, fill=fill)
        image = RNG.random((41, 41), dtype=np.float32)
        padded = np.pad(image, 10, constant_values=fill)
        expected = draws(transform, padded, 20)[:, 10:-10, 10:-10]
        np.testing.assert_allclose(draws(transform, image, 20), expected, atol=1e-4)

    @pytest.mark.parametrize(
        ("params", "error"),
        [
            ({"flip": "yes"}, TypeError),
            ({"degrees": -1}, ValueError),
            ({"scale": 0.6}, ValueError),
            ({"shift": 0.7}, ValueError),
            ({"fill": "black"}, TypeError),
            ({"fill": np.nan}, ValueError),
        ],
        ids=str,
    )
    def test_refuses_parameters_out_of_range(self, params, error):
        [name] = params
        with pytest.raises(error, match=name):
            standard_transform(**params)


def test_torchvision_is_loaded_only_where_it_is_used(monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
        monkeypatch.setitem(sys.modules, name, None)
    again = runpy.run_path(augmentation.__file__)
    assert repr(again["TransformRows"](Negative())).startswith("TransformRows(")
    with pytest.raises(ModuleNotFoundError, match="torchvision"):
        again["TransformRows"]()
