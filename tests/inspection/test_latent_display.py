import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from helpers.image_cases import cases, synthesizer_of, y
from helpers.saved_files import TABLE, digits
from helpers.tiny_nets import IMAGES, LABELS, augmented
from helpers.tiny_nets import y as table_labels
from matplotlib.figure import Figure
from matplotlib.text import Annotation
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError

from tsynd_sk import TargetedSynthesizer
from tsynd_sk.inspection._sample_displays import LatentDisplay


def display_of(**params):
    arguments = {
        "real": np.array([[0.0, 1.0], [1.0, 0.0], [2.0, 2.0]]),
        "labels": np.array(["cat", "dog", "dog"]),
        "source": np.array([[0.0, 1.0], [2.0, 2.0]]),
        "synthetic": np.array([[0.5, 0.5], [1.0, 2.0]]),
        "labels_synthetic": np.array(["cat", "dog"]),
        "explained_variance_ratio": np.array([0.421, 0.2]),
    }
    return LatentDisplay(**{**arguments, **params})


def latents(synthesizer, X):
    """Codes in latent standard deviations, flat."""
    module = synthesizer.autoencoder_.module_.eval()
    with torch.no_grad():
        codes = module.encode(synthesizer.format_.to_tensor(X))
    return (codes.numpy() / synthesizer.latent_scale_).reshape(len(X), -1).astype(float)


class TestFromEstimator:
    def test_map_shows_principal_components_in_standard_deviations(self, case):
        display = LatentDisplay.from_estimator(case.fitted, case.X, y, n_samples=9, random_state=2)
        synthesizer = synthesizer_of(case.fitted)
        X_new, y_new, info = synthesizer.sample(9, random_state=2, return_info=True)
        pca = PCA(2, random_state=0).fit(latents(synthesizer, case.X))
        for name, images in {
            "real": case.X,
            "source": case.X[info.source_index],
            "synthetic": X_new,
        }.items():
            expected = pca.transform(latents(synthesizer, images))
            np.testing.assert_allclose(getattr(display, name), expected, atol=1e-3, err_msg=name)
        np.testing.assert_allclose(display.source, display.real[info.source_index], atol=1e-4)
        np.testing.assert_array_equal(display.labels, y)
        np.testing.assert_array_equal(display.labels_synthetic, y_new)
        ratio = pca.explained_variance_ratio_
        np.testing.assert_allclose(display.explained_variance_ratio, ratio, atol=1e-4)
        assert not plt.get_fignums()

    def test_sources_are_on_the_map_where_few_images_make_it(self):
        case = cases("TargetedSynthesizer", "HW")
        display = LatentDisplay.from_estimator(case.fitted, case.X, y, n_real=6, n_samples=20)
        assert display.real.shape == (6, 2)
        assert display.source.shape == (20, 2)
        assert len(np.unique(display.source.round(6), axis=0)) > 6

    def test_tables_and_words_work(self, table, images):
        display = LatentDisplay.from_estimator(table, TABLE[:80], table_labels)
        assert display.real.shape == (80, 2)
        X, labels = digits()
        display = LatentDisplay.from_estimator(images, X, labels.tolist(), n_samples=5)
        assert set(display.labels_synthetic.tolist()) <= set(labels.tolist())
        display.plot(ax=Figure().subplots())

    def test_coordinate_that_never_moves_is_left_in_its_place(self):
        case = cases("TargetedSynthesizer", "HWC")
        given = case.copy()
        given.latent_scale_ = given.latent_scale_.copy()
        given.latent_scale_[:, 0] = 0
        display = LatentDisplay.from_estimator(given, case.X, y)
        assert np.isfinite(display.real).all()

    @pytest.mark.parametrize(
        ("name", "wrong", "error", "message"),
        [
            ("estimator", 3, TypeError, "expected a fitted Targeted.* got a int"),
            ("X", np.zeros((24, 5, 5)), ValueError, r"rows of shape \(5, 5\)"),
            ("y", y[:3], ValueError, "inconsistent numbers of samples"),
            ("y", [9] * len(y), ValueError, r"not seen in fit: \[9\]"),
            ("y", (y + 1) % 3, ValueError, "another label than it had in fit"),
        ],
    )
    def test_wrong_inputs_are_named(self, name, wrong, error, message):
        case = cases("TargetedSynthesizer", "HW")
        arguments = {"estimator": case.fitted, "X": case.X, "y": y, name: wrong}
        with pytest.raises(error, match=message):
            LatentDisplay.from_estimator(**arguments)

    def test_parts_of_the_training_images_are_refused(self):
        case = cases("TargetedSynthesizer", "HW")
        with pytest.raises(ValueError, match=r"X has 12 images, but row .*whole X of fit"):
            LatentDisplay.from_estimator(case.fitted, case.X[:12], y[:12])

    def test_without_autoencoder_or_fit_is_refused(self):
        with pytest.raises(NotFittedError):
            LatentDisplay.from_estimator(TargetedSynthesizer(), IMAGES, LABELS)
        plain = augmented(synthetic_ratio=0).set_params(estimator__max_epochs=1)
        plain.fit(IMAGES[:30], LABELS[:30])
        with pytest.raises(NotFittedError, match="has no autoencoder"):
            LatentDisplay.from_estimator(plain, IMAGES[:30], LABELS[:30])


class TestPlot:
    def test_arrows_lead_from_sources_to_samples(self):
        display = display_of()
        assert display.plot() is display
        arrows = [each for each in display.ax_.texts if isinstance(each, Annotation)]
        assert [(*each.xyann, *each.xy) for each in arrows] == [(0, 1, 0.5, 0.5), (2, 2, 1, 2)]

    def test_classes_differ_in_colour_and_marker(self):
        ax = display_of().plot().ax_
        places = [each.get_offsets().tolist() for each in ax.collections]
        # Of each class: real images, sources, samples.
        assert places == [
            [[0, 1]],
            [[0, 1]],
            [[0.5, 0.5]],
            [[1, 0], [2, 2]],
            [[2, 2]],
            [[1, 2]],
        ]
        colours = [tuple(each.get_facecolor()[0][:3]) for each in ax.collections]
        assert len(set(colours[:3])) == len(set(colours[3:])) == 1
        assert colours[0] != colours[3]
        texts = [text.get_text() for text in ax.get_legend().get_texts()]
        assert texts == ["cat", "dog", "source", "synthetic"]

    def test_axes_say_what_they_show(self):
        ax = display_of().plot().ax_
        assert ax.get_xlabel() == "component 1, 42 % of the variance\n(latent standard deviations)"
        assert ax.get_ylabel() == "component 2, 20 % of the variance\n(latent standard deviations)"
        assert ax.get_aspect() == 1
        plain = display_of(explained_variance_ratio=None).plot().ax_
        assert plain.get_xlabel() == "component 1\n(latent standard deviations)"

    def test_maps_side_by_side_keep_all_points_on_shared_axes(self):
        axes = Figure().subplots(1, 2, sharex=True, sharey=True)
        displays = [display_of().plot(ax=axes[0], legend=False), display_of().plot(ax=axes[1])]
        axes[0].figure.canvas.draw()
        for display in displays:
            (left, right), (low, high) = display.ax_.get_xlim(), display.ax_.get_ylim()
            points = np.concatenate([display.real, display.source, display.synthetic])
            assert ((points >= [left, low]) & (points <= [right, high])).all()
        assert axes[0].get_legend() is None
        assert axes[1].get_legend() is not None
