import pickle
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers.reconstructions import digits_images, reconstruction, rmse, smooth_images
from sklearn.base import clone
from sklearn.datasets import load_iris
from skorch.dataset import Dataset
from torch import nn

from tsynd_sk._skorch import scoped_seed
from tsynd_sk.autoencoders._components import DenseAutoencoder, DensePCA
from tsynd_sk.autoencoders._net import AutoencoderNet, encode, holdout
from tsynd_sk.autoencoders._patch import PatchAutoencoder, PatchPCA
from tsynd_sk.synthesis._fitting import default_net


class TestPatchAutoencoder:
    def test_noise_is_added_to_codes_while_training_only(self):
        X = torch.from_numpy(smooth_images(8, (1, 12, 12)))
        autoencoder = PatchAutoencoder.from_data(X, n_components=16)
        silent = PatchAutoencoder.from_data(X, n_components=16, noise=0.0)
        with torch.no_grad(), scoped_seed(0):
            assert torch.equal(autoencoder.eval()(X), autoencoder(X))
            noisy = (autoencoder.train()(X) - silent.train()(X)).abs().max()
        assert 0.01 < noisy < 1

    def test_augmented_batches_are_mirrored_and_shifted_images(self):
        X = torch.from_numpy(smooth_images(2, (3, 16, 16)))
        autoencoder = PatchAutoencoder.from_data(X)
        with scoped_seed(0):
            views = [autoencoder.augment(X) for _ in range(60)]
        mirrored = X.flip(-1)
        kept = sum(torch.equal(view, X) for view in views)
        flipped = sum(torch.equal(view, mirrored) for view in views)
        assert kept > 10
        assert flipped > 10
        assert kept + flipped < 60
        for view in views:
            assert view.shape == X.shape
            # Away from the edges, each is one of both images, moved by at most half a patch.
            moved = [
                image[..., 4 + i : 12 + i, 4 + j : 12 + j]
                for image in (X, mirrored)
                for i in range(-2, 3)
                for j in range(-2, 3)
            ]
            assert any(torch.equal(view[..., 4:12, 4:12], candidate) for candidate in moved)


class TestClosedForm:
    """`AutoencoderNet` of no epoch, as estimators have it by default."""

    @pytest.fixture(autouse=True)
    def no_step(self, monkeypatch):
        def refuse(*args, **kwargs):
            pytest.fail("nothing is to be trained")

        for name in ("train_step", "validation_step"):
            monkeypatch.setattr(AutoencoderNet, name, refuse)

    # By pickle, in skorch 1.1 with torch 2.4.
    @pytest.mark.filterwarnings("ignore:You are using `torch.load`:FutureWarning")
    @pytest.mark.filterwarnings("error")
    @pytest.mark.parametrize("n", [1, 4, 30])
    @pytest.mark.parametrize("table", [True, False])
    def test_default_is_fitted_without_a_training_step(self, table, n):
        X = load_iris().data[:n].astype(np.float32) if table else smooth_images(n, (3, 30, 27))
        net = default_net("autoencoder", None if table else (3, 30, 27))
        net.fit(X)
        assert type(net.module_) is (DensePCA if table else PatchPCA)
        expected = type(net.module_).from_data(torch.from_numpy(X))
        np.testing.assert_array_equal(net.predict(X), reconstruction(expected, X))
        assert len(net.history) == 0
        other = pickle.loads(pickle.dumps(net)).fit(X)
        np.testing.assert_array_equal(net.predict(X), other.predict(X))

    @pytest.mark.parametrize("side", [8, 31, 64, 130, 512])
    def test_images_of_any_size_in_any_number_of_channels_will_do(self, side):
        X = smooth_images(2, (3, side, side + 1))
        net = default_net("autoencoder", X.shape[1:]).fit(X)
        assert rmse(net.predict(X), X) < 0.15

    def test_module_learns_where_epochs_are_asked_for(self, monkeypatch):
        monkeypatch.undo()
        X = digits_images()[:64]
        net = fitted(X, module=PatchPCA, module__n_components=2, max_epochs=2)
        assert len(net.history) == 2
        start = PatchPCA.from_data(torch.from_numpy(X), n_components=2)
        assert not torch.equal(net.module_.expand.weight, start.expand.weight)


class Plain(nn.Module):
    """What users bring: nothing but encode, decode and forward."""

    def __init__(self, width=3):
        super().__init__()
        self.down = nn.Conv2d(1, width, 4, stride=4)
        self.up = nn.ConvTranspose2d(width, 1, 4, stride=4)

    def encode(self, x):
        return self.down(x)

    def decode(self, z):
        return self.up(z)

    def forward(self, x):
        return self.decode(self.encode(x))


def fitted(X, seed=0, **params):
    params = {"max_epochs": 3, "epoch_size": 200, **params}
    with scoped_seed(seed):
        return AutoencoderNet(**params).fit(X)


class TestAutoencoderNet:
    def test_training_improves_on_pca_for_images_never_seen(self):
        X = digits_images()
        train, test = X[:500], X[500:]
        start = PatchAutoencoder.from_data(torch.from_numpy(train), n_components=4)
        pca = rmse(reconstruction(start, test), test)
        net = fitted(train, module__n_components=4, max_epochs=10, epoch_size=800)
        assert rmse(net.predict(test), test) < 0.85 * pca

    def test_best_epoch_is_kept(self):
        X = digits_images()[:200]
        net = fitted(X, lr=0.03, max_epochs=8, optimizer=torch.optim.SGD, optimizer__momentum=0.99)
        losses = net.history[:, "valid_loss"]
        assert min(losses) < 0.99 * losses[-1]
        _, held_out = net.get_split_datasets(X)
        X_held_out = np.stack([x for x, _ in held_out])
        loss = rmse(net.predict(X_held_out), X_held_out) ** 2
        assert loss == pytest.approx(min(losses), rel=1e-4)

    def test_training_stops_when_nothing_gets_better(self):
        net = fitted(digits_images()[:50], lr=1e-12, max_epochs=40, epoch_size=8, batch_size=8)
        assert len(net.history) < 40

    def test_a_tenth_is_held_out_where_it_can_be_spared(self):
        for n, sizes in [(100, (90, 10)), (20, (18, 2)), (19, (19, 19)), (2, (2, 2))]:
            parts = holdout(Dataset(digits_images()[:n]))
            assert tuple(len(part) for part in parts) == sizes

    @pytest.mark.parametrize("n", [1, 2, 5])
    def test_a_handful_of_images_will_do(self, n):
        X = smooth_images(n, (1, 12, 12))
        net = fitted(X, max_epochs=2, epoch_size=128)
        assert net.predict(X).shape == X.shape
        assert rmse(net.predict(X), X) < 0.1

    @pytest.mark.parametrize("epoch_size", [1, 5, 33, 65])
    def test_epochs_have_the_length_asked_for(self, epoch_size):
        X = digits_images()[:30]
        net = fitted(X, max_epochs=1, epoch_size=epoch_size, train_split=None)
        # A last row joins the batch before it: too little for the standardisation of codes.
        seen = sum(net.history[-1, "batches", :, "train_batch_size"])
        assert seen == epoch_size
        if epoch_size > 1:
            table = X.reshape(30, 64)
            fitted(table, module=DenseAutoencoder, max_epochs=1, epoch_size=epoch_size)

    def test_fitted_net_survives_pickling_without_the_data(self):
        X = digits_images()
        net = fitted(X[:1000], max_epochs=1, module__width=4)
        content = pickle.dumps(net)
        np.testing.assert_array_equal(pickle.loads(content).predict(X[:5]), net.predict(X[:5]))
        assert len(content) < X[:1000].nbytes / 2
        np.testing.assert_array_equal(
            clone(pickle.loads(pickle.dumps(AutoencoderNet(epoch_size=7)))).epoch_size, 7
        )

    def test_equal_seeds_give_equal_nets(self):
        X = digits_images()[:50]
        first, second, third = (fitted(X, seed=seed).predict(X) for seed in (0, 0, 1))
        np.testing.assert_array_equal(first, second)
        assert np.abs(first - third).max() > 1e-4

    def test_modules_of_users_are_trained_too(self):
        X = digits_images()[:200]
        for module in (Plain, Plain()):
            net = fitted(X, module=module, max_epochs=6, epoch_size=800, lr=0.01)
            assert net.predict(X[:3]).shape == (3, 1, 8, 8)
            assert rmse(net.predict(X), X) < 0.8 * X.std()

    def test_learned_codes_stay_standardised(self):
        X = digits_images()[:500]
        net = fitted(X, module__n_components=4, max_epochs=4, epoch_size=800)
        with torch.no_grad():
            z = encode(net.module_.eval(), torch.from_numpy(X))
        np.testing.assert_allclose(z.movedim(1, 0).flatten(1).std(1), 1, atol=0.25)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("n_images", "max_epochs", "bar"),
    # Principal components of patches alone have 0.032 with as large a code.
    [(100, 5, 0.034), (546, 8, 0.029)],
)
def test_few_medical_images_suffice_for_good_reconstructions(
    medmnist_root, n_images, max_epochs, bar
):
    with np.load(medmnist_root / "breastmnist.npz") as content:
        train, test = (
            (content[f"{part}_images"][:, None] / 255).astype(np.float32)
            for part in ("train", "test")
        )
    train = train[np.random.default_rng(0).permutation(len(train))[:n_images]]
    net = fitted(train, module__n_components=4, max_epochs=max_epochs, epoch_size=1600)
    assert rmse(net.predict(test), test) <= bar


class Returning(nn.Module):
    def __init__(self, answer):
        super().__init__()
        self.answer = answer

    def encode(self, x):
        return self.answer(x)


class TestEncode:
    @pytest.mark.parametrize(
        "answer",
        [
            lambda x: 2 * x,
            lambda x: (2 * x, torch.zeros_like(x)),
            lambda x: [2 * x, None],
            lambda x: torch.distributions.Normal(2 * x, torch.ones_like(x)),
            lambda x: torch.distributions.Independent(
                torch.distributions.Normal(2 * x, torch.ones_like(x)), 1
            ),
            lambda x: (torch.distributions.Normal(2 * x, torch.ones_like(x)), None),
            lambda x: SimpleNamespace(
                latent_dist=torch.distributions.Normal(2 * x, torch.ones_like(x))
            ),
            lambda x: SimpleNamespace(latents=2 * x),
        ],
        ids=[
            "tensor",
            "mean and log-variance",
            "list",
            "normal",
            "independent normal",
            "tuple with normal",
            "latent_dist",
            "latents",
        ],
    )
    def test_code_is_found_in_whatever_the_encoder_returns(self, answer):
        x = torch.rand(3, 4)
        assert torch.equal(encode(Returning(answer), x), 2 * x)

    @pytest.mark.parametrize("answer", [lambda x: None, lambda x: x.numpy(), lambda x: ()])
    def test_encoders_without_a_tensor_are_named(self, answer):
        with pytest.raises(TypeError, match=r"Returning\.encode returned .*expected a tensor"):
            encode(Returning(answer), torch.rand(3, 4))
