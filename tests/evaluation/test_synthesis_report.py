import copy
import math

import numpy as np
import pytest
import torch
from helpers.small import digits, quick
from helpers.tiny_nets import augmented, dense_net, dense_synthesizer, own_net
from scipy.linalg import sqrtm
from sklearn.base import BaseEstimator
from sklearn.covariance import LedoitWolf
from sklearn.exceptions import NotFittedError
from torch import nn

from tsynd_sk.evaluation import SynthesisReport, synthesis_report
from tsynd_sk.evaluation._synthesis_report import (
    frechet_distance,
    last_layer_features,
    nearest,
    share_within,
)

X, y = digits(120)


@pytest.fixture(scope="module")
def fitted():
    return quick().fit(X, y)


@pytest.fixture
def altered(fitted):
    """Make a synthesizer whose samples are changed before anyone sees them."""

    def make(change, synthesizer=fitted):
        twin = copy.copy(synthesizer)

        def sample(*args, **kwargs):
            X_new, y_new, info = synthesizer.sample(*args, **kwargs)
            changed = change(X_new.copy(), y_new.copy())
            return *changed, info

        twin.sample = sample
        return twin

    return make


def found(report):
    """Names and counts of what is not as it must be."""
    return {name: count for name, count in report.diagnostics.items() if count}


class TestFrechet:
    @pytest.mark.parametrize("shape", [(60, 5), (12, 40)], ids=["many rows", "few rows"])
    def test_it_is_that_of_gaussians_with_shrunk_covariances(self, shape):
        rng = np.random.default_rng(0)
        one, other = rng.normal(0, 1, (2, *shape)) * rng.uniform(1, 3, (2, 1, shape[1]))
        fits = [LedoitWolf().fit(rows) for rows in (one, other)]
        first, second = (fit.covariance_ for fit in fits)
        gap = np.square(fits[0].location_ - fits[1].location_).sum()
        expected = gap + np.trace(first + second - 2 * sqrtm(first @ second).real)
        assert frechet_distance(one, other) == pytest.approx(expected)
        assert frechet_distance(other, one) == pytest.approx(expected)
        assert frechet_distance(one, one) == pytest.approx(0, abs=1e-9)
        assert frechet_distance(one, one + 1) == pytest.approx(shape[1])


def precision_recall(real, synthetic, k):
    return share_within(synthetic, real, k), share_within(real, synthetic, k)


class TestPrecisionRecall:
    def test_identical_and_disjoint_sets(self):
        rows = np.random.default_rng(0).normal(size=(40, 3))
        assert precision_recall(rows, rows, 3) == (1, 1)
        assert precision_recall(rows, rows + 100, 3) == (0, 0)

    def test_by_hand_on_a_line(self):
        # With one neighbour, balls around 0, 1, 4 reach 1, 1 and 3: all from -1 to 7.
        real, synthetic = np.array([[0.0], [1], [4]]), np.array([[-1.0], [6.5], [7.5], [30]])
        # Balls around the others reach 7.5, 1, 1 and 22.5: from -8.5 to 8.5 and from 7.5 on.
        precision, recall = precision_recall(real, synthetic, 1)
        assert precision == 0.5
        assert recall == 1
        assert precision_recall(synthetic, real, 1) == (1, 0.5)


class TestNearest:
    def test_distances_are_exact_and_parts_do_not_matter(self):
        rng = np.random.default_rng(0)
        # Far from zero, where squares of sums lose their digits.
        rows = (1000 + rng.random((50, 30))).astype(np.float32)
        queries = rows[[7, 31]].copy()
        queries[1, 0] += 0.25
        for parts in ([rows], [rows[:20], rows[20:21], rows[21:]]):
            index, distance = nearest(queries, parts)
            assert index.tolist() == [7, 31]
            assert distance.tolist() == [0, 0.25]

    def test_one_row_may_be_left_out(self):
        rows = np.array([[0.0], [0.0], [3.0], [7.0]])
        index, distance = nearest(rows, [rows[:1], rows[1:]], but=np.arange(4))
        assert index[:2].tolist() == [1, 0]
        assert distance.tolist() == [0, 0, 3, 4]
        assert nearest(rows[:1], [rows[:1]], but=np.array([0]))[1] == math.inf


class TestFeatures:
    def test_what_the_last_linear_layer_receives(self):
        net = own_net(max_epochs=1).fit(X[:, None], y)
        x = torch.from_numpy(X[:30, None])
        net.module_.train()
        hidden = net.module_.layers[:3](x).detach()
        assert (hidden == 0).any()
        features = last_layer_features(net, x.split(7))
        np.testing.assert_allclose(features, hidden.numpy(), atol=1e-6)
        assert net.module_.training
        assert not any(part._forward_hooks for part in net.module_.modules())


class TestDiagnostics:
    def test_honest_samples_are_perfect(self, fitted):
        report = synthesis_report(fitted, X, y, random_state=0)
        assert report.is_valid
        assert found(report) == {}
        assert (report.n_samples, report.n_real) == (120, 120)

    def test_planted_duplicates_and_copies_are_counted(self, altered):
        def plant(X_new, y_new):
            X_new[[5, 9]] = X_new[2]
            X_new[[11, 12, 13]] = X[[40, 41, 40]]
            # Zeros of both signs are equal.
            X_new[3] = np.where(X[7] == 0, np.float32(-0.0), X[7])
            return X_new, y_new

        report = synthesis_report(altered(plant), X, y, random_state=0)
        assert found(report) == {"duplicate": 3, "copy": 4}
        assert not report.is_valid

    def test_values_beyond_the_range_are_counted(self, altered):
        def plant(X_new, y_new):
            X_new[2, 0, 0] = X.max() + 0.01
            X_new[[3, 4], 5, 5] = X.min() - 0.01
            return X_new, y_new

        report = synthesis_report(altered(plant), X, y, n_samples=40, random_state=0)
        assert found(report) == {"out of range": 3}
        assert all(math.isfinite(value) for value in report.quality.values())

    def test_labels_are_compared_with_those_of_the_sources(self, altered):
        def plant(X_new, y_new):
            y_new[:3] = (y_new[:3] + 1) % 4
            y_new[7] = 99
            return X_new, y_new

        report = synthesis_report(altered(plant), X, y)
        assert found(report) == {"other label": 4}

    def test_columns_of_a_table_have_ranges_and_units_of_their_own(self, altered):
        rng = np.random.default_rng(0)
        table = rng.normal(size=(60, 5)) * [1, 10, 100, 1000, 1]
        labels = (table[:, 0] > 0).astype(int)
        synthesizer = dense_synthesizer(classifier=dense_net(max_epochs=1)).fit(table, labels)

        def plant(X_new, y_new):
            X_new[4, 0] = table[:, 0].max() + 1
            return X_new, y_new

        assert synthesis_report(synthesizer, table, labels).is_valid
        report = synthesis_report(altered(plant, synthesizer), table, labels)
        assert found(report) == {"out of range": 1}
        scaled = table / table.std(axis=0)
        among = np.sqrt(((scaled[:, None] - scaled) ** 2).mean(axis=-1))
        np.fill_diagonal(among, np.inf)
        expected = np.median(among.min(axis=1))
        assert report.quality["nearest_real_of_real"] == pytest.approx(expected, rel=1e-4)

    def test_uint8_on_disk_is_honest(self, tmp_path):
        np.save(tmp_path / "X.npy", (X * 255).astype(np.uint8))
        images = np.load(tmp_path / "X.npy", mmap_mode="r")
        report = synthesis_report(quick().fit(images, y), images, y, n_samples=30)
        assert found(report) == {}
        assert all(math.isfinite(value) for value in report.quality.values())


class TestQuality:
    def test_it_is_what_the_synthesizer_tells(self, fitted):
        report = synthesis_report(fitted, X, y, n_samples=50, random_state=5)
        info = fitted.sample(50, random_state=5, return_info=True)[2]
        gain = info.uncertainty - info.uncertainty_source
        expected = {
            "mutual_info_source": info.uncertainty_source.mean(),
            "mutual_info": info.uncertainty.mean(),
            "mutual_info_gain": gain.mean(),
            "rose": (gain > 0).mean(),
            "label_agreement": info.label_agreement.mean(),
            "reconstruction_error": info.reconstruction_error.mean(),
            "displacement": info.displacement.mean(),
        }
        assert {name: report.quality[name] for name in expected} == pytest.approx(expected)
        assert report.quality["mutual_info_gain"] > 0
        labels = y[info.source_index]
        assert [row["label"] for row in report.by_class] == [0, 1, 2, 3]
        for row in report.by_class:
            rows = labels == row["label"]
            assert row["n_samples"] == rows.sum()
            assert row["mutual_info_gain"] == pytest.approx(gain[rows].mean())
            assert row["label_agreement"] == pytest.approx(info.label_agreement[rows].mean())

    def test_nearest_distances_are_those_of_a_plain_search(self, fitted):
        report = synthesis_report(fitted, X, y, random_state=5)
        X_new, _, info = fitted.sample(120, random_state=5, return_info=True)
        flat, real = X_new.reshape(120, 64).astype(float), X.reshape(120, 64).astype(float)
        to_real = np.sqrt(((flat[:, None] - real) ** 2).mean(axis=-1))
        among_real = np.sqrt(((real[:, None] - real) ** 2).mean(axis=-1))
        np.fill_diagonal(among_real, np.inf)
        neighbour, distance = to_real.argmin(axis=1), to_real.min(axis=1)
        alone = among_real.min(axis=1)
        expected = {
            "nearest_real": np.median(distance),
            "nearest_real_of_real": np.median(alone),
            "authenticity": np.mean(distance >= alone[neighbour]),
            "nearest_is_source": np.mean(neighbour == info.source_index),
        }
        assert {n: report.quality[n] for n in expected} == pytest.approx(expected, rel=1e-5)
        assert 0 < report.quality["nearest_is_source"] <= 1

    def test_memorised_samples_show(self, altered, fitted):
        rng = np.random.default_rng(0)

        def memorise(X_new, y_new):
            X_near = np.clip(X + rng.normal(0, 1e-3, X.shape), X.min(), X.max())
            return X_near.astype(X.dtype), y_new

        honest = synthesis_report(fitted, X, y, random_state=0).quality
        report = synthesis_report(altered(memorise), X, y, random_state=0)
        assert report.is_valid
        assert report.quality["authenticity"] == 0
        assert report.quality["nearest_real"] < honest["nearest_real"] / 20
        assert report.quality["precision"] == report.quality["recall"] == 1
        assert report.quality["frechet_distance"] < honest["frechet_distance_of_real"]

    def test_distributions_are_compared_in_the_space_of_the_last_layer(self, fitted):
        quality = synthesis_report(fitted, X, y, random_state=5).quality
        X_new = fitted.sample(120, random_state=5)[0]
        real, synthetic = (
            last_layer_features(fitted.classifier_, torch.from_numpy(images[:, None]).split(50))
            for images in (X, X_new)
        )
        expected = [frechet_distance(real, synthetic), *precision_recall(real, synthetic, 3)]
        names = ("frechet_distance", "precision", "recall")
        assert [quality[name] for name in names] == pytest.approx(expected, rel=1e-4)
        # Two halves of the same images differ by chance alone.
        assert 0 < quality["frechet_distance_of_real"] < quality["frechet_distance"] * 10

    def test_few_samples_are_said_to_be_few(self, fitted):
        report = synthesis_report(fitted, X, y, n_samples=3)
        assert [name for name, value in report.quality.items() if math.isnan(value)] == [
            "frechet_distance",
            "frechet_distance_of_real",
            "precision",
            "recall",
        ]
        assert "more than 3 images; there are 3" in report.notes[0]
        assert "needs 10 images at least; there are 3" in report.notes[1]
        more = synthesis_report(fitted, X, y, n_samples=15)
        assert math.isnan(more.quality["frechet_distance_of_real"])
        assert math.isfinite(more.quality["frechet_distance"])
        assert "15 images are few for 16 features" in more.notes[0]

    def test_a_classifier_without_a_last_layer_has_no_feature_space(self):
        class Bare(nn.Module):
            def __init__(self):
                super().__init__()
                self.weight = nn.Parameter(torch.zeros(64, 4))
                self.dropout = nn.Dropout()

            def forward(self, x):
                return self.dropout(x.flatten(1)) @ self.weight

        synthesizer = quick().set_params(classifier=own_net(module=Bare, max_epochs=1))
        report = synthesis_report(synthesizer.fit(X, y), X, y, n_samples=20)
        assert math.isnan(report.quality["precision"])
        assert math.isfinite(report.quality["authenticity"])
        assert "no feature space to compare distributions in: Bare must end" in report.notes[0]


class TestReport:
    def test_equal_seeds_give_equal_reports(self, fitted):
        first, again, other = (
            synthesis_report(fitted, X, y, n_samples=30, random_state=seed) for seed in (1, 1, 2)
        )
        assert first.quality == again.quality
        assert first.quality != other.quality
        by_default = [synthesis_report(fitted, X, y, n_samples=30).quality for _ in range(2)]
        assert by_default[0] == by_default[1]

    def test_global_generators_and_the_classifier_are_left_alone(self, fitted):
        state = torch.get_rng_state()
        weights = copy.deepcopy(fitted.classifier_.module_.state_dict())
        synthesis_report(fitted, X, y, n_samples=20)
        assert torch.equal(torch.get_rng_state(), state)
        for name, value in fitted.classifier_.module_.state_dict().items():
            assert torch.equal(value, weights[name])

    def test_gradients_may_be_switched_off(self, fitted):
        expected = synthesis_report(fitted, X, y, n_samples=30).quality
        with torch.inference_mode():
            assert synthesis_report(fitted, X, y, n_samples=30).quality == expected

    def test_a_classifier_lends_its_synthesizer(self):
        labels = np.array(["zero", "one", "two", "three"])[y]
        classifier = augmented(own_net(module__n_out=4, max_epochs=4)).fit(X, labels)
        report = synthesis_report(classifier, X, labels, n_samples=20)
        assert report.is_valid
        assert [row["label"] for row in report.by_class] == ["one", "three", "two", "zero"]

    def test_frame_and_text_tell_everything(self, fitted):
        report = synthesis_report(fitted, X, y, n_samples=32)
        frame = report.to_frame()
        values = {**report.diagnostics, **report.quality}
        assert dict(zip(frame.name, frame.value, strict=True)) == values
        assert frame.part.tolist() == ["diagnostic"] * 4 + ["quality"] * len(report.quality)
        assert frame.meaning.str.len().min() > 5
        text = str(report)
        assert text.startswith("32 synthetic and 120 real images")
        for part in (*values, *report.notes, "which have to be 0: perfect", "as confidential"):
            assert part in text
        wrong = SynthesisReport({"copy": 2}, {}, [], [], 5, 10)
        assert "NOT PERFECT" in str(wrong)

    def test_mistakes_are_refused(self, fitted):
        with pytest.raises(TypeError, match="TargetedSynthesizer or AugmentedClassifier, got a"):
            synthesis_report(BaseEstimator(), X, y)
        with pytest.raises(NotFittedError):
            synthesis_report(quick(), X, y)
        with pytest.raises(NotFittedError, match="no autoencoder"):
            synthesis_report(augmented(synthetic_ratio=0).fit(X, y), X, y)
        with pytest.raises(ValueError, match="pass the whole X of fit"):
            synthesis_report(fitted, X[:20], y[:20])
        with pytest.raises(ValueError, match="n_samples"):
            synthesis_report(fitted, X, y, n_samples=0)
