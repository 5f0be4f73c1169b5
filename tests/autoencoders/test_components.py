"""What autoencoders start from, or consist of: principal components."""

import numpy as np
import pytest
import torch
from helpers.reconstructions import reconstruction, rmse, smooth_images
from sklearn.datasets import load_iris
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler

from tsynd_sk.autoencoders import _components
from tsynd_sk.autoencoders._components import DenseAutoencoder, DensePCA
from tsynd_sk.autoencoders._net import AutoencoderNet
from tsynd_sk.autoencoders._patch import PatchAutoencoder, PatchPCA


def patches_of(X, side):
    """Patches as rows (n, h, w, n_values), edges repeated where the sides are no multiple."""
    n, channels, height, width = X.shape
    X = np.pad(X, [(0, 0), (0, 0), (0, -height % side), (0, -width % side)], mode="edge")
    X = X.reshape(n, channels, X.shape[2] // side, side, X.shape[3] // side, side)
    return X.transpose(0, 2, 4, 1, 3, 5).reshape(n, X.shape[2], X.shape[4], -1)


def images_of(patches, side, shape):
    n, h, w, _ = patches.shape
    X = patches.reshape(n, h, w, shape[0], side, side).transpose(0, 3, 1, 4, 2, 5)
    return X.reshape(n, shape[0], h * side, w * side)[..., : shape[1], : shape[2]]


@pytest.mark.parametrize("cls", [PatchPCA, PatchAutoencoder])
class TestComponentsOfPatches:
    @pytest.mark.parametrize(
        ("shape", "patch_size"),
        [((1, 30, 27), 4), ((3, 28, 28), 4), ((2, 64, 50), 8), ((1, 12, 12), 3)],
    )
    @pytest.mark.parametrize("n_components", [4, 0.8])
    def test_is_pca_of_patches(self, cls, shape, patch_size, n_components):
        X, X_new = smooth_images(12, shape), smooth_images(3, shape, seed=1)
        params = {"patch_size": patch_size} if patch_size == 3 else {}
        autoencoder = cls.from_data(torch.from_numpy(X), n_components=n_components, **params)
        rows = patches_of(X, patch_size)
        pca = PCA(n_components, svd_solver="full").fit(rows.reshape(-1, rows.shape[-1]))
        assert autoencoder.n_components == pca.n_components_
        for images in (X, X_new):
            rows = patches_of(images, patch_size)
            flat = pca.inverse_transform(pca.transform(rows.reshape(-1, rows.shape[-1])))
            expected = images_of(flat.reshape(rows.shape), patch_size, shape)
            np.testing.assert_allclose(reconstruction(autoencoder, images), expected, atol=1e-4)

    @pytest.mark.parametrize("n_components", [3, 0.95])
    def test_one_latent_unit_is_one_standard_deviation(self, cls, n_components):
        X = torch.from_numpy(50 * smooth_images(20, (3, 28, 28)) - 7)
        autoencoder = cls.from_data(X, n_components=n_components).eval()
        with torch.no_grad():
            channels = autoencoder.encode(X).movedim(1, 0).flatten(1)
        np.testing.assert_allclose(channels.mean(1), 0, atol=1e-3)
        np.testing.assert_allclose(channels.std(1), 1, atol=1e-3)

    @pytest.mark.parametrize(
        ("sides", "latent"),
        [
            ((29, 25), (8, 7)),
            ((48, 48), (12, 12)),
            ((96, 90), (12, 12)),
            ((28, 200), (2, 13)),
        ],
    )
    def test_code_is_spatial_and_decodes_to_the_shape_of_the_images(self, cls, sides, latent):
        X = torch.from_numpy(smooth_images(3, (3, *sides)))
        autoencoder = cls.from_data(X, n_components=5).eval()
        with torch.no_grad():
            z = autoencoder.encode(X)
            assert z.shape == (3, 5, *latent)
            assert autoencoder.decode(z).shape == X.shape

    @pytest.mark.parametrize("n", [1, 5])
    @pytest.mark.parametrize("value", [0.0, 0.1])
    def test_images_without_any_contrast_come_back(self, cls, n, value):
        X = torch.full((n, 1, 12, 12), value)
        autoencoder = cls.from_data(X)
        np.testing.assert_allclose(reconstruction(autoencoder, X), X, rtol=1e-5)
        with torch.no_grad():
            assert autoencoder.encode(X + 0.01).abs().max() < 10
        assert getattr(autoencoder, "scale", 1) == 1

    def test_equal_data_give_equal_components(self, cls):
        X = torch.from_numpy(smooth_images(12, (1, 12, 12)))
        first, second = (cls.from_data(X, n_components=4) for _ in range(2))
        assert torch.equal(first.project.weight, second.project.weight)
        # Components are determined up to sign: the largest entry of each is positive.
        axes = first.expand.weight.flatten(1).T
        assert (axes.gather(1, axes.abs().argmax(1, keepdim=True)) > 0).all()
        mirrored = cls.from_data(X.flip(0), n_components=4)
        torch.testing.assert_close(
            mirrored.project.weight, first.project.weight, atol=1e-3, rtol=1e-3
        )

    def test_large_and_many_images_take_as_few_patches_as_suffice(self, cls, monkeypatch):
        X = torch.from_numpy(smooth_images(200, (1, 30, 30)))
        full = cls.from_data(X, n_components=4)
        monkeypatch.setattr(_components, "_MAX_ROWS", 4000)
        some, again = (cls.from_data(X, n_components=4) for _ in range(2))
        assert torch.equal(some.expand.weight, again.expand.weight)
        assert not torch.equal(some.expand.weight, full.expand.weight)
        error, bar = rmse(reconstruction(some, X), X), rmse(reconstruction(full, X), X)
        assert bar < error < 1.01 * bar

    def test_wrong_dimensions_are_named(self, cls):
        with pytest.raises(ValueError, match=r"\(5, 12, 12\); expected \(n, channels, height"):
            cls.from_data(torch.zeros(5, 12, 12))


@pytest.mark.parametrize("cls", [DensePCA, DenseAutoencoder])
class TestComponentsOfTables:
    @pytest.mark.parametrize("n_components", [1, 4, 0.9])
    def test_is_pca_of_standardised_features(self, cls, n_components):
        X = (load_iris().data * [1, 10, 100, 1e4]).astype(np.float32)
        autoencoder = cls.from_data(torch.from_numpy(X), n_components=n_components)
        scaler = StandardScaler().fit(X)
        pca = PCA(n_components, svd_solver="full").fit(scaler.transform(X))
        assert autoencoder.n_components == pca.n_components_
        for rows in (X, 1.3 * X[:7]):
            flat = pca.inverse_transform(pca.transform(scaler.transform(rows)))
            result = (reconstruction(autoencoder, rows) - scaler.mean_) / scaler.scale_
            np.testing.assert_allclose(result, flat, atol=1e-4)

    @pytest.mark.parametrize("value", [0.1, -123.456])
    @pytest.mark.parametrize("n", [7, 4000])
    @pytest.mark.parametrize("rounding", [False, True])
    def test_constant_features_come_back_and_do_not_blow_up_codes(self, cls, value, n, rounding):
        X = torch.from_numpy(load_iris().data).float().repeat(27, 1)[:n]
        X = torch.cat([X, torch.full((n, 1), value)], 1)
        if rounding:
            X[::2, 4] = torch.nextafter(X[::2, 4], X[::2, 4] + 1)
        autoencoder = cls.from_data(X, n_components=0.95)
        result = reconstruction(autoencoder, X)
        np.testing.assert_allclose(result[:, 4], value, rtol=1e-4, atol=1e-5)
        with torch.no_grad():
            moved = autoencoder.encode(X + torch.tensor([0, 0, 0, 0, 1.0]))
            assert (moved - autoencoder.encode(X)).abs().max() < 1


MAKERS = {
    PatchPCA: (torch.from_numpy(smooth_images(4, (1, 8, 8))), (1, 8, 8)),
    PatchAutoencoder: (torch.from_numpy(smooth_images(4, (1, 8, 8))), (1, 8, 8)),
    DensePCA: (torch.from_numpy(load_iris().data).float(), 4),
    DenseAutoencoder: (torch.from_numpy(load_iris().data).float(), 4),
}


@pytest.mark.parametrize("cls", MAKERS)
class TestComponents:
    @pytest.mark.parametrize("n_components", [0, 1.0, 1.5, np.nan, True, "mle"])
    def test_bad_counts_are_refused(self, cls, n_components):
        X, size = MAKERS[cls]
        message = r"n_components=.* is not valid: expected a positive integer, or a float between"
        with pytest.raises(ValueError, match=message):
            cls.from_data(X, n_components=n_components)
        with pytest.raises(ValueError, match=message):
            cls(size, n_components=n_components)
        with pytest.raises(ValueError, match=message):
            AutoencoderNet(cls, module__n_components=n_components, max_epochs=1).fit(X.numpy())

    def test_fraction_of_variance_without_data_is_told_where_to_go(self, cls):
        with pytest.raises(ValueError, match=rf"{cls.__name__}\.from_data, or AutoencoderNet"):
            cls(MAKERS[cls][1], n_components=0.9)
