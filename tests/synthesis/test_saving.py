"""Files of save_params: the same answers after loading, and whatever does not fit is refused."""

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
from helpers import odd_modules as odd
from helpers.saved_files import (
    ESTIMATORS,
    TABLE,
    answers,
    assert_same,
    contents,
    digits,
    image_classifier,
    plain,
    refuse,
    rewrite,
    table_synthesizer,
    tiny_autoencoder,
    weights_of,
)
from helpers.tiny_nets import Dense, X, augmented, dense_net, net, own_net, synthesizer, y
from PIL import Image
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.utils import Bunch
from skorch.callbacks import Callback

from tsynd_sk import TargetedSynthesizer
from tsynd_sk._skorch import scoped_seed
from tsynd_sk._utils import _files
from tsynd_sk.autoencoders import AutoencoderNet
from tsynd_sk.classifiers import NetClassifier
from tsynd_sk.datasets import Reading, read_images


def other_parameters(**params):
    return lambda: image_classifier().set_params(**params)


class TestRoundTrip:
    @pytest.mark.parametrize("kind", list(ESTIMATORS))
    def test_all_is_the_same_to_the_bit(self, kind, estimators, path, tmp_path):
        (make, data), fitted, again = ESTIMATORS[kind], estimators[kind], tmp_path / "again"
        known = answers(fitted, *(part[:9] for part in data()))
        fitted.save_params(path, with_images=True)
        other = make()
        params = other.get_params(deep=False)
        assert other.load_params(path) is other
        assert all(other.get_params(deep=False)[name] is params[name] for name in params)
        other.save_params(again, with_images=True)
        (one, first), (two, second) = contents(path), contents(again)
        assert first == second
        assert all(torch.equal(one[name], two[name]) for name in one)
        # The file may change or go, and neither saving nor loading changes answers.
        path.write_bytes(b"\0" * path.stat().st_size)
        path.unlink()
        for estimator in (fitted, other):
            assert_same(known, answers(estimator, *(part[:9] for part in data())))
        assert set(vars(other)) == set(vars(fitted))
        assert other.classes_.dtype == fitted.classes_.dtype
        for name in ("format_", "image_shape_", "n_features_in_"):
            assert getattr(other, name, None) == getattr(fitted, name, None)

    @pytest.mark.slow
    def test_all_answers_are_the_same_in_another_process(self, estimators, tmp_path):
        script = (
            "import numpy as np\n"
            "from helpers import saved_files\n"
            "for name, (make, data) in saved_files.ESTIMATORS.items():\n"
            "    estimator = make().load_params(f'{name}.safetensors')\n"
            "    np.savez(f'{name}.npz', **saved_files.answers(estimator, *data()))\n"
        )
        for name, estimator in estimators.items():
            estimator.save_params(tmp_path / f"{name}.safetensors", with_images=True)
        root = Path(__file__).parents[2]
        search = os.pathsep.join([str(root), str(root / "tests"), os.environ.get("PYTHONPATH", "")])
        environment = {**os.environ, "PYTHONPATH": search, "OMP_NUM_THREADS": "1"}
        subprocess.run([sys.executable, "-c", script], cwd=tmp_path, env=environment, check=True)
        for name, estimator in estimators.items():
            known = answers(estimator, *ESTIMATORS[name][1]())
            assert_same(known, dict(np.load(tmp_path / f"{name}.npz")))

    @pytest.mark.parametrize(
        "labels",
        [
            (y * 3).astype(">i2") - 5,
            np.round(y / 2),
            y > 4,
            np.array(list("äbcdefghij"), dtype=object)[y],
            np.array([f"{i:>40}" for i in range(10)])[y],
            np.datetime64("2026-01-01") + y,
        ],
        ids=["big-endian", "floats", "bool", "object", "wide", "dates"],
    )
    def test_labels(self, labels, path):
        n_out = len(np.unique(labels))
        fitted = plain(module__n_out=n_out).fit(X, labels)
        fitted.save_params(path)
        other = plain(module__n_out=n_out).load_params(path)
        assert other.predict(X).dtype == fitted.predict(X).dtype
        assert (other.predict(X) == fitted.predict(X)).all()

    @pytest.mark.parametrize(
        "rows",
        [(X * 16).astype(np.uint16) * 4000, np.repeat(X[..., None], 3, 3).astype(">f8"), X > 0.5],
        ids=["uint16", "hwc, big-endian", "bool"],
    )
    def test_types_and_layouts_of_images(self, rows, path):
        def make():
            parts = net(max_epochs=1, module__width=2), tiny_autoencoder()
            return synthesizer(classifier=parts[0], autoencoder=parts[1], random_state=0)

        fitted = make().fit(rows, y)
        fitted.save_params(path, with_images=True)
        other = make().load_params(path)
        assert_same(answers(fitted, rows[:4], y[:4]), answers(other, rows[:4], y[:4]))
        assert other.format_ == fitted.format_

    def test_flat_images_need_their_shape_again(self, path):
        rows = X.reshape(80, -1)
        fitted = plain().set_params(synthesizer__image_shape=(8, 8)).fit(rows, y)
        fitted.save_params(path)
        other = plain().set_params(synthesizer__image_shape=(8, 8)).load_params(path)
        assert other.image_shape_ == (1, 8, 8)
        assert (other.predict_proba(rows) == fitted.predict_proba(rows)).all()
        for shape in (None, (4, 16), (8, 8, 2)):
            refuse(plain().set_params(synthesizer__image_shape=shape), path, "image_shape=")

    def test_names_of_columns(self, path):
        pandas = pytest.importorskip("pandas")
        frame = pandas.DataFrame(TABLE[:80], columns=list("abcdefghiü"))
        augmented(dense_net(max_epochs=1), synthetic_ratio=0).fit(frame, y).save_params(path)
        other = augmented(dense_net(), synthetic_ratio=0).load_params(path)
        assert other.feature_names_in_.tolist() == list("abcdefghiü")

    def test_history_keeps_what_json_can_hold(self, path):
        class Records(Callback):
            def on_epoch_end(self, net, **kwargs):
                net.history.record("numbers", np.arange(3))
                net.history.record("nan", np.float32("nan"))
                net.history.record("secret", object())

        fitted = plain(callbacks=[Records()]).fit(X, y)
        fitted.save_params(path)
        [row] = plain().load_params(path).history_
        assert row["numbers"] == [0, 1, 2]
        assert np.isnan(row["nan"])
        assert "secret" not in row

    def test_global_random_states_stay(self, table, path):
        with scoped_seed(12):
            before = torch.get_rng_state(), pickle.dumps(np.random.get_state())  # noqa: NPY002
            table.save_params(path)
            table_synthesizer().load_params(path)
            assert (torch.get_rng_state() == before[0]).all()
            assert pickle.dumps(np.random.get_state()) == before[1]  # noqa: NPY002

    def test_a_file_serves_a_classifier_and_its_synthesizer_alike(self, images, path):
        rows, labels = digits()
        own = clone(images.synthesizer_).set_params(classifier=net(module__width=2))
        for fitted in (images, images.synthesizer_):
            fitted.save_params(path, with_images=True)
            for like, other in ((images.synthesizer_, clone(own)), (images, image_classifier())):
                found = answers(other.load_params(path), rows[:5], labels[:5])
                assert_same(answers(like, rows[:5], labels[:5]), found)

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
        class Mine(TargetedSynthesizer):
            """Class of a user, which reads files of its base."""

        table.save_params(path)
        other = Mine(**table.get_params(deep=False)).load_params(path)
        assert (other.uncertainty(TABLE[:9]) == table.uncertainty(TABLE[:9])).all()
        with torch.no_grad():
            next(reversed(list(other.classifier_.module_.parameters()))).mul_(2)
        # Also after a file of the net that was changed.
        for _ in range(2):
            with pytest.raises(NotFittedError, match="left out"):
                other.uncertainty(TABLE[:9])
            other.save_params(path)
            other = table_synthesizer().load_params(path)

    def test_without_them_there_is_a_way_back_from_other_members(self, images, table, path):
        table.save_params(path)
        other = table_synthesizer().load_params(path)
        for members in ("auto", "laplace", "dropout", "auto"):
            other.set_params(members=members)
            if members == "dropout":
                with pytest.raises(ValueError, match="nothing random"):
                    other.uncertainty(TABLE[:9])
            else:
                assert (other.uncertainty(TABLE[:9]) == table.uncertainty(TABLE[:9])).all()
        images.save_params(path)
        loaded = image_classifier().load_params(path)
        loaded.synthesizer_.set_params(members="laplace")
        with pytest.raises(NotFittedError, match="left out"):
            loaded.uncertainty(digits()[0])

    def test_of_the_file_give_other_members_their_posterior(self, images, path):
        images.save_params(path, with_images=True)
        loaded = image_classifier().load_params(path)
        twin = pickle.loads(pickle.dumps(images))
        found = [
            one.synthesizer_.set_params(members="laplace").uncertainty(digits()[0])
            for one in (loaded, twin)
        ]
        np.testing.assert_array_equal(*found)

    def test_of_a_file_on_disk_are_written_too(self, path, tmp_path):
        stored = np.memmap(tmp_path / "X", TABLE.dtype, "w+", shape=(80, 10))
        stored[:] = TABLE[:80]
        fitted = table_synthesizer().set_params(classifier__max_epochs=1).fit(stored, y)
        fitted.save_params(path, with_images=True)
        other = table_synthesizer().load_params(path)
        assert (other.sample(5)[0] == fitted.sample(5)[0]).all()


class TestNets:
    def test_frozen_nets_stay_and_copies_get_the_weights(self, path):
        def nets(seed):
            with scoped_seed(seed):
                classifier = own_net(module=odd.local_class(Dense), max_epochs=1).fit(X[:, None], y)
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
        instance = odd.Tied()
        fitted = plain(odd.WithJudge, instance, optimizer__lr=0.1)
        instance(torch.zeros(1, 64))
        fitted.fit(X, y).save_params(path)
        other = plain(odd.WithJudge, odd.Tied()).load_params(path)
        assert torch.equal(other.estimator_.judge_.weight, fitted.estimator_.judge_.weight)
        assert (other.uncertainty(X) == fitted.uncertainty(X)).all()
        assert other.estimator_.module_.one.weight is other.estimator_.module_.two.weight

    def test_training_goes_on_after_loading(self, images, path):
        rows, labels = digits()
        images.save_params(path)
        loaded = image_classifier().load_params(path)
        other = loaded.estimator_
        assert loaded.history_ is other.history
        assert other.history[-1, "train_loss"] == images.history_[-1, "train_loss"]
        x, codes = images.format_.to_tensor(rows).numpy(), np.unique(labels, return_inverse=True)[1]
        assert other.classes_.tolist() == [0, 1, 2, 3, 4]
        before = weights_of(other)
        other.partial_fit(x, codes)
        assert len(other.history) == 2 * len(images.history_)
        assert any(not torch.equal(value, before[k]) for k, value in weights_of(other).items())

    def test_a_net_that_can_have_no_members_is_saved_nevertheless(self, path):
        fitted = plain(module=odd.WithoutLinear).fit(X, y)
        fitted.save_params(path)
        other = plain(module=odd.WithoutLinear).load_params(path)
        assert (other.predict_proba(X) == fitted.predict_proba(X)).all()
        with pytest.raises(ValueError, match=r"calls no torch\.nn\.Linear"):
            other.uncertainty(X)

    def test_own_modules_sized_from_data_say_what_they_found(self, path):
        def make(module, **params):
            return augmented(NetClassifier(module, max_epochs=1, **params), synthetic_ratio=0)

        with pytest.raises(
            ValueError, match=r"SizedFromData\.from_data.*Give it an attribute sizes"
        ):
            make(odd.SizedFromData).fit(X, y).save_params(path)
        assert not path.exists()
        fitted = make(odd.TellsSizes).fit(X, y)
        fitted.save_params(path)
        other = make(odd.TellsSizes).load_params(path)
        assert (other.predict_proba(X) == fitted.predict_proba(X)).all()
        refuse(make(odd.TellsSizes, module__rate=0.1), path, r"module__rate of .* is 0\.5 in")

    def test_what_only_code_could_read_is_refused(self, path):
        fitted = plain(module=odd.Odd).fit(X, y)
        with pytest.raises(ValueError, match=r"classifier0\.module\._extra_state, which is a dict"):
            fitted.save_params(path)
        assert not path.exists()


class TestMisfits:
    @pytest.mark.parametrize(
        ("make", "message"),
        [
            (plain, "module of classifier0 is ConvNet in the file, but Dense in the estimator"),
            (
                other_parameters(estimator__module__dropout=0.4),
                "module__dropout of classifier0 is 0.3 in the file, but 0.4 in the estimator. "
                "Construct the estimator with the parameters of the one that was saved.",
            ),
            (
                other_parameters(estimator__criterion=torch.nn.NLLLoss),
                "criterion of classifier0 is CrossEntropyLoss in the file, but NLLLoss in",
            ),
            (
                other_parameters(synthesizer__autoencoder__module__n_components=3),
                "module__n_components of autoencoder is 2",
            ),
            (
                other_parameters(synthesizer__members="laplace"),
                "members is auto in the file, but laplace in",
            ),
            (
                other_parameters(synthesizer__image_shape=(2, 32)),
                "must have rows of shape image_shape=",
            ),
            (other_parameters(synthesizer__classifier=net()), "has a classifier of its own"),
            (lambda: augmented(5), "must be a skorch net"),
        ],
    )
    def test_other_parameters_are_named(self, images, path, make, message):
        images.save_params(path)
        refuse(make(), path, message)

    def test_other_nets_are_named(self, path):
        plain().fit(X, y).save_params(path)
        refuse(plain(module=odd.Deeper), path, r'Missing key.*"more\.weight"')
        refuse(plain(module=odd.Wider), path, r"\[16, 64\]\) from checkpoint.*\[17, 64\]\)")
        refuse(plain(module=odd.Double), path, r"float32 in the file, but torch\.float64")
        plain(module=odd.Deeper).fit(X, y).save_params(path)
        refuse(plain(), path, r'Unexpected key.*"more\.weight"')

    def test_another_number_of_classifiers(self, estimators, path):
        estimators["ensemble"].save_params(path)
        for given in (own_net(), [own_net()] * 3):
            refuse(synthesizer(classifier=given), path, "number of classifiers is 2 in the file")

    def test_an_estimator_without_sense_or_unfitted(self, tmp_path):
        with pytest.raises(ValueError, match="'warm_up' parameter"):
            image_classifier().set_params(warm_up=7).load_params(tmp_path / "none")
        for make, _ in ESTIMATORS.values():
            with pytest.raises(NotFittedError):
                make().save_params(tmp_path / "none")


class TestFiles:
    @pytest.mark.parametrize("n_places", [10, pytest.param(200, marks=pytest.mark.slow)])
    def test_truncated_files_and_flipped_bits(self, n_places, table, path):
        table.save_params(path)
        data, rng, loaded = path.read_bytes(), random.Random(0), 0
        header = 8 + int.from_bytes(data[:8], "little")
        drawn = rng.sample(range(len(data)), n_places)
        for length in {*range(9), header - 1, header, header + 1, len(data) - 1, *drawn}:
            path.write_bytes(data[:length])
            refuse(table_synthesizer(), path, "it is damaged")
        path.write_bytes(data + b"\0")
        refuse(table_synthesizer(), path, "it is damaged")
        for place in {*range(8), *rng.sample(range(header), n_places), *drawn}:
            damaged = bytearray(data)
            damaged[place] ^= 1 << rng.randrange(8)
            path.write_bytes(damaged)
            try:
                refuse(table_synthesizer(), path, "it (is damaged|was not written|has format)")
            except pytest.fail.Exception:
                loaded += 1
        # In the padding of the header, if at all.
        assert loaded <= 5

    @pytest.mark.parametrize(
        ("data", "message"),
        [
            (b"", "is damaged, or not a safetensors file"),
            (pickle.dumps({"a": 1}), "is damaged, or not a safetensors file"),
            (b"\x02\0\0\0\0\0\0\0{}", "not written by save_params"),
            (safetensors.torch.save({"a": torch.ones(3)}, {"format": "pt"}), "not written by save"),
        ],
        ids=["empty", "pickle", "no metadata", "another's"],
    )
    def test_other_files(self, data, message, path):
        path.write_bytes(data)
        refuse(table_synthesizer(), path, message)

    def test_missing_files_and_folders_are_errors_of_the_system(self, table, tmp_path):
        with pytest.raises(FileNotFoundError):
            table_synthesizer().load_params(tmp_path / "none")
        with pytest.raises(IsADirectoryError):
            table_synthesizer().load_params(tmp_path)
        with pytest.raises(FileNotFoundError, match="none/file"):
            table.save_params(tmp_path / "none" / "file")

    def test_later_versions_and_exchanged_tensors(self, table, path):
        table.save_params(path)
        tensors, metadata = contents(path)
        later = {**metadata, "format_version": "10", "library_version": "99.1"}
        safetensors.torch.save_file(tensors, path, later)
        # What was learned before stays.
        refuse(table, path, r"version 10, written by tsynd_sk 99\.1.* upgrade")
        one, two = "classifier0.module.mean", "classifier0.module.scale"
        tensors[one], tensors[two] = tensors[two], tensors[one]
        safetensors.torch.save_file(tensors, path, metadata)
        refuse(table, path, "its checksum is not that")

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda _, tensors: tensors.pop("latent_scale"), "latent_scale"),
            (lambda _, tensors: tensors.pop("classifier0.module.mean"), r'Missing key.*"mean"'),
            (lambda _, tensors: tensors.update(more=torch.ones(1)), "is called 'more'"),
            (
                lambda body, _: body["nets"]["classifier0"]["sizes"].update(n_classes=10**13),
                "cannot load",
            ),
            (lambda body, _: body.update(labels="<U900000"), "cannot load"),
            (lambda body, _: body.update(dtype="O"), "cannot load"),
        ],
    )
    def test_hostile_files_of_the_right_checksum(self, change, message, table, path):
        table.save_params(path, with_images=True)
        rewrite(path, change)
        refuse(table_synthesizer(), path, message)

    def test_nothing_is_unpickled(self, table, path, monkeypatch):
        def forbidden(*args, **kwargs):
            raise AssertionError("a pickle is read")

        table.save_params(path, with_images=True)
        for module, name in [(pickle, "load"), (pickle, "loads"), (torch, "load")]:
            monkeypatch.setattr(module, name, forbidden)
        monkeypatch.setattr(pickle, "Unpickler", forbidden)
        table_synthesizer().load_params(path)

    def test_a_full_disk_leaves_the_old_file(self, images, path, monkeypatch):
        def full(descriptor):
            raise OSError(28, "No space left on device")

        images.save_params(path)
        before = path.read_bytes()
        monkeypatch.setattr(_files.os, "fsync", full)
        with pytest.raises(OSError, match="No space left on device"):
            images.save_params(path, with_images=True)
        assert path.read_bytes() == before
        assert list(path.parent.iterdir()) == [path]


def test_how_files_were_read_is_kept(images, path, tmp_path):
    reading = Reading((8, 8), "crop", True, (-160.0, 240.0), (0.0, 255.0))
    images.save_params(path, reading=Bunch(reading=reading))
    loaded = image_classifier().load_params(path)
    assert loaded.reading_ == reading
    Image.fromarray(np.full((16, 16), 7, np.uint8)).save(tmp_path / "new.png")
    np.testing.assert_array_equal(
        read_images(tmp_path / "new.png", like=loaded), np.full((1, 8, 8), 7)
    )
    loaded.save_params(path)
    assert image_classifier().load_params(path).reading_ == reading
    with pytest.raises(TypeError, match="like must be what load_image_folder returned"):
        read_images(tmp_path / "new.png", like=images)
