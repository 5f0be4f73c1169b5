"""Members that go a net's own way to its module and back, and nets whose way they cannot go."""

import pickle
import threading
import warnings
from contextlib import nullcontext
from functools import partial

import numpy as np
import pytest
import torch
from helpers.tiny_nets import Dense, X, augmented, own_net, row_set, synthesizer, y
from sklearn.frozen import FrozenEstimator
from skorch import NeuralNetBinaryClassifier, NeuralNetClassifier
from skorch.callbacks import Callback
from skorch.dataset import Dataset
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, default_collate

from tsynd_sk import TargetedSynthesis
from tsynd_sk._skorch import check_own_way, log_proba_head, network_of
from tsynd_sk._utils._inference import private_copy
from tsynd_sk.evaluation._differentiable import DifferentiableClassifier
from tsynd_sk.inspection import AttributionDisplay
from tsynd_sk.members import EnsembleMembers


class Sees(nn.Module):
    """For images that `infer` makes three channels of, or features."""

    def __init__(self, n_in=64, dropout=0.5, n_out=10):
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(n_in, 16), nn.ReLU())
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(16, n_out))

    def forward(self, x):
        return self.head(self.body(x))


class Normalised(NeuralNetClassifier):
    """By a parameter of the net that is a tensor, on a device of its own."""

    def __init__(self, *args, mean=None, **kwargs):
        super().__init__(*args, **kwargs)
        self.mean = mean

    def initialize(self):
        # A live handle, which no copy could hold.
        self.run_ = threading.Lock()
        return super().initialize()

    def infer(self, x, **fit_params):
        return super().infer((x - self.mean) / 0.1, **fit_params)


class InPlace(NeuralNetClassifier):
    def infer(self, x, **fit_params):
        x -= 0.5
        x /= 0.1
        return super().infer(x, **fit_params)


class Enlarged(NeuralNetClassifier):
    """Resized, and repeated in three channels."""

    def infer(self, x, **fit_params):
        x = F.interpolate(x, size=(12, 12), mode="bilinear").repeat(1, 3, 1, 1)
        return super().infer(2 * x - 1, **fit_params)


class Encoded(NeuralNetClassifier):
    """Has a second network, from whose features the module predicts."""

    def initialize_module(self):
        super().initialize_module()
        self.encoder_ = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU())
        return self

    def infer(self, x, **fit_params):
        return self.module_(self.encoder_(4 * x - 2), **fit_params)


class Augmented(NeuralNetClassifier):
    """Adds noise, in training alone, as one does on an accelerator."""

    def infer(self, x, **fit_params):
        if self.module_.training:
            x = x + 0.1 * torch.randn_like(x)
        return super().infer(4 * x - 2, **fit_params)


class Twice(NeuralNetClassifier):
    """Averages over a mirrored image, and sharpens the average."""

    def infer(self, x, **fit_params):
        both = [super(Twice, self).infer(4 * v - 2, **fit_params) for v in (x, x.flip(-1))]
        return sum(both)


def collate_inverted(rows):
    x, targets = default_collate(rows)
    return 2 - 4 * x, targets


def by_rows(rows):
    x = torch.stack([4 * torch.as_tensor(image) - 2 for image, _ in rows])
    return x, torch.as_tensor([int(target) for _, target in rows])


def collated_by(function):
    return {"iterator_train__collate_fn": function, "iterator_valid__collate_fn": function}


FOLLOWED = {
    "normalised": {"cls": Normalised, "mean": torch.full((1, 8, 8), 0.5)},
    "in place": {"cls": InPlace},
    "enlarged": {"cls": Enlarged, "module__n_in": 3 * 12 * 12},
    "encoded": {"cls": Encoded, "module__n_in": 4 * 6 * 6},
    "augmented": {"cls": Augmented},
    "twice": {"cls": Twice},
    "collate function": collated_by(collate_inverted),
    "collate function by rows": collated_by(by_rows),
}


def followed(name, **params):
    return own_net(**{"module": Sees, "max_epochs": 16, **FOLLOWED[name], **params})


@pytest.fixture(autouse=True)
def seeded():
    """Make bare nets train to the same weights in any order of the tests."""
    torch.manual_seed(0)


@pytest.fixture(scope="module", params=FOLLOWED)
def learned(request):
    estimator = followed(request.param)
    return augmented(estimator, synthesizer(n_members=16, max_iter=8)).fit(X, y)


def without_noise(net, x=X):
    """Predict as the members of a net do, but for their noise."""
    members = EnsembleMembers([network_of(net)], [log_proba_head(net)])
    with torch.no_grad():
        return members(torch.tensor(x[:, None]))[0].exp().numpy()


class TestFollowed:
    def test_members_without_noise_predict_as_the_net_does(self, learned):
        expected = learned.predict_proba(X)
        assert np.mean(expected.argmax(1) == y) > 0.6
        np.testing.assert_allclose(without_noise(learned.estimator_), expected, atol=1e-5)

    def test_the_mean_of_members_is_as_accurate_as_the_net(self, learned):
        params = learned.synthesizer_
        with torch.no_grad():
            mean = params.engine_.members(params, seed=0)(torch.tensor(X[:, None])).exp().mean(0)
        assert np.mean(mean.argmax(1).numpy() == learned.predict(X)) > 0.8

    def test_synthesis_raises_what_the_members_are_uncertain_of(self, learned):
        before = row_set(X)
        _, _, info = learned.synthesizer_.sample(20, return_info=True)
        assert info.uncertainty.mean() > 1.1 * info.uncertainty_source.mean()
        # Networks that write on what they get do not write on the user's images.
        assert row_set(X) == before

    def test_all_that_comes_before_the_noise_is_computed_once(self, learned):
        [decisions] = learned.synthesizer_.engine_.decisions
        assert set(decisions["dropout, restrict=None"].values()) == {"fold"}

    def test_pickles_predict_the_same(self, learned):
        network, net = network_of(learned.estimator_), learned.estimator_
        vars(net).pop("run_", None)
        if hasattr(network, "settings"):
            network.settings.pop("run_", None)
        again = pickle.loads(pickle.dumps(learned))
        np.testing.assert_array_equal(again.uncertainty(X), learned.uncertainty(X))
        one, other = network.eval(), pickle.loads(pickle.dumps(network))
        assert torch.equal(one(torch.tensor(X[:5, None])), other(torch.tensor(X[:5, None])))


@pytest.mark.parametrize("name", ["normalised", "encoded", "collate function"])
class TestEveryWay:
    def test_laplace(self, name):
        estimator = followed(name, module__dropout=0.0)
        learned = augmented(estimator, synthesizer(members="laplace", max_iter=8)).fit(X, y)
        params = learned.synthesizer_
        [posterior] = params.engine_.posteriors
        # Named as in the module.
        assert posterior.layer == "head.1"
        _, _, info = params.sample(20, return_info=True)
        assert info.uncertainty.mean() > 2 * info.uncertainty_source.mean()
        np.testing.assert_allclose(
            without_noise(learned.estimator_), learned.predict_proba(X), atol=1e-5
        )

    def test_frozen_nets_and_ensembles(self, name):
        nets = [followed(name, max_epochs=4).fit(X[:, None], y) for _ in range(2)]
        one = synthesizer(classifier=FrozenEstimator(nets[0])).fit(X, y)
        both = synthesizer(classifier=list(map(FrozenEstimator, nets)), max_iter=8).fit(X, y)
        assert one.uncertainty(X).max() > 0.01
        _, _, info = both.sample(10, return_info=True)
        assert info.uncertainty.mean() > info.uncertainty_source.mean()

    def test_bare_nets_with_the_callback(self, name):
        estimator = followed(name, max_epochs=4, callbacks=[TargetedSynthesis(synthesizer())])
        estimator.fit(X[:, None], y)
        assert estimator.history[-3]["synthesis_uncertainty"] > 0

    def test_files_bring_them_back(self, name, tmp_path):
        learned = augmented(followed(name, max_epochs=2)).fit(X, y)
        learned.save_params(tmp_path / "x.safetensors", with_images=True)
        loaded = augmented(followed(name, max_epochs=2))
        loaded.load_params(tmp_path / "x.safetensors")
        np.testing.assert_array_equal(loaded.uncertainty(X), learned.uncertainty(X))
        one, other = loaded.synthesizer_.sample(4)[0], learned.synthesizer_.sample(4)[0]
        np.testing.assert_array_equal(one, other)

    def test_layers_go_by_their_names_in_the_module(self, name):
        net = followed(name, max_epochs=2)
        learned = augmented(net, synthesizer(restrict=["head.0"])).fit(X, y)
        assert learned.uncertainty(X).max() > 0
        with pytest.raises(ValueError, match=r"which is not random: choose from \['head.0'\]"):
            augmented(net, synthesizer(restrict=["head.5"])).fit(X, y)

    def test_attacks_see_what_the_net_sees(self, name):
        learned = augmented(followed(name), synthetic_ratio=0).fit(X, y)
        attacked = DifferentiableClassifier.from_estimator(learned, X)
        np.testing.assert_allclose(
            np.exp(attacked.log_proba()), learned.predict_proba(X), atol=1e-5
        )


def test_explanations_reach_layers_beside_the_module():
    learned = augmented(followed("encoded"), synthetic_ratio=0).fit(X, y)
    display = AttributionDisplay.from_estimator(learned, X[:3], layer="encoder_.0")
    assert np.asarray(display.maps).max() == 1


def test_settings_and_weights_that_change_make_other_members():
    learned = augmented(followed("normalised", max_epochs=4)).fit(X, y)
    first = learned.uncertainty(X)
    learned.estimator_.mean = torch.full((1, 8, 8), 0.2)
    second = learned.uncertainty(X)
    assert (first != second).any()
    encoded = augmented(followed("encoded", max_epochs=4)).fit(X, y)
    first = encoded.uncertainty(X)
    with torch.no_grad():
        encoded.estimator_.encoder_[0].weight.mul_(2)
    assert (encoded.uncertainty(X) != first).any()
    np.testing.assert_array_equal(encoded.uncertainty(X), encoded.uncertainty(X))


def test_noise_that_infer_adds_in_training_is_not_looked_for_in_members():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        augmented(followed("augmented", max_epochs=4)).fit(X, y)


@pytest.mark.parametrize("name", ["encoded", "collate function"])
def test_copies_move_to_other_devices(name, monkeypatch):
    # The one device that is everywhere knows no autocast.
    monkeypatch.setattr("tsynd_sk._skorch._prediction.in_float32", lambda x: nullcontext())
    net = followed(name).initialize()
    network = private_copy(network_of(net), torch.device("meta"))
    assert network(torch.tensor(X[:, None]).to("meta")).shape == (80, 10)
    assert {p.device.type for p in net.module_.parameters()} == {"cpu"}


def test_members_compute_in_float32_where_infer_lowers_the_precision():
    class Lower(NeuralNetClassifier):
        def infer(self, x, **fit_params):
            with torch.autocast("cpu", dtype=torch.bfloat16):
                return super().infer(x, **fit_params).float()

    learned = augmented(own_net(Lower, Sees, max_epochs=4)).fit(X, y)
    with torch.no_grad():
        exact = learned.module_(torch.tensor(X[:, None])).softmax(1).numpy()
    np.testing.assert_allclose(without_noise(learned.estimator_), exact, atol=1e-6)
    assert abs(learned.predict_proba(X) - exact).max() > 1e-4


class Halved(Dataset):
    def __getitem__(self, i):
        image, target = super().__getitem__(i)
        return image / 2, target


class HalvingLoader(DataLoader):
    def __iter__(self):
        for x, targets in super().__iter__():
            yield x / 2, targets


class ByEpochs(NeuralNetClassifier):
    def infer(self, x, **fit_params):
        return super().infer(x / (1 + len(self.history)), **fit_params)


def from_arrays(rows):
    _, targets = default_collate(rows)
    return torch.stack([torch.from_numpy(image) / 2 for image, _ in rows]), targets


class Flattened(NeuralNetClassifier):
    """Evens its predictions out, where skorch would not look for it."""

    def predict_proba(self, X):
        return 0.5 * super().predict_proba(X) + 0.05


class ByNumpy(NeuralNetClassifier):
    def infer(self, x, **fit_params):
        return super().infer(torch.from_numpy(np.asarray(x) / 2), **fit_params)


def detached(rows):
    x, targets = default_collate(rows)
    return x.detach() / 2, targets


class NotTrained(Callback):
    def on_batch_end(self, net, **kwargs):
        pytest.fail("a batch was trained on")


PREPARES = (
    r"prepares images on the way to its module.*from 0 to 1, the net makes shape \(1, 8, 8\) "
)
REFUSED = {
    "data set": ({"dataset": Halved}, PREPARES + ".* from 0 to 0.5, but members"),
    "loader": ({"iterator_valid": HalvingLoader}, PREPARES),
    "history": (
        {"cls": ByEpochs},
        "for members.*without its callbacks and history: .*'history_'. Prepare",
    ),
    "arrays": (collated_by(from_arrays), "for members.*got Tensor.*by functions of torch"),
    "probabilities": (
        {"cls": Flattened},
        "move the code of its predict_proba or evaluation_step to infer",
    ),
}
NO_GRADIENT = {
    "numpy": ({"cls": ByNumpy}, "Can't call numpy.*Functions of torch keep gradients"),
    "detached": (collated_by(detached), "what a net does before and after it"),
}


class TestRefused:
    @pytest.mark.parametrize("name", {**REFUSED, **NO_GRADIENT})
    def test_before_training(self, name):
        params, message = {**REFUSED, **NO_GRADIENT}[name]
        estimator = own_net(**params, callbacks=[NotTrained()])
        with pytest.raises(ValueError, match=message):
            augmented(estimator).fit(X, y)
        with pytest.raises(ValueError, match=message):
            synthesizer(classifier=estimator).fit(X, y)

    @pytest.mark.parametrize("name", {**REFUSED, **NO_GRADIENT})
    def test_frozen_nets(self, name):
        params, message = {**REFUSED, **NO_GRADIENT}[name]
        estimator = own_net(**params, max_epochs=1).fit(X[:, None], y)
        with pytest.raises(ValueError, match=message):
            synthesizer(classifier=FrozenEstimator(estimator)).fit(X, y)

    @pytest.mark.parametrize("name", REFUSED)
    def test_where_only_uncertainty_is_asked_for(self, name):
        params, message = REFUSED[name]
        learned = augmented(own_net(**params, max_epochs=1), synthetic_ratio=0).fit(X, y)
        learned.predict_proba(X)
        with pytest.raises(ValueError, match=message):
            learned.uncertainty(X)
        with pytest.raises(ValueError, match=message):
            DifferentiableClassifier.from_estimator(learned, X)

    @pytest.mark.parametrize("name", REFUSED)
    def test_bare_nets_with_the_callback(self, name):
        params, message = REFUSED[name]
        callback = TargetedSynthesis(synthesizer())
        estimator = own_net(**params, max_epochs=2, callbacks=[callback])
        if name == "data set":
            # Its rows are what is synthesised from, and the module gets them as they are.
            estimator.fit(X[:, None], y)
            members = dict(estimator.callbacks_)["TargetedSynthesis"].synthesizer_
            assert row_set(members.engine_.images) <= row_set(X / 2)
        else:
            with pytest.raises(ValueError, match=message):
                estimator.fit(X[:, None], y)


@pytest.mark.parametrize("name", NO_GRADIENT)
def test_uncertainty_needs_no_gradient(name):
    params, _ = NO_GRADIENT[name]
    learned = augmented(own_net(**params, max_epochs=2), synthetic_ratio=0).fit(X, y)
    assert learned.uncertainty(X).max() > 0
    np.testing.assert_allclose(
        without_noise(learned.estimator_), learned.predict_proba(X), atol=1e-5
    )


def test_data_sets_that_are_random_are_drawn_once():
    class Flipped(torch.utils.data.Dataset):
        def __len__(self):
            return 80

        def __getitem__(self, i):
            image = torch.from_numpy(X[i : i + 1])
            return image.flip(-1) if torch.rand(()) < 0.5 else image, int(y[i])

    estimator = own_net(
        max_epochs=2, callbacks=[TargetedSynthesis(synthesizer())], train_split=None
    )
    estimator.fit(Flipped(), None)
    assert "synthesis_uncertainty" in estimator.history[-1]


class Half(nn.Module):
    """Prepares images itself, as the message advises, and returns more than logits."""

    def __init__(self):
        super().__init__()
        self.inner = Dense(dropout=0.1)

    def forward(self, x):
        return self.inner((x - 0.5) / 0.5), x


def test_members_of_a_module_that_prepares_images_predict_as_the_net_does():
    learned = augmented(own_net(module=Half, criterion=FirstLogits, max_epochs=10)).fit(X, y)
    params = learned.synthesizer_
    members = params.engine_.members(params, seed=0)
    with torch.no_grad():
        mean = members(torch.from_numpy(X[:, None])).exp().mean(0).argmax(1).numpy()
    assert np.mean(mean == learned.predict(X)) > 0.8


class FirstLogits(nn.CrossEntropyLoss):
    def forward(self, output, target):
        return super().forward(output[0] if isinstance(output, tuple) else output, target)


@pytest.mark.parametrize(
    "params",
    [
        {"cls": NeuralNetBinaryClassifier, "module__n_out": 1},
        {"module__extra": True, "criterion": FirstLogits},
        {"iterator_train__collate_fn": default_collate},
    ],
    ids=["binary", "tuple", "training alone"],
)
def test_others_train_to_the_bit_as_without_the_check(params, monkeypatch):
    labels = y > 4 if "cls" in params else y
    # A parameter of its loader, for which there is something to check.
    params = {**params, "max_epochs": 2, "iterator_valid__batch_size": 3}
    first = augmented(own_net(**params)).fit(X, labels)
    for place in ("_skorch", "_skorch._net_checks"):
        monkeypatch.setattr(f"tsynd_sk.{place}.check_own_way", lambda net, rows: None)
    second = augmented(own_net(**params)).fit(X, labels)
    np.testing.assert_array_equal(first.predict_proba(X), second.predict_proba(X))


class Silent(Dense):
    def forward(self, x):
        pytest.fail("the module was called")


@pytest.mark.parametrize("where", ["class", "net"])
@pytest.mark.parametrize(
    "method", ["predict_proba", "evaluation_step", "infer", "get_dataset", "get_iterator"]
)
def test_only_a_way_that_is_all_of_skorch_is_not_gone(method, where):
    class Own(NeuralNetClassifier):
        pass

    check_own_way(own_net(Own, Silent).initialize(), X[:, None])
    net = own_net(Own, Silent).initialize()
    given = partial(getattr(NeuralNetClassifier, method), net)
    setattr(Own if where == "class" else net, method, staticmethod(given))
    with pytest.raises(pytest.fail.Exception, match="the module was called"):
        check_own_way(net, X[:, None])


def test_the_net_is_left_as_it_was():
    estimator = own_net(iterator_valid__batch_size=3).initialize()
    module = estimator.module_
    module.layers[1].eval()
    modes = [part.training for part in module.modules()]
    before = torch.get_rng_state()
    check_own_way(estimator, X[:, None])
    assert estimator.module_ is module
    assert [part.training for part in module.modules()] == modes
    assert not module._forward_hooks
    assert "forward" not in vars(module)
    assert torch.equal(torch.get_rng_state(), before)
