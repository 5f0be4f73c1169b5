"""Files of save_params: the same answers after loading, and whatever does not fit is refused."""

import json
import os
import pickle
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from helpers.saved_files import (
    ESTIMATORS,
    TABLE,
    answers,
    assert_same,
    digits,
    ensemble_synthesizer,
    image_classifier,
    table_synthesizer,
    tiny_autoencoder,
)
from helpers.tiny_nets import Dense, X, augmented, dense_net, net, own_net, synthesizer, y
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from skorch import NeuralNetClassifier
from skorch.callbacks import Callback
from torch import nn

from tsynd_sk import AugmentedClassifier, TargetedSynthesizer
from tsynd_sk._skorch import scoped_seed
from tsynd_sk._utils import _files
from tsynd_sk.autoencoders import AutoencoderNet
from tsynd_sk.classifiers import NetClassifier
from tsynd_sk.synthesis import _saving


@pytest.fixture(params=list(ESTIMATORS))
def case(request, estimators):
    """Constructor, rows, labels, and the fitted estimator."""
    make, data = ESTIMATORS[request.param]
    return (make, *data(), estimators[request.param])


def plain(*args, **params):
    """Classifier without synthesis, which trains within a moment."""
    return augmented(own_net(*args, **{"max_epochs": 1, **params}), synthetic_ratio=0)


def contents(path):
    with safetensors.safe_open(path, "pt") as file:
        metadata = file.metadata()
    return safetensors.torch.load_file(path), metadata


def rewrite(path, change):
    """Change what a file holds, and give it the checksum of what it holds then."""
    tensors, metadata = contents(path)
    description = json.loads(metadata["description"])
    change(description, tensors)
    metadata["description"] = json.dumps(description)
    del metadata["sha256"]
    metadata["sha256"] = _saving._checksum(tensors, metadata)
    safetensors.torch.save_file(tensors, path, metadata)


def weights_of(skorch_net):
    return {name: value.clone() for name, value in skorch_net.module_.state_dict().items()}


class TestRoundTrip:
    def test_all_answers_and_attributes_are_the_same(self, case, path, tmp_path):
        make, rows, labels, fitted = case
        fitted.save_params(path, with_images=True)
        other = make()
        params = dict(other.get_params(deep=False))
        assert other.load_params(path) is other
        assert all(other.get_params(deep=False)[name] is value for name, value in params.items())
        other.save_params(tmp_path / "again", with_images=True)
        # The file may change or go.
        path.write_bytes(b"\0" * path.stat().st_size)
        path.unlink()
        assert_same(answers(fitted, rows[:9], labels[:9]), answers(other, rows[:9], labels[:9]))
        assert set(vars(other)) == set(vars(fitted))
        assert other.classes_.dtype == fitted.classes_.dtype
        for name in ("format_", "image_shape_", "n_features_in_"):
            assert getattr(other, name) == getattr(fitted, name)
        for name in ("low", "high", "levels", "half"):
            assert getattr(other.value_range_, name) == pytest.approx(
                getattr(fitted.value_range_, name), abs=0
            )

    def test_what_was_loaded_is_saved_as_it_came(self, case, path, tmp_path):
        make, _, _, fitted = case
        fitted.save_params(path, with_images=True)
        make().load_params(path).save_params(tmp_path / "again", with_images=True)
        (one, first), (two, second) = contents(path), contents(tmp_path / "again")
        assert first == second
        assert all(torch.equal(one[name], two[name]) for name in one)

    @pytest.mark.slow
    def test_all_answers_are_the_same_in_another_process(self, estimators, tmp_path):
        script = (
            "import numpy as np\n"
            "from helpers import saved_files\n"
            "for name, (make, data) in saved_files.ESTIMATORS.items():\n"
            "    rows, labels = data()\n"
            "    estimator = make().load_params(f'{name}.safetensors')\n"
            "    np.savez(f'{name}.npz', **saved_files.answers(estimator, rows[:9], labels[:9]))\n"
        )
        expected = {}
        for name, estimator in estimators.items():
            rows, labels = ESTIMATORS[name][1]()
            estimator.save_params(tmp_path / f"{name}.safetensors", with_images=True)
            expected[name] = answers(estimator, rows[:9], labels[:9])
        root = Path(__file__).parents[2]
        search = os.pathsep.join([str(root), str(root / "tests"), os.environ.get("PYTHONPATH", "")])
        environment = {**os.environ, "PYTHONPATH": search, "OMP_NUM_THREADS": "1"}
        subprocess.run([sys.executable, "-c", script], cwd=tmp_path, env=environment, check=True)
        for name, known in expected.items():
            assert_same(known, dict(np.load(tmp_path / f"{name}.npz")))

    @pytest.mark.parametrize(
        "labels",
        [
            y - 3,
            (y * 3).astype(">i2"),
            np.round(y / 2),
            y > 4,
            np.array(list("äbcdefghi\n"))[y],
            np.array(list("äbcdefghij"), dtype=object)[y],
            np.array([f"{i:>40}" for i in range(10)])[y],
        ],
        ids=["negative", "big-endian", "floats", "bool", "str", "object", "wide"],
    )
    def test_labels(self, labels, path):
        fitted = plain().fit(X, labels)
        fitted.save_params(path)
        other = plain(module__n_out=10).load_params(path)
        assert other.predict(X).dtype == fitted.predict(X).dtype
        assert (other.predict(X) == fitted.predict(X)).all()

    @pytest.mark.parametrize(
        "rows",
        [
            (X * 16).astype(np.uint16) * 4000,
            X.astype(np.float16),
            X.astype(">f8"),
            X > 0.5,
            np.repeat(X[..., None], 3, axis=3),
            np.asfortranarray(X),
        ],
        ids=["uint16", "float16", ">f8", "bool", "hwc", "F order"],
    )
    def test_types_and_layouts_of_images(self, rows, path):
        def make():
            classifier = net(max_epochs=1, module__width=2)
            return synthesizer(
                classifier=classifier, autoencoder=tiny_autoencoder(), random_state=0
            )

        fitted = make().fit(rows, y)
        fitted.save_params(path, with_images=True)
        other = make().load_params(path)
        assert_same(answers(fitted, rows[:4], y[:4]), answers(other, rows[:4], y[:4]))
        assert other.format_ == fitted.format_
        assert other.value_range_.extremes[0].dtype == rows.dtype

    def test_flat_images_need_their_shape_again(self, path):
        rows = X.reshape(80, -1)

        def make(shape):
            return plain().set_params(synthesizer__image_shape=shape)

        fitted = make((8, 8)).fit(rows, y)
        fitted.save_params(path)
        other = make((8, 8)).load_params(path)
        assert other.image_shape_ == (1, 8, 8)
        assert (other.predict_proba(rows) == fitted.predict_proba(rows)).all()
        for shape in (None, (4, 16), (8, 8, 2)):
            with pytest.raises(ValueError, match="image_shape="):
                make(shape).load_params(path)

    def test_names_of_columns(self, path):
        pandas = pytest.importorskip("pandas")
        frame = pandas.DataFrame(TABLE[:80], columns=list("abcdefghiü"))
        augmented(dense_net(max_epochs=1), synthetic_ratio=0).fit(frame, y).save_params(path)
        other = augmented(dense_net(), synthetic_ratio=0).load_params(path)
        assert other.feature_names_in_.tolist() == list("abcdefghiü")
        with pytest.raises(ValueError, match="feature names should match"):
            other.predict(frame[list("übcdefghia")])

    def test_history_keeps_what_json_can_hold(self, images, path):
        class Records(Callback):
            def on_epoch_end(self, net, **kwargs):
                net.history.record("numbers", np.arange(3))
                net.history.record("nan", np.float32("nan"))
                net.history.record("secret", object())

        fitted = plain(callbacks=[Records()]).fit(X, y)
        with pytest.warns(UserWarning, match=r"leaves out \['secret'\]"):
            fitted.save_params(path)
        [row] = plain().load_params(path).history_
        assert row["numbers"] == [0, 1, 2]
        assert np.isnan(row["nan"])
        assert "secret" not in row

        images.save_params(path)
        other = image_classifier().load_params(path)
        assert other.history_ is other.estimator_.history
        assert list(other.history_) == list(images.history_)
        assert other.history_[-1, "train_loss"] == images.history_[-1, "train_loss"]

    def test_global_random_states_stay(self, table, path):
        with scoped_seed(12):
            before = torch.get_rng_state(), pickle.dumps(np.random.get_state())  # noqa: NPY002
            table.save_params(path)
            table_synthesizer().load_params(path)
            assert (torch.get_rng_state() == before[0]).all()
            assert pickle.dumps(np.random.get_state()) == before[1]  # noqa: NPY002

    def test_a_class_that_users_derive_reads_files_of_its_base(self, table, path):
        class Mine(TargetedSynthesizer):
            pass

        table.save_params(path)
        mine = Mine(**table.get_params(deep=False)).load_params(path)
        assert (mine.uncertainty(TABLE[:9]) == table.uncertainty(TABLE[:9])).all()

    def test_synthesizer_of_a_classifier_has_a_file_of_its_own(self, images, path):
        rows, labels = digits()
        images.synthesizer_.save_params(path)
        other = clone(images.synthesizer_).set_params(classifier=net(module__width=2))
        other.load_params(path)
        expected = images.synthesizer_.synthesize(rows[:5], labels[:5])[0]
        assert (other.synthesize(rows[:5], labels[:5])[0] == expected).all()

    @pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
    def test_trained_on_an_accelerator_and_loaded_on_the_processor(self, path):
        rows, labels = digits()
        fitted = image_classifier().set_params(synthesizer__device="cuda").fit(rows, labels)
        fitted.save_params(path, with_images=True)
        other = image_classifier().set_params(synthesizer__device="cpu").load_params(path)
        assert next(other.estimator_.module_.parameters()).device.type == "cpu"
        np.testing.assert_allclose(other.predict_proba(rows), fitted.predict_proba(rows), atol=1e-3)
        assert len(other.synthesizer_.sample(3)[0]) == 3


class TestImages:
    def test_stay_out_of_the_file_unless_asked_for(self, images, path):
        rows, labels = digits()
        images.save_params(path, with_images=True)
        assert all(row.tobytes() in path.read_bytes() for row in rows)
        images.save_params(path)
        assert not any(row.tobytes() in path.read_bytes() for row in rows)
        other = image_classifier().load_params(path)
        known, found = answers(images, rows[:9], labels[:9]), answers(other, rows[:9], labels[:9])
        assert known.keys() - found.keys() == {"sample", "sample_y"}
        assert_same({name: known[name] for name in found}, found)
        with pytest.raises(NotFittedError, match=r"left out.*synthesize\(X, y\).*with_images=True"):
            other.synthesizer_.sample(3)
        with pytest.raises(NotFittedError, match="left out"):
            other.save_params(path, with_images=True)

    def test_without_them_posteriors_are_there_but_no_new_ones(self, table, path):
        table.save_params(path)
        other = table_synthesizer().load_params(path)
        assert (other.uncertainty(TABLE[:9]) == table.uncertainty(TABLE[:9])).all()
        with torch.no_grad():
            next(reversed(list(other.classifier_.module_.parameters()))).mul_(2)
        # Also after a file of a net whose posterior is not known.
        for _ in range(2):
            with pytest.raises(NotFittedError, match="left out"):
                other.uncertainty(TABLE[:9])
            other.save_params(path)
            other = table_synthesizer().load_params(path)
        other.fit(TABLE[:80], y)
        assert (other.sample(5)[0] == table.sample(5)[0]).all()

    def test_of_a_file_on_disk_are_written_too(self, table, path, tmp_path):
        stored = np.memmap(tmp_path / "X", TABLE.dtype, "w+", shape=(80, 10))
        stored[:] = TABLE[:80]
        table_synthesizer().fit(stored, y).save_params(path, with_images=True)
        other = table_synthesizer().load_params(path)
        assert (other.sample(5)[0] == table.sample(5)[0]).all()


class TestNets:
    def test_frozen_nets_stay_and_copies_get_the_weights(self, path):
        # No copy of a net may need to import this class.
        class Local(Dense):
            pass

        def nets(seed):
            with scoped_seed(seed):
                classifier = own_net(module=Local, max_epochs=1).fit(X[:, None], y)
                return classifier, AutoencoderNet(max_epochs=1, epoch_size=32).fit(X[:, None])

        def around(nets):
            classifier, autoencoder = map(FrozenEstimator, nets)
            return synthesizer(classifier=classifier, autoencoder=autoencoder, random_state=0)

        fitted, mine = around(nets(0)).fit(X, y), nets(1)
        before = [weights_of(part) for part in mine]
        fitted.save_params(path, with_images=True)
        other = around(mine).load_params(path)
        assert_same(answers(fitted, X[:5], y[:5]), answers(other, X[:5], y[:5]))
        other.classifier_.partial_fit(X[:, None], y)
        other.autoencoder_.partial_fit(X[:, None])
        for part, weights in zip(mine, before, strict=True):
            assert len(part.history) == 1
            assert all(torch.equal(v, weights[k]) for k, v in part.module_.state_dict().items())

    def test_a_frozen_net_need_not_be_fitted_to_say_how_it_is_built(self, path):
        trained = NetClassifier(module__width=2, max_epochs=1).fit(X[:, None], y)
        fitted = synthesizer(classifier=FrozenEstimator(trained), random_state=0).fit(X, y)
        fitted.save_params(path)
        unfitted = FrozenEstimator(NetClassifier(module__width=2))
        other = synthesizer(classifier=unfitted, random_state=0).load_params(path)
        assert (other.uncertainty(X) == fitted.uncertainty(X)).all()
        assert not unfitted.estimator.initialized_

    def test_instances_tied_weights_lazy_layers_and_several_modules(self, path):
        class Tied(nn.Module):
            def __init__(self):
                super().__init__()
                self.one = nn.Linear(64, 64)
                self.two = nn.Linear(64, 64)
                self.two.weight = self.one.weight
                self.last = nn.Sequential(nn.Dropout(), nn.LazyLinear(10))

            def forward(self, x):
                return self.last(self.two(self.one(x.flatten(1)).relu()))

        class WithJudge(NeuralNetClassifier):
            def initialize_module(self):
                super().initialize_module()
                self.module_(torch.zeros(1, 64))
                self.judge_ = nn.Linear(3, 2)
                return self

        def make():
            with scoped_seed(0):
                return plain(WithJudge, Tied())

        fitted = make().fit(X, y)
        fitted.save_params(path)
        other = make().load_params(path)
        assert torch.equal(other.estimator_.judge_.weight, fitted.estimator_.judge_.weight)
        assert (other.uncertainty(X) == fitted.uncertainty(X)).all()
        module = other.estimator_.module_
        assert module.one.weight is module.two.weight

    def test_training_goes_on_after_loading(self, images, path):
        rows, labels = digits()
        images.save_params(path)
        other = image_classifier().load_params(path)
        x, codes = images.format_.to_tensor(rows).numpy(), np.unique(labels, return_inverse=True)[1]
        assert other.estimator_.classes_.tolist() == [0, 1, 2, 3, 4]
        before = weights_of(other.estimator_)
        other.estimator_.partial_fit(x, codes)
        assert len(other.history_) == 2 * len(images.history_)
        now = weights_of(other.estimator_)
        assert any(not torch.equal(now[name], before[name]) for name in now)

    def test_a_net_that_can_have_no_members_is_saved_nevertheless(self, path):
        class WithoutLinear(nn.Module):
            def __init__(self):
                super().__init__()
                self.filters = nn.Conv2d(1, 10, 3)

            def forward(self, x):
                return self.filters(x).mean((2, 3))

        fitted = plain(module=WithoutLinear).fit(X, y)
        fitted.save_params(path)
        other = plain(module=WithoutLinear).load_params(path)
        assert (other.predict_proba(X) == fitted.predict_proba(X)).all()
        with pytest.raises(ValueError, match=r"calls no torch\.nn\.Linear"):
            other.uncertainty(X)

    def test_own_modules_sized_from_data_say_what_they_found(self, path):
        class Own(nn.Sequential):
            def __init__(self, n_out=2, rate=0.5):
                drop = nn.Dropout(rate)
                super().__init__(nn.Flatten(), nn.Linear(64, 8), drop, nn.Linear(8, n_out))

            @classmethod
            def from_data(cls, X, y, **params):
                return cls(len(np.unique(y)), **params)

        class Telling(Own):
            def __init__(self, n_out=2, rate=0.5):
                super().__init__(n_out, rate)
                self.sizes = {"n_out": n_out}

        def make(module, **params):
            net = NetClassifier(module, max_epochs=1, **params)
            return augmented(net, synthetic_ratio=0)

        with pytest.raises(ValueError, match=r"Own\.from_data.*Give it an attribute sizes"):
            make(Own).fit(X, y).save_params(path)
        assert not path.exists()
        fitted = make(Telling).fit(X, y)
        fitted.save_params(path)
        other = make(Telling).load_params(path)
        assert (other.predict_proba(X) == fitted.predict_proba(X)).all()
        with pytest.raises(ValueError, match=r"module__rate of classifier0 is 0\.5 .* but 0\.1"):
            make(Telling, module__rate=0.1).load_params(path)


class TestWhatNeedsCode:
    def test_state_that_is_no_tensor(self, path):
        class Odd(Dense):
            def get_extra_state(self):
                return {"anything": object()}

            def set_extra_state(self, state):
                pass

        fitted = plain(module=Odd).fit(X, y)
        with pytest.raises(ValueError, match=r"classifier0\.module\._extra_state, which is a dict"):
            fitted.save_params(path)
        assert not path.exists()

    def test_labels_of_many_types(self, path):
        fitted = plain().fit(X, y)
        fitted.classes_ = np.array([True, "yes"], dtype=object)
        fitted.synthesizer_.classes_ = fitted.classes_
        with pytest.raises(ValueError, match=r"cannot save labels such as True.*astype\(str\)"):
            fitted.save_params(path)

    def test_nothing_is_unpickled(self, images, path, monkeypatch):
        def forbidden(*args, **kwargs):
            raise AssertionError("a pickle is read")

        images.save_params(path, with_images=True)
        for module, name in [(pickle, "load"), (pickle, "loads"), (torch, "load")]:
            monkeypatch.setattr(module, name, forbidden)
        monkeypatch.setattr(pickle, "Unpickler", forbidden)
        image_classifier().load_params(path)


class TestMisfits:
    @pytest.mark.parametrize(
        ("make", "message"),
        [
            (table_synthesizer, "is AugmentedClassifier in the file, but TargetedSynthesizer in"),
            (
                lambda: image_classifier().set_params(estimator__module__width=3),
                "module__width of classifier0 is 2 in the file, but 3 in the estimator",
            ),
            (
                lambda: image_classifier().set_params(estimator__module__dropout=0.4),
                r"module__dropout of classifier0 is 0\.3 in the file, but 0\.4 in",
            ),
            (plain, "module of classifier0 is ConvNet in the file, but Dense in the estimator"),
            (
                lambda: image_classifier().set_params(
                    synthesizer__autoencoder__module__n_components=3
                ),
                "module__n_components of autoencoder is 2 in the file, but 3",
            ),
            (
                lambda: image_classifier().set_params(synthesizer__members="laplace"),
                "members is dropout in the file, but laplace in the estimator",
            ),
            (
                lambda: image_classifier().set_params(synthesizer__image_shape=(2, 32)),
                r"rows of shape \(8, 8\), which does not match image_shape=\(2, 32\)",
            ),
        ],
    )
    def test_other_parameters_are_named(self, images, path, make, message):
        images.save_params(path)
        estimator = make()
        before = dict(vars(estimator))
        with pytest.raises(ValueError, match=message) as caught:
            estimator.load_params(path)
        assert str(caught.value).startswith(f"cannot load {str(path)!r}: ")
        assert str(caught.value).endswith("with the parameters of the one that was saved.")
        assert vars(estimator) == before

    def test_other_nets_are_named(self, path):
        class Deeper(Dense):
            def __init__(self, **params):
                super().__init__(**params)
                self.more = nn.Linear(2, 2)

        class Wider(Dense):
            def __init__(self, **params):
                super().__init__(**params)
                self.layers[1] = nn.Linear(64, 17)

        class Double(Dense):
            def __init__(self, **params):
                super().__init__(**params)
                self.double()

        Deeper.__name__ = Wider.__name__ = Double.__name__ = "Dense"
        plain().fit(X, y).save_params(path)
        for module, message in [
            (Deeper, r"classifier0\.module\.more\.weight is missing in the file, but torch\.float"),
            (Wider, r"of shape \(16, 64\) in the file, but torch\.float32 of shape \(17, 64\) in"),
            (Double, r"torch\.float32 of .* in the file, but torch\.float64"),
        ]:
            with pytest.raises(ValueError, match=message):
                plain(module=module).load_params(path)
        plain(module=Deeper).fit(X, y).save_params(path)
        with pytest.raises(ValueError, match=r"more\.\w+ is torch.* but missing in the estimator"):
            plain().load_params(path)

    def test_another_number_of_classifiers(self, estimators, path):
        estimators["ensemble"].save_params(path)
        for classifier in (own_net(), [own_net()] * 3):
            with pytest.raises(ValueError, match="number of classifiers is 2 in the file, but"):
                ensemble_synthesizer().set_params(classifier=classifier).load_params(path)

    def test_a_failed_load_leaves_what_was_learned(self, images, table, path):
        rows, _ = digits()
        table.save_params(path)
        known, before = images.predict_proba(rows), dict(vars(images))
        with pytest.raises(ValueError, match="is TargetedSynthesizer in the file"):
            images.load_params(path)
        assert vars(images) == before
        assert (images.predict_proba(rows) == known).all()

    def test_an_estimator_without_sense_or_unfitted(self, tmp_path):
        with pytest.raises(ValueError, match="'warm_up' parameter"):
            image_classifier().set_params(warm_up=7).load_params(tmp_path / "none")
        for estimator in (AugmentedClassifier(), TargetedSynthesizer()):
            with pytest.raises(NotFittedError):
                estimator.save_params(tmp_path / "none")


class TestDamage:
    """Whatever happens to a file, it is refused by name, or it says what it said."""

    def attempt(self, data, path, known):
        path.write_bytes(data)
        estimator = table_synthesizer()
        before = dict(vars(estimator))
        try:
            estimator.load_params(path)
        except ValueError as error:
            assert str(error).startswith(f"cannot load {str(path)!r}: it ")  # noqa: PT017
            assert vars(estimator) == before
            return 0
        assert (estimator.uncertainty(TABLE[:9]) == known).all()
        return 1

    @pytest.mark.parametrize("n_places", [10, pytest.param(200, marks=pytest.mark.slow)])
    def test_truncated_files_and_flipped_bits(self, n_places, table, path):
        table.save_params(path)
        data, known = path.read_bytes(), table.uncertainty(TABLE[:9])
        header = 8 + int.from_bytes(data[:8], "little")
        rng = random.Random(0)
        drawn = rng.sample(range(len(data)), n_places)
        for length in {*range(9), header - 1, header, header + 1, len(data) - 1, *drawn}:
            assert not self.attempt(data[:length], path, known)
        assert not self.attempt(data + b"\0", path, known)
        assert self.attempt(data, path, known)
        loaded = 0
        for place in {*range(8), *rng.sample(range(header), n_places), *drawn}:
            damaged = bytearray(data)
            damaged[place] ^= 1 << rng.randrange(8)
            loaded += self.attempt(bytes(damaged), path, known)
        # In the padding of the header, if at all.
        assert loaded <= 5

    @pytest.mark.parametrize(
        ("data", "message"),
        [
            (b"", "is damaged, or no safetensors file"),
            (pickle.dumps({"a": 1}), "is damaged, or no safetensors file"),
            (b"\xff" * 100, "is damaged, or no safetensors file"),
            (b"\x02\0\0\0\0\0\0\0{}", "not written by save_params of tsynd_sk"),
            (safetensors.torch.save({"a": torch.ones(3)}, {"format": "pt"}), "not written by save"),
        ],
        ids=["empty", "pickle", "absurd length", "no metadata", "another's"],
    )
    def test_other_files(self, data, message, path):
        path.write_bytes(data)
        with pytest.raises(ValueError, match=message) as caught:
            table_synthesizer().load_params(path)
        assert str(path) in str(caught.value)

    def test_missing_files_and_folders_are_errors_of_the_system(self, table, tmp_path):
        with pytest.raises(FileNotFoundError):
            table_synthesizer().load_params(tmp_path / "none")
        with pytest.raises(IsADirectoryError):
            table_synthesizer().load_params(tmp_path)
        with pytest.raises(FileNotFoundError) as caught:
            table.save_params(tmp_path / "none" / "file")
        assert caught.value.filename == str(tmp_path / "none" / "file")

    def test_a_later_version_says_to_upgrade(self, table, path):
        table.save_params(path)
        tensors, metadata = contents(path)
        metadata |= {"format_version": "10", "library_version": "99.1"}
        safetensors.torch.save_file(tensors, path, metadata)
        with pytest.raises(
            ValueError, match=r"version 10, written by tsynd_sk 99\.1.* upgrade tsynd_sk"
        ):
            table_synthesizer().load_params(path)

    def test_exchanged_tensors_are_noticed(self, table, path):
        table.save_params(path)
        tensors, metadata = contents(path)
        one, two = "classifier0.module.mean", "classifier0.module.scale"
        tensors[one], tensors[two] = tensors[two], tensors[one]
        safetensors.torch.save_file(tensors, path, metadata)
        with pytest.raises(ValueError, match="do not have the checksum"):
            table_synthesizer().load_params(path)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda _, tensors: tensors.pop("latent_scale"), "it lacks 'latent_scale'"),
            (lambda _, tensors: tensors.pop("classifier0.module.mean"), "mean is missing in the"),
            (lambda _, tensors: tensors.update(more=torch.ones(1)), "is called 'more'"),
            (lambda body, _: body.pop("seed"), "it lacks 'seed'"),
            (
                lambda body, _: body["classifiers"][0]["sizes"].update(n_classes=10**13),
                r"of shape \(10, 4\) in the file, but torch\.float32 of shape \(1000000",
            ),
            (
                lambda body, _: body["labels"].update(dtype="<U900000", values=list("ab") * 5000),
                "more memory than labels do",
            ),
            (lambda body, _: body["images"].update(row_shape=[10**12]), "cannot load"),
            (lambda body, _: body["images"].update(dtype="O"), "cannot load"),
        ],
    )
    def test_hostile_files_of_the_right_checksum(self, change, message, table, path):
        table.save_params(path, with_images=True)
        rewrite(path, change)
        with pytest.raises(ValueError, match=message):
            table_synthesizer().load_params(path)

    @pytest.mark.slow
    def test_nonsense_in_any_place_of_the_right_checksum(self, table, path):
        """Refused, or harmless: what is of the right type may say anything."""
        table.save_params(path)
        description = json.loads(contents(path)[1]["description"])
        original = path.read_bytes()

        def places(value, place=()):
            if place:
                yield place
            items = value.items() if isinstance(value, dict) else ()
            items = enumerate(value[:1]) if isinstance(value, list) else items
            for key, item in items:
                yield from places(item, (*place, key))

        for *parents, last in places(description):
            for nonsense in (None, True, -1, 10**30, "x", [[]], {}, 1e308):
                path.write_bytes(original)

                def change(body, _, parents=parents, last=last, nonsense=nonsense):
                    for key in parents:
                        body = body[key]
                    body[last] = nonsense

                rewrite(path, change)
                try:
                    table_synthesizer().load_params(path)
                except ValueError as error:
                    assert str(path) in str(error)  # noqa: PT017


class TestWriting:
    def test_any_safetensors_reader_reads_it(self, images, path):
        images.save_params(path)
        weight = safetensors.torch.load_file(path)["classifier0.module.features.0.weight"]
        assert torch.equal(weight, images.estimator_.module_.features[0].weight)

    def test_a_full_disk_or_a_crash_leaves_the_old_file(self, images, path, monkeypatch):
        def full(descriptor):
            raise OSError(28, "No space left on device")

        def crash(*args):
            raise KeyboardInterrupt

        images.save_params(path)
        before = path.read_bytes()
        monkeypatch.setattr(_files.os, "fsync", full)
        with pytest.raises(OSError, match="No space left on device"):
            images.save_params(path, with_images=True)
        monkeypatch.undo()
        monkeypatch.setattr(Path, "replace", crash)
        with pytest.raises(KeyboardInterrupt):
            images.save_params(path, with_images=True)
        assert path.read_bytes() == before
        assert list(path.parent.iterdir()) == [path]

    def test_saving_changes_no_answers(self, images, path):
        rows, labels = digits()
        known = answers(images, rows[:5], labels[:5])
        images.save_params(path)
        assert_same(known, answers(images, rows[:5], labels[:5]))
