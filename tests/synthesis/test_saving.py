"""Files of save_params: the same answers, in another process and in later versions."""

import json
import os
import pickle
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.saved_files import (
    DATA,
    ESTIMATORS,
    KEPT,
    TABLE,
    answers,
    assert_same,
    digits,
    image_classifier,
    table_synthesizer,
    tiny_autoencoder,
)
from helpers.tiny_nets import (
    X,
    augmented,
    dense_net,
    dense_synthesizer,
    net,
    synthesizer,
    y,
)
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from skorch.callbacks import Callback

from tsynd_sk import TargetedSynthesizer
from tsynd_sk._skorch import scoped_seed
from tsynd_sk._utils import _tensor_file


@pytest.fixture(params=list(ESTIMATORS))
def case(request, estimators):
    """Constructor, rows, labels, and the fitted estimator."""
    make, data = ESTIMATORS[request.param]
    return (make, *data(), estimators[request.param])


class TestRoundTrip:
    def test_all_answers_are_the_same_to_the_bit(self, case, path):
        make, rows, labels, fitted = case
        fitted.save_params(path, with_images=True)
        other = make()
        assert other.load_params(path) is other
        assert_same(answers(fitted, rows[:9], labels[:9]), answers(other, rows[:9], labels[:9]))

    def test_all_answers_are_the_same_in_another_process(self, estimators, tmp_path):
        script = (
            "import sys, numpy as np, saved_files\n"
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
        tests = str(Path(__file__).parents[1])
        search = os.pathsep.join([tests, os.environ.get("PYTHONPATH", "")])
        environment = {**os.environ, "PYTHONPATH": search, "OMP_NUM_THREADS": "1"}
        subprocess.run([sys.executable, "-c", script], cwd=tmp_path, env=environment, check=True)
        for name, known in expected.items():
            assert_same(known, dict(np.load(tmp_path / f"{name}.npz")))

    def test_fitted_attributes_are_the_same(self, case, path):
        make, _, _, fitted = case
        fitted.save_params(path)
        other = make().load_params(path)
        names = {name for name in vars(fitted) if name.endswith("_")}
        assert {name for name in vars(other) if name.endswith("_")} == names
        np.testing.assert_array_equal(other.classes_, fitted.classes_)
        assert other.classes_.dtype == fitted.classes_.dtype
        for name in ("format_", "image_shape_", "n_features_in_"):
            assert getattr(other, name) == getattr(fitted, name)
        for name in ("low", "high", "levels", "half"):
            one, two = (getattr(e.value_range_, name) for e in (fitted, other))
            assert torch.equal(one, two) if isinstance(one, torch.Tensor) else one == two

    def test_what_was_loaded_is_saved_as_it_came(self, case, path, tmp_path):
        make, _, _, fitted = case
        fitted.save_params(path, with_images=True)
        make().load_params(path).save_params(tmp_path / "again", with_images=True)
        one, two = map(_tensor_file.read_tensors, (path, tmp_path / "again"))
        assert one.body == two.body
        assert one.tensors.keys() == two.tensors.keys()
        assert all(torch.equal(one.tensors[name], two.tensors[name]) for name in one.tensors)

    def test_parameters_stay_and_nothing_is_shared(self, case, path):
        make, rows, _, fitted = case
        fitted.save_params(path)
        other = make()
        before = dict(other.get_params(deep=False))
        other.load_params(path)
        assert all(other.get_params(deep=False)[k] is v for k, v in before.items())
        # The file may go, or another take its place.
        known = other.uncertainty(rows)
        path.write_bytes(b"\0" * path.stat().st_size)
        path.unlink()
        assert (other.uncertainty(rows) == known).all()

    @pytest.mark.parametrize(
        "labels",
        [
            y - 3,
            y.astype(np.uint8),
            (y * 3).astype(">i2"),
            y / 2,
            y > 4,
            np.array(list("äbcdefghi\n"))[y],
            np.array(list("äbcdefghij"), dtype=object)[y],
            np.array([f"{i:>40}" for i in range(10)])[y],
        ],
        ids=["negative", "uint8", "big-endian", "floats", "bool", "str", "object", "wide"],
    )
    def test_labels(self, labels, path):
        labels = np.round(labels) if labels.dtype == float else labels
        make = image_classifier
        fitted = make().set_params(synthetic_ratio=0, estimator__max_epochs=1).fit(X, labels)
        fitted.save_params(path)
        other = make().set_params(synthetic_ratio=0).load_params(path)
        assert other.classes_.dtype == fitted.classes_.dtype
        assert (other.predict(X) == fitted.predict(X)).all()
        assert other.predict(X).dtype == fitted.predict(X).dtype

    @pytest.mark.parametrize(
        "rows",
        [
            (X * 16).astype(np.uint16) * 4000,
            (X * 16).astype(np.int64),
            X.astype(np.float16),
            X.astype(">f8"),
            X > 0.5,
            X[:, None],
            np.repeat(X[..., None], 3, axis=3),
            np.asfortranarray(X),
        ],
        ids=["uint16", "int64", "float16", ">f8", "bool", "chw", "hwc", "F order"],
    )
    def test_types_and_layouts_of_images(self, rows, path):
        def make():
            return synthesizer(
                classifier=net(max_epochs=1, module__width=2),
                autoencoder=tiny_autoencoder(),
                random_state=0,
            )

        fitted = make().fit(rows, y)
        fitted.save_params(path, with_images=True)
        other = make().load_params(path)
        assert_same(answers(fitted, rows[:4], y[:4]), answers(other, rows[:4], y[:4]))
        assert other.format_ == fitted.format_
        assert other.value_range_.extremes[0].dtype == rows.dtype

    def test_flat_images_need_their_shape_again(self, path):
        rows = X.reshape(80, -1)

        def make(**params):
            given = synthesizer(autoencoder=tiny_autoencoder(), **params)
            return augmented(net(max_epochs=1), given, synthetic_ratio=0)

        fitted = make(image_shape=(8, 8)).fit(rows, y)
        fitted.save_params(path)
        other = make(image_shape=(8, 8)).load_params(path)
        assert other.image_shape_ == (1, 8, 8)
        assert (other.predict_proba(rows) == fitted.predict_proba(rows)).all()
        for shape in (None, (4, 16), (8, 8, 2)):
            with pytest.raises(ValueError, match=r"image_shape=.* of the estimator"):
                make(image_shape=shape).load_params(path)

    def test_names_of_columns(self, path):
        pandas = pytest.importorskip("pandas")
        frame = pandas.DataFrame(TABLE[:80], columns=list("abcdefghiü"))
        augmented(dense_net(max_epochs=1), dense_synthesizer(), synthetic_ratio=0).fit(
            frame, y
        ).save_params(path)
        other = augmented(dense_net(), dense_synthesizer(), synthetic_ratio=0).load_params(path)
        assert other.feature_names_in_.tolist() == list("abcdefghiü")
        with pytest.raises(ValueError, match="feature names should match"):
            other.predict(frame[list("übcdefghia")])

    def test_history_and_schedule_of_the_net(self, images, path):
        images.save_params(path)
        other = image_classifier().load_params(path)
        assert other.history_ is other.estimator_.history
        assert list(other.history_) == list(images.history_)
        assert other.history_[-1, "train_loss"] == images.history_[-1, "train_loss"]
        assert list(other.synthesizer_.autoencoder_.history) == list(
            images.synthesizer_.autoencoder_.history
        )

    def test_history_keeps_what_json_can_hold(self, path):
        class Records(Callback):
            def on_epoch_end(self, net, **kwargs):
                net.history.record("numbers", np.arange(3))
                net.history.record("nan", np.float32("nan"))
                net.history.record("secret", object())

        fitted = augmented(net(max_epochs=1, callbacks=[Records()]), synthetic_ratio=0).fit(X, y)
        with pytest.warns(UserWarning, match=r"leaves out \['secret'\]"):
            fitted.save_params(path)
        [row] = augmented(synthetic_ratio=0).load_params(path).history_
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

    def test_a_class_that_users_derive_reads_files_of_its_base(self, table, path):
        class Mine(TargetedSynthesizer):
            pass

        table.save_params(path)
        mine = Mine(**table.get_params(deep=False)).load_params(path)
        assert (mine.uncertainty(TABLE[:9]) == table.uncertainty(TABLE[:9])).all()

    def test_synthesizer_of_a_classifier_has_a_file_of_its_own(self, images, path):
        rows, labels = digits()
        images.synthesizer_.save_params(path)
        other = clone(images.synthesizer_).set_params(
            classifier=net(module__width=2), random_state=images.synthesizer_.random_state
        )
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
        images.save_params(path)
        data = path.read_bytes()
        assert not any(row.tobytes() in data for row in rows)
        images.save_params(path, with_images=True)
        assert all(row.tobytes() in path.read_bytes() for row in rows)
        path.write_bytes(data)
        other = image_classifier().load_params(path)
        known, found = answers(images, rows[:9], labels[:9]), answers(other, rows[:9], labels[:9])
        assert known.keys() - found.keys() == {"sample", "sample_y"}
        assert_same({name: known[name] for name in found}, found)

    def test_without_them_sample_says_what_to_do(self, images, path):
        images.save_params(path)
        other = image_classifier().load_params(path).synthesizer_
        with pytest.raises(NotFittedError, match=r"left out.*synthesize\(X, y\).*with_images=True"):
            other.sample(3)
        with pytest.raises(NotFittedError, match="left out"):
            other.save_params(path, with_images=True)

    def test_without_them_posteriors_are_there_but_no_new_ones(self, table, path):
        table.save_params(path)
        other = table_synthesizer().load_params(path)
        assert (other.uncertainty(TABLE[:9]) == table.uncertainty(TABLE[:9])).all()
        with torch.no_grad():
            next(reversed(list(other.classifier_.module_.parameters()))).mul_(2)
        with pytest.raises(NotFittedError, match="left out"):
            other.uncertainty(TABLE[:9])

    def test_a_fit_brings_new_ones(self, table, path):
        table.save_params(path)
        other = table_synthesizer().load_params(path).fit(TABLE[:80], y)
        assert (other.sample(5)[0] == table.sample(5)[0]).all()

    def test_of_a_file_on_disk_are_written_too(self, path, tmp_path):
        stored = np.memmap(tmp_path / "X", TABLE.dtype, "w+", shape=(80, 10))
        stored[:] = TABLE[:80]
        fitted = table_synthesizer().fit(stored, y)
        fitted.save_params(path, with_images=True)
        other = table_synthesizer().load_params(path)
        assert (other.sample(5)[0] == fitted.sample(5)[0]).all()


class TestEarlierVersions:
    @pytest.mark.parametrize("file", sorted(DATA.glob("*.safetensors")), ids=lambda p: p.name)
    def test_kept_files_give_the_answers_of_their_time(self, file):
        make, data, with_images = KEPT[file.stem.rpartition("_v")[0]]
        rows, labels = data()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            # Parameters are those of the estimator that loads, whose defaults were others then.
            blank = make()
            earlier = {"random_start": 0.1, "radius": 0.5, "label_policy": "constrain"}
            names = [(name, name.rpartition("__")[2]) for name in blank.get_params()]
            params = {name: earlier[last] for name, last in names if last in earlier}
            estimator = blank.set_params(**params).load_params(file)
        found = answers(estimator, rows[:8], labels[:8])
        known = json.loads(file.with_suffix(".json").read_text())
        for name in ("uncertainty", "predict_proba"):
            if name in known:
                # Platforms round differently, and nothing else is between them.
                np.testing.assert_allclose(found[name], known[name], rtol=1e-4, atol=1e-5)
        scale = 1 if rows.dtype == np.uint8 else 1e-5
        np.testing.assert_allclose(
            found["reconstruct"].astype(float), known["reconstruct"], atol=scale
        )
        assert found["synthesize_y"].tolist() == known["synthesize_y"]
        assert np.shape(known["synthesize"]) == found["synthesize"].shape
        assert ("sample" in found) == with_images

    def test_there_are_files_of_every_version(self):
        versions = range(1, _tensor_file.FORMAT_VERSION + 1)
        expected = {f"{name}_v{version}.safetensors" for name in KEPT for version in versions}
        assert {path.name for path in DATA.glob("*.safetensors")} == expected
