import numpy as np
import pytest
import torch
from helpers.small import assert_same_answer, digits, distinct, quick
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from skorch import NeuralNet, NeuralNetBinaryClassifier, NeuralNetClassifier
from torch import nn

from tsynd_sk._skorch import scoped_seed
from tsynd_sk.autoencoders._net import AutoencoderNet
from tsynd_sk.classifiers._default import NetClassifier
from tsynd_sk.datasets._loaders import load_digits_images
from tsynd_sk.uncertainty import mutual_information


class Classifier(nn.Module):
    """Logits of 8 x 8 images behind dropout, or something that is made of them."""

    def __init__(self, n_out=4, p=0.3, last=None):
        super().__init__()
        self.n_out = n_out
        hidden = nn.Linear(64, 24)
        self.body = nn.Sequential(nn.Flatten(), hidden, nn.ReLU(), nn.Dropout(p))
        self.head = nn.Linear(24, n_out)
        self.last = nn.Identity() if last is None else last

    def forward(self, x):
        return self.last(self.head(self.body(x)))


class Flat(Classifier):
    """A single logit as a vector, for binary classifiers."""

    def __init__(self, p=0.3):
        super().__init__(1, p)

    def forward(self, x):
        return super().forward(x)[:, 0]


class WithFeatures(Classifier):
    """Returns a tuple that starts with the logits."""

    def forward(self, x):
        features = self.body(x)
        return self.head(features), features


class WithoutLinear(nn.Module):
    """Nothing in it is random, and it has no last layer to draw weights for."""

    def __init__(self):
        super().__init__()
        self.filters = nn.Conv2d(1, 4, 3)

    def forward(self, x):
        return self.filters(x).mean((2, 3))


class TupleNet(NeuralNetClassifier):
    def get_loss(self, y_pred, y_true, *args, **kwargs):
        return super().get_loss(y_pred[0], y_true, *args, **kwargs)


def sharpened(logits):
    return (2 * logits).softmax(-1)


QUIET = {"max_epochs": 8, "lr": 0.5, "verbose": 0, "train_split": None, "batch_size": 16}
LOGITS = {"criterion": nn.CrossEntropyLoss, **QUIET}

# For each: how to make the net from its dropout, and its number of classes.
VARIETIES = {
    "cross-entropy on logits": (
        lambda p: NeuralNetClassifier(Classifier, module__p=p, **LOGITS),
        4,
    ),
    "likelihood on softmax": (
        lambda p: NeuralNetClassifier(
            Classifier, module__p=p, module__last=nn.Softmax(dim=-1), **QUIET
        ),
        4,
    ),
    "module instance": (lambda p: NeuralNetClassifier(Classifier(p=p), **LOGITS), 4),
    "tuple": (lambda p: TupleNet(WithFeatures, module__p=p, **LOGITS), 4),
    "own nonlinearity": (
        lambda p: NeuralNetClassifier(
            Classifier, module__p=p, predict_nonlinearity=sharpened, **LOGITS
        ),
        4,
    ),
    "binary, a vector": (lambda p: NeuralNetBinaryClassifier(Flat, module__p=p, **QUIET), 2),
    "binary, a column": (
        lambda p: NeuralNetBinaryClassifier(Classifier, module__p=p, module__n_out=1, **QUIET),
        2,
    ),
    "sigmoid in a common classifier": (
        lambda p: NeuralNetClassifier(Flat, module__p=p, criterion=nn.BCEWithLogitsLoss, **QUIET),
        2,
    ),
    "default": (lambda p: NetClassifier(module__width=8, module__dropout=p, max_epochs=4), 4),
}


INSTANCE_WARNING = "the module of classifier is an instance of Classifier"


@pytest.fixture(
    params=[
        # That it warns is a test of its own.
        pytest.param(name, marks=pytest.mark.filterwarnings(f"ignore:{INSTANCE_WARNING}"))
        if name == "module instance"
        else name
        for name in VARIETIES
    ]
)
def variety(request):
    make, n_classes = VARIETIES[request.param]
    # Module instances draw their weights when they are made.
    with scoped_seed(0):
        yield make, digits(120, n_classes)


def snapshot(net):
    """Everything about a net that may not change."""
    module = net.module_
    state = {name: value.clone() for name, value in module.state_dict().items()}
    modes = [part.training for part in module.modules()]
    flags = [(p.requires_grad, p.device, p.grad is None) for p in module.parameters()]
    hooks = [len(part._forward_hooks) for part in module.modules()]
    return state, (module, modes, flags, hooks, len(net.history), net.device)


def assert_untouched(net, before):
    state, rest = snapshot(net)
    assert rest == before[1]
    assert state.keys() == before[0].keys()
    for name, value in before[0].items():
        torch.testing.assert_close(state[name], value, rtol=0, atol=0)


def use(synthesizer, X, y):
    synthesizer.sample(20, return_info=True)
    synthesizer.synthesize(X[:5], y[:5])
    synthesizer.uncertainty(X[:5])
    synthesizer.reconstruct(X[:5])


class TestClassifiers:
    def test_members_without_dropout_are_the_net(self, variety):
        make, (X, y) = variety
        given = make(1e-7)
        synthesizer = quick().set_params(classifier=given).fit(X, y)
        assert not hasattr(given, "module_")
        x = synthesizer.format_.to_tensor(X)
        proba = synthesizer.classifier_.predict_proba(x.numpy())
        assert (proba.argmax(1) == y).mean() > 0.5
        members = synthesizer.engine_.members(synthesizer, seed=0)(x).exp()
        assert members.shape == (8, *proba.shape)
        for member in members:
            np.testing.assert_allclose(member, proba, atol=1e-5)

    def test_members_with_dropout_disagree_and_can_be_climbed(self, variety):
        make, (X, y) = variety
        synthesizer = quick(label_policy="keep").set_params(classifier=make(0.3)).fit(X, y)
        X_new, _, info = synthesizer.sample(60, return_info=True)
        assert distinct(X_new) == 60
        assert (info.uncertainty_source > 0).all()
        assert (info.uncertainty > info.uncertainty_source).mean() > 0.7

    @pytest.mark.parametrize("training", [True, "in parts"])
    def test_frozen_ones_are_used_as_they_are(self, training):
        X, y = digits(60)
        with scoped_seed(0):
            net = NetClassifier(max_epochs=2, module__width=8).fit(X[:, None], y)
            autoencoder = AutoencoderNet(max_epochs=1, epoch_size=100).fit(X[:, None])
        for module in (net.module_, autoencoder.module_):
            module.train(bool(training))
            if training == "in parts":
                next(module.children()).eval()
        before = snapshot(net), snapshot(autoencoder)
        synthesizer = quick().set_params(
            classifier=FrozenEstimator(net), autoencoder=FrozenEstimator(autoencoder)
        )
        synthesizer.fit(X, y)
        assert synthesizer.classifier_ is net
        assert synthesizer.autoencoder_ is autoencoder
        use(synthesizer, X, y)
        assert_untouched(net, before[0])
        assert_untouched(autoencoder, before[1])

    def test_frozen_one_may_know_more_classes_than_there_are_labels(self, digits_synthesizer):
        X, y = digits()
        rows = np.isin(y, [1, 3])
        synthesizer = quick().set_params(
            classifier=FrozenEstimator(digits_synthesizer.classifier_),
        )
        synthesizer.fit(X[rows], y[rows])
        np.testing.assert_array_equal(synthesizer.classes_, np.arange(4))
        _, y_new, info = synthesizer.sample(50, return_info=True)
        assert set(y_new) == {1, 3}
        assert info.label_agreement.mean() > 0.9
        with pytest.raises(ValueError, match=r"had real rows in fit; got \[2\]"):
            synthesizer.sample(y=[1, 2])
        with pytest.raises(ValueError, match="predicts 4 columns: use labels between 0 and 3"):
            synthesizer.fit(X[rows], y[rows] + 1)

    def test_frozen_one_may_name_its_columns(self):
        X, y = digits(120)
        names = np.array(["nil", "one", "two", "three"])
        with scoped_seed(0):
            net = NetClassifier(max_epochs=10, module__width=8, classes=names).fit(X[:, None], y)
        synthesizer = quick().set_params(classifier=FrozenEstimator(net))
        synthesizer.fit(X[y > 1], names[y[y > 1]])
        assert synthesizer.classes_.tolist() == names.tolist()
        _, y_new, info = synthesizer.sample(50, return_info=True)
        assert set(y_new) == {"two", "three"}
        assert info.label_agreement.mean() > 0.8

    @pytest.mark.parametrize("p", [0.0, 0.3])
    def test_several_are_an_ensemble(self, p):
        X, y = digits(120)
        given = [NeuralNetClassifier(Classifier, module__p=p, **LOGITS) for _ in range(3)]
        synthesizer = quick(label_policy="keep").set_params(classifier=given).fit(X, y)
        assert [type(net) for net in synthesizer.classifier_] == [NeuralNetClassifier] * 3
        assert not any(hasattr(net, "module_") for net in given)
        x = synthesizer.format_.to_tensor(X)
        probas = [net.predict_proba(x.numpy()) for net in synthesizer.classifier_]
        assert len({proba.tobytes() for proba in probas}) == 3
        members = synthesizer.engine_.members(synthesizer, seed=0)(x)
        np.testing.assert_allclose(members.exp(), probas, atol=1e-6)
        np.testing.assert_allclose(
            synthesizer.uncertainty(X), mutual_information(members).clamp_min(0), atol=1e-6
        )
        _, _, info = synthesizer.sample(60, return_info=True)
        assert (info.uncertainty > info.uncertainty_source).mean() >= 0.9
        # Networks that were fitted elsewhere are as good.
        frozen = [FrozenEstimator(net) for net in synthesizer.classifier_]
        before = [snapshot(net) for net in synthesizer.classifier_]
        twin = quick(label_policy="keep").set_params(
            classifier=frozen, autoencoder=FrozenEstimator(synthesizer.autoencoder_)
        )
        twin.fit(X, y)
        assert_same_answer(
            twin.sample(60, return_info=True), synthesizer.sample(60, return_info=True)
        )
        for net, state in zip(synthesizer.classifier_, before, strict=True):
            assert_untouched(net, state)


class Autoencoder(nn.Module):
    def __init__(self, n_components=6):
        super().__init__()
        self.down = nn.Linear(64, 2 * n_components)
        self.up = nn.Linear(n_components, 64)

    def parts(self, x):
        return self.down(x.flatten(1)).chunk(2, dim=1)

    def encode(self, x):
        return self.parts(x)[0]

    def decode(self, z):
        return self.up(z).reshape(-1, 1, 8, 8)

    def forward(self, x):
        return self.decode(self.encode(x))


class NormalAutoencoder(Autoencoder):
    """Variational: encodes as a distribution."""

    def encode(self, x):
        mean, log_variance = self.parts(x)
        return torch.distributions.Normal(mean, (log_variance / 2).exp())

    def forward(self, x):
        code = self.encode(x)
        return self.decode(code.rsample() if self.training else code.mean)


class PairAutoencoder(Autoencoder):
    """Variational: encodes as mean and logarithm of the variance, and decodes as a pair too."""

    def encode(self, x):
        return self.parts(x)

    def decode(self, z):
        return super().decode(z), torch.zeros(1)

    def forward(self, x):
        mean, log_variance = self.encode(x)
        noise = torch.randn_like(mean) if self.training else torch.zeros_like(mean)
        return self.decode(mean + noise * (log_variance / 2).exp())[0]


class SixPixels(nn.Module):
    """Its code is six pixels of the image."""

    def __init__(self):
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))

    def encode(self, x):
        return x.flatten(1)[:, :6]

    def decode(self, z):
        return nn.functional.pad(z, (0, 58)).reshape(-1, 1, 8, 8)


class TestAutoencoders:
    @pytest.mark.parametrize("module", [Autoencoder, NormalAutoencoder, PairAutoencoder])
    def test_plain_nets_and_variational_ones(self, module):
        X, y = digits()
        net = NeuralNet(
            module, nn.MSELoss, optimizer=torch.optim.Adam, lr=0.01, max_epochs=30, verbose=0
        )
        synthesizer = quick().set_params(autoencoder=net).fit(X, y)
        assert synthesizer.autoencoder_ is not net
        assert not hasattr(net, "module_")
        # Its code is the mean, and the reconstruction is that of the module.
        reconstructed = synthesizer.reconstruct(X)
        expected = synthesizer.autoencoder_.predict(X[:, None])[:, 0].clip(X.min(), X.max())
        np.testing.assert_allclose(reconstructed, expected, atol=1e-6)
        error = np.square(reconstructed - X).mean()
        assert error < np.square(X.mean(0) - X).mean()
        X_new, _, info = synthesizer.sample(50, return_info=True)
        assert X_new.shape == (50, 8, 8)
        assert info.displacement.max() <= 0.5 * (1 + 1e-5)

    def test_radius_counts_in_standard_deviations_of_the_training_codes(self):
        X = np.random.default_rng(0).normal(size=(60, 8, 8)).astype(np.float32)
        X[:, 0, :6] *= np.logspace(-2, 1, 6, dtype=np.float32)
        X[:2, 7, 7] = -100, 100  # so that nothing else is clipped
        net = NeuralNet(SixPixels, nn.MSELoss, verbose=0).initialize()
        synthesizer = quick(objective="random", label_policy="keep", radius=0.8)
        synthesizer.set_params(autoencoder=FrozenEstimator(net)).fit(X, np.arange(60) % 2)
        deviations = X[:, 0, :6].std(0)
        np.testing.assert_allclose(synthesizer.latent_scale_[0], deviations, rtol=1e-4)
        X_new, _, info = synthesizer.sample(60, return_info=True)
        moved = (X_new - synthesizer.reconstruct(X)[info.source_index])[:, 0, :6] / deviations
        np.testing.assert_allclose(np.sqrt((moved**2).mean(1)), 0.8, rtol=1e-3)
        assert (moved.std(0) > 0.5).all()

    def test_frozen_one_may_have_learnt_from_images_without_labels(self):
        X, _, _ = load_digits_images()
        with scoped_seed(0):
            net = AutoencoderNet(max_epochs=2, epoch_size=400, module__width=16)
            net.fit(X[800:, None])
        before = snapshot(net)
        synthesizer = quick().set_params(autoencoder=FrozenEstimator(net)).fit(*digits(60))
        assert synthesizer.autoencoder_ is net
        use(synthesizer, *digits(60))
        assert_untouched(net, before)
        np.testing.assert_allclose(
            synthesizer.reconstruct(X[:9])[:, None], net.predict(X[:9, None]).clip(0, 1), atol=1e-6
        )


class NoDecode(nn.Module):
    def encode(self, x):
        return x


class Shrinking(Autoencoder):
    def decode(self, z):
        return super().decode(z)[..., :7]

    def forward(self, x):
        return super().decode(self.encode(x))


UNFITTED_CLASSIFIER = FrozenEstimator(NetClassifier())


class TestErrors:
    @pytest.mark.parametrize(
        ("classifier", "error", "message"),
        [
            (
                NeuralNetClassifier(WithoutLinear, **LOGITS),
                ValueError,
                r"WithoutLinear calls no torch.nn.Linear .* torch.nn.Dropout .* several class",
            ),
            (
                NeuralNetClassifier(Classifier, module__n_out=7, **LOGITS),
                ValueError,
                r"array of shape \(8, 7\) .* one column for each of the classes in y",
            ),
            (LogisticRegression(), TypeError, "classifier must be a skorch net"),
            (NetClassifier, TypeError, "must be a skorch net"),
            (NeuralNet(Classifier, nn.CrossEntropyLoss), TypeError, "must be a classifier"),
            (FrozenEstimator(NetClassifier()), NotFittedError, "classifier .* not fitted"),
            ([NetClassifier()], ValueError, "list of 1, but an ensemble needs two"),
            ([NetClassifier(), None], TypeError, r"classifier\[1\] must be a skorch net"),
        ],
    )
    def test_classifier(self, classifier, error, message):
        with pytest.raises(error, match=message):
            quick().set_params(classifier=classifier).fit(*digits(60))

    @pytest.mark.parametrize(
        ("autoencoder", "error", "message"),
        [
            (LogisticRegression(), TypeError, "autoencoder must be a skorch net"),
            (FrozenEstimator(AutoencoderNet()), NotFittedError, "autoencoder .* not fitted"),
            (NeuralNet(NoDecode(), nn.MSELoss), TypeError, "no method decode; expected encode"),
            (
                NeuralNet(Shrinking, nn.MSELoss, max_epochs=1, verbose=0),
                ValueError,
                r"shape that it encodes, \(1, 8, 8\); got \(1, 8, 7\)",
            ),
        ],
    )
    def test_autoencoder(self, autoencoder, error, message):
        with pytest.raises(error, match=message):
            quick().set_params(autoencoder=autoencoder).fit(*digits(60))


# They would train for years.
ENDLESS = NetClassifier(max_epochs=10**9)
WITHOUT_DROPOUT = NetClassifier(max_epochs=10**9, module__dropout=0.0)


@pytest.mark.parametrize(
    ("classifier", "params", "message"),
    [
        (
            WITHOUT_DROPOUT,
            {"members": "dropout"},
            r"Use members='laplace', add torch\.nn\.Dropout .* or give a list of several class",
        ),
        ([WITHOUT_DROPOUT, ENDLESS], {"members": "dropout"}, "nothing random"),
        (
            NeuralNetClassifier(WithoutLinear, **{**LOGITS, "max_epochs": 10**9}),
            {"members": "laplace"},
            r"calls no torch\.nn\.Linear",
        ),
        (
            ENDLESS,
            {"restrict": ["head.0", "body"]},
            r"restrict names 'body', which is not random: choose from \['head\.0', 'head\.3'\]",
        ),
        (ENDLESS, {"members": "ensemble"}, "members='ensemble' needs a list of classifiers"),
    ],
)
def test_a_net_that_has_no_members_is_refused_before_training(classifier, params, message):
    synthesizer = quick(**params).set_params(classifier=classifier)
    with pytest.raises(ValueError, match=message):
        synthesizer.fit(*digits())
